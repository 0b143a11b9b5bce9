//! The command `adit-loadtest soak`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Args;

use super::bench_args::{BenchArgs, BenchError};
use super::output::print;
use super::storm::{CountArgs, ShapeArgs, UsageError};
use super::{EXIT_FAILURE, EXIT_USAGE, fail};
use crate::compare::bench::Bench;
use crate::compare::table::table_of;
use crate::interrupt::Interrupt;
use crate::storm::soak::{Round, Trend, restart_before, to_json, trends};
use crate::storm::{FailOn, Kind, StormError, StormSettings, judged, run};
use crate::units::time;

/// The numbers of agents if no kind is given on the command line.
const MODERATE: [(Kind, usize); 8] = [
    (Kind::Download, 20),
    (Kind::Upload, 20),
    (Kind::Chatty, 10),
    (Kind::Aborted, 10),
    (Kind::Stalled, 4),
    (Kind::ChattyStalled, 2),
    (Kind::HalfOpen, 100),
    (Kind::Partial, 50),
];
/// The most faults of rounds that are printed; further ones are only counted.
const FAULTS_TOLD: usize = 10;

/// Shown in the help after the flags.
const EXAMPLES: &str = "\
Examples:
  One hour of all kinds of agent on each driver:
      adit-loadtest soak --for 1h --driver uring
      adit-loadtest soak --for 1h --driver epoll
  Over TLS, without restarts, with many agents that do not read:
      adit-loadtest soak --for 30m --tls --downloads 50 --stalled 200 --restart-every 0

A round is a storm and a pause, at the end of which edge and connector are measured. In the first half of the time the
connector is restarted between rounds, in the second half the edge. Each is judged by its longest uninterrupted run: the
median of the last quarter of its rounds may exceed that of the first quarter by 10 %, and additionally by 4 MiB of memory,
1 MiB of buffers, or 8 of a counted resource.";

/// The command-line flags of `soak`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct SoakArgs {
    /// For how long new rounds are started
    #[arg(long = "for", value_name = "TIME", value_parser = time, default_value = "1h")]
    length: Duration,
    /// The longest time of one storm
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "15s")]
    round: Duration,
    /// Pause after each storm; it should be longer than connections to an upstream are kept
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "35s")]
    quiet: Duration,
    /// Restart connector or edge after this many rounds; 0 for never
    #[arg(long, value_name = "N", default_value_t = 3)]
    restart_every: usize,
    #[command(flatten)]
    counts: CountArgs,
    #[command(flatten)]
    shape: ShapeArgs,
    /// What makes the run fail, in addition to growth
    #[arg(long, value_enum, value_name = "WHAT,…", value_delimiter = ',', default_value = "bodies,probe")]
    fail_on: Vec<FailOn>,
    #[command(flatten)]
    bench: BenchArgs,
    /// Print one JSON object at the end instead of text
    #[arg(long)]
    json: bool,
}

/// The results, also of a run that ended early.
#[derive(Default)]
struct Soaked {
    rounds: Vec<Round>,
    /// Why the run ended early.
    error: Option<StormError>,
}

pub(super) fn execute(args: &SoakArgs, interrupt: &Interrupt) -> u8 {
    let prepared = args.settings().and_then(|settings| Ok((settings, args.bench.bench().map_err(from_bench)?)));
    let (settings, bench) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            fail(&error);
            return EXIT_USAGE;
        }
    };
    let soaked = args.soak(&settings, &bench, interrupt);
    let (trends, unjudged) = match trends(&soaked.rounds) {
        Ok(trends) => (trends, None),
        Err(why) => (Vec::new(), Some(why)),
    };
    let faults = faults(&soaked, &trends, unjudged, interrupt);
    if args.json {
        print(&to_json(&soaked.rounds, &trends, &faults));
    } else if !trends.is_empty() {
        let heads = ["side", "figure", "rounds", "first quarter", "last quarter", "may be", ""];
        print(&table_of(&heads, 2, trends.iter().map(Trend::columns)));
    }
    faults.iter().for_each(|fault| _ = fail(fault));
    if faults.is_empty() { 0 } else { EXIT_FAILURE }
}

impl SoakArgs {
    fn settings(&self) -> Result<StormSettings, UsageError> {
        let asked = self.counts.counts();
        let counts = if asked.is_empty() { BTreeMap::from(MODERATE) } else { asked };
        self.shape.settings(counts, self.round, self.quiet)
    }

    /// Runs rounds until the time is over.
    fn soak(&self, settings: &StormSettings, bench: &Bench, interrupt: &Interrupt) -> Soaked {
        let mut soaked = Soaked::default();
        soaked.error = self.rounds(settings, bench, interrupt, &mut soaked.rounds).err();
        soaked
    }

    fn rounds(
        &self,
        settings: &StormSettings,
        bench: &Bench,
        interrupt: &Interrupt,
        rounds: &mut Vec<Round>,
    ) -> Result<(), StormError> {
        // Child processes inherit the limit.
        crate::files::allow(settings.streams() as u64 * 2)?;
        let mut ground = self.shape.ground(bench, settings.streams(), interrupt)?;
        let fail_on = judged(&self.fail_on);
        let began = Instant::now();
        while began.elapsed() < self.length && !interrupt.is_raised() {
            let share = began.elapsed().as_secs_f64() / self.length.as_secs_f64();
            let restarted = restart_before(rounds.len(), self.restart_every, share);
            if let Some(part) = restarted {
                ground.restart(part, interrupt)?;
            }
            let outcome = run(settings, &mut ground, interrupt)?;
            if outcome.interrupted {
                break;
            }
            let faults = outcome.faults(&fail_on, self.shape.probe_max());
            let round = Round::of(&outcome, restarted, began.elapsed(), faults);
            if !self.json {
                print(&round.line(rounds.len() + 1));
                round.faults.iter().for_each(|fault| print(&format_args!("     {fault}")));
            }
            rounds.push(round);
            if let Some(died) = outcome.died {
                return Err(StormError::Died(died));
            }
        }
        Ok(())
    }
}

fn from_bench(error: BenchError) -> UsageError {
    error.into()
}

fn faults(soaked: &Soaked, trends: &[Trend], unjudged: Option<String>, interrupt: &Interrupt) -> Vec<String> {
    let mut faults: Vec<String> = trends.iter().filter_map(Trend::fault).collect();
    faults.extend(unjudged);
    faults.extend(soaked.error.as_ref().map(|error| format!("it ended after {} rounds: {error}", soaked.rounds.len())));
    if interrupt.is_raised() {
        faults.push("interrupted before the end".to_owned());
    }
    let of_rounds: Vec<String> = soaked
        .rounds
        .iter()
        .enumerate()
        .flat_map(|(n, round)| round.faults.iter().map(move |fault| format!("round {}: {fault}", n + 1)))
        .collect();
    let more = of_rounds.len().saturating_sub(FAULTS_TOLD);
    faults.extend(of_rounds.into_iter().take(FAULTS_TOLD));
    if more > 0 {
        faults.push(format!("and {more} more faults of rounds"));
    }
    faults
}
