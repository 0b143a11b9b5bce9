//! The guard of a child process, which a connector starts for each MCP server that speaks over standard input and output.

use clap::Args;

use crate::process::{guard, on_control_thread};
use crate::stdio::NOT_STARTED;

/// The arguments of the guard.
#[derive(Args)]
pub struct StdioGuardArgs {
    /// The program and its arguments
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
}

/// Runs a command until it ends or standard input is closed, and returns the exit code.
#[must_use]
pub fn run_stdio_guard(args: &StdioGuardArgs) -> u8 {
    on_control_thread(guard(&args.command)).unwrap_or_else(|error| {
        eprintln!("{error}");
        NOT_STARTED
    })
}
