use clap::{Args, ValueEnum};

use crate::cli::settings_args::FileArgs;

/// The arguments of `adit report`.
#[derive(Args)]
pub struct ReportArgs {
    /// The configuration of the edge or connector.
    #[command(flatten)]
    pub file: FileArgs,
    /// Calls since then: a time (2026-07-28T12:00:00Z), or how long ago
    #[arg(long, value_name = "TIME", default_value = "168h")]
    pub since: String,
    /// The format of the report
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    pub format: ReportFormat,
}

/// A format of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// Lines for a terminal
    Text,
    /// A JSON object for programs
    Json,
    /// One page that needs no other file
    Html,
}
