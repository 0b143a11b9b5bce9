//! The grammar of the command line: commands, flags and their help texts.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::cli::admin_args::DataDirArgs;
use crate::cli::approvals_args::ApprovalsArgs;
use crate::cli::audit_args::AuditArgs;
use crate::cli::breakers_args::BreakersArgs;
use crate::cli::clients::ClientConfigArgs;
use crate::cli::cloudflared::CloudflaredArgs;
use crate::cli::dashboard_args::DashboardArgs;
use crate::cli::import::ImportArgs;
use crate::cli::init_args::InitArgs;
use crate::cli::policy_args::PolicyArgs;
use crate::cli::report_args::ReportArgs;
use crate::cli::shell_args::{CompletionsArgs, ManArgs};
use crate::cli::stdio_guard::StdioGuardArgs;
use crate::cli::support_bundle_args::SupportBundleArgs;
use crate::cli::tools_args::ToolsArgs;
use crate::cli::top::TopArgs;
use crate::cli::tunnel_args::TunnelArgs;
use crate::config::{Millis, Profile};
use crate::stdio::STDIO_GUARD;

/// The path of the MCP endpoint of most servers.
pub(super) const MCP_PATH: &str = crate::process::doctor::MCP_PATH;

/// The command line of `adit`.
#[derive(Parser)]
#[command(
    name = "adit",
    version,
    about = "A tunnel through which AI agents reach private MCP servers with no inbound port",
    after_help = "Start here:\n  adit up                                   try it on this machine, with a demo server\n  \
                  adit up --upstream http://127.0.0.1:9000  the same with a server of your own\n\n\
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
    #[command(after_help = EDGE_EXAMPLES)]
    Edge(EdgeArgs),
    /// Run the private side, which dials the edge and forwards calls to MCP servers
    #[command(after_help = CONNECT_EXAMPLES)]
    Connect(ConnectArgs),
    /// Run a connector in place of cloudflared, with its command line, environment and file
    #[command(after_help = CLOUDFLARED_EXAMPLES, disable_help_flag = true)]
    Cloudflared(CloudflaredArgs),
    /// Run both sides in one process, to try them or to measure them
    #[command(after_help = UP_EXAMPLES)]
    Up(UpArgs),
    /// Ask for what an edge or a connector needs, and write a commented configuration
    #[command(after_help = INIT_EXAMPLES)]
    Init(InitArgs),
    /// Find MCP servers in the configuration of clients (Claude, Cursor, VS Code, Codex, Windsurf), and write routes for them
    #[command(after_help = IMPORT_EXAMPLES)]
    Import(ImportArgs),
    /// Print what to paste into an MCP client so that it calls through adit
    #[command(after_help = CLIENT_CONFIG_EXAMPLES)]
    ClientConfig(ClientConfigArgs),
    /// Create tunnels, rotate and revoke their secrets, and list connections, while the edge runs
    #[command(after_help = TUNNEL_EXAMPLES)]
    Tunnel(TunnelArgs),
    /// Show links, tools, their rates and times, and slow and failed calls as they happen, while the edge or connector runs
    #[command(after_help = TOP_EXAMPLES)]
    Top(TopArgs),
    /// Print the URL of the dashboard, which a browser shows, with a log-in that can be used once
    #[command(after_help = DASHBOARD_EXAMPLES)]
    Dashboard(DashboardArgs),
    /// Show how long calls take, in the tunnel and in the server, and their deadlines, while the edge runs
    #[command(after_help = LATENCY_EXAMPLES)]
    Latency(LatencyArgs),
    /// List recent calls and refused connections, and where each stopped, while the edge or connector runs
    #[command(after_help = CALLS_EXAMPLES)]
    Calls(CallsArgs),
    /// Show one call: the time of each phase, and the rule behind each decision
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(ExplainArgs),
    /// List the calls that wait for approval, approve or deny them, while the edge or connector runs
    #[command(after_help = APPROVALS_EXAMPLES)]
    Approvals(ApprovalsArgs),
    /// Show circuit breakers, or force one open or closed, while the edge runs
    #[command(after_help = BREAKERS_EXAMPLES)]
    Breakers(BreakersArgs),
    /// Show how many calls of each route are in flight, how many may be, and what became of the others, while the edge runs
    #[command(after_help = LIMITS_EXAMPLES)]
    Limits(LimitsArgs),
    /// Show the tool calls of each agent task: repetitions, timeouts, tokens and cost, while the edge runs
    #[command(after_help = TASKS_EXAMPLES)]
    Tasks(TasksArgs),
    /// Say on one page which servers agents call, what these can do that nobody approved, and who would notice
    #[command(after_help = REPORT_EXAMPLES)]
    Report(ReportArgs),
    /// Show the tools of servers, what has changed in them, and approve them, while the edge or connector runs
    #[command(after_help = TOOLS_EXAMPLES)]
    Tools(ToolsArgs),
    /// Check, search or export the audit log
    #[command(after_help = AUDIT_EXAMPLES)]
    Audit(AuditArgs),
    /// Show or check the configuration without starting anything
    #[command(after_help = CONFIG_EXAMPLES)]
    Config(ConfigArgs),
    /// Check a policy of tools, run its tests, explain what it decides, or compare it with recorded calls
    #[command(after_help = POLICY_EXAMPLES)]
    Policy(PolicyArgs),
    /// Check everything that a role depends on, and say what is wrong and what to do
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(DoctorArgs),
    /// Write an archive for support: versions, settings without secrets, status, times, failed calls, doctor
    #[command(after_help = SUPPORT_BUNDLE_EXAMPLES)]
    SupportBundle(SupportBundleArgs),
    /// Print the script with which a shell completes commands and flags
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArgs),
    /// Write the man pages of all commands into a folder
    #[command(after_help = MAN_EXAMPLES)]
    Man(ManArgs),
    /// Print the version of the program
    Version(VersionArgs),
    /// Start a command, and end it with all that it has started when standard input is closed
    #[command(name = STDIO_GUARD, hide = true)]
    StdioGuard(StdioGuardArgs),
}

