use std::path::PathBuf;

use clap::Args;

/// The arguments of `adit import`.
#[derive(Args)]
pub struct ImportArgs {
    /// Read this file; may be given several times [default: the files of the known clients, of this user and of this folder]
    #[arg(long, value_name = "FILE")]
    pub from: Vec<PathBuf>,
    /// Only the server with this name; may be given several times
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// The domain below which each server gets a host: its name, a dot and the domain
    #[arg(long, value_name = "DOMAIN", default_value = "tunnel.example.com")]
    pub domain: String,
    /// Append the routes to this configuration of a connector, which `adit init connector` writes [default: only print them]
    #[arg(long, value_name = "FILE")]
    pub into: Option<PathBuf>,
    /// With --into: print what would be appended, and write nothing
    #[arg(long, requires = "into")]
    pub dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
