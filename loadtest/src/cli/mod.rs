//! The command line of `adit-loadtest`: each command in its own module.

pub mod bench_args;
pub mod bulk;
pub mod churn;
pub mod compare;
pub mod fault;
pub mod guard;
pub mod idle;
pub mod load_args;
pub mod mixed;
mod output;
pub mod progress;
pub mod report;
pub mod run;
pub mod search;
pub mod serve;
pub mod soak;
pub mod split;
pub mod storm;
mod vanished;

use std::io::{self, Write};

use clap::{Parser, Subcommand};

use self::progress::Bar;
use crate::compare::launch::{LaunchArgs, launch};
use crate::load::Load;
use crate::outcome::Outcome;
use crate::run::{Interrupt, RunError, run_observed};
use crate::stdio::server;
use crate::watch::Watched;

/// The exit code when something failed, was void, or ended early.
pub const EXIT_FAILURE: u8 = 1;
/// The exit code of a wrong command line.
pub const EXIT_USAGE: u8 = 2;

/// Measures what a tunnel adds to a call.
#[derive(Parser)]
#[command(name = "adit-loadtest", version, about, disable_help_subcommand = true)]
pub struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of `adit-loadtest`.
#[derive(Subcommand)]
pub enum Command {
    /// Put a load on a URL, and report latencies from the planned start of each call
    Run(Box<run::RunArgs>),
    /// Run an upstream that is never the bottleneck, and reports its true service time
    Serve(Box<serve::ServeArgs>),
    /// Find the highest rate at which an objective is still met
    Search(Box<search::SearchArgs>),
    /// Compare a tunnel's Server-Timing with the true service time of the upstream
    Split(Box<split::SplitArgs>),
    /// Measure calls that each make a new connection
    Churn(Box<churn::ChurnArgs>),
    /// Measure the throughput of large bodies in both directions
    Bulk(Box<bulk::BulkArgs>),
    /// Measure how much slower small calls are while large bodies are transferred
    Mixed(Box<mixed::MixedArgs>),
    /// Hold many idle streams open, and measure the memory of each
    Idle(Box<idle::IdleArgs>),
    /// Kill and restart a tunnel's processes under load: lost calls, repeated calls, time to recover
    Fault(Box<fault::FaultArgs>),
    /// Measure agents that time out and retry while a server is slow, with and without enforced deadlines and breakers
    Guard(Box<guard::GuardArgs>),
    /// Run many large, slow, idle and dead agents at once, and measure how much slower small calls are
    Storm(Box<storm::StormArgs>),
    /// Run storms for a long time, with restarts between them, and check that no resource grows
    Soak(Box<soak::SoakArgs>),
    /// Put the same load on several tunnels in turn, and report the latency that each adds
    Compare(Box<compare::CompareArgs>),
    /// Execute another program that ends with its parent; adit-loadtest starts tunnels with it
    #[command(hide = true)]
    Launch(LaunchArgs),
    /// Run an MCP server on standard input and output; `compare --stdio` starts it
    #[command(hide = true)]
    ServeStdio,
}

impl Cli {
    /// Runs the command; returns the exit code.
    #[must_use]
    pub fn execute(self) -> u8 {
        if let Command::Launch(args) = &self.command {
            return match launch(args) {
                Err(error) => fail(&error),
            };
        }
        if matches!(self.command, Command::ServeStdio) {
            return match server::run() {
                Ok(()) => 0,
                Err(error) => fail(&error),
            };
        }
        let interrupt = match Interrupt::on_signals() {
            Ok(interrupt) => interrupt,
            Err(error) => return fail(&format_args!("signals cannot be received: {error}")),
        };
        let code = match self.command {
            Command::Run(args) => run::execute(&args, &interrupt),
            Command::Serve(args) => serve::execute(&args, &interrupt),
            Command::Search(args) => search::execute(&args, &interrupt),
            Command::Split(args) => split::execute(&args, &interrupt),
            Command::Churn(args) => churn::execute(&args, &interrupt),
            Command::Bulk(args) => bulk::execute(&args, &interrupt),
            Command::Mixed(args) => mixed::execute(&args, &interrupt),
            Command::Fault(args) => fault::execute(&args, &interrupt),
            Command::Guard(args) => guard::execute(&args, &interrupt),
            Command::Soak(args) => soak::execute(&args, &interrupt),
            Command::Storm(args) => storm::execute(&args, &interrupt),
            Command::Idle(args) => idle::execute(&args, &interrupt),
            Command::Compare(args) => compare::execute(&args, &interrupt),
            Command::Launch(_) | Command::ServeStdio => unreachable!("executed above, without a thread for signals"),
        };
        if code == 0 && output::was_lost() { EXIT_FAILURE } else { code }
    }
}

/// Prints what failed; returns the exit code for it.
pub(crate) fn fail(why: &dyn std::fmt::Display) -> u8 {
    // If standard error is closed, the exit code still reports the failure.
    let _ = writeln!(io::stderr(), "adit-loadtest: {why}");
    EXIT_FAILURE
}

/// Runs a load with a progress bar.
pub(crate) fn run_with_bar(
    what: &str,
    load: &Load,
    watched: &Watched,
    interrupt: &Interrupt,
) -> Result<Outcome, RunError> {
    let bar = Bar::new(what, load.phases);
    run_observed(load, watched, interrupt, &mut |progress| bar.show(progress))
}
