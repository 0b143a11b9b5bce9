//! The command `adit-loadtest storm`.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;

use super::bench_args::{BenchArgs, BenchError};
use super::load_args::DriverArg;
use super::output::print;
use super::{EXIT_FAILURE, EXIT_USAGE, fail};
use crate::interrupt::Interrupt;
use crate::serve::ANSWER_LEN_MAX;
use crate::serve::ticks::{TICK_LEN_MAX, TICK_LEN_MIN, Ticks};
use crate::storm::ground::Ground;
use crate::storm::{AGENTS_MAX, FailOn, Kind, StormError, StormOutcome, StormSettings, judged, run};
use crate::units::{bytes, time};

/// The longest storm that can be asked for.
const LENGTH_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Shown after the flags.
const EXAMPLES: &str = "\
Examples:
  A hundred downloads and uploads of 8 MiB at once, beside small calls:
      adit-loadtest storm --downloads 100 --uploads 100
  Agents that do not read and agents that do not speak, over TLS, for half a minute:
      adit-loadtest storm --tls --stalled 1000 --half-open 5000 --partial 1000 --for 30s
  Another build of adit, which must also keep to its memory:
      adit-loadtest storm --downloads 1000 --peer-bin adit=./adit --fail-on bodies,probe,memory,settled,links

In the table: whole came to their end with every byte right, cut ended before, failed were refused or never answered;
held were still there at the end, ended were closed by the edge before it. The probe's calls are measured from when
they were due, and go to an upstream of their own.";

/// The command-line flags of `storm`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct StormArgs {
    #[command(flatten)]
    counts: CountArgs,
    #[command(flatten)]
    shape: ShapeArgs,
    /// How long it lasts at the most: to the end where agents hold their connections, else until all have their answers
    #[arg(long = "for", value_name = "TIME", value_parser = time, default_value = "60s")]
    length: Duration,
    /// How long edge and connector have afterwards to give their memory back. Unless it is zero, one agent of each kind and as
    /// long a rest come before the memory is looked at first
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "60s")]
    settle: Duration,
    /// What makes it fail
    #[arg(long, value_enum, value_name = "WHAT,…", value_delimiter = ',', default_value = "bodies,probe")]
    fail_on: Vec<FailOn>,
    #[command(flatten)]
    bench: BenchArgs,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// How many agents of each kind.
#[derive(Args, Clone, Debug)]
pub(super) struct CountArgs {
    /// Agents that fetch an answer of --bytes as fast as they can
    #[arg(long, value_name = "N", default_value_t = 0)]
    downloads: usize,
    /// Agents that send a body of --bytes as fast as they can
    #[arg(long, value_name = "N", default_value_t = 0)]
    uploads: usize,
    /// Agents that read a stream of small events
    #[arg(long, value_name = "N", default_value_t = 0)]
    chatty: usize,
    /// Agents that ask for an answer of --bytes, and go when it has begun
    #[arg(long, value_name = "N", default_value_t = 0)]
    aborted: usize,
    /// Agents that ask for an answer of --stalled-bytes, and never read
    #[arg(long, value_name = "N", default_value_t = 0)]
    stalled: usize,
    /// Agents that ask for events of --stalled-event-bytes without end, and never read
    #[arg(long, value_name = "N", default_value_t = 0)]
    chatty_stalled: usize,
    /// Connections that say nothing
    #[arg(long, value_name = "N", default_value_t = 0)]
    half_open: usize,
    /// Connections that send one byte of a TLS record, without --tls of a request
    #[arg(long, value_name = "N", default_value_t = 0)]
    partial: usize,
    /// Connections that agree on TLS, and send one byte of a record then; needs --tls
    #[arg(long, value_name = "N", default_value_t = 0, requires = "tls")]
    sealed_partial: usize,
}

/// What agents do, and what they do it to.
#[derive(Args, Clone, Debug)]
pub(super) struct ShapeArgs {
    /// Bytes of a download and of an upload
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value = "8MiB")]
    bytes: u64,
    /// Bytes that one that never reads asks for
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value = "64MiB")]
    stalled_bytes: u64,
    /// Events of a stream that is read
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    events: u64,
    /// Bytes of each of them
    #[arg(long, value_name = "SIZE", value_parser = event_bytes, default_value = "100")]
    event_bytes: usize,
    /// How far apart they are
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "10ms")]
    event_gap: Duration,
    /// Bytes of the events that nobody reads
    #[arg(long, value_name = "SIZE", value_parser = event_bytes, default_value = "16")]
    stalled_event_bytes: usize,
    /// So much of them comes at once, to fill what the kernel keeps; it must not be more than that
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value = "1MiB")]
    stalled_event_burst: u64,
    /// How far apart the others are
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "50us")]
    stalled_event_gap: Duration,
    /// How far apart the calls of the probe are
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "10ms")]
    probe_every: Duration,
    /// The probe's worst call may take so long
    #[arg(long, value_name = "MS", default_value_t = 250)]
    probe_max_ms: u64,
    /// Agents speak TLS to the edge
    #[arg(long)]
    tls: bool,
    /// What edge and connector talk to the kernel with
    #[arg(long, value_enum, default_value = "auto")]
    driver: DriverArg,
}

