//! Idle streams: measures the memory of many open, silent calls, and whether they are still alive at the end.

mod holding;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::core_thread::{CoreError, CoreSettings, CoreThread};
use crate::dial::{Dialer, TargetError};
use crate::files::{self, TooFewFiles};
use crate::interrupt::Interrupt;
use crate::load::{GeneratorSettings, Target};
use crate::memory::{Growth, per_stream};
use crate::outcome::Failures;
use crate::watch::{Watched, is_alive};
use holding::Holding;

/// The most streams of a run.
pub const STREAMS_MAX: usize = 10_000;
/// How many streams are opened at the same time: fewer than the queue of a listener holds.
const OPENINGS_AT_ONCE: usize = 64;
/// How often progress and interruption are checked.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// The kind of an idle stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleKind {
    /// An event stream: the head of its answer was received, and no event yet.
    Sse,
    /// An MCP call that the upstream does not answer yet.
    Call,
}

impl IdleKind {
    /// The name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            IdleKind::Sse => "sse",
            IdleKind::Call => "call",
        }
    }
}

/// The streams to hold open.
#[derive(Clone, Debug)]
pub struct IdleSettings {
    /// The target, behind which there must be an `adit-loadtest serve`.
    pub target: Target,
    /// The target for requests to release the streams: the upstream itself, or the tunnel if that forwards every path.
    pub control: Target,
    /// The kind of each stream.
    pub kind: IdleKind,
    /// The number of streams to hold open.
    pub streams: usize,
    /// How long all streams are silent before memory is read.
    pub settle: Duration,
    /// How long one stream may take to open, and all together to arrive at the upstream.
    pub open_timeout: Duration,
    /// How long they may take to be answered after their release.
    pub answer_timeout: Duration,
    /// The thread that opens the streams.
    pub generator: GeneratorSettings,
}

/// Why no streams could be held open.
#[derive(Debug, thiserror::Error)]
pub enum IdleError {
    /// The thread could not start.
    #[error("the generator cannot run: {0}")]
    Core(#[from] CoreError),
    /// The driver broke while it ran.
    #[error("the generator failed: {0}")]
    Driver(std::io::Error),
    /// The process may not open enough files.
    #[error(transparent)]
    Files(#[from] TooFewFiles),
    /// The first stream, which checks that everything works, failed.
    #[error(
        "a single stream could not be opened, held and released, so many were not tried: {0}; streams must end at an \
         `adit-loadtest serve`"
    )]
    First(String),
    /// The number of streams is not valid.
    #[error("{0} streams: give 1 to {STREAMS_MAX}")]
    Streams(usize),
    /// The target cannot be resolved or trusted.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The upstream does not hold calls.
    #[error(
        "{url} is not an `adit-loadtest serve` of this version: it does not report how many calls it holds ({why}); name one with \
         --upstream"
    )]
    Upstream {
        /// The URL that was asked.
        url: String,
        /// The answer of the upstream.
        why: String,
    },
    /// A process to be watched does not exist.
    #[error("there is no process {0} to watch: give the id of one that runs")]
    Watched(u32),
}

/// Why the run ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdlePartial {
    /// It was interrupted, by a signal or by the caller.
    Interrupted,
    /// No more streams could be opened.
    GivenUp,
    /// The request to release the streams failed.
    Control(String),
}

impl fmt::Display for IdlePartial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdlePartial::Interrupted => f.write_str("interrupted before the end"),
            IdlePartial::GivenUp => {
                write!(f, "given up: {OPENINGS_AT_ONCE} streams in a row could not be opened")
            }
            IdlePartial::Control(why) => write!(f, "the upstream could not be asked to release the streams: {why}"),
        }
    }
}

/// The result of a run.
#[derive(Clone, Debug, Default)]
pub struct IdleOutcome {
    /// The number of streams that were requested.
    pub asked: usize,
    /// The number of streams that were open and silent while memory was read.
    pub open: usize,
    /// The streams that were not opened, by cause.
    pub refused: Failures,
    /// The streams that ended before they were released, or with an error afterwards, by cause.
    pub lost: Failures,
    /// The number of calls that the upstream reported as held.
    pub held: Option<u64>,
    /// The number of streams that delivered their event or answer after the release.
    pub answered: usize,
    /// How long opening took.
    pub opening: Duration,
    /// The memory of the processes under test.
    pub processes: Vec<Growth>,
    /// Why the run ended early.
    pub partial: Option<IdlePartial>,
}

