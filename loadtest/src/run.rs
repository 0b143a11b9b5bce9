//! Runs a load: the generator on its own thread, supervised by this one.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use adit::engine::Core;

use crate::core_thread::{CoreError, CoreSettings, CoreThread};
use crate::dial::{Dialer, TargetError};
use crate::generator::{Generator, Job, SessionError};
use crate::load::{GeneratorSettings, Load, LoadError};
use crate::monitor::Monitor;
use crate::outcome::{Outcome, Partial};
use crate::watch::{Watch, Watched};

pub use crate::interrupt::Interrupt;

/// How often an observer is called with the progress of a run.
const TELL_INTERVAL: Duration = Duration::from_millis(100);
/// How often the watched processes are sampled.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// The phase of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Connections and sessions are made, and each is tested with a call that is not counted.
    #[default]
    Connect,
    /// Calls are made and not counted.
    WarmUp,
    /// Calls are made and counted.
    Measure,
    /// Calls in flight may finish.
    Drain,
}

/// The progress of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// The current phase of the run.
    pub phase: Phase,
    /// Time since the phase began.
    pub elapsed: Duration,
    /// Good calls in the measured time so far.
    pub calls: u64,
    /// Failed calls in the measured time so far.
    pub failed: u64,
}

/// Why a run could not begin. Later errors are in [`Outcome::partial`].
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The generator's thread could not start.
    #[error("the generator cannot run: {0}")]
    Core(#[from] CoreError),
    /// The driver failed during the run.
    #[error("the generator failed: {0}")]
    Driver(std::io::Error),
    /// The load is not valid.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// No connection could be made to the target, or no session opened.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The target cannot be resolved or trusted.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A process to be watched does not exist.
    #[error("there is no process {0} to watch: give the id of one that runs")]
    Watched(u32),
}

/// Runs a load while it watches some processes. Returns when the load has ended.
///
/// # Errors
///
/// If it could not begin.
pub fn run(load: &Load, watched: &Watched) -> Result<Outcome, RunError> {
    run_observed(load, watched, &Interrupt::new(), &mut |_| {})
}

/// Like [`run`], until it is interrupted. The observer is called periodically with the progress.
///
/// # Errors
///
/// If it could not begin.
pub fn run_observed(
    load: &Load,
    watched: &Watched,
    interrupt: &Interrupt,
    observer: &mut dyn FnMut(&Progress),
) -> Result<Outcome, RunError> {
    run_together(load, &[], watched, interrupt, observer).map(|(outcome, _)| outcome)
}

/// Like [`run_observed`], with other loads on the same thread. They have their own phases; progress and watched
/// processes are those of the first load.
///
/// # Errors
///
/// If one of them could not begin.
pub fn run_together(
    load: &Load,
    beside: &[Load],
    watched: &Watched,
    interrupt: &Interrupt,
    observer: &mut dyn FnMut(&Progress),
) -> Result<(Outcome, Vec<Outcome>), RunError> {
    if let Some(pid) = watched.pids.iter().find(|pid| !crate::watch::is_alive(**pid)) {
        return Err(RunError::Watched(*pid));
    }
    let first = job(load)?;
    let others = beside.iter().map(job).collect::<Result<Vec<Job>, RunError>>()?;
    let (monitor, news) = Monitor::new();
    let monitor = Arc::new(monitor);
    let (seen, raised) = (Arc::clone(&monitor), interrupt.clone());
    let core = CoreThread::start(core_settings(&load.generator), move |core| async move {
        let outcomes = all(&core, first, others, &seen, raised).await;
        seen.close();
        outcomes
    })?;
    let mut supervisor = Supervisor::new(&monitor, watched);
    supervisor.watch_until_done(&news, observer, || core.is_finished());
    let (mut outcome, outcomes) = core.join().map_err(RunError::Driver)??;
    supervisor.conclude(&mut outcome);
    Ok((outcome, outcomes))
}

