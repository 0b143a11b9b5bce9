use clap::{Args, Subcommand};

use crate::cli::tunnel_args::AdminArgs;

/// The arguments of `adit tools`.
#[derive(Args)]
pub struct ToolsArgs {
    /// How to reach the admin API.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// The command to run.
    #[command(subcommand)]
    pub command: ToolsCommand,
}

/// The commands under `adit tools`.
#[derive(Subcommand)]
pub enum ToolsCommand {
    /// List the tools of servers with `pin`, and those that may be taken for each other
    List {
        /// Only those behind this host
        #[arg(value_name = "ROUTE")]
        route: Option<String>,
        /// Only those that are new or have changed
        #[arg(long)]
        pending: bool,
    },
    /// Show what is new, and what has changed since it was approved
    Diff {
        /// Only tools behind this host
        #[arg(value_name = "ROUTE")]
        route: Option<String>,
        /// Only this tool
        #[arg(value_name = "TOOL")]
        tool: Option<String>,
    },
    /// Approve tools as they are now: they are listed, and can be called, until the server changes them
    Approve {
        /// The host of the route
        #[arg(value_name = "ROUTE")]
        route: String,
        /// The tools
        #[arg(value_name = "TOOL", required_unless_present = "all")]
        tools: Vec<String>,
        /// All tools that are new or have changed
        #[arg(long, conflicts_with = "tools")]
        all: bool,
        /// Only if the digest begins so, as `adit tools diff` has shown it, with 12 digits or more; for one tool
        #[arg(long, value_name = "DIGITS", conflicts_with = "all")]
        sha256: Option<String>,
        /// The reason, for the audit log
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}
