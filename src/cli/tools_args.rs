use clap::{Args, Subcommand};

use crate::cli::admin_args::AdminArgs;

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
        /// Only if the definition has this digest, as `adit tools diff` has shown it; for one tool, or for --all with the digest of all
        #[arg(long, value_name = "DIGITS")]
        sha256: Option<String>,
        /// Also a definition that cannot be shown, of which only the digest is known; for tools that are named
        #[arg(long, conflicts_with = "all")]
        unseen: bool,
        /// The reason, for the audit log
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}