fn job(load: &Load) -> Result<Job, RunError> {
    load.check()?;
    let dialer = Dialer::new(&load.target, load.limits.connect_timeout)?;
    Ok(Job { load: load.clone(), dialer })
}

fn core_settings(generator: &GeneratorSettings) -> CoreSettings {
    CoreSettings {
        name: "generator",
        cpu: generator.cpu,
        driver: generator.driver,
        spin: generator.answer_spin,
        buffer_memory: generator.buffer_memory,
    }
}

/// Runs all loads on the core. They start when all of them are connected.
async fn all(
    core: &Core,
    first: Job,
    others: Vec<Job>,
    monitor: &Arc<Monitor>,
    interrupt: Interrupt,
) -> Result<(Outcome, Vec<Outcome>), SessionError> {
    let unseen = || Arc::new(Monitor::unseen());
    let mut ready = Vec::new();
    let jobs = std::iter::once((first, Arc::clone(monitor))).chain(others.into_iter().map(|job| (job, unseen())));
    for (job, monitor) in jobs {
        let generator = Generator::new(core, job, monitor, interrupt.clone());
        match generator.connect().await? {
            Some(lines) => ready.push((generator, lines)),
            None => {
                let outcome = Outcome { partial: Some(Partial::Interrupted), ..Outcome::default() };
                return Ok((outcome, Vec::new()));
            }
        }
    }
    let running: Vec<_> = ready.into_iter().map(|(generator, lines)| core.spawn_held(generator.run(lines))).collect();
    let mut outcomes = Vec::new();
    for run in running {
        outcomes.push(run.await);
    }
    let first = outcomes.remove(0);
    Ok((first, outcomes))
}

/// Supervises the generator while it runs.
struct Supervisor<'a> {
    monitor: &'a Monitor,
    watch: Watch,
    progress: Progress,
    phase_began: Instant,
    /// When the next sample is due, relative to the start of the measurement.
    next_sample: Duration,
    calls_sampled: u64,
}

impl Supervisor<'_> {
    fn new<'a>(monitor: &'a Monitor, watched: &Watched) -> Supervisor<'a> {
        Supervisor {
            monitor,
            watch: Watch::new(watched),
            progress: Progress::default(),
            phase_began: Instant::now(),
            next_sample: SAMPLE_INTERVAL,
            calls_sampled: 0,
        }
    }

    fn watch_until_done(
        &mut self,
        news: &Receiver<Phase>,
        observer: &mut dyn FnMut(&Progress),
        is_finished: impl Fn() -> bool,
    ) {
        loop {
            match news.recv_timeout(TELL_INTERVAL) {
                Ok(phase) => self.enter(phase),
                Err(RecvTimeoutError::Timeout) if is_finished() => break,
                Err(RecvTimeoutError::Timeout) => self.tick(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.progress.elapsed = self.phase_began.elapsed();
            (self.progress.calls, self.progress.failed) = (self.monitor.good(), self.monitor.failed());
            observer(&self.progress);
        }
    }

    fn enter(&mut self, phase: Phase) {
        if self.progress.phase == Phase::Measure {
            self.sample();
        }
        if phase == Phase::Measure {
            self.watch.begin();
            self.calls_sampled = self.monitor.good();
        }
        self.progress.phase = phase;
        self.phase_began = Instant::now();
    }

    fn tick(&mut self) {
        if self.progress.phase == Phase::Measure && self.phase_began.elapsed() >= self.next_sample {
            self.next_sample += SAMPLE_INTERVAL;
            self.sample();
        }
    }

    fn sample(&mut self) {
        let calls = self.monitor.good();
        self.watch.sample(self.phase_began.elapsed(), calls - self.calls_sampled);
        self.calls_sampled = calls;
    }

    fn conclude(self, outcome: &mut Outcome) {
        let (cpu, measured) = (self.monitor.cpu_measured(), outcome.measured);
        outcome.generator_busy = if measured.is_zero() { 0.0 } else { cpu.as_secs_f64() / measured.as_secs_f64() };
        outcome.usage = self.watch.end();
    }
}
