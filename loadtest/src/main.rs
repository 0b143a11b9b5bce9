//! The program `adit-loadtest`: parses the command line and runs the command.

use std::process::ExitCode;

use adit_loadtest::cli::Cli;
use clap::Parser;

fn main() -> ExitCode {
    ExitCode::from(Cli::parse().execute())
}
