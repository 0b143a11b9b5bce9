//! The command `adit-loadtest split`.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::load_args::{GeneratorArgs, TargetArgs};
use super::output::print;
use super::{EXIT_FAILURE, fail, run_with_bar};
use crate::latencies::Latencies;
use crate::load::{Call, CallKind, Load, Phases, Target};
use crate::outcome::Outcome;
use crate::run::{Interrupt, RunError};
use crate::serve::WANTED_SERVICE;
use crate::split::Split;
use crate::units::time;
use crate::watch::Watched;

/// The command-line flags of `split`.
#[derive(Args, Debug)]
pub struct SplitArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// URL of the same `adit-loadtest serve` without the tunnel, to print its times as well
    #[arg(long, value_name = "URL")]
    upstream: Option<Target>,
    /// The service times to request from the upstream
    #[arg(long, value_name = "TIME,…", value_delimiter = ',', value_parser = time, default_value = "0s,1ms,20ms,200ms")]
    services: Vec<Duration>,
    /// Warm-up time before each measurement
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "1s")]
    warm_up: Duration,
    /// Length of each measurement
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "5s")]
    duration: Duration,
    #[command(flatten)]
    generator: GeneratorArgs,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// The result for one service time.
struct Row {
    service: Duration,
    tunnel: Outcome,
    direct: Option<Outcome>,
}

pub(super) fn execute(args: &SplitArgs, interrupt: &Interrupt) -> u8 {
    if !args.json {
        print(&header());
    }
    let (mut rows, mut is_good) = (Vec::new(), true);
    for service in &args.services {
        match measure(args, *service, interrupt) {
            Ok(row) => {
                is_good &= row.fault().is_none();
                if !args.json {
                    print(&row.line());
                }
                if let Some(fault) = row.fault() {
                    fail(&fault);
                }
                rows.push(row.to_json());
            }
            Err(error) => {
                is_good = false;
                // Also on standard output: a script that keeps only that must see it.
                if !args.json {
                    print(&format_args!("{:>9}  {error}", format!("{service:?}")));
                }
                rows.push(json!({ "service_us": service.as_micros() as u64, "error": error.to_string() }));
                fail(&error);
                break;
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

fn measure(args: &SplitArgs, service: Duration, interrupt: &Interrupt) -> Result<Row, RunError> {
    let load = |target: Target| {
        let mut load = Load::of(target);
        let wanted = (WANTED_SERVICE.to_owned(), service.as_micros().to_string());
        load.call = Call { kind: CallKind::McpStateless, headers: vec![wanted], ..Call::default() };
        load.phases = Phases { warm_up: args.warm_up, measure: args.duration, ..Phases::default() };
        load.generator = args.generator.settings();
        load.split = true;
        load
    };
    let what = format!("service {service:?}");
    let run = |target: Target| run_with_bar(&what, &load(target), &Watched::nothing(), interrupt);
    let direct = args.upstream.clone().map(run).transpose()?;
    Ok(Row { service, tunnel: run(args.target.target())?, direct })
}

impl Row {
    fn split(&self) -> Option<&Split> {
        self.tunnel.split.as_ref()
    }

    /// The fault of this row, if any.
    fn fault(&self) -> Option<String> {
        let split = self.split().filter(|_| self.tunnel.calls > 0);
        match split {
            None => {
                let first = self.tunnel.failed.first().unwrap_or("no call was made");
                Some(format!("no call was answered: {first}"))
            }
            Some(split) if split.without_account > 0 => Some(format!(
                "{} answers had no Server-Timing with the upstream's time: is this the URL of a tunnel that reports it?",
                split.without_account
            )),
            Some(split) if split.without_truth > 0 => Some(format!(
                "{} answers did not report the upstream's own time: is the upstream an `adit-loadtest serve`?",
                split.without_truth
            )),
            Some(_) => self.tunnel.failed.first().map(|first| format!("calls failed: {first}")),
        }
    }

    fn line(&self) -> String {
        let p50 = |latencies: Option<&Latencies>| {
            latencies.filter(|l| l.count() > 0).map_or_else(|| "-".to_owned(), |l| format!("{:.1}", l.quantile_us(0.5)))
        };
        let split = self.split();
        let error_p99 = split.map_or(0.0, |split| split.error.quantile_us(0.99));
        format!(
            "{:>9}{:>11}{:>11}{:>9}{:>9}{:>9.1}{:>9}{:>9}{:>10}{:>9}{:>11}{:>11}",
            format!("{:?}", self.service),
            p50(split.map(|split| &split.truth)),
            p50(split.map(|split| &split.upstream)),
            format!("{:+.1}", split.map_or(0.0, Split::error_mean_us)),
            p50(split.map(|split| &split.error)),
            error_p99,
            p50(split.map(|split| &split.edge)),
            p50(split.map(|split| &split.tunnel)),
            p50(split.map(|split| &split.connector)),
            p50(split.map(|split| &split.outside)),
            p50(Some(&self.tunnel.corrected)),
            p50(self.direct.as_ref().map(|direct| &direct.corrected)),
        )
    }

    fn to_json(&self) -> Value {
        json!({
            "service_us": self.service.as_micros() as u64,
            "tunnel": self.tunnel.to_json(),
            "direct": self.direct.as_ref().map(Outcome::to_json),
            "error": self.fault(),
        })
    }
}

fn header() -> String {
    let top = "µs, medians; the error is the time that the tunnel attributes to the upstream in excess";
    format!(
        "{top}\n{:>9}{:>11}{:>11}{:>9}{:>9}{:>9}{:>9}{:>9}{:>10}{:>9}{:>11}{:>11}",
        "service",
        "truth",
        "upstream",
        "err mean",
        "err p50",
        "err p99",
        "edge",
        "tunnel",
        "connector",
        "outside",
        "whole",
        "direct"
    )
}
