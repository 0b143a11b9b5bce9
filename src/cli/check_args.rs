//! The flags of `adit config` and `adit doctor`, which check what a role would use.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::settings_args::FileArgs;

/// The path of the MCP endpoint of most servers.
pub(super) const MCP_PATH: &str = crate::process::doctor::MCP_PATH;

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
