//! The command `adit-loadtest guard`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::bench_args::BenchArgs;
use super::output::print;
use super::{EXIT_USAGE, fail};
use crate::guard::{GuardSettings, TASKS_MAX, Way, picture, report, run};
use crate::interrupt::Interrupt;
use crate::serve::SERVICE_MAX;
use crate::units::time;

/// Shown in the help after the flags.
const EXAMPLES: &str = "\
Examples:
  With the default settings, about six minutes:
      adit-loadtest guard
  Agents that wait for 2 s, for programs to read:
      adit-loadtest guard --timeout 2s --rate 50 --json

The server answers in a short time, then a quarter of the calls are slow, then all of them, then none. It works on a slow call to the
end, even if the agent is gone. The tool is not marked as safe to repeat.

Each task is one tool call, and begins at a fixed rate, whatever becomes of those before it. Its agent follows these rules:
- It waits for --timeout, and then closes its connection. Behind the guard it says how long it waits, in X-Request-Timeout.
- If nothing came, or the connection broke, it repeats the call after 100 ms.
- If the answer is an error with `terminal`, it gives the task up.
- If the error says after how long to retry (Retry-After), it repeats the call then, and not before.
- After any other error it repeats the call after 100 ms.
- It repeats a call at most --retries times.

A task is done well if its call was answered and the tool ran once: not if the agent repeated a call that may have run.";

/// The command-line flags of `guard`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct GuardArgs {
    /// Tasks that begin each second
    #[arg(long, value_name = "N", default_value_t = 20.0)]
    rate: f64,
    /// How long an agent waits for an answer
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "5s")]
    timeout: Duration,
    /// How often it retries a call
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=10))]
    retries: u32,
    /// How long the server works on a call
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "50ms")]
    service: Duration,
    /// How long the server works on a slow call
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "30s")]
    slow: Duration,
    /// How long the server is normal, before it becomes slow
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "10s")]
    normal: Duration,
    /// How long a quarter of the calls is slow
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "20s")]
    quarter: Duration,
    /// How long all calls are slow
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "60s")]
    all: Duration,
    /// How long the run continues after the server has recovered
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "15s")]
    after: Duration,
    /// The shortest deadline that the guard enforces
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "1s")]
    floor: Duration,
    /// How long a breaker is open before it sends probes
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "2s")]
    open: Duration,
    /// Also limit the calls in flight by their latency
    #[arg(long)]
    concurrency_limit: bool,
    /// Tokens that an agent reads again for each call that it makes
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(0..=10_000_000))]
    context_tokens: u64,
    #[command(flatten)]
    bench: BenchArgs,
    /// Write a picture of the run to this file, as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Why the command line is refused.
#[derive(Debug, thiserror::Error)]
enum UsageError {
    #[error("rate {0}: must be above 0, and rate × timeout × (retries + 1) must be below {TASKS_MAX}")]
    Rate(f64),
    #[error("{0:?} is out of range: 1ms to {SERVICE_MAX:?}")]
    Time(Duration),
}

pub(super) fn execute(args: &GuardArgs, interrupt: &Interrupt) -> u8 {
    let usage = |error: &dyn std::fmt::Display| {
        fail(error);
        EXIT_USAGE
    };
    let settings = match args.settings() {
        Ok(settings) => settings,
        Err(error) => return usage(&error),
    };
    let bench = match args.bench.bench() {
        Ok(bench) => bench,
        Err(error) => return usage(&error),
    };
    let mut outcomes = Vec::new();
    for way in Way::ALL {
        match run(way, &settings, &bench, interrupt) {
            Ok(outcome) => outcomes.push(outcome),
            Err(error) => return fail(&format_args!("{}: {error}", way.name())),
        }
    }
    if let Some(path) = &args.svg {
        let drawn = picture::draw(&outcomes, &settings).map_err(|error| error.to_string());
        if let Err(error) = drawn.and_then(|svg| std::fs::write(path, svg).map_err(|error| error.to_string())) {
            return fail(&format_args!("{}: {error}", path.display()));
        }
    }
    if args.json {
        print(&report::to_json(&outcomes, &settings));
    } else {
        print(&report::text(&outcomes, &settings));
    }
    0
}

impl GuardArgs {
    fn settings(&self) -> Result<GuardSettings, UsageError> {
        let parts = [self.normal, self.quarter, self.all, self.after];
        let times = [self.timeout, self.service, self.slow, self.floor, self.open].into_iter().chain(parts);
        let range = Duration::from_millis(1)..=SERVICE_MAX;
        if let Some(wrong) = times.into_iter().find(|time| !range.contains(time)) {
            return Err(UsageError::Time(wrong));
        }
        let longest = self.timeout.as_secs_f64() * f64::from(self.retries + 1);
        if !(self.rate > 0.0 && self.rate * longest < TASKS_MAX as f64) {
            return Err(UsageError::Rate(self.rate));
        }
        Ok(GuardSettings {
            rate: self.rate,
            timeout: self.timeout,
            retries: self.retries,
            service: self.service,
            slow: self.slow,
            parts,
            context_tokens: self.context_tokens,
            floor: self.floor,
            limits_concurrency: self.concurrency_limit,
            open: self.open,
        })
    }
}
