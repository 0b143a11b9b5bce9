//! The drain of one core, and the counts of open connections and calls.

use std::cell::Cell;

use crate::engine::Signal;

/// Whether a core drains, and how many connections and calls are still open on it.
#[derive(Default)]
pub(super) struct Drain {
    /// Raised when the drain begins.
    begun: Signal,
    /// Raised whenever a connection or a call ends.
    ended: Signal,
    agents_open: Cell<usize>,
    calls_open: Cell<usize>,
}

/// Counts one connection or call as open until it is dropped.
pub(super) struct OpenGuard<'a> {
    count: &'a Cell<usize>,
    ended: &'a Signal,
}

impl Drain {
    /// Begins the drain of this core.
    pub(super) fn begin(&self) {
        self.begun.raise();
    }

    /// Whether the drain has begun.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.count() > 0
    }

    /// Waits until the drain begins.
    pub(super) async fn begun(&self) {
        self.begun.after(0).await;
    }

    /// Counts a connection of an agent until the guard is dropped.
    pub(super) fn count_agent(&self) -> OpenGuard<'_> {
        OpenGuard::new(&self.agents_open, &self.ended)
    }

    /// Counts a call until the guard is dropped.
    pub(super) fn count_call(&self) -> OpenGuard<'_> {
        OpenGuard::new(&self.calls_open, &self.ended)
    }

    /// The number of agents' open connections.
    pub(super) fn agents_open(&self) -> usize {
        self.agents_open.get()
    }

    /// The number of calls in flight.
    pub(super) fn calls_open(&self) -> usize {
        self.calls_open.get()
    }

    /// Waits until the last connection of an agent has ended.
    pub(super) async fn all_ended(&self) {
        loop {
            let seen = self.ended.count();
            if self.agents_open.get() == 0 {
                break;
            }
            self.ended.after(seen).await;
        }
    }
}

impl<'a> OpenGuard<'a> {
    fn new(count: &'a Cell<usize>, ended: &'a Signal) -> OpenGuard<'a> {
        count.set(count.get() + 1);
        OpenGuard { count, ended }
    }
}

impl Drop for OpenGuard<'_> {
    fn drop(&mut self) {
        self.count.set(self.count.get() - 1);
        self.ended.raise();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn a_drain_waits_for_the_last_agent_and_not_for_calls_apart_from_it() {
        let drain = Drain::default();
        let cx = &mut Context::from_waker(Waker::noop());
        let (first, second) = (drain.count_agent(), drain.count_agent());
        let call = drain.count_call();
        assert_eq!((drain.agents_open(), drain.calls_open()), (2, 1));
        let mut all_ended = pin!(drain.all_ended());
        assert!(all_ended.as_mut().poll(cx).is_pending());
        drop(first);
        assert!(all_ended.as_mut().poll(cx).is_pending());
        drop(second);
        assert!(all_ended.as_mut().poll(cx).is_ready());
        drop(call);
        assert_eq!((drain.agents_open(), drain.calls_open()), (0, 0));
    }

    #[test]
    fn waiting_for_a_drain_that_has_begun_returns_at_once() {
        let drain = Drain::default();
        let cx = &mut Context::from_waker(Waker::noop());
        let mut begun = pin!(drain.begun());
        assert!(!drain.has_begun() && begun.as_mut().poll(cx).is_pending());
        drain.begin();
        assert!(drain.has_begun() && begun.as_mut().poll(cx).is_ready());
        assert!(pin!(drain.begun()).poll(cx).is_ready());
    }
}
