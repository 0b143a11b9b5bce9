//! What a running generator lets others see.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::run::Phase;

/// The generator's end: counters, and news of each phase.
#[derive(Debug)]
pub(crate) struct Monitor {
    good: AtomicU64,
    failed: AtomicU64,
    news: Mutex<Option<Sender<Phase>>>,
}

impl Monitor {
    /// A monitor, and where its news come.
    pub(crate) fn new() -> (Monitor, Receiver<Phase>) {
        let (sender, receiver) = channel();
        (Monitor { good: AtomicU64::new(0), failed: AtomicU64::new(0), news: Mutex::new(Some(sender)) }, receiver)
    }

    /// One that nobody looks at.
    pub(crate) fn unseen() -> Monitor {
        Monitor { good: AtomicU64::new(0), failed: AtomicU64::new(0), news: Mutex::new(None) }
    }

    /// A phase begins.
    pub(crate) fn enter(&self, phase: Phase) {
        if let Some(news) = &*self.news.lock().unwrap_or_else(PoisonError::into_inner) {
            // Whoever has stopped looking does not need to know.
            let _ = news.send(phase);
        }
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
