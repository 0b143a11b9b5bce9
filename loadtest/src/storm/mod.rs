//! A storm: many large bodies, event streams, agents that do not read and agents that do not send, all at the same
//! time, beside a probe of small calls that must not be slowed.

mod agents;
pub(crate) mod ground;
mod holders;
mod report;
pub(crate) mod sides;
pub(crate) mod soak;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use adit::engine::BUFFER_MEMORY_DEFAULT;

use crate::compare::process::ProcessError;
use crate::compare::site::SiteError;
use crate::compare::tunnel::TunnelError;
use crate::core_thread::{CoreError, CoreSettings, CoreThread};
use crate::dial::{Dialer, TargetError};
use crate::files::{self, TooFewFiles};
use crate::interrupt::Interrupt;
use crate::load::{Arrivals, Call, CallKind, GeneratorSettings, Limits, Load, Mode, Phases};
use crate::outcome::Outcome;
use crate::run::{Phase, RunError, run_observed};
use crate::serve::ServeError;
use crate::serve::ticks::Ticks;
use crate::watch::Watched;
use ground::Ground;
use holders::Holders;
pub(crate) use report::{FailOn, StormOutcome, judged};
use sides::{Reading, Side};

/// The most agents of one kind.
pub(crate) const AGENTS_MAX: usize = 20_000;
/// The host that the probe calls.
const PROBE_HOST: &str = "probe.localhost";
/// The number of connections of the probe.
const PROBE_CONNECTIONS: usize = 32;
/// How long the probe makes calls before the storm begins.
const PROBE_WARM_UP: Duration = Duration::from_millis(300);
/// How long a call of the probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(20);
/// The length of each call of the probe, in bytes.
const PROBE_LEN: u64 = 256;
/// How long connecting may take, per connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// The generator's buffers per agent, in bytes, so that the generator never waits for them.
const BUFFERS_PER_AGENT: usize = 1 << 20;
/// The most buffer memory of the generator, in bytes.
const BUFFERS_MAX: usize = 8 << 30;
/// How often the memory of both sides is sampled.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);
/// The nice value of the storm's own thread, which gives way to the other processes.
const NICENESS: i32 = 5;

/// The behaviour of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Fetches a large answer.
    Download,
    /// Sends a large body.
    Upload,
    /// Reads a stream of small events.
    Chatty,
    /// Requests a large answer, and disconnects when it has begun.
    Aborted,
    /// Requests a large answer, and reads nothing.
    Stalled,
    /// Requests small events, and reads nothing.
    ChattyStalled,
    /// Connects, and sends nothing.
    HalfOpen,
    /// Sends one byte and then nothing more.
    Partial,
    /// Sends one byte of a record after the TLS handshake.
    SealedPartial,
}

impl Kind {
    pub(crate) const ALL: [Kind; 9] = [
        Kind::Download,
        Kind::Upload,
        Kind::Chatty,
        Kind::Aborted,
        Kind::Stalled,
        Kind::ChattyStalled,
        Kind::HalfOpen,
        Kind::Partial,
        Kind::SealedPartial,
    ];

    /// The name in reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Kind::Download => "downloads",
            Kind::Upload => "uploads",
            Kind::Chatty => "chatty",
            Kind::Aborted => "aborted",
            Kind::Stalled => "stalled",
            Kind::ChattyStalled => "chatty-stalled",
            Kind::HalfOpen => "half-open",
            Kind::Partial => "partial",
            Kind::SealedPartial => "sealed-partial",
        }
    }

    /// Whether its call ends by itself.
    pub(crate) const fn is_active(self) -> bool {
        matches!(self, Kind::Download | Kind::Upload | Kind::Chatty | Kind::Aborted)
    }

    /// Whether its call must succeed.
    pub(crate) const fn must_succeed(self) -> bool {
        matches!(self, Kind::Download | Kind::Upload | Kind::Chatty)
    }

    const fn is_stalled(self) -> bool {
        matches!(self, Kind::Stalled | Kind::ChattyStalled)
    }
}