const APPROVALS_EXAMPLES: &str = "Examples:
  adit approvals list
  adit approvals approve apr_5fdc68a3c743df439c27fa62e688addb --by alice --reason 'agreed with the customer'
  adit approvals deny apr_5fdc68a3c743df439c27fa62e688addb --by alice

Rules of a policy with effect = \"approve\" have calls wait here. It needs the admin token of the process that has the policy: of an edge
with a data directory, or of a connector with connect.admin_token_file. Exit code 1 means that nothing was decided.";

const AUDIT_EXAMPLES: &str = "Examples:
  adit audit verify /var/lib/adit/audit
  adit audit query /var/lib/adit/audit --tool delete_user --since 24h
  adit audit export /var/lib/adit/audit --format csv --since 2026-07-01T00:00:00Z

They read the files of the log (audit.dir), whether or not a process writes it. Exit code 1 means that `verify` found a fault, or
that the log cannot be read, 2 a wrong flag.";

const POLICY_EXAMPLES: &str = "Examples:
  adit policy check policy.toml
  adit policy test policy.toml
  adit policy explain policy.toml --as support --call delete_ticket
  adit policy diff policy.toml --audit /var/lib/adit/audit";

const EDGE_EXAMPLES: &str = "Examples:
  adit edge --config adit.toml
  adit edge --config adit.toml --listen 0.0.0.0:443 --agents-cert-file site.crt --agents-key-file site.key
  adit edge init --data-dir /var/lib/adit --name edge.example.com
  adit edge --data-dir /var/lib/adit --listen 0.0.0.0:443 --agents-cert-file site.crt --agents-key-file site.key \\
      --tunnel-domain tunnel.example.com

Tunnels and their secrets are defined in the file, as [[tunnel]], or created by `adit tunnel create` while an edge with a
data directory runs. Exit code 2 means a wrong flag or configuration.";

const TUNNEL_EXAMPLES: &str = "Examples:
  adit tunnel create --data-dir /var/lib/adit --host orders.mcp.example.com
  adit tunnel rotate tnl_jmuv4epfyshqtyubs5ebe3k9 --overlap 1h --reason quarterly
  adit tunnel revoke tnl_jmuv4epfyshqtyubs5ebe3k9 --leak-report 24h
  ADIT_ADMIN_URL=http://127.0.0.1:9443 ADIT_ADMIN_TOKEN_FILE=admin.token adit tunnel list --json

They use the admin API of a running edge, with the admin token that `adit edge init` created. Exit code 1 means that the edge
refused or cannot be reached, 2 a wrong flag.";

