use clap::{Args, Subcommand, ValueEnum};

use crate::cli::admin_args::AdminArgs;

/// What a server offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OfferArg {
    /// Tools, which agents call
    Tool,
    /// Prompts, which people choose
    Prompt,
    /// Resources, by their URIs
    Resource,
    /// Templates of resources, by their URI templates
    Template,
}

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
    /// List what servers with `pin` offer, and what may be taken for each other
    List {
        /// Only those behind this host
        #[arg(value_name = "ROUTE")]
        route: Option<String>,
        /// Only those that are new or have changed
        #[arg(long)]
        pending: bool,
        /// Only tools, prompts, resources or templates
        #[arg(long, value_name = "KIND")]
        kind: Option<OfferArg>,
    },
    /// Show what is new, and what has changed since it was approved
    Diff {
        /// Only tools behind this host
        #[arg(value_name = "ROUTE")]
        route: Option<String>,
        /// Only this tool, prompt or URI
        #[arg(value_name = "TOOL")]
        tool: Option<String>,
        /// Only tools, prompts, resources or templates
        #[arg(long, value_name = "KIND")]
        kind: Option<OfferArg>,
    },
    /// Approve tools as they are now: they are listed, and can be called, until the server changes them
    Approve {
        /// The host of the route
        #[arg(value_name = "ROUTE")]
        route: String,
        /// The tools, or what --kind says
        #[arg(value_name = "TOOL", required_unless_present = "all")]
        tools: Vec<String>,
        /// What is approved: tools unless it is said, and with --all everything
        #[arg(long, value_name = "KIND")]
        kind: Option<OfferArg>,
        /// All that is new or has changed
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
