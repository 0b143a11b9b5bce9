//! What a running generator lets others see.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::run::Phase;

/// The generator's end: counters, and news of each phase.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    good: AtomicU64,
    failed: AtomicU64,
    /// CPU of the generator's thread when measuring began, in nanoseconds.
    cpu_began_ns: AtomicU64,
    /// What it used while measuring, in nanoseconds.
    cpu_measured_ns: AtomicU64,
    measuring: AtomicBool,
    news: Mutex<Option<Sender<Phase>>>,
}

impl Monitor {
    /// A monitor, and where its news come.
    pub(crate) fn new() -> (Monitor, Receiver<Phase>) {
        let (sender, receiver) = channel();
        (Monitor { news: Mutex::new(Some(sender)), ..Monitor::default() }, receiver)
    }

    /// One that nobody looks at.
    pub(crate) fn unseen() -> Monitor {
        Monitor::default()
    }

    /// A phase begins; told by the generator's own thread.
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
        // Whoever has stopped looking does not need to know.
        let _ = news.send(phase);
    }

    /// CPU of the generator's thread between the two ends of measuring; nothing where it did not come so far.
    pub(crate) fn cpu_measured(&self) -> Duration {
        Duration::from_nanos(self.cpu_measured_ns.load(Ordering::Relaxed))
    }

    /// No more news come: the run has ended.
    pub(crate) fn close(&self) {
        *self.news.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// One more good call. Only the generator's thread counts, so that no exchange is needed.
    pub(crate) fn count_good(&self) {
        self.good.store(self.good.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// One more failed call.
    pub(crate) fn count_failed(&self) {
        self.failed.store(self.failed.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Good calls so far.
    pub(crate) fn good(&self) -> u64 {
        self.good.load(Ordering::Relaxed)
    }

    /// Failed calls so far.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// CPU time of this thread, as the scheduler accounts for it; 0 where it does not say.
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