const CONNECT_EXAMPLES: &str = "Examples:
  adit connect --config adit.toml
  adit connect --edge edge.example.com:7844 --id tnl_demo --secret-file demo.secret \\
      --route demo.example.com=http://127.0.0.1:9000
  ADIT_TUNNEL_SECRET=… adit connect --edge edge.example.com:7844 --id tnl_demo \\
      --route demo.example.com=unix:/run/mcp.sock
  adit connect --edge edge.example.com:7844 --id tnl_demo --secret-file demo.secret --route demo.example.com \\
      -- npx -y @modelcontextprotocol/server-everything

Exit code 2 means a wrong flag or configuration.";

const CLOUDFLARED_EXAMPLES: &str = "Examples:
  adit cloudflared tunnel run --token TOKEN --url http://localhost:8080
  adit cloudflared tunnel --edge edge.example.com:7844 --cacert ca.pem run --token-file token

The same when the program is started under the name cloudflared. docs/CLOUDFLARED.md says what differs.
Its exit codes are those of cloudflared: 1 for a failure, and 255 for a wrong command line.";

const UP_EXAMPLES: &str = "Examples:
  adit up                                    # with the built-in demo server
  adit up --upstream http://127.0.0.1:9000   # with your own server
  adit up -- uvx mcp-server-time             # with a server that speaks over standard input and output
  adit up --once --json                      # 200 calls, then their times as JSON

Exit code 1 means that a call failed, 2 a wrong flag or configuration.";

const CLIENT_CONFIG_EXAMPLES: &str = "Examples:
  adit client-config
  adit client-config cursor
  adit client-config claude-code --url https://orders.tunnel.example.com/mcp --name orders --token-env ORDERS_TOKEN
  adit client-config --url https://orders.tunnel.example.com/mcp --json

Without --url it asks the admin API of a running process, such as `adit up`. It changes no file. Exit code 1 means that the
process cannot be reached, 2 a wrong flag or an unknown URL.";

const COMPLETIONS_EXAMPLES: &str = "Examples:
  source <(adit completions bash)        # in ~/.bashrc
  source <(adit completions zsh)         # in ~/.zshrc, after compinit
  adit completions fish | source         # in ~/.config/fish/config.fish";

const MAN_EXAMPLES: &str = "Examples:
  adit man ~/.local/share/man/man1

Exit code 1 means that the pages cannot be written.";

const INIT_EXAMPLES: &str = "Examples:
  adit init edge
  adit init connector --edge edge.example.com:7844 --host orders.tunnel.example.com --upstream http://127.0.0.1:3000
  adit init connector --edge edge.example.com:7844 --host time.tunnel.example.com -- uvx mcp-server-time

It asks for what no flag gives, if standard input is a terminal. No file is overwritten. Exit code 1 means that the file exists or
cannot be written, 2 a missing or wrong value.";

const IMPORT_EXAMPLES: &str = "Examples:
  adit import
  adit import --into connect.toml --domain tunnel.example.com --dry-run
  adit import --into connect.toml --domain tunnel.example.com
  adit import --from ~/.cursor/mcp.json --only github --json

The files of the clients are only read. Values that may be secrets are not copied: they stay variables of the environment of
`adit connect`. Exit code 1 means that a file cannot be read or written, 2 a wrong flag or configuration.";

const DASHBOARD_EXAMPLES: &str = "Examples:
  adit dashboard --data-dir /var/lib/adit
  adit dashboard --admin http://127.0.0.1:9444 --admin-token-file /etc/adit/admin.token
  xdg-open \"$(adit dashboard --data-dir /var/lib/adit)\"

The dashboard is a page of the admin API of a running edge or connector. The log-in needs its admin token, and ends after 8 hours.
Without a token the URL shows the same and changes nothing. Exit code 1 means that the process cannot be reached or refused, 2 a
wrong flag.";

const TOP_EXAMPLES: &str = "Examples:
  adit top
  adit top --admin http://127.0.0.1:9444 --interval 2s
  adit top --plain --count 2 --interval 10s

It reads the admin API of a running edge or connector, and needs no token. Keys: ? shows them. Where standard output is no terminal
it prints text for each sample. Without colours if NO_COLOR is set. Exit code 1 means that the process cannot be reached, 2 a wrong
flag.";

