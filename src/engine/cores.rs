//! The threads of a role, one core each.

use std::io;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::base::CoreId;
use crate::engine::driver::DriverKind;
use crate::engine::ladder::{self, DriverChoice, DriverError};
use crate::engine::{BUFFER_MEMORY_DEFAULT, Core, Pool, cpu_quota, cpus_allowed, pin_to_cpu};

/// How long a core spins before it parks, where spinning pays: longer than a loopback round trip, shorter than a wake-up
/// of another CPU costs twice.
pub const SPIN_DEFAULT: Duration = Duration::from_micros(50);

/// The most cores of one process.
const CORES_MAX: usize = 256;

/// What the cores of a process can be told.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// Which driver, or the best that works.
    pub driver: DriverChoice,
    /// How many cores; as many as CPUs when zero.
    pub cores: usize,
    /// Whether each core keeps to one CPU.
    pub pin: bool,
    /// How long to spin before parking; [`SPIN_DEFAULT`] where a CPU is to spare when not given.
    pub spin: Option<Duration>,
    /// How many bytes of buffers a core may have.
    pub buffer_memory_max: usize,
}

impl Default for EngineSettings {
    fn default() -> EngineSettings {
        EngineSettings {
            driver: DriverChoice::Auto,
            cores: 0,
            pin: true,
            spin: None,
            buffer_memory_max: BUFFER_MEMORY_DEFAULT,
        }
    }
}

impl EngineSettings {
    /// How many cores these settings give on this machine.
    #[must_use]
    pub fn core_count(&self) -> usize {
        let count = if self.cores == 0 { cpus().len() } else { self.cores };
        count.clamp(1, CORES_MAX)
    }

    /// How long the cores spin on this machine. Not at all, unless told, where no CPU is left for others or a quota
    /// makes them pay for it.
    #[must_use]
    pub fn spin_budget(&self) -> Duration {
        let to_spare = cpus().len() > self.core_count() && cpu_quota().is_none();
        self.spin.unwrap_or(if to_spare { SPIN_DEFAULT } else { Duration::ZERO })
    }
}

/// The running cores of a process.
pub struct Cores {
    threads: Vec<JoinHandle<io::Result<()>>>,
    driver: DriverKind,
    why: String,
}

/// Why the cores could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No driver could be started.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The system gave no thread.
    #[error("starting the thread of core {core}: {error}")]
    Thread {
        /// The core whose thread could not be started.
        core: CoreId,
        /// The error of the system.
        error: io::Error,
    },
    /// A core ended before it could say how it started.
    #[error("core {core} ended while starting")]
    Ended {
        /// The core that ended.
        core: CoreId,
    },
}

impl Cores {
    /// Starts the threads, and on each the role's task. Returns when every core has its driver. The threads end when
    /// their role's task does.
    ///
    /// # Errors
    ///
    /// When a core could not start; those that did end with their role's task.
    pub fn start<F, R>(settings: &EngineSettings, role: F) -> Result<Cores, StartError>
    where
        F: Fn(Core) -> R + Clone + Send + 'static,
        R: Future<Output = ()> + 'static,
    {
        let mut cores = Cores { threads: Vec::new(), driver: DriverKind::Epoll, why: String::new() };
        let cpus = cpus();
        // Asked before a thread is pinned, which then sees one CPU and none to spare.
        let spin = settings.spin_budget();
        for index in 0..settings.core_count() {
            let id = CoreId(u16::try_from(index).expect("at most CORES_MAX"));
            // From the last CPU down: the first is where the system's own work goes.
            let cpu = cpus.len().checked_sub(1).filter(|_| settings.pin).map(|last| cpus[last - index % cpus.len()]);
            let (settings, role) = (settings.clone(), role.clone());
            let (tell, told) = mpsc::channel();
            let thread = thread::Builder::new()
                .name(format!("adit-core-{id}"))
                .spawn(move || run_core(id, cpu, spin, &settings, role, &tell))
                .map_err(|error| StartError::Thread { core: id, error })?;
            cores.threads.push(thread);
            (cores.driver, cores.why) = told.recv().map_err(|_| StartError::Ended { core: id })??;
        }
        Ok(cores)
    }

    /// Which driver the cores run on.
    #[must_use]
    pub fn driver(&self) -> DriverKind {
        self.driver
    }

    /// Why that one, in a line.
    #[must_use]
    pub fn why(&self) -> &str {
        &self.why
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.threads.len()
    }

    /// Waits until all have ended.
    ///
    /// # Errors
    ///
    /// When the driver of one broke, or its thread panicked.
    pub fn join(self) -> io::Result<()> {
        for thread in self.threads {
            thread.join().map_err(|_| io::Error::other("a core panicked"))??;
        }
        Ok(())
    }
}

/// The CPUs that there are to run on; one where the system does not say.
fn cpus() -> Vec<usize> {
    cpus_allowed().ok().filter(|cpus| !cpus.is_empty()).unwrap_or_else(|| vec![0])
}

type Told = Result<(DriverKind, String), DriverError>;

fn run_core<F, R>(
    id: CoreId,
    cpu: Option<usize>,
    spin: Duration,
    settings: &EngineSettings,
    role: F,
    tell: &mpsc::Sender<Told>,
) -> io::Result<()>
where
    F: Fn(Core) -> R,
    R: Future<Output = ()> + 'static,
{
    if let Some(cpu) = cpu {
        // A core that could not be pinned works all the same.
        if let Err(error) = pin_to_cpu(cpu) {
            tracing::warn!(%id, cpu, %error, "the core could not be pinned");
        }
    }
    let pool = Pool::new(settings.buffer_memory_max);
    let started = match ladder::start(settings.driver, &pool) {
        Ok(started) => started,
        Err(error) => {
            // Whoever started the core has then gone: there is nobody to tell.
            let _ = tell.send(Err(error));
            return Ok(());
        }
    };
    let _ = tell.send(Ok((started.driver.kind(), started.why)));
    let core = Core::new(id, started.driver, pool, spin);
    core.run(role(core.clone()))
}
