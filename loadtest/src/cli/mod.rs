//! The command line of `adit-loadtest`: each verb in a module of its own.

pub mod load_args;
pub mod progress;
pub mod report;
pub mod run;
pub mod serve;

use clap::{Parser, Subcommand};

use crate::run::Interrupt;

/// The exit code when something failed, was void, or ended early.
pub const EXIT_FAILURE: u8 = 1;
/// The exit code of a wrong command line.
pub const EXIT_USAGE: u8 = 2;

/// Measures what a tunnel adds to a call.
#[derive(Parser)]
#[command(name = "adit-loadtest", version, about, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Subcommand)]
pub enum Command {
    /// Put a load on a URL and report latencies from the planned start of each call
    Run(Box<run::RunArgs>),
    /// Be an upstream that is never the bottleneck, and tells its true service time
    Serve(Box<serve::ServeArgs>),
}

impl Cli {
    /// Does it, and gives back the exit code.
    #[must_use]
    pub fn execute(self) -> u8 {
        let interrupt = match Interrupt::on_signals() {
            Ok(interrupt) => interrupt,
            Err(error) => return fail(&format_args!("signals cannot be received: {error}")),
        };
        match self.command {
            Command::Run(args) => run::execute(&args, &interrupt),
            Command::Serve(args) => serve::execute(&args, &interrupt),
        }
    }
}

/// Says what failed, and gives back the exit code for it.
pub(crate) fn fail(why: &dyn std::fmt::Display) -> u8 {
    eprintln!("adit-loadtest: {why}");
    EXIT_FAILURE
}
