//! The progress that a running generator reports to other threads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::run::Phase;

/// The generator's end: counters, and a message for each phase.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    good: AtomicU64,
    failed: AtomicU64,
    /// CPU time of the generator's thread when measuring began, in nanoseconds.
    cpu_began_ns: AtomicU64,
    /// CPU time of the thread while measuring, in nanoseconds.
    cpu_measured_ns: AtomicU64,
    measuring: AtomicBool,
    news: Mutex<Option<Sender<Phase>>>,
}

impl Monitor {
    /// Creates a monitor and the receiver of its messages.
    pub(crate) fn new() -> (Monitor, Receiver<Phase>) {
        let (sender, receiver) = channel();
        (Monitor { news: Mutex::new(Some(sender)), ..Monitor::default() }, receiver)
    }

    /// Creates a monitor without a receiver.
    pub(crate) fn unseen() -> Monitor {
        Monitor::default()
    }

    /// Records that a phase begins; called by the generator's thread.
    pub(crate) fn enter(&self, phase: Phase) {
        let news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(news) = &*news else { return };
        match phase {
            Phase::Measure => {
                self.cpu_began_ns.store(thread_cpu_ns(), Ordering::Relaxed);
                self.measuring.store(true, Ordering::Relaxed);
            }
            Phase::Drain if self.measuring.load(Ordering::Relaxed) => {
                let used = thread_cpu_ns().saturating_sub(self.cpu_began_ns.load(Ordering::Relaxed));
                self.cpu_measured_ns.store(used, Ordering::Relaxed);
            }
            Phase::Connect | Phase::WarmUp | Phase::Drain => {}
        }
        // The error means that the receiver has stopped listening.
        let _ = news.send(phase);
    }

    /// CPU time of the generator's thread while measuring; zero if it did not measure.
    pub(crate) fn cpu_measured(&self) -> Duration {
        Duration::from_nanos(self.cpu_measured_ns.load(Ordering::Relaxed))
    }

    /// Ends the messages, because the run has ended.
    pub(crate) fn close(&self) {
        *self.news.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Counts a good call. Only the generator's thread counts, so no atomic exchange is needed.
    pub(crate) fn count_good(&self) {
        self.good.store(self.good.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Counts a failed call.
    pub(crate) fn count_failed(&self) {
        self.failed.store(self.failed.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// The number of good calls so far.
    pub(crate) fn good(&self) -> u64 {
        self.good.load(Ordering::Relaxed)
    }

    /// The number of failed calls so far.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// CPU time of this thread from the scheduler; 0 if it is not reported.
fn thread_cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_that_of_the_measured_time_although_the_thread_has_ended() {
        let (monitor, news) = Monitor::new();
        let monitor = std::thread::spawn(move || {
            monitor.enter(Phase::Measure);
            let before = thread_cpu_ns();
            while thread_cpu_ns() < before + 1_000_000 {}
            monitor.enter(Phase::Drain);
            monitor
        });
        let monitor = monitor.join().unwrap();
        assert!(monitor.cpu_measured() >= Duration::from_millis(1));
        assert_eq!(news.try_iter().collect::<Vec<_>>(), [Phase::Measure, Phase::Drain]);
        assert_eq!(Monitor::unseen().cpu_measured(), Duration::ZERO);
    }
}
