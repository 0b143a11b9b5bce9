//! The arguments of `adit audit`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::audit::AuditedDecision;

/// The arguments of `adit audit`.
#[derive(Args)]
pub struct AuditArgs {
    /// The operation on the log.
    #[command(subcommand)]
    pub command: AuditCommand,
}

/// The commands under `adit audit`.
#[derive(Subcommand)]
pub enum AuditCommand {
    /// Check that no line was removed, changed, moved or cut off
    Verify(AuditVerifyArgs),
    /// Show the lines that match
    Query(AuditQueryArgs),
    /// Write the lines that match in another format
    Export(AuditExportArgs),
}

/// The arguments of `adit audit verify`.
#[derive(Args)]
pub struct AuditVerifyArgs {
    /// The directory of the log
    pub dir: PathBuf,
    /// The public key of the log, 64 hexadecimal digits, kept elsewhere; by default the one in the directory
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Print JSON for programs
    #[arg(long)]
    pub json: bool,
}

/// Selects lines of the log.
#[derive(Args, Clone, Debug, Default)]
pub struct AuditFilterArgs {
    /// Only calls and actions since then: a time (2026-07-28T12:00:00Z), or how long ago (24h)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only those until then
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only calls by this agent: its address, or the subject or client of its token
    #[arg(long, value_name = "ADDRESS|NAME")]
    pub identity: Option<String>,
    /// Only calls of this tool, prompt, resource or task
    #[arg(long, value_name = "NAME")]
    pub tool: Option<String>,
    /// Only calls of this method
    #[arg(long, value_name = "METHOD")]
    pub method: Option<String>,
    /// Only calls of this route
    #[arg(long, value_name = "NAME")]
    pub route: Option<String>,
    /// Only calls and actions of this tunnel
    #[arg(long, value_name = "ID")]
    pub tunnel: Option<String>,
    /// Only allowed calls, or only denied ones
    #[arg(long, value_name = "allowed|denied", value_parser = decision)]
    pub decision: Option<AuditedDecision>,
    /// Only calls that this rule of a policy decided: its name in the file, or its place as in #3
    #[arg(long, value_name = "NAME")]
    pub rule: Option<String>,
    /// Only calls with this outcome: ok, timed_out, breaker_open and so on
    #[arg(long, value_name = "OUTCOME")]
    pub outcome: Option<String>,
    /// Read all lines, and neither make nor use the index of the log
    #[arg(long)]
    pub scan: bool,
}

fn decision(text: &str) -> Result<AuditedDecision, String> {
    [AuditedDecision::Allowed, AuditedDecision::Denied]
        .into_iter()
        .find(|decision| decision.name() == text)
        .ok_or_else(|| "it is `allowed` or `denied`".to_owned())
}

/// The arguments of `adit audit query`.
#[derive(Args)]
pub struct AuditQueryArgs {
    /// The directory of the log
    pub dir: PathBuf,
    /// Selects lines of the log.
    #[command(flatten)]
    pub filter: AuditFilterArgs,
    /// Show at most this many of the matching lines, the newest; 1 to 100000
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
    /// Print the lines unchanged
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `adit audit export`.
#[derive(Args)]
pub struct AuditExportArgs {
    /// The directory of the log
    pub dir: PathBuf,
    /// The format of the output
    #[arg(long, value_enum)]
    pub format: AuditFormat,
    /// Selects lines of the log.
    #[command(flatten)]
    pub filter: AuditFilterArgs,
}

/// A format of exported lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AuditFormat {
    /// One row for each call or action, with a row of names before them
    Csv,
    /// One event of the Open Cybersecurity Schema Framework on each line
    Ocsf,
    /// Log records of OpenTelemetry: one request of OTLP in JSON on each line
    Otel,
}
