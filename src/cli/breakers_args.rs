use clap::{Args, Subcommand};

use crate::cli::admin_args::AdminArgs;

/// The arguments of `adit breakers`.
#[derive(Args)]
pub struct BreakersArgs {
    /// How to reach the admin API.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// The command to run; without one the breakers are shown.
    #[command(subcommand)]
    pub command: Option<BreakersCommand>,
}

/// The commands under `adit breakers`.
#[derive(Subcommand)]
pub enum BreakersCommand {
    /// Force the breaker open: refuse all calls until `close` or `auto`
    Open(ForcedBreaker),
    /// Force the breaker closed: let all calls pass until `open` or `auto`
    Close(ForcedBreaker),
    /// Remove the forced state: the results of calls decide again
    Auto(ForcedBreaker),
}

/// Selects one of the breakers.
#[derive(Args)]
pub struct ForcedBreaker {
    /// The name of the route
    #[arg(value_name = "ROUTE")]
    pub route: String,
    /// The tool; without it, and without a method, the breaker is that of the upstream
    #[arg(value_name = "TOOL")]
    pub tool: Option<String>,
    /// The MCP method, if it is not tools/call
    #[arg(long, value_name = "METHOD", conflicts_with = "tool")]
    pub method: Option<String>,
}
