//! The command `adit-loadtest bulk`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::load_args::{GeneratorArgs, TargetArgs, WatchArgs};
use super::output::print;
use super::{EXIT_FAILURE, fail, run_with_bar};
use crate::bulk::{BulkRow, Direction, bulk_load};
use crate::load::{Load, Phases};
use crate::run::Interrupt;
use crate::units::{bytes, time};

/// The command-line flags of `bulk`.
#[derive(Args, Debug)]
pub struct BulkArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Sizes of the bodies, separated by commas
    #[arg(long, value_name = "SIZE,…", value_delimiter = ',', value_parser = bytes, default_value = "1MiB,100MiB")]
    sizes: Vec<u64>,
    /// In which direction they are sent
    #[arg(long, value_enum, value_delimiter = ',', default_value = "down,up")]
    directions: Vec<DirectionArg>,
    /// Number of bodies at the same time, each on its own connection
    #[arg(long, value_name = "N", default_value_t = 1)]
    connections: usize,
    /// Warm-up time before the measurement
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "1s")]
    warm_up: Duration,
    /// Length of the measurement, for each size and direction
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "5s")]
    duration: Duration,
    /// How long to wait for the last bodies
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "30s")]
    drain: Duration,
    #[command(flatten)]
    generator: GeneratorArgs,
    #[command(flatten)]
    watch: WatchArgs,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// The directions, as command-line values.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum DirectionArg {
    /// From the upstream to the agent, in answers
    Down,
    /// From the agent to the upstream, in requests
    Up,
}

impl From<DirectionArg> for Direction {
    fn from(direction: DirectionArg) -> Direction {
        match direction {
            DirectionArg::Down => Direction::Down,
            DirectionArg::Up => Direction::Up,
        }
    }
}

pub(super) fn execute(args: &BulkArgs, interrupt: &Interrupt) -> u8 {
    let mut base = Load::of(args.target.target());
    base.connections = args.connections;
    base.phases = Phases { warm_up: args.warm_up, measure: args.duration, drain: args.drain };
    base.generator = args.generator.settings();
    let (mut rows, mut is_good) = (Vec::new(), true);
    if !args.json {
        print(&BulkRow::header());
    }
    for size in &args.sizes {
        for direction in &args.directions {
            let direction = Direction::from(*direction);
            let load = bulk_load(&base, direction, *size);
            let outcome = match run_with_bar(direction.name(), &load, &args.watch.watched(), interrupt) {
                Ok(outcome) => outcome,
                Err(error) => {
                    is_good = false;
                    rows.push(json!({ "direction": direction.name(), "size": size, "error": error.to_string() }));
                    fail(&error);
                    continue;
                }
            };
            let row = BulkRow { direction, size: *size, connections: args.connections, outcome };
            is_good &= row.is_good();
            if !args.json {
                print(&row.line());
                if let Some(first) = row.outcome.failed.first() {
                    print(&format_args!("            first failure: {first}"));
                }
            }
            rows.push(row.to_json());
            if interrupt.is_raised() {
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
