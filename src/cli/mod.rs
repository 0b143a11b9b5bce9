//! Floor 6: the command line. Commands parse their arguments, call [`crate::process`] and print.
//!
//! A flag only sets a setting; types, limits and precedence belong to [`crate::config`]. Errors in flags and in files
//! are therefore reported in the same way, and differ only in the place that they name.

mod admin_args;
mod admin_client;
mod announce;
mod approvals;
mod approvals_args;
mod args;
mod audit;
mod audit_args;
mod audit_export;
#[cfg(test)]
mod audit_index_tests;
mod audit_otel;
mod breakers;
mod breakers_args;
mod call_text;
mod call_times;
mod calls;
mod clients;
mod cloudflared;
mod command_line;
mod config;
mod connect;
mod dashboard;
mod dashboard_args;
mod doctor;
mod edge;
mod edge_dir;
mod error_pages;
mod exit_codes;
mod explain;
mod flag_sources;
mod import;
mod init;
mod init_args;
mod latency;
mod limits;
mod output;
mod policy;
mod policy_args;
mod policy_diff;
mod policy_diff_text;
mod policy_tools;
mod progress;
mod report;
mod report_args;
mod run;
mod shell;
mod shell_args;
mod stdio_guard;
mod support_bundle;
mod support_bundle_args;
mod table;
mod tasks;
mod tools;
mod tools_args;
mod top;
mod tunnel;
mod tunnel_args;
mod tunnel_text;
mod up;
mod version;

pub use admin_args::{AdminArgs, DataDirArgs};
pub use announce::Announcer;
pub use approvals::run_approvals;
pub use approvals_args::{ApprovalsArgs, ApprovalsCommand, DecidedApproval};
pub use args::{
    CallsArgs, Cli, Command, ConfigArgs, ConfigCommand, ConnectArgs, DoctorArgs, EdgeArgs, EdgeDirCommand, EngineArgs,
    ExplainArgs, FileArgs, LatencyArgs, ProfileArgs, TaskOrderArg, TasksArgs, UpArgs, VersionArgs,
};
pub use audit::run_audit;
pub use audit_args::{
    AuditArgs, AuditCommand, AuditExportArgs, AuditFilterArgs, AuditFormat, AuditQueryArgs, AuditVerifyArgs,
};
pub use breakers::run_breakers;
pub use breakers_args::{BreakersArgs, BreakersCommand, ForcedBreaker};
pub use calls::run_calls;
pub use clients::{ClientConfigArgs, ClientName, run_client_config};
pub use cloudflared::{CloudflaredArgs, cloudflared_words, run_cloudflared};
pub use config::{environment, run_config};
pub use connect::run_connect;
pub use dashboard::run_dashboard;
pub use dashboard_args::DashboardArgs;
pub use doctor::run_doctor;
pub use edge::run_edge;
pub use exit_codes::EXIT_CODES;
pub use explain::run_explain;
pub use import::{ImportArgs, run_import};
pub use init::run_init;
pub use init_args::{InitArgs, InitConnectorArgs, InitEdgeArgs, InitRole};
pub use latency::run_latency;
pub use limits::run_limits;
pub use policy::run_policy;
pub use policy_args::{PolicyArgs, PolicyCommand, PolicyDiffArgs, PolicyExplainArgs};
pub use report::run_report;
pub use report_args::{ReportArgs, ReportFormat};
pub use run::{EXIT_FAILURE, RunError};
pub use shell::{run_completions, run_man};
pub use shell_args::{CompletionsArgs, ManArgs, ShellName};
pub use stdio_guard::{StdioGuardArgs, run_stdio_guard};
pub use support_bundle::run_support_bundle;
pub use support_bundle_args::SupportBundleArgs;
pub use tasks::run_tasks;
pub use tools::run_tools;
pub use tools_args::{ToolsArgs, ToolsCommand};
pub use top::{TopArgs, run_top};
pub use tunnel::run_tunnel;
pub use tunnel_args::{CertCommand, KeyCommand, TunnelArgs, TunnelCommand};
pub use up::run_up;
pub use version::version;

/// The exit code for a wrong command line or a wrong configuration.
pub const EXIT_USAGE: u8 = 2;
