//! The guard of a child process, which a connector starts for each MCP server that speaks over standard input and output.

use clap::Args;

use crate::process::{exec_confined, guard, on_control_thread};
use crate::stdio::{Confinement, NOT_STARTED};

/// The arguments of the guard.
#[derive(Args)]
pub struct StdioGuardArgs {
    /// What the system allows the command, as JSON
    #[arg(long, value_name = "JSON")]
    pub confine: String,
    /// Execute the command in this process, instead of guarding it
    #[arg(long)]
    pub exec: bool,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
}

/// Runs a command until it ends or standard input is closed, and returns the exit code.
#[must_use]
pub fn run_stdio_guard(args: &StdioGuardArgs) -> u8 {
    let confinement: Confinement = match serde_json::from_str(&args.confine) {
        Ok(confinement) => confinement,
        Err(error) => {
            eprintln!("--confine: {error}");
            return NOT_STARTED;
        }
    };
    if args.exec {
        // This process has no other thread, whose limits would differ.
        let Err(error) = exec_confined(&confinement, &args.command);
        eprintln!("{error}");
        return NOT_STARTED;
    }
    on_control_thread(guard(&confinement, &args.command)).unwrap_or_else(|error| {
        eprintln!("{error}");
        NOT_STARTED
    })
}
