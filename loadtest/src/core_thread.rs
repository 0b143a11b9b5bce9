//! A core of the engine on its own thread.

use std::fs;
use std::io;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use adit::base::CoreId;
use adit::engine::ladder::{self, DriverChoice, DriverError};
use adit::engine::{Core, Pool, pin_to_cpu};

/// How late the kernel may fire a timer of this thread, in nanoseconds. The default is 50,000, which is as long as a
/// call takes.
const TIMER_SLACK_NS: u32 = 1_000;

/// The settings of a core's thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CoreSettings {
    /// The name of the thread, for `top` and similar tools.
    pub(crate) name: &'static str,
    /// The CPU that it is pinned to.
    pub(crate) cpu: Option<usize>,
    /// The driver to use.
    pub(crate) driver: DriverChoice,
    /// How long it spins before it parks.
    pub(crate) spin: Duration,
    /// The most bytes of buffers.
    pub(crate) buffer_memory: usize,
}

/// Why a core's thread could not start.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// The thread could not be pinned to its CPU.
    #[error("the thread cannot be pinned to CPU {cpu} ({error}): give one that this process may run on, or none")]
    Cpu {
        /// The number of the CPU.
        cpu: usize,
        /// The error of the system.
        error: io::Error,
    },
    /// No driver could be started.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The system could not start a thread.
    #[error("no thread could be started: {0}")]
    Thread(io::Error),
}

/// A core that runs on its own thread until its task ends.
pub(crate) struct CoreThread<T> {
    thread: JoinHandle<io::Result<T>>,
    /// The driver that it runs on and why, in one line.
    pub(crate) why: String,
}

type Started = Result<String, CoreError>;

impl<T: Send + 'static> CoreThread<T> {
    /// Starts a core with a task. The core ends with the task.
    pub(crate) fn start<F, R>(settings: CoreSettings, task: F) -> Result<CoreThread<T>, CoreError>
    where
        F: FnOnce(Core) -> R + Send + 'static,
        R: Future<Output = T> + 'static,
    {
        let (sender, receiver) = mpsc::channel();
        let thread = thread::Builder::new()
            .name(settings.name.to_owned())
            .spawn(move || run_core(&settings, task, &sender))
            .map_err(CoreError::Thread)?;
        let gone = || CoreError::Thread(io::Error::other("it ended during the start"));
        let why = receiver.recv().map_err(|_| gone())??;
        Ok(CoreThread { thread, why })
    }

    /// Whether the thread has ended.
    pub(crate) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the result of the task.
    ///
    /// # Errors
    ///
    /// If the driver failed or the thread panicked.
    pub(crate) fn join(self) -> io::Result<T> {
        self.thread.join().map_err(|_| io::Error::other("the core's thread panicked"))?
    }
}

fn run_core<T, F, R>(settings: &CoreSettings, task: F, sender: &mpsc::Sender<Started>) -> io::Result<T>
where
    T: 'static,
    F: FnOnce(Core) -> R,
    R: Future<Output = T> + 'static,
{
    let pool = Pool::new(settings.buffer_memory);
    let refused = |error: CoreError| {
        // The starting thread waits for this.
        let _ = sender.send(Err(error));
        Err(io::Error::other("the core did not start"))
    };
    if let Some(cpu) = settings.cpu
        && let Err(error) = pin_to_cpu(cpu)
    {
        return refused(CoreError::Cpu { cpu, error });
    }
    let started = match ladder::start(settings.driver, &pool) {
        Ok(started) => started,
        Err(error) => return refused(error.into()),
    };
    sharpen_timers();
    let _ = sender.send(Ok(started.why));
    let core = Core::new(CoreId(0), started.driver, pool, settings.spin);
    core.run(task(core.clone()))
}

/// The id of this thread, if the system reports it.
fn thread_id() -> Option<i32> {
    let link = fs::read_link("/proc/thread-self").ok()?;
    link.file_name()?.to_str()?.parse().ok()
}

/// Requests the smallest timer slack. If that fails, a run is less exact, and its measured lag shows that.
fn sharpen_timers() {
    if let Some(tid) = thread_id() {
        let _ = fs::write(format!("/proc/{tid}/timerslack_ns"), TIMER_SLACK_NS.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(cpu: Option<usize>) -> CoreSettings {
        let buffer_memory = adit::engine::BUFFER_MEMORY_MIN;
        CoreSettings { name: "test", cpu, driver: DriverChoice::Auto, spin: Duration::ZERO, buffer_memory }
    }

    #[test]
    fn a_core_runs_its_task_with_sharp_timers() {
        let core = CoreThread::start(settings(None), |core| async move {
            core.turn_end().await;
            fs::read_to_string(format!("/proc/{}/timerslack_ns", thread_id().unwrap())).unwrap()
        });
        let core = core.unwrap();
        assert!(!core.why.is_empty());
        assert_eq!(core.join().unwrap().trim(), TIMER_SLACK_NS.to_string());
    }

    #[test]
    fn a_cpu_that_is_not_there_is_named() {
        let error = CoreThread::start(settings(Some(100_000)), |_| async {}).err().expect("no such CPU");
        assert!(error.to_string().starts_with("the thread cannot be pinned to CPU 100000"), "{error}");
    }
}
