use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use crate::engine::Signal;

/// Whether the other side of a link has recently shown that it is alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Liveness {
    /// The time since anything was received.
    pub silent: Duration,
    /// How long a PING has been unanswered while nothing arrived; zero if none is.
    pub owing: Duration,
    /// The calls that were begun since anything was received.
    pub unproven: u32,
}

/// The calls that were begun on a link since anything was received.
#[derive(Default)]
pub(super) struct Unproven {
    calls: Cell<u32>,
    heard: RefCell<Option<Rc<Signal>>>,
}

impl Unproven {
    pub(super) fn calls(&self) -> u32 {
        self.calls.get()
    }

    pub(super) fn on_call(&self) {
        self.calls.set(self.calls.get().saturating_add(1));
    }

    /// From now on, raises `signal` when data arrives after calls were begun.
    pub(super) fn set_signal(&self, signal: Rc<Signal>) {
        self.heard.replace(Some(signal));
    }

    pub(super) fn on_received(&self) {
        if self.calls.replace(0) > 0
            && let Some(heard) = &*self.heard.borrow()
        {
            heard.raise();
        }
    }
}