const SUPPORT_BUNDLE_EXAMPLES: &str = "Examples:
  adit support-bundle --config edge.toml
  adit support-bundle --config connect.toml --url https://orders.tunnel.example.com/mcp --output case-17.tar.gz

It changes nothing but the archive. A part that cannot be had is replaced by the reason. Exit code 1 means that the archive cannot be
written, 2 a wrong flag.";

const DOCTOR_EXAMPLES: &str = "Examples:
  adit doctor --config connect.toml
  adit doctor --config connect.toml --url https://orders.tunnel.example.com/mcp
  adit doctor --config edge.toml --json

It changes nothing, and checks the roles that are configured. To test the connector's credentials it opens one link to each
edge, and closes it again. Exit code 2 means that a check failed.";

const LATENCY_EXAMPLES: &str = "Examples:
  adit latency
  adit latency --route orders.mcp.example.com
  adit latency --admin http://127.0.0.1:9443 --json

It reads the admin API of a running process, and needs no token. Times are in milliseconds: p50, p95 and p99 of the tunnel
(edge, link and connector) and of the server, since the process started. Exit code 1 means that the process cannot be reached,
2 a wrong flag.";

const CALLS_EXAMPLES: &str = "Examples:
  adit calls
  adit calls --failed --since 10m
  adit calls --host orders.mcp.example.com --tool search --limit 200
  adit calls --admin http://127.0.0.1:9443 --json

It reads the admin API of a running edge or connector, and needs no token. STOPPED AT says how far a call came: accept and tls
are connections that made no call. Each core keeps the last calls (calls_kept), failed and slow ones apart from the others. Exit
code 1 means that the process cannot be reached, 2 a wrong flag.";

const EXPLAIN_EXAMPLES: &str = "Examples:
  adit explain 1f3
  adit explain 4bf92f3577b34da6a3ce929d0e0e4736
  adit explain 1f3 --json

The id is one that `adit calls` shows, or the trace id of the agent (traceparent). Exit code 1 means that no such call is kept, or
that the process cannot be reached, 2 a wrong flag.";

const BREAKERS_EXAMPLES: &str = "Examples:
  adit breakers
  adit breakers open orders.mcp.example.com refund --data-dir /var/lib/adit
  adit breakers auto orders.mcp.example.com refund --data-dir /var/lib/adit

Showing breakers needs no token. `open`, `close` and `auto` need the admin token of the edge; `open` also needs
`breaker = \"enforce\"`. A forced state lasts until `auto`, or until the edge ends. Exit code 1 means that the edge refused or
cannot be reached, 2 a wrong flag.";

const TOOLS_EXAMPLES: &str = "Examples:
  adit tools list --pending
  adit tools diff tickets.example.com --admin http://127.0.0.1:9444 --admin-token-file /etc/adit/admin.token
  adit tools approve tickets.example.com search --admin http://127.0.0.1:9444 --admin-token-file /etc/adit/admin.token

The tools of a server are learned from the lists that pass, on routes with `pin`. `list` and `diff` need no token; `diff`
repeats its flags in the commands that it prints. `approve` needs the admin token of the edge or connector; a connector has one with
`connect.admin_token_file`. Exit code 1 means that it refused or
cannot be reached, 2 a wrong flag.";

const REPORT_EXAMPLES: &str = "Examples:
  adit report --config adit.toml
  adit report --config adit.toml --since 720h --format html

It reads the configuration, the audit log and the inventory of tools, on the host where these are. Exit code 1 means that one of them
cannot be read, 2 a wrong flag or configuration.";

const LIMITS_EXAMPLES: &str = "Examples:
  adit limits
  adit limits --admin http://127.0.0.1:9443 --json

It reads the admin API of a running edge, and needs no token. FOR SHARE are the refused calls whose agent had its share of the
limit. WOULD REFUSE are the calls beyond the limit while it was not enforced. Exit code 1 means that the edge cannot be reached,
2 a wrong flag.";

const TASKS_EXAMPLES: &str = "Examples:
  adit tasks
  adit tasks --by amplification --limit 10
  adit tasks --admin http://127.0.0.1:9443 --json

It reads the admin API of a running edge, and needs no token. AMPLIFIED is calls divided by calls that were not repetitions. A
repetition has the same tool and arguments as a call of the same task in the last ten minutes, among its last 32 different calls.
TOKENS are estimated: a quarter of the bytes of answers that are text or JSON. TUNNEL and SERVER are in milliseconds. Exit code 1
means that the edge cannot be reached, 2 a wrong flag.";

