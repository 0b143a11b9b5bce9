//! The command `adit-loadtest run`.

use clap::Args;

use super::load_args::{CallArgs, GeneratorArgs, RateArgs, TargetArgs, WatchArgs};
use super::output::print;
use super::report::report;
use super::{EXIT_FAILURE, fail, run_with_bar};
use crate::run::Interrupt;

/// The command-line flags of `run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    call: CallArgs,
    #[command(flatten)]
    rate: RateArgs,
    #[command(flatten)]
    generator: GeneratorArgs,
    #[command(flatten)]
    watch: WatchArgs,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(args: &RunArgs, interrupt: &Interrupt) -> u8 {
    let load = match args.call.load(args.target.target(), args.rate.mode(), args.generator.settings()) {
        Ok(load) => load,
        Err(error) => return fail(&error),
    };
    match run_with_bar("run", &load, &args.watch.watched(), interrupt) {
        Ok(outcome) => {
            if args.json {
                print(&outcome.to_json());
            } else {
                print(&report(&outcome));
            }
            if outcome.is_good() { 0 } else { EXIT_FAILURE }
        }
        Err(error) => fail(&error),
    }
}
