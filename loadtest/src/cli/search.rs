//! The command `adit-loadtest search`.

use clap::Args;
use serde_json::{Value, json};

use super::load_args::{ArrivalArgs, CallArgs, GeneratorArgs, TargetArgs, WatchArgs};
use super::output::print;
use super::{EXIT_FAILURE, fail, run_with_bar};
use crate::latencies::micros;
use crate::load::Mode;
use crate::outcome::Outcome;
use crate::run::{Interrupt, RunError};
use crate::search::{Bound, Search, SearchError, SearchSettings, Verdict};
use crate::slo::Slo;

/// The command-line flags of `search`.
#[derive(Args, Debug)]
pub struct SearchArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// The objective, such as 'p95<5ms': p50, p90, p95, p99, p999 or max; < or <=; us, ms or s
    #[arg(long)]
    slo: Slo,
    /// The lowest rate to try
    #[arg(long, value_name = "PER_SECOND", default_value_t = 100.0)]
    rate_min: f64,
    /// The highest rate to try
    #[arg(long, value_name = "PER_SECOND", default_value_t = 1e6)]
    rate_max: f64,
    /// Number of runs for each rate; the majority decides
    #[arg(long, value_name = "N", default_value_t = 3)]
    repeats: u32,
    /// The search ends when the lowest rate that failed is at most this much above the highest one that passed
    #[arg(long, value_name = "SHARE", default_value_t = 0.05)]
    tolerance: f64,
    #[command(flatten)]
    call: CallArgs,
    #[command(flatten)]
    arrivals: ArrivalArgs,
    #[command(flatten)]
    generator: GeneratorArgs,
    #[command(flatten)]
    watch: WatchArgs,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Why a search ended during a run.
enum Ended {
    Run(RunError),
    Interrupted,
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ended::Run(error) => error.fmt(f),
            Ended::Interrupted => f.write_str("interrupted"),
        }
    }
}

pub(super) fn execute(args: &SearchArgs, interrupt: &Interrupt) -> u8 {
    let settings = SearchSettings {
        slo: args.slo,
        rate_min: args.rate_min,
        rate_max: args.rate_max,
        repeats: args.repeats,
        tolerance: args.tolerance,
    };
    let mut best: Option<(f64, Outcome)> = None;
    let mut search = Search::default();
    let found = search.run(&settings, |rate| {
        let mode = Mode::Open { rate, arrivals: args.arrivals.arrivals() };
        let load = args.call.load(args.target.target(), mode, args.generator.settings());
        let load = load.map_err(|error| Ended::Run(error.into()))?;
        let what = format!("{rate:.0}/s");
        let outcome = run_with_bar(&what, &load, &args.watch.watched(), interrupt).map_err(Ended::Run)?;
        if interrupt.is_raised() {
            return Err(Ended::Interrupted);
        }
        let verdict = Verdict::of(&outcome, &args.slo);
        let value_us = micros(args.slo.value(&outcome.corrected));
        if !args.json {
            print(&format_args!("{rate:>12.0}/s  {verdict:?}, {value_us:.1} µs{}", reason(&outcome, verdict)));
        }
        if verdict == Verdict::Met && best.as_ref().is_none_or(|(kept, _)| rate >= *kept) {
            best = Some((rate, outcome));
        }
        Ok((verdict, value_us))
    });
    report_result(args, &search, best.as_ref(), found.as_ref().err())
}

/// Prints the result, also of a search that ended early.
fn report_result(
    args: &SearchArgs,
    search: &Search,
    best: Option<&(f64, Outcome)>,
    error: Option<&SearchError<Ended>>,
) -> u8 {
    if args.json {
        let mut object = search.to_json();
        object["slo"] = Value::from(args.slo.to_string());
        object["run"] = best.map_or(Value::Null, |(_, outcome)| outcome.to_json());
        object["partial"] = json!(error.map(ToString::to_string));
        print(&object);
    } else if let Some(rate) = search.best {
        print(&format_args!("\n{} is met up to {rate:.0} calls per second{}", args.slo, bound(search.bound)));
    }
    match error {
        Some(error) => fail(error),
        None if search.best.is_some() => 0,
        None => EXIT_FAILURE,
    }
}

fn bound(bound: Option<Bound>) -> &'static str {
    match bound {
        Some(Bound::Target) => "",
        Some(Bound::Generator) => "; above that the generator itself is too slow, and the target may handle more",
        Some(Bound::RateMax) => ", the highest that was tried (--rate-max)",
        None => ", as far as the search went",
    }
}

fn reason(outcome: &Outcome, verdict: Verdict) -> String {
    match verdict {
        Verdict::Void => outcome.void.as_ref().map(|void| format!(": {void}")).unwrap_or_default(),
        Verdict::Failed => outcome.failed.first().map(|first| format!(": {first}")).unwrap_or_default(),
        Verdict::Met | Verdict::Missed => String::new(),
    }
}
