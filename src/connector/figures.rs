//! Statistics of the calls of one core.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use crate::latency::{BreakerTable, CallLog, CallRecord, LatencySettings, LearnedTable, Recorder};

/// The calls of one core. Durations are recorded for calls whose TLS ends in this connector, as the edge cannot measure
/// those.
pub(super) struct CallFigures {
    pub(super) recorder: RefCell<Recorder>,
    /// The log of the last calls of the edge and of agents.
    pub(super) calls: RefCell<CallLog>,
    /// The number of idle inner TLS sessions.
    sessions_idle: Cell<usize>,
    /// The number of calls over HTTP/2 on inner TLS sessions, many of which share one.
    http2_calls: Cell<usize>,
}

/// Counts an inner TLS session as idle, or a call, until it is dropped.
pub(super) struct CountGuard<'a>(&'a Cell<usize>);

impl CallFigures {
    /// Statistics with a log of `calls_kept` calls of each kind.
    pub(super) fn new(learned: &Arc<LearnedTable>, breakers: &Arc<BreakerTable>, calls_kept: usize) -> CallFigures {
        let recorder = Recorder::new(LatencySettings::default()).with_learned(learned).with_breakers(breakers);
        CallFigures {
            recorder: RefCell::new(recorder),
            calls: RefCell::new(CallLog::new(calls_kept)),
            sessions_idle: Cell::new(0),
            http2_calls: Cell::new(0),
        }
    }

    /// Adds a call that has ended to the log.
    pub(super) fn keep(&self, record: &CallRecord) {
        self.calls.borrow_mut().record(record);
    }

    /// Counts a session as idle.
    pub(super) fn count_idle(&self) -> CountGuard<'_> {
        CountGuard::new(&self.sessions_idle)
    }

    /// Counts a call over HTTP/2.
    pub(super) fn count_http2_call(&self) -> CountGuard<'_> {
        CountGuard::new(&self.http2_calls)
    }

    /// The number of calls over HTTP/2 on inner TLS sessions, which are themselves counted as idle.
    pub(super) fn http2_calls(&self) -> usize {
        self.http2_calls.get()
    }

    /// The number of idle inner TLS sessions.
    pub(super) fn sessions_idle(&self) -> usize {
        self.sessions_idle.get()
    }
}

impl CountGuard<'_> {
    fn new(count: &Cell<usize>) -> CountGuard<'_> {
        count.set(count.get() + 1);
        CountGuard(count)
    }
}

impl Drop for CountGuard<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
