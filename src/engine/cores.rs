//! The threads of the cores of a process.

use std::io;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::base::CoreId;
use crate::engine::driver::DriverKind;
use crate::engine::ladder::{self, DriverChoice, DriverError};
use crate::engine::{BUFFER_MEMORY_DEFAULT, Core, Pool, cpu_quota, cpus_allowed, pin_to_cpu};

/// How long a core spins before it parks, if spinning pays: longer than a loopback round trip, and shorter than twice
/// the cost of waking another CPU.
pub const SPIN_DEFAULT: Duration = Duration::from_micros(50);

/// The most cores in one process.
const CORES_MAX: usize = 256;

/// The settings of the cores of a process.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// The driver to use, or the choice of the best that works.
    pub driver: DriverChoice,
    /// The number of cores; 0 for one per CPU.
    pub cores: usize,
    /// Whether each core is pinned to a CPU.
    pub pin: bool,
    /// How long to spin before parking. If `None`, [`SPIN_DEFAULT`] where a CPU is to spare, otherwise not at all.
    pub spin: Option<Duration>,
    /// The most bytes of buffers per core.
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
    /// The number of cores that these settings give on this machine.
    #[must_use]
    pub fn core_count(&self) -> usize {
        let count = if self.cores == 0 { cpus().len() } else { self.cores };
        count.clamp(1, CORES_MAX)
    }

    /// How long the cores spin on this machine. Unless it is set, they do not spin where no CPU is left for other
    /// processes or a CPU quota is set.
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
    /// The system could not start a thread.
    #[error("starting the thread of core {core}: {error}")]
    Thread {
        /// The core whose thread could not be started.
        core: CoreId,
        /// The error of the system.
        error: io::Error,
    },
    /// A core ended before it reported how it started.
    #[error("core {core} ended while starting")]
    Ended {
        /// The core that ended.
        core: CoreId,
    },
}

impl Cores {
    /// Starts the threads, and on each core the task of the role. Returns when every core has its driver. A thread ends
    /// when the task of its role ends.
    ///
    /// # Errors
    ///
    /// If a core could not start. Cores that did start end with the task of their role.
    pub fn start<F, R>(settings: &EngineSettings, role: F) -> Result<Cores, StartError>
    where
        F: Fn(Core) -> R + Clone + Send + 'static,
        R: Future<Output = ()> + 'static,
    {
        let mut cores = Cores { threads: Vec::new(), driver: DriverKind::Epoll, why: String::new() };
        let cpus = cpus();
        // Asked before a thread is pinned, because a pinned thread sees only one CPU.
        let spin = settings.spin_budget();
        for index in 0..settings.core_count() {
            let id = CoreId(u16::try_from(index).expect("at most CORES_MAX"));
            // Assigned from the last CPU down, because the system's own work tends to run on the first one.
            let cpu = cpus.len().checked_sub(1).filter(|_| settings.pin).map(|last| cpus[last - index % cpus.len()]);
            let (settings, role) = (settings.clone(), role.clone());
            let (sender, receiver) = mpsc::channel();
            let thread = thread::Builder::new()
                .name(format!("adit-core-{id}"))
                .spawn(move || run_core(id, cpu, spin, &settings, role, &sender))
                .map_err(|error| StartError::Thread { core: id, error })?;
            cores.threads.push(thread);
            (cores.driver, cores.why) = receiver.recv().map_err(|_| StartError::Ended { core: id })??;
        }
        Ok(cores)
    }

    /// The kind of driver that the cores run on.
    #[must_use]
    pub fn driver(&self) -> DriverKind {
        self.driver
    }

    /// Why this driver was chosen, in one line.
    #[must_use]
    pub fn why(&self) -> &str {
        &self.why
    }

    /// The number of cores.
    #[must_use]
    pub fn count(&self) -> usize {
        self.threads.len()
    }

    /// Waits until all cores have ended.
    ///
    /// # Errors
    ///
    /// If a driver failed, or a thread panicked.
    pub fn join(self) -> io::Result<()> {
        for thread in self.threads {
            thread.join().map_err(|_| io::Error::other("a core panicked"))??;
        }
        Ok(())
    }
}

/// The CPUs that this process may run on; one if the system does not say.
fn cpus() -> Vec<usize> {
    cpus_allowed().ok().filter(|cpus| !cpus.is_empty()).unwrap_or_else(|| vec![0])
}

/// What a core reports to the starting thread: its driver and why it was chosen, or why it has none.
type StartReport = Result<(DriverKind, String), DriverError>;

fn run_core<F, R>(
    id: CoreId,
    cpu: Option<usize>,
    spin: Duration,
    settings: &EngineSettings,
    role: F,
    sender: &mpsc::Sender<StartReport>,
) -> io::Result<()>
where
    F: Fn(Core) -> R,
    R: Future<Output = ()> + 'static,
{
    if let Some(cpu) = cpu {
        // A core that is not pinned still works.
        if let Err(error) = pin_to_cpu(cpu) {
            tracing::warn!(%id, cpu, %error, "the core could not be pinned");
        }
    }
    let pool = Pool::new(settings.buffer_memory_max);
    let started = match ladder::start(settings.driver, &pool) {
        Ok(started) => started,
        Err(error) => {
            // The error means that the starting thread is gone: nobody is left to inform.
            let _ = sender.send(Err(error));
            return Ok(());
        }
    };
    let _ = sender.send(Ok((started.driver.kind(), started.why)));
    let core = Core::new(id, started.driver, pool, spin);
    core.run(role(core.clone()))
}