const CONFIG_EXAMPLES: &str = "Examples:
  adit config check --config adit.toml
  ADIT_LOG=debug adit config show --config adit.toml --set edge.drain_timeout_ms=5s";

/// The flag that selects a profile.
#[derive(Args, Clone)]
pub struct ProfileArgs {
    /// Tune the engine for one purpose: latency, shared or bulk; every other setting takes precedence
    #[arg(long, value_name = "NAME")]
    pub profile: Option<Profile>,
}

/// The flags for the configuration file and single settings.
#[derive(Args, Clone)]
pub struct FileArgs {
    /// The profile below all other settings.
    #[command(flatten)]
    pub profile: ProfileArgs,
    /// The configuration file (TOML) [default: the file that ADIT_CONFIG names, if it is set]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set any setting by its key, such as edge.drain_timeout_ms=5s; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
}

/// The flags for the data plane and the log, which every role has.
#[derive(Args, Clone)]
pub struct EngineArgs {
    /// The kernel interface for network I/O: auto, uring or epoll; auto uses io_uring where it works
    #[arg(long, value_name = "DRIVER")]
    pub driver: Option<String>,
    /// The number of threads that carry traffic; 0 uses one for each CPU
    #[arg(long, value_name = "N")]
    pub cores: Option<String>,
    /// How much to log: off, error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// The format of log lines: text for people, json for programs
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
}

