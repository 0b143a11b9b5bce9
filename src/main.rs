//! The program `adit`: reads the command line and starts what it names.

use std::io::{self, Write};
use std::process::ExitCode;

use adit::cli::{self, Cli, Command};
use adit::config::{Config, Faults, Sources};
use clap::Parser;

fn main() -> ExitCode {
    match run(&Cli::parse().command) {
        Ok(code) => ExitCode::from(code),
        // Whoever reads our output may close it early, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("adit: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> io::Result<u8> {
    let env = cli::environment();
    match command {
        Command::Config(args) => cli::run_config(&args.command, &env, &mut io::stdout(), &mut io::stderr()),
        Command::Version(args) => io::stdout().write_all(cli::version(&[], args.json).as_bytes()).map(|()| 0),
        Command::Edge(args) => role(args.sources(&env)),
        Command::Connect(args) => role(args.sources(&env)),
        Command::Up(_) => Err(no_roles()),
    }
}

fn role(sources: Result<Sources, Faults>) -> io::Result<u8> {
    match sources.and_then(|sources| Config::load(&sources)) {
        Ok(_) => Err(no_roles()),
        Err(faults) => writeln!(io::stderr(), "{faults}").map(|()| cli::EXIT_USAGE),
    }
}

fn no_roles() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "this build has no edge and no connector")
}
