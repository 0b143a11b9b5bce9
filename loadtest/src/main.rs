//! The program `adit-loadtest`.

use std::process::ExitCode;

use adit_loadtest::cli::Cli;
use clap::Parser;

fn main() -> ExitCode {
    ExitCode::from(Cli::parse().execute())
}
