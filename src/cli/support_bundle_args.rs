use std::path::PathBuf;

use clap::Args;

use crate::cli::check_args::MCP_PATH;
use crate::cli::settings_args::FileArgs;

/// The arguments of `adit support-bundle`.
#[derive(Args)]
pub struct SupportBundleArgs {
    /// File and single settings.
    #[command(flatten)]
    pub file: FileArgs,
    /// The archive to write, which must not exist
    #[arg(long, value_name = "FILE", default_value = "adit-support.tar.gz")]
    pub output: PathBuf,
    /// URL of the admin API; also ADIT_ADMIN_URL [default: that of the configuration]
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
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