/// The settings of a storm.
#[derive(Clone, Debug)]
pub(crate) struct StormSettings {
    /// The number of agents of each kind.
    pub(crate) counts: BTreeMap<Kind, usize>,
    /// Bytes of a download and of an upload.
    pub(crate) bytes: u64,
    /// Bytes of an answer that is never read.
    pub(crate) stalled_bytes: u64,
    /// The events of a stream that is read.
    pub(crate) events: Ticks,
    /// The events of a stream that is never read, which does not end.
    pub(crate) stalled_events: Ticks,
    /// The time between two calls of the probe.
    pub(crate) probe_every: Duration,
    /// The longest time of the storm; with agents that hold connections, its exact time.
    pub(crate) length: Duration,
    /// How long both sides have afterwards to free their memory.
    pub(crate) settle: Duration,
    /// Whether one agent of each kind that ends, and a pause as long, precede the first measurement of memory: the
    /// first call of each kind loads code, tables and buffers that stay in memory.
    pub(crate) rehearse: bool,
}

impl StormSettings {
    /// The number of agents of all kinds.
    pub(crate) fn agents(&self) -> usize {
        self.counts.values().sum()
    }

    /// The number of calls in flight at the same time, including the probe's.
    pub(crate) fn streams(&self) -> usize {
        self.agents() + PROBE_CONNECTIONS + 16
    }
}

/// The results of the agents of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) asked: u64,
    /// Calls that ended with a complete answer.
    pub(crate) whole: u64,
    /// Calls that ended with an incomplete answer.
    pub(crate) cut: u64,
    /// Calls that were refused or never answered; for holding agents, failed connections.
    pub(crate) failed: u64,
    /// Held connections that were open at the end.
    pub(crate) held: u64,
    /// Held connections that the other side closed.
    pub(crate) ended: u64,
    /// The slowest complete call, or the slowest connecting of a holding agent.
    pub(crate) slowest: Duration,
    /// The error of the first one that was cut or failed.
    pub(crate) first: Option<String>,
}

impl Tally {
    fn cut(&mut self, why: &str) {
        self.cut += 1;
        self.first.get_or_insert_with(|| why.to_owned());
    }

    fn fail(&mut self, why: &str) {
        self.failed += 1;
        self.first.get_or_insert_with(|| why.to_owned());
    }
}

