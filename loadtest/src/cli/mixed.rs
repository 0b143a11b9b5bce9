//! The command `adit-loadtest mixed`.

use clap::Args;
use serde_json::{Value, json};

use super::load_args::{CallArgs, GeneratorArgs, RateArgs, TargetArgs, WatchArgs};
use super::output::print;
use super::progress::Bar;
use super::{EXIT_FAILURE, fail, run_with_bar};
use crate::bulk::{BulkRow, Direction, bulk_load};
use crate::load::{Load, Mode};
use crate::outcome::Outcome;
use crate::run::{Interrupt, RunError, run_together};
use crate::units::bytes;

/// The most rounds that can be asked for.
const ROUNDS_MAX: u32 = 100;

/// The command-line flags of `mixed`.
#[derive(Args, Debug)]
pub struct MixedArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    call: CallArgs,
    #[command(flatten)]
    rate: RateArgs,
    /// Bytes of each large answer beside the small calls
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value = "100MiB")]
    bulk_size: u64,
    /// Number of large answers at the same time
    #[arg(long, value_name = "N", default_value_t = 1)]
    bulk_connections: usize,
    /// Number of rounds, each with small calls alone and then beside large answers
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=i64::from(ROUNDS_MAX)))]
    rounds: u32,
    #[command(flatten)]
    generator: GeneratorArgs,
    #[command(flatten)]
    watch: WatchArgs,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// The rounds so far.
#[derive(Default)]
struct Rounds {
    alone: Vec<Outcome>,
    beside: Vec<Outcome>,
    bulk: Vec<BulkRow>,
}

pub(super) fn execute(args: &MixedArgs, interrupt: &Interrupt) -> u8 {
    let small = match args.call.load(args.target.target(), args.rate.mode(), args.generator.settings()) {
        Ok(load) => load,
        Err(error) => return fail(&error),
    };
    let mut base = small.clone();
    (base.mode, base.connections) = (Mode::Closed, args.bulk_connections);
    let bulk = bulk_load(&base, Direction::Down, args.bulk_size);
    let mut rounds = Rounds::default();
    let ended = (0..args.rounds)
        .try_for_each(|_| if interrupt.is_raised() { Ok(()) } else { rounds.add(args, &small, &bulk, interrupt) });
    if args.json {
        print(&rounds.to_json(ended.as_ref().err()));
    } else {
        print(&rounds.table());
    }
    match ended {
        Err(error) => fail(&error),
        Ok(()) if rounds.is_good() && !interrupt.is_raised() => 0,
        Ok(()) => EXIT_FAILURE,
    }
}

impl Rounds {
    /// One more round: the small calls alone, and then beside the large ones.
    fn add(&mut self, args: &MixedArgs, small: &Load, bulk: &Load, interrupt: &Interrupt) -> Result<(), RunError> {
        let watched = args.watch.watched();
        self.alone.push(run_with_bar("alone", small, &watched, interrupt)?);
        if interrupt.is_raised() {
            return Ok(());
        }
        let bar = Bar::new("beside", small.phases);
        let beside = std::slice::from_ref(bulk);
        let (outcome, others) = run_together(small, beside, &watched, interrupt, &mut |progress| bar.show(progress))?;
        self.beside.push(outcome);
        self.bulk.extend(others.into_iter().map(|outcome| BulkRow {
            direction: Direction::Down,
            size: args.bulk_size,
            connections: args.bulk_connections,
            outcome,
        }));
        Ok(())
    }

    /// The factor by which large answers raise a quantile: the median of the rounds with them over the median without.
    fn ratio(&self, q: f64) -> Option<f64> {
        let (alone, beside) = (median(&self.alone, q)?, median(&self.beside, q)?);
        (alone > 0.0).then(|| beside / alone)
    }

    fn is_good(&self) -> bool {
        self.alone.iter().chain(&self.beside).all(Outcome::is_good) && self.bulk.iter().all(BulkRow::is_good)
    }

    fn to_json(&self, error: Option<&RunError>) -> Value {
        let all = |outcomes: &[Outcome]| outcomes.iter().map(Outcome::to_json).collect::<Vec<_>>();
        json!({
            "p50_ratio": self.ratio(0.5),
            "p99_ratio": self.ratio(0.99),
            "alone": all(&self.alone),
            "beside": all(&self.beside),
            "bulk": self.bulk.iter().map(BulkRow::to_json).collect::<Vec<_>>(),
            "partial": error.map(ToString::to_string),
        })
    }

    fn table(&self) -> String {
        let line = |name: &str, outcomes: &[Outcome]| {
            let at = |q| median(outcomes, q).map_or_else(|| "-".to_owned(), |us| format!("{us:.1}"));
            let failed: u64 = outcomes.iter().map(|outcome| outcome.failed.count()).sum();
            let void = outcomes.iter().filter(|outcome| outcome.void.is_some()).count();
            format!("{name:<16}{:>10}{:>10}{:>10}{failed:>8}{void:>6}\n", at(0.5), at(0.95), at(0.99))
        };
        let ratio = |q| self.ratio(q).map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        let mut text =
            format!("{:<16}{:>10}{:>10}{:>10}{:>8}{:>6}\n", "µs, medians", "p50", "p95", "p99", "failed", "void");
        text += &line("alone", &self.alone);
        text += &line("while bulk runs", &self.beside);
        text += &format!("{:<16}{:>10}{:>10}{:>10}\n\n", "ratio", ratio(0.5), ratio(0.95), ratio(0.99));
        text += &format!("{}\n", BulkRow::header());
        self.bulk.iter().for_each(|row| text += &format!("{}\n", row.line()));
        let notes = self.alone.iter().chain(&self.beside).chain(self.bulk.iter().map(|row| &row.outcome));
        for outcome in notes {
            let void = outcome.void.as_ref().map(ToString::to_string);
            let partial = outcome.partial.as_ref().map(ToString::to_string);
            let failed = outcome.failed.first().map(ToOwned::to_owned);
            for note in [void, partial, failed].into_iter().flatten() {
                text += &format!("  {note}\n");
            }
        }
        text
    }
}

fn median(outcomes: &[Outcome], q: f64) -> Option<f64> {
    let mut values: Vec<f64> = outcomes.iter().map(|outcome| outcome.corrected.quantile_us(q)).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