impl IdleOutcome {
    /// Whether all requested streams were open and alive to the end.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let all = [self.open, self.answered].iter().all(|count| *count == self.asked);
        all && self.partial.is_none() && self.processes.iter().all(|process| process.after.is_some())
    }

    /// The faults of a result that is not good.
    #[must_use]
    pub fn fault(&self) -> String {
        let mut faults = Vec::new();
        let describe = |failures: &Failures, what: &str| {
            let first = failures.first().unwrap_or_default();
            (failures.count() > 0).then(|| format!("{} streams {what}, the first: {first}", failures.count()))
        };
        faults.extend(describe(&self.refused, "were refused"));
        faults.extend(describe(&self.lost, "were lost"));
        let silent = self.open.saturating_sub(self.answered + self.lost.count() as usize);
        if silent > 0 {
            faults.push(format!("{silent} of {} open streams were not answered when they were released", self.open));
        }
        let gone = self.processes.iter().filter(|process| process.after.is_none());
        faults.extend(gone.map(|process| format!("process {} ({}) is gone", process.pid, process.name)));
        faults.extend(self.partial.as_ref().map(IdlePartial::to_string));
        if faults.is_empty() { "not all streams were open".to_owned() } else { faults.join("; ") }
    }

    /// By how much all processes grew, in KiB: resident, and proportional.
    #[must_use]
    pub fn grown_kib(&self) -> (i64, Option<i64>) {
        let grown: Vec<(i64, Option<i64>)> = self.processes.iter().filter_map(Growth::grown_kib).collect();
        (grown.iter().map(|(rss, _)| rss).sum(), grown.iter().map(|(_, pss)| *pss).sum())
    }

    /// The result as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let watched = !self.processes.is_empty();
        let (rss_kib, pss_kib) = self.grown_kib();
        json!({
            "streams": self.asked,
            "open": self.open,
            "held_by_upstream": self.held,
            "refused": self.refused.to_json(),
            "lost": self.lost.to_json(),
            "answered_when_released": self.answered,
            "opening_s": (self.opening.as_secs_f64() * 1e3).round() / 1e3,
            "processes": self.processes.iter().map(|process| process.to_json(self.open)).collect::<Vec<_>>(),
            "rss_kib": watched.then_some(rss_kib),
            "pss_kib": watched.then_some(pss_kib).flatten(),
            "rss_kib_per_stream": watched.then(|| per_stream(rss_kib, self.open)).flatten(),
            "pss_kib_per_stream": watched.then_some(pss_kib).flatten().and_then(|pss| per_stream(pss, self.open)),
            "partial": self.partial.as_ref().map(IdlePartial::to_string),
        })
    }
}

/// Opens streams, measures the memory that the watched processes take for them, and checks that they are alive.
/// `observer` is called periodically with the number of open streams.
///
/// # Errors
///
/// If the run could not begin. Later errors are in the outcome.
pub fn hold(
    settings: &IdleSettings,
    watched: &Watched,
    interrupt: &Interrupt,
    observer: &mut dyn FnMut(usize),
) -> Result<IdleOutcome, IdleError> {
    if !(1..=STREAMS_MAX).contains(&settings.streams) {
        return Err(IdleError::Streams(settings.streams));
    }
    if let Some(pid) = watched.pids.iter().find(|pid| !is_alive(**pid)) {
        return Err(IdleError::Watched(*pid));
    }
    files::allow(settings.streams as u64)?;
    let dialer = |target: &Target| Dialer::new(target, settings.open_timeout);
    let (streams, control) = (dialer(&settings.target)?, dialer(&settings.control)?);
    let opened = Arc::new(AtomicUsize::new(0));
    let (job, reported) = ((settings.clone(), watched.clone(), interrupt.clone()), Arc::clone(&opened));
    let core = CoreThread::start(core_settings(&settings.generator), move |core| async move {
        let (settings, watched, interrupt) = job;
        let holding = Holding::new(core, settings, streams, control, reported);
        holding.run(&watched, &interrupt).await
    })?;
    while !core.is_finished() {
        observer(opened.load(Ordering::Relaxed));
        std::thread::sleep(LOOK_INTERVAL);
    }
    core.join().map_err(IdleError::Driver)?
}

fn core_settings(generator: &GeneratorSettings) -> CoreSettings {
    CoreSettings {
        name: "generator",
        cpu: generator.cpu,
        driver: generator.driver,
        spin: Duration::ZERO,
        buffer_memory: generator.buffer_memory,
    }
}
