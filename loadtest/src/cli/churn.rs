//! The command `adit-loadtest churn`.

use clap::Args;
use serde_json::{Value, json};

use super::load_args::{CallArgs, GeneratorArgs, RateArgs, TargetArgs, WatchArgs};
use super::output::print;
use super::report::report;
use super::{EXIT_FAILURE, fail, run_with_bar};
use crate::load::{Load, Reuse};
use crate::run::Interrupt;

/// The command-line flags of `churn`.
#[derive(Args, Debug)]
pub struct ChurnArgs {
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

/// Measures with a full TLS handshake for each connection and then, if the URL is https, with resumed sessions.
pub(super) fn execute(args: &ChurnArgs, interrupt: &Interrupt) -> u8 {
    let load = match args.call.load(args.target.target(), args.rate.mode(), args.generator.settings()) {
        Ok(load) => Load { reuse: Reuse::PerCall, ..load },
        Err(error) => return fail(&error),
    };
    let variants: &[(&str, bool)] = match (load.target.is_tls(), args.target.way.resume) {
        (false, _) => &[("plain", false)],
        (true, true) => &[("resumed", true)],
        (true, false) => &[("full", false), ("resumed", true)],
    };
    let (mut rows, mut is_good) = (Vec::new(), true);
    for (name, resume) in variants {
        let mut load = load.clone();
        load.target.resume = *resume;
        match run_with_bar(name, &load, &args.watch.watched(), interrupt) {
            Ok(outcome) => {
                is_good &= outcome.is_good();
                if !args.json {
                    print(&format_args!("handshakes: {name}\n{}\n", report(&outcome)));
                }
                rows.push(json!({ "handshake": name, "run": outcome.to_json() }));
            }
            Err(error) => {
                is_good = false;
                rows.push(json!({ "handshake": name, "error": error.to_string() }));
                fail(&error);
            }
        }
        if interrupt.is_raised() {
            is_good = false;
            break;
        }
    }
    if args.json {
        print(&json!({ "rows": Value::from(rows) }));
    }
    if is_good { 0 } else { EXIT_FAILURE }
}
