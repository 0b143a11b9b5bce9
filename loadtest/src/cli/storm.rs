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

/// Shown in the help after the flags.
const EXAMPLES: &str = "\
Examples:
  100 downloads and 100 uploads of 8 MiB at the same time, beside small calls:
      adit-loadtest storm --downloads 100 --uploads 100
  Agents that do not read and agents that do not send, over TLS, for 30 s:
      adit-loadtest storm --tls --stalled 1000 --half-open 5000 --partial 1000 --for 30s
  Another build of adit; fail also if it keeps too much memory:
      adit-loadtest storm --downloads 1000 --peer-bin adit=./adit --fail-on bodies,probe,memory,settled,links

In the table: 'whole' transfers were complete with every byte correct, 'cut' ones ended early, 'failed' ones were refused
or not answered; 'held' connections were still open at the end, 'ended' ones had been closed by the edge. The probe's calls
are measured from their planned start, and go to an upstream of their own.";

/// The command-line flags of `storm`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct StormArgs {
    #[command(flatten)]
    counts: CountArgs,
    #[command(flatten)]
    shape: ShapeArgs,
    /// The longest time of the storm; it ends earlier if all answers are complete and no agent holds its connection
    #[arg(long = "for", value_name = "TIME", value_parser = time, default_value = "60s")]
    length: Duration,
    /// How long edge and connector have afterwards to return their memory. Unless it is zero, one agent of each kind and an equal
    /// pause precede the first measurement of memory
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "60s")]
    settle: Duration,
    /// What makes the run fail
    #[arg(long, value_enum, value_name = "WHAT,…", value_delimiter = ',', default_value = "bodies,probe")]
    fail_on: Vec<FailOn>,
    #[command(flatten)]
    bench: BenchArgs,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// The number of agents of each kind.
#[derive(Args, Clone, Debug)]
pub(super) struct CountArgs {
    /// Agents that download an answer of --bytes as fast as they can
    #[arg(long, value_name = "N", default_value_t = 0)]
    downloads: usize,
    /// Agents that upload a body of --bytes as fast as they can
    #[arg(long, value_name = "N", default_value_t = 0)]
    uploads: usize,
    /// Agents that read a stream of small events
    #[arg(long, value_name = "N", default_value_t = 0)]
    chatty: usize,
    /// Agents that request an answer of --bytes and disconnect when it has begun
    #[arg(long, value_name = "N", default_value_t = 0)]
    aborted: usize,
    /// Agents that request an answer of --stalled-bytes and never read it
    #[arg(long, value_name = "N", default_value_t = 0)]
    stalled: usize,
    /// Agents that request endless events of --stalled-event-bytes and never read them
    #[arg(long, value_name = "N", default_value_t = 0)]
    chatty_stalled: usize,
    /// Connections that send nothing
    #[arg(long, value_name = "N", default_value_t = 0)]
    half_open: usize,
    /// Connections that send one byte of a TLS record, or of a request without --tls
    #[arg(long, value_name = "N", default_value_t = 0)]
    partial: usize,
    /// Connections that complete the TLS handshake, then send one byte of a record; needs --tls
    #[arg(long, value_name = "N", default_value_t = 0, requires = "tls")]
    sealed_partial: usize,
}

/// The behaviour of agents, and its limits.
#[derive(Args, Clone, Debug)]
pub(super) struct ShapeArgs {
    /// Bytes of each download and upload
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value = "8MiB")]
    bytes: u64,
    /// Bytes of each answer that is never read
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value = "64MiB")]
    stalled_bytes: u64,
    /// Number of events in each stream that is read
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    events: u64,
    /// Bytes of each of these events
    #[arg(long, value_name = "SIZE", value_parser = event_bytes, default_value = "100")]
    event_bytes: usize,
    /// Time between two of these events
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "10ms")]
    event_gap: Duration,
    /// Bytes of each event that is never read
    #[arg(long, value_name = "SIZE", value_parser = event_bytes, default_value = "16")]
    stalled_event_bytes: usize,
    /// Bytes of such events that are sent at once, to fill the kernel's buffers; must not be larger than these
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value = "1MiB")]
    stalled_event_burst: u64,
    /// Time between two of the events after that
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "50us")]
    stalled_event_gap: Duration,
    /// Time between two calls of the probe
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "10ms")]
    probe_every: Duration,
    /// Time limit of each call of the probe
    #[arg(long, value_name = "MS", default_value_t = 250)]
    probe_max_ms: u64,
    /// Connect to the edge with TLS
    #[arg(long)]
    tls: bool,
    /// The driver of edge and connector
    #[arg(long, value_enum, default_value = "auto")]
    driver: DriverArg,
}

/// Why the command line is refused.
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
        return fail(&"interrupted before the end");
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
            // Child processes inherit the limit.
            crate::files::allow(settings.streams() as u64 * 2)?;
            let mut ground = self.shape.ground(&bench, settings.streams(), interrupt)?;
            run(settings, &mut ground, interrupt)
        };
        Ok(run())
    }
}

impl CountArgs {
    /// The kinds of agent with a number greater than 0.
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
    /// The storm that the flags describe, if they are valid.
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