/// Why a storm failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StormError {
    #[error("the agents cannot run: {0}")]
    Core(#[from] CoreError),
    #[error("the agents failed: {0}")]
    Driver(std::io::Error),
    #[error(transparent)]
    Files(#[from] TooFewFiles),
    #[error("adit cannot be run: {0}")]
    Program(String),
    #[error("the probe failed: {0}")]
    Probe(#[from] RunError),
    #[error("no thread could be started: {0}")]
    Thread(std::io::Error),
    #[error("{0}")]
    Died(String),
    #[error("a thread of the storm panicked")]
    Panicked,
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Site(#[from] SiteError),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    #[error("interrupted before it began")]
    Interrupted,
}

/// The most buffer memory that this many agents need, in bytes.
pub(crate) fn buffer_memory(agents: usize) -> usize {
    agents.saturating_mul(BUFFERS_PER_AGENT).saturating_add(BUFFER_MEMORY_DEFAULT).min(BUFFERS_MAX)
}

/// The measured resources of one side.
#[derive(Clone, Debug, Default)]
pub(crate) struct SideOutcome {
    pub(crate) name: String,
    /// The idle state before the storm.
    pub(crate) before: Reading,
    /// The most resident memory during the storm, in KiB.
    pub(crate) peak_kib: u64,
    /// The state at its end, with all holding agents connected.
    pub(crate) at_end: Option<Reading>,
    /// The state after the settle time.
    pub(crate) settled: Option<Reading>,
}

/// A probe on its own thread.
struct Probe {
    thread: JoinHandle<Result<Outcome, RunError>>,
    measuring: Arc<AtomicBool>,
    stop: Interrupt,
}

impl Probe {
    fn start(ground: &Ground, settings: &StormSettings) -> Result<Probe, StormError> {
        let length = settings.length + Duration::from_secs(1);
        let load = Load {
            call: Call { kind: CallKind::McpStateless, payload: PROBE_LEN, ..Call::default() },
            mode: Mode::Open { rate: 1.0 / settings.probe_every.as_secs_f64(), arrivals: Arrivals::Constant },
            connections: PROBE_CONNECTIONS,
            phases: Phases { warm_up: PROBE_WARM_UP, measure: length, drain: PROBE_TIMEOUT },
            limits: Limits {
                call_timeout: PROBE_TIMEOUT,
                connect_timeout: PROBE_TIMEOUT,
                // Failed calls are what is measured.
                patience: length + PROBE_TIMEOUT,
                ..Limits::default()
            },
            generator: GeneratorSettings { spin: Duration::ZERO, ..GeneratorSettings::default() },
            ..Load::of(ground.probe_target())
        };
        let (measuring, stop) = (Arc::new(AtomicBool::new(false)), Interrupt::new());
        let (flag, stopped) = (Arc::clone(&measuring), stop.clone());
        let thread = std::thread::Builder::new().name("probe".to_owned()).spawn(move || {
            run_observed(&load, &Watched::nothing(), &stopped, &mut |progress| {
                if progress.phase == Phase::Measure {
                    flag.store(true, Ordering::Relaxed);
                }
            })
        });
        Ok(Probe { thread: thread.map_err(StormError::Thread)?, measuring, stop })
    }

    fn end(self) -> Result<Outcome, StormError> {
        self.stop.raise();
        Ok(self.thread.join().map_err(|_| StormError::Panicked)??)
    }
}

/// Samples both sides periodically.
struct Sampler {
    sides: Vec<(Side, SideOutcome)>,
}

impl Sampler {
    fn new(ground: &Ground) -> Sampler {
        let side = |side: Side| {
            let before = side.read().unwrap_or_default();
            let outcome = SideOutcome { name: side.name.clone(), before, ..SideOutcome::default() };
            (side, outcome)
        };
        Sampler { sides: ground.sides().into_iter().map(side).collect() }
    }

    fn sample(&mut self) {
        for (side, outcome) in &mut self.sides {
            let rss_kib = side.memory().map_or(0, |reading| reading.rss_kib);
            outcome.peak_kib = outcome.peak_kib.max(rss_kib);
        }
    }

    fn read(&mut self, put: impl Fn(&mut SideOutcome, Option<Reading>)) {
        self.sides.iter_mut().for_each(|(side, outcome)| put(outcome, side.read()));
    }
}

/// Runs a storm to its end.
///
/// # Errors
///
/// If it could not begin, or the generator failed. Its effect on the tunnel is in the outcome.
pub(crate) fn run(
    settings: &StormSettings,
    ground: &mut Ground,
    interrupt: &Interrupt,
) -> Result<StormOutcome, StormError> {
    files::allow(settings.streams() as u64 * 2)?;
    if settings.rehearse {
        rehearse(settings, ground, interrupt)?;
    }
    let dialer = Dialer::new(ground.target(), CONNECT_TIMEOUT)?;
    let mut sampler = Sampler::new(ground);
    let probe = Probe::start(ground, settings)?;
    while !probe.measuring.load(Ordering::Relaxed) {
        if probe.thread.is_finished() || interrupt.is_raised() {
            // Report an error of the probe first.
            return probe.end().and(Err(StormError::Interrupted));
        }
        std::thread::sleep(SAMPLE_INTERVAL);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let began = Instant::now();
    let holding = hold(settings, ground, &dialer, &stop)?;
    let agents = start_ending(settings, ground, dialer, &stop)?;
    while began.elapsed() < settings.length && !interrupt.is_raised() {
        if agents.is_finished() && holding.is_empty() {
            break;
        }
        sampler.sample();
        std::thread::sleep(SAMPLE_INTERVAL);
    }
    let lasted = began.elapsed();
    sampler.sample();
    sampler.read(|side, reading| side.at_end = reading);
    stop.store(true, Ordering::Relaxed);
    let mut tallies = agents.join().map_err(StormError::Driver)?;
    for (kind, thread) in holding {
        tallies.insert(kind, thread.join().map_err(|_| StormError::Panicked)?);
    }
    let probe = probe.end()?;
    let settled = Instant::now();
    while settled.elapsed() < settings.settle && !interrupt.is_raised() {
        std::thread::sleep(SAMPLE_INTERVAL);
    }
    sampler.read(|side, reading| side.settled = reading);
    let died = ground.check().err().map(|error| error.to_string());
    Ok(StormOutcome {
        agents: settings.agents(),
        lasted,
        settle: settings.settle,
        tallies,
        probe,
        sides: sampler.sides.into_iter().map(|(_, outcome)| outcome).collect(),
        died,
        interrupted: interrupt.is_raised(),
    })
}

/// Runs one agent of each kind that ends and some calls of the probe, then pauses.
fn rehearse(settings: &StormSettings, ground: &Ground, interrupt: &Interrupt) -> Result<(), StormError> {
    let is_run = |(kind, count): (&Kind, &usize)| (kind.is_active() && *count > 0).then_some((*kind, 1));
    let few = StormSettings {
        counts: settings.counts.iter().filter_map(is_run).collect(),
        length: PROBE_WARM_UP,
        ..settings.clone()
    };
    let probe = Probe::start(ground, &few)?;
    let dialer = Dialer::new(ground.target(), CONNECT_TIMEOUT)?;
    start_ending(&few, ground, dialer, &Arc::new(AtomicBool::new(false)))?.join().map_err(StormError::Driver)?;
    probe.end()?;
    // Sampling also allocates memory once.
    drop(Sampler::new(ground));
    let rested = Instant::now();
    while rested.elapsed() < settings.settle && !interrupt.is_raised() {
        std::thread::sleep(SAMPLE_INTERVAL);
    }
    Ok(())
}

type HolderThread = (Kind, JoinHandle<Tally>);

/// Starts the holding agents, a thread for each kind.
fn hold(
    settings: &StormSettings,
    ground: &Ground,
    dialer: &Dialer,
    stop: &Arc<AtomicBool>,
) -> Result<Vec<HolderThread>, StormError> {
    let target = ground.target();
    let address = target.resolve_to.expect("a tunnel that was started here has an address");
    let wanted = settings.counts.iter().filter(|(kind, count)| !kind.is_active() && **count > 0);
    let start = |(kind, count): (&Kind, &usize)| {
        let holders = Holders {
            kind: *kind,
            count: *count,
            settings: settings.clone(),
            address,
            authority: target.authority(),
            tls: dialer.tls().cloned(),
        };
        let stop = Arc::clone(stop);
        let thread = std::thread::Builder::new().name(kind.name().to_owned()).spawn(move || holders.run(&stop));
        Ok((*kind, thread.map_err(StormError::Thread)?))
    };
    wanted.map(start).collect()
}

/// Starts the agents whose calls end.
fn start_ending(
    settings: &StormSettings,
    ground: &Ground,
    dialer: Dialer,
    stop: &Arc<AtomicBool>,
) -> Result<CoreThread<BTreeMap<Kind, Tally>>, StormError> {
    let core = CoreSettings {
        name: "storm",
        cpu: None,
        driver: GeneratorSettings::default().driver,
        spin: Duration::ZERO,
        buffer_memory: buffer_memory(settings.agents()),
    };
    let (job, stop) = ((settings.clone(), ground.target().authority()), Arc::clone(stop));
    let core = CoreThread::start(core, move |core| async move {
        // The probe and the upstreams share these CPUs and must not wait for this thread. If the call is not permitted,
        // they do.
        let _ = rustix::process::setpriority_process(None, NICENESS);
        let (settings, authority) = job;
        agents::run(core, settings, dialer, authority, stop).await
    })?;
    Ok(core)
}