/// The arguments of `adit edge`.
#[derive(Args, Clone)]
#[command(args_conflicts_with_subcommands = true)]
pub struct EdgeArgs {
    /// A command about the data directory, instead of running.
    #[command(subcommand)]
    pub command: Option<EdgeDirCommand>,
    /// The address for agents [default: 127.0.0.1:8443]
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<String>,
    /// The certificate chain for agents (PEM); without it they use plain HTTP, on loopback only
    #[arg(long, value_name = "FILE")]
    pub agents_cert_file: Option<String>,
    /// The private key of that certificate (PEM)
    #[arg(long, value_name = "FILE")]
    pub agents_key_file: Option<String>,
    /// Allow plain HTTP for agents at an address other than loopback; only behind a proxy that terminates TLS
    #[arg(long)]
    pub allow_plain_http_off_loopback: bool,
    /// The address for connectors, which use TLS [default: 0.0.0.0:7844]
    #[arg(long, value_name = "IP:PORT")]
    pub connectors_listen: Option<String>,
    /// The certificate chain for connectors (PEM)
    #[arg(long, value_name = "FILE")]
    pub connectors_cert_file: Option<String>,
    /// The private key of that certificate (PEM)
    #[arg(long, value_name = "FILE")]
    pub connectors_key_file: Option<String>,
    /// The directory that `adit edge init` created; with it connectors enrol, and `adit tunnel` manages tunnels
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// The domain below which a tunnel that is created without hosts gets one
    #[arg(long, value_name = "NAME")]
    pub tunnel_domain: Option<String>,
    /// The address that serves metrics, status, health and the API of `adit tunnel`, or off [default: 127.0.0.1:9443]
    #[arg(long, value_name = "IP:PORT")]
    pub admin: Option<String>,
    /// Print events as JSON, one object on each line: listening, linked, reloaded and others
    #[arg(long)]
    pub json: bool,
    /// File and single settings.
    #[command(flatten)]
    pub file: FileArgs,
    /// Data plane and log.
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// The commands under `adit edge`.
#[derive(Subcommand, Clone)]
pub enum EdgeDirCommand {
    /// Create the data directory: the edge's certificate authority, its certificate, its admin token and its store;
    /// existing files are kept
    Init {
        /// The data directory to work on.
        #[command(flatten)]
        dir: DataDirArgs,
        /// A name or address by which connectors dial this edge; may be given several times
        /// [default: this machine's name, localhost and the loopback addresses]
        #[arg(long, value_name = "NAME")]
        name: Vec<String>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print the public keys (JWKS) of the identities that the edge forwards, for the jwks_file of a connector; the edge
    /// may be running
    IdentityKeys {
        /// The data directory to work on.
        #[command(flatten)]
        dir: DataDirArgs,
        /// Sign with the next key from now on, and create another one
        #[arg(long)]
        rotate: bool,
    },
    /// Back up the store; the edge may be running
    Backup {
        /// The data directory to work on.
        #[command(flatten)]
        dir: DataDirArgs,
        /// The file to write, which must not exist [default: a new file in the backups folder of the directory]
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Restore the store from a back-up, keep the former store, and list what was withdrawn since and is valid again;
    /// the edge must not be running
    Restore {
        /// The data directory to work on.
        #[command(flatten)]
        dir: DataDirArgs,
        /// The back-up [default: the newest in the directory's backups]
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
        /// Withdraw again what was withdrawn since: credentials, tunnels, certificates and provisioning keys
        #[arg(long)]
        keep_withdrawn: bool,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// The arguments of `adit connect`.
#[derive(Args, Clone)]
pub struct ConnectArgs {
    /// The edge to dial; may be given several times, for several edges
    #[arg(long, value_name = "HOST:PORT")]
    pub edge: Vec<String>,
    /// The id of the tunnel
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// A file that holds the secret of the tunnel
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<String>,
    /// The secret itself; prefer --secret-file or ADIT_TUNNEL_SECRET, as other users can read a command line
    #[arg(long, value_name = "SECRET")]
    pub secret: Option<String>,
    /// A file that holds id and secret in one string, as adit tunnel create prints it
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<String>,
    /// Id and secret in one string; prefer --token-file or ADIT_TUNNEL_TOKEN
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
    /// A file that holds a provisioning key, which a new host exchanges for a tunnel of its own; needs --state-dir
    #[arg(long, value_name = "FILE")]
    pub provisioning_key_file: Option<String>,
    /// The provisioning key itself; prefer --provisioning-key-file or ADIT_PROVISIONING_KEY
    #[arg(long, value_name = "KEY")]
    pub provisioning_key: Option<String>,
    /// Keep certificates and their keys in this folder, so that a restart needs no new ones
    #[arg(long, value_name = "FOLDER")]
    pub state_dir: Option<String>,
    /// Forward the calls for a host name to a server: http://HOST:PORT, https://HOST:PORT or unix:PATH; may be given
    /// several times; HOST alone for the command after --
    #[arg(long, value_name = "HOST=URL")]
    pub route: Vec<String>,
    /// An MCP server that speaks over standard input and output: its program and arguments, after --; no shell reads them. Its route
    /// is given as --route HOST
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
    /// How calls are carried: plain, resealed (re-encrypted, with an inner TLS session from the edge to this connector) or
    /// passthrough (the agent's own TLS session ends here); the edge must have the same value [default: plain]
    #[arg(long, value_name = "HOW")]
    pub traffic: Option<String>,
    /// The certificates (PEM) of the authorities to trust for the edge, instead of the public ones
    #[arg(long, value_name = "FILE")]
    pub edge_ca_file: Option<String>,
    /// The name in the edge's certificate, if it differs from the host that is dialled
    #[arg(long, value_name = "NAME")]
    pub edge_name: Option<String>,
    /// The address that serves metrics, status and health, or off [default: off]
    #[arg(long, value_name = "IP:PORT")]
    pub admin: Option<String>,
    /// Print events as JSON, one object on each line: listening, linked, reloaded and others
    #[arg(long)]
    pub json: bool,
    /// File and single settings.
    #[command(flatten)]
    pub file: FileArgs,
    /// Data plane and log.
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// The arguments of `adit up`.
#[derive(Args, Clone)]
pub struct UpArgs {
    /// An MCP server that speaks over standard input and output: its program and arguments, after --; no shell reads them
    #[arg(last = true, value_name = "COMMAND", conflicts_with_all = ["upstream", "demo"])]
    pub command: Vec<String>,
    /// The MCP server to reach: http://HOST:PORT, https://HOST:PORT or unix:PATH
    #[arg(long, value_name = "URL", conflicts_with = "demo")]
    pub upstream: Option<String>,
    /// Use a small built-in MCP server; this is the default when no upstream is given
    #[arg(long)]
    pub demo: bool,
    /// The host name that agents call, beside localhost and the loopback addresses [default: localhost]
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// The address for agents [default: 127.0.0.1:8443; any free port with --once]
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<String>,
    /// The address that serves metrics, status and health, or off [default: 127.0.0.1:9443; any free port with --once]
    #[arg(long, value_name = "IP:PORT")]
    pub admin: Option<String>,
    /// Make 200 MCP tool calls, print where their time went, and exit
    #[arg(long)]
    pub once: bool,
    /// Show the agents' URL as a QR code too
    #[arg(long, conflicts_with_all = ["once", "json"])]
    pub qr: bool,
    /// Print JSON instead of text: with --once one object, else one on each line
    #[arg(long)]
    pub json: bool,
    /// The profile below all other settings.
    #[command(flatten)]
    pub profile: ProfileArgs,
    /// Data plane and log.
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// The arguments of `adit config`.
#[derive(Args)]
pub struct ConfigArgs {
    /// What to do with the configuration.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// The commands under `adit config`.
#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Print every value and where it came from; secrets are masked
    Show {
        /// File and single settings.
        #[command(flatten)]
        file: FileArgs,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print everything that is wrong, also with the files that settings name; exit code 2 if anything is
    Check {
        /// File and single settings.
        #[command(flatten)]
        file: FileArgs,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print the page docs/CONFIG.md: every setting, its default and its meaning
    Docs,
}

/// The arguments of `adit doctor`.
#[derive(Args)]
pub struct DoctorArgs {
    /// File and single settings.
    #[command(flatten)]
    pub file: FileArgs,
    /// The URL that agents call, to test the whole path [default: edge.public_url, if it is set]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The certificates (PEM) of the authorities to trust for the public URL, instead of the public ones
    #[arg(long, value_name = "FILE")]
    pub url_ca_file: Option<PathBuf>,
    /// The path of the MCP endpoint of upstreams
    #[arg(long, value_name = "PATH", default_value = MCP_PATH)]
    pub mcp_path: String,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `adit latency`.
#[derive(Args)]
pub struct LatencyArgs {
    /// URL of the admin API; also ADIT_ADMIN_URL [default: http://127.0.0.1:9443]
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// The calls of this route alone, by its name
    #[arg(long, value_name = "NAME")]
    pub route: Option<String>,
    /// Print the answer of the admin API as JSON
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `adit limits`.
#[derive(Args)]
pub struct LimitsArgs {
    /// URL of the admin API; also ADIT_ADMIN_URL [default: http://127.0.0.1:9443]
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `adit calls`.
#[derive(Args)]
pub struct CallsArgs {
    /// URL of the admin API; also ADIT_ADMIN_URL [default: http://127.0.0.1:9443]
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// The calls for this host, or of the route with this name
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// The calls of this tool
    #[arg(long, value_name = "NAME")]
    pub tool: Option<String>,
    /// Only calls that failed: not answered completely, or with a status of 400 or higher
    #[arg(long)]
    pub failed: bool,
    /// Only calls that ended within this time, such as 10m
    #[arg(long, value_name = "DURATION")]
    pub since: Option<Millis>,
    /// The most calls that are listed, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Print the answer of the admin API as JSON
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `adit explain`.
#[derive(Args)]
pub struct ExplainArgs {
    /// The id of the call, or of its trace
    #[arg(value_name = "ID")]
    pub id: String,
    /// URL of the admin API; also ADIT_ADMIN_URL [default: http://127.0.0.1:9443]
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// Print the answer of the admin API as JSON
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `adit tasks`.
#[derive(Args)]
pub struct TasksArgs {
    /// URL of the admin API; also ADIT_ADMIN_URL [default: http://127.0.0.1:9443]
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// Which tasks come first: those with the highest cost, amplification or number of calls, or the last call
    #[arg(long, value_name = "ORDER", value_enum, default_value_t = TaskOrderArg::Cost)]
    pub by: TaskOrderArg,
    /// The most tasks that are listed, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Print the answer of the admin API as JSON
    #[arg(long)]
    pub json: bool,
}

/// By what tasks are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TaskOrderArg {
    /// What their calls cost by the prices that are set.
    Cost,
    /// Calls for each call that was not repeated.
    Amplification,
    /// How many calls they have.
    Calls,
    /// When their last call ended.
    Last,
}

impl TaskOrderArg {
    /// The name in the API.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            TaskOrderArg::Cost => "cost",
            TaskOrderArg::Amplification => "amplification",
            TaskOrderArg::Calls => "calls",
            TaskOrderArg::Last => "last",
        }
    }
}

/// The arguments of `adit version`.
#[derive(Args)]
pub struct VersionArgs {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.to_owned()))
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
