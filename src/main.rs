//! The program `adit`: reads the command line and starts what it names.

use std::io::{self, Write};
use std::process::ExitCode;

use adit::cli::{self, Cli, Command};
use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command = match cli::cloudflared_words(std::env::args_os()) {
        Some(args) => Command::Cloudflared(args),
        None => Cli::parse().command,
    };
    match run(command) {
        Ok(code) => ExitCode::from(code),
        // Whoever reads our output may close it early, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("adit: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> io::Result<u8> {
    let env = cli::environment();
    match command {
        Command::Config(args) => cli::run_config(&args.command, &env, &mut io::stdout(), &mut io::stderr()),
        Command::Version(args) => io::stdout().write_all(cli::version(&[], args.json).as_bytes()).map(|()| 0),
        Command::Edge(args) => Ok(cli::run_edge(args, &env)),
        Command::Tunnel(args) => Ok(cli::run_tunnel(&args, &env)),
        Command::Connect(args) => Ok(cli::run_connect(args, &env)),
        Command::Cloudflared(args) => Ok(cli::run_cloudflared(&args, &env)),
        Command::Limits(args) => Ok(cli::run_limits(&args, &env)),
        Command::Approvals(args) => Ok(cli::run_approvals(&args, &env)),
        Command::Breakers(args) => Ok(cli::run_breakers(&args, &env)),
        Command::Latency(args) => Ok(cli::run_latency(&args, &env)),
        Command::Calls(args) => Ok(cli::run_calls(&args, &env)),
        Command::Explain(args) => Ok(cli::run_explain(&args, &env)),
        Command::Report(args) => Ok(cli::run_report(&args, &env)),
        Command::Tools(args) => Ok(cli::run_tools(&args, &env)),
        Command::Tasks(args) => Ok(cli::run_tasks(&args, &env)),
        Command::Audit(args) => Ok(cli::run_audit(&args)),
        Command::Policy(args) => Ok(cli::run_policy(&args, &env)),
        Command::ClientConfig(args) => Ok(cli::run_client_config(&args, &env)),
        Command::Doctor(args) => Ok(cli::run_doctor(args, &env)),
        Command::Up(args) => Ok(cli::run_up(args, &env)),
        Command::Init(args) => Ok(cli::run_init(&args, &env)),
        Command::Import(args) => Ok(cli::run_import(&args, &env)),
        Command::Dashboard(args) => Ok(cli::run_dashboard(&args, &env)),
        Command::Top(args) => Ok(cli::run_top(&args, &env)),
        Command::SupportBundle(args) => Ok(cli::run_support_bundle(&args, &env)),
        Command::Completions(args) => Ok(cli::run_completions(&args)),
        Command::Man(args) => Ok(cli::run_man(&args)),
        Command::StdioGuard(args) => Ok(cli::run_stdio_guard(&args)),
    }
}
