//! The grammar of the command line: commands, flags and their help texts.

use clap::{Args, Parser, Subcommand};

use crate::cli::approvals_args::ApprovalsArgs;
use crate::cli::audit_args::AuditArgs;
use crate::cli::breakers_args::BreakersArgs;
use crate::cli::check_args::{ConfigArgs, DoctorArgs};
use crate::cli::clients::ClientConfigArgs;
use crate::cli::cloudflared::CloudflaredArgs;
use crate::cli::dashboard_args::DashboardArgs;
use crate::cli::examples;
use crate::cli::import::ImportArgs;
use crate::cli::init_args::InitArgs;
use crate::cli::live_args::{CallsArgs, ExplainArgs, LatencyArgs, LimitsArgs, TasksArgs};
use crate::cli::policy_args::PolicyArgs;
use crate::cli::report_args::ReportArgs;
use crate::cli::role_args::{ConnectArgs, EdgeArgs, UpArgs};
use crate::cli::shell_args::{CompletionsArgs, ManArgs};
use crate::cli::stdio_guard::StdioGuardArgs;
use crate::cli::support_bundle_args::SupportBundleArgs;
use crate::cli::tools_args::ToolsArgs;
use crate::cli::top::TopArgs;
use crate::cli::tunnel_args::TunnelArgs;
use crate::stdio::STDIO_GUARD;

/// The command line of `adit`.
#[derive(Parser)]
#[command(
    name = "adit",
    version,
    about = "A tunnel through which AI agents reach private MCP servers with no inbound port",
    after_help = "Start here:\n  adit up                                   try it on this machine, with a demo server\n  \
                  adit up --upstream http://127.0.0.1:9000  the same with a server of your own\n  \
                  adit up -- uvx mcp-server-time            the same with a server that is started by a command\n  \
                  adit init edge, adit init connector       write the configuration of a deployment on two hosts\n\n\
                  Every setting: docs/CONFIG.md, or `adit config show`.",
    propagate_version = false,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of `adit`.
#[derive(Subcommand)]
pub enum Command {
    /// Run the public side, which agents call and connectors dial; or manage its data directory
    #[command(after_help = examples::EDGE_EXAMPLES)]
    Edge(EdgeArgs),
    /// Run the private side, which dials the edge and forwards calls to MCP servers
    #[command(after_help = examples::CONNECT_EXAMPLES)]
    Connect(ConnectArgs),
    /// Run a connector in place of cloudflared, with its command line, environment and file
    #[command(after_help = examples::CLOUDFLARED_EXAMPLES, disable_help_flag = true)]
    Cloudflared(CloudflaredArgs),
    /// Run both sides in one process, to try them or to measure them
    #[command(after_help = examples::UP_EXAMPLES)]
    Up(UpArgs),
    /// Ask for what an edge or a connector needs, and write a commented configuration
    #[command(after_help = examples::INIT_EXAMPLES)]
    Init(InitArgs),
    /// Find MCP servers in the configuration of clients (Claude, Cursor, VS Code, Codex, Windsurf), and write routes for them
    #[command(after_help = examples::IMPORT_EXAMPLES)]
    Import(ImportArgs),
    /// Print what to paste into an MCP client so that it calls through adit
    #[command(after_help = examples::CLIENT_CONFIG_EXAMPLES)]
    ClientConfig(ClientConfigArgs),
    /// Create tunnels, rotate and revoke their secrets, and list connections, while the edge runs
    #[command(after_help = examples::TUNNEL_EXAMPLES)]
    Tunnel(TunnelArgs),
    /// Show links, tools, their rates and times, and slow and failed calls as they happen, while the edge or connector runs
    #[command(after_help = examples::TOP_EXAMPLES)]
    Top(TopArgs),
    /// Print the URL of the dashboard, which a browser shows, with a log-in that can be used once
    #[command(after_help = examples::DASHBOARD_EXAMPLES)]
    Dashboard(DashboardArgs),
    /// Show how long calls take, in the tunnel and in the server, and their deadlines, while the edge runs
    #[command(after_help = examples::LATENCY_EXAMPLES)]
    Latency(LatencyArgs),
    /// List recent calls and refused connections, and where each stopped, while the edge or connector runs
    #[command(after_help = examples::CALLS_EXAMPLES)]
    Calls(CallsArgs),
    /// Show one call: the time of each phase, and the rule behind each decision
    #[command(after_help = examples::EXPLAIN_EXAMPLES)]
    Explain(ExplainArgs),
    /// List the calls that wait for approval, approve or deny them, while the edge or connector runs
    #[command(after_help = examples::APPROVALS_EXAMPLES)]
    Approvals(ApprovalsArgs),
    /// Show circuit breakers, or force one open or closed, while the edge runs
    #[command(after_help = examples::BREAKERS_EXAMPLES)]
    Breakers(BreakersArgs),
    /// Show how many calls of each route are in flight, how many may be, and what became of the others, while the edge runs
    #[command(after_help = examples::LIMITS_EXAMPLES)]
    Limits(LimitsArgs),
    /// Show the tool calls of each agent task: repetitions, timeouts, tokens and cost, while the edge runs
    #[command(after_help = examples::TASKS_EXAMPLES)]
    Tasks(TasksArgs),
    /// Say on one page which servers agents call, what these can do that nobody approved, and who would notice
    #[command(after_help = examples::REPORT_EXAMPLES)]
    Report(ReportArgs),
    /// Show the tools of servers, what has changed in them, and approve them, while the edge or connector runs
    #[command(after_help = examples::TOOLS_EXAMPLES)]
    Tools(ToolsArgs),
    /// Check, search or export the audit log
    #[command(after_help = examples::AUDIT_EXAMPLES)]
    Audit(AuditArgs),
    /// Show or check the configuration without starting anything
    #[command(after_help = examples::CONFIG_EXAMPLES)]
    Config(ConfigArgs),
    /// Check a policy of tools, run its tests, explain what it decides, or compare it with recorded calls
    #[command(after_help = examples::POLICY_EXAMPLES)]
    Policy(PolicyArgs),
    /// Check everything that a role depends on, and say what is wrong and what to do
    #[command(after_help = examples::DOCTOR_EXAMPLES)]
    Doctor(DoctorArgs),
    /// Write an archive for support: versions, settings without secrets, status, times, failed calls, doctor
    #[command(after_help = examples::SUPPORT_BUNDLE_EXAMPLES)]
    SupportBundle(SupportBundleArgs),
    /// Print the script with which a shell completes commands and flags
    #[command(after_help = examples::COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArgs),
    /// Write the man pages of all commands into a folder
    #[command(after_help = examples::MAN_EXAMPLES)]
    Man(ManArgs),
    /// Print the version of the program
    Version(VersionArgs),
    /// Start a command, and end it with all that it has started when standard input is closed
    #[command(name = STDIO_GUARD, hide = true)]
    StdioGuard(StdioGuardArgs),
}

/// The arguments of `adit version`.
#[derive(Args)]
pub struct VersionArgs {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_grammar_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_a_help_text_and_every_role_an_example() {
        let command = Cli::command();
        for role in command.get_subcommands() {
            for arg in role.get_arguments() {
                assert!(arg.get_help().is_some(), "{} {}", role.get_name(), arg.get_id());
            }
            if ["edge", "connect", "up"].contains(&role.get_name()) {
                assert!(role.get_after_help().is_some_and(|help| help.to_string().contains("Examples:")));
            }
        }
    }

    #[test]
    fn upstream_and_demo_exclude_each_other() {
        assert!(Cli::try_parse_from(["adit", "up", "--demo", "--upstream", "http://a:1"]).is_err());
    }
}
