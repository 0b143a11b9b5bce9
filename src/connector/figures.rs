//! The figures of the calls of one core.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use crate::latency::{LatencySettings, LearnedTable, Recorder};

/// How many calls there were, and how long those took whose TLS ends in this connector: nobody else can measure them.
pub(super) struct CallFigures {
    pub(super) recorder: RefCell<Recorder>,
    /// Inner TLS sessions that wait for their next call.
    sessions_idle: Cell<usize>,
}

/// Counts an inner TLS session as idle until it is dropped.
pub(super) struct IdleGuard<'a>(&'a Cell<usize>);

impl CallFigures {
    pub(super) fn new(learned: &Arc<LearnedTable>) -> CallFigures {
        let recorder = Recorder::new(LatencySettings::default()).with_learned(learned);
        CallFigures { recorder: RefCell::new(recorder), sessions_idle: Cell::new(0) }
    }

    /// Counts a session as idle.
    pub(super) fn count_idle(&self) -> IdleGuard<'_> {
        self.sessions_idle.set(self.sessions_idle.get() + 1);
        IdleGuard(&self.sessions_idle)
    }

    /// Inner TLS sessions that wait for their next call.
    pub(super) fn sessions_idle(&self) -> usize {
        self.sessions_idle.get()
    }
}

impl Drop for IdleGuard<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