/// Why the command line cannot be followed.
#[derive(Debug, thiserror::Error)]
pub(super) enum UsageError {
    #[error(transparent)]
    Bench(#[from] BenchError),
    #[error("{count} agents of one kind ({}): give at most {AGENTS_MAX}", kind.name())]
    Agents { kind: Kind, count: usize },
    #[error("bodies of {0} bytes: give 1 to {ANSWER_LEN_MAX}")]
    Bytes(u64),
    #[error("a storm of no agents: give --downloads, --uploads, --stalled or another number of them")]
    Nobody,
    #[error("a storm for {0:?}: give more than 0s, and at most {LENGTH_MAX:?}")]
    Length(Duration),
    #[error("a probe that calls every {0:?}: give 1ms to 1s")]
    Probe(Duration),
}

pub(super) fn execute(args: &StormArgs, interrupt: &Interrupt) -> u8 {
    let settings = match args.shape.settings(args.counts.counts(), args.length, args.settle) {
        Ok(settings) => StormSettings { rehearse: !args.settle.is_zero(), ..settings },
        Err(error) => {
            fail(&error);
            return EXIT_USAGE;
        }
    };
    let outcome = match args.run(&settings, interrupt) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => return fail(&error),
        Err(error) => {
            fail(&error);
            return EXIT_USAGE;
        }
    };
    let faults = outcome.faults(&judged(&args.fail_on), args.shape.probe_max());
    if args.json {
        print(&outcome.to_json(&faults));
    } else {
        print(&outcome.text());
    }
    faults.iter().for_each(|fault| _ = fail(fault));
    if outcome.interrupted {
        return fail(&"interrupted before its time");
    }
    if faults.is_empty() { 0 } else { EXIT_FAILURE }
}

impl StormArgs {
    fn run(
        &self,
        settings: &StormSettings,
        interrupt: &Interrupt,
    ) -> Result<Result<StormOutcome, StormError>, UsageError> {
        let bench = self.bench.bench()?;
        let run = || {
            // Also for the processes that are started from here.
            crate::files::allow(settings.streams() as u64 * 2)?;
            let mut ground = self.shape.ground(&bench, settings.streams(), interrupt)?;
            run(settings, &mut ground, interrupt)
        };
        Ok(run())
    }
}

impl CountArgs {
    /// Those that were asked for.
    pub(super) fn counts(&self) -> BTreeMap<Kind, usize> {
        let count = |kind| match kind {
            Kind::Download => self.downloads,
            Kind::Upload => self.uploads,
            Kind::Chatty => self.chatty,
            Kind::Aborted => self.aborted,
            Kind::Stalled => self.stalled,
            Kind::ChattyStalled => self.chatty_stalled,
            Kind::HalfOpen => self.half_open,
            Kind::Partial => self.partial,
            Kind::SealedPartial => self.sealed_partial,
        };
        Kind::ALL.into_iter().map(|kind| (kind, count(kind))).filter(|(_, count)| *count > 0).collect()
    }
}

impl ShapeArgs {
    /// What the flags say, where it can be done.
    pub(super) fn settings(
        &self,
        counts: BTreeMap<Kind, usize>,
        length: Duration,
        settle: Duration,
    ) -> Result<StormSettings, UsageError> {
        if counts.is_empty() {
            return Err(UsageError::Nobody);
        }
        if let Some((kind, count)) = counts.iter().find(|(_, count)| **count > AGENTS_MAX) {
            return Err(UsageError::Agents { kind: *kind, count: *count });
        }
        if let Some(wrong) = [self.bytes, self.stalled_bytes].iter().find(|len| !(1..=ANSWER_LEN_MAX).contains(len)) {
            return Err(UsageError::Bytes(*wrong));
        }
        if length.is_zero() || length > LENGTH_MAX {
            return Err(UsageError::Length(length));
        }
        if !(Duration::from_millis(1)..=Duration::from_secs(1)).contains(&self.probe_every) {
            return Err(UsageError::Probe(self.probe_every));
        }
        Ok(StormSettings {
            counts,
            bytes: self.bytes,
            stalled_bytes: self.stalled_bytes,
            events: Ticks { count: self.events, at_once: 0, gap: self.event_gap, len: self.event_bytes },
            stalled_events: Ticks {
                count: 1,
                at_once: self.stalled_event_burst / self.stalled_event_bytes as u64,
                gap: self.stalled_event_gap,
                len: self.stalled_event_bytes,
            },
            probe_every: self.probe_every,
            length,
            settle,
            rehearse: false,
        })
    }

    pub(super) fn probe_max(&self) -> Duration {
        Duration::from_millis(self.probe_max_ms)
    }

    pub(super) fn ground(
        &self,
        bench: &crate::compare::bench::Bench,
        streams: usize,
        interrupt: &Interrupt,
    ) -> Result<Ground, StormError> {
        Ground::start(bench, self.driver.into(), self.tls, streams, interrupt)
    }
}

fn event_bytes(text: &str) -> Result<usize, String> {
    let len = bytes(text).map(|len| usize::try_from(len).unwrap_or(usize::MAX))?;
    let range = TICK_LEN_MIN..=TICK_LEN_MAX;
    if range.contains(&len) { Ok(len) } else { Err(format!("give {TICK_LEN_MIN} to {TICK_LEN_MAX} bytes")) }
}
