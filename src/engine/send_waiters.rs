//! How many tasks of a core wait until queued bytes were sent.

use std::cell::Cell;
use std::rc::Rc;

/// The number of sockets of a core on which a task waits for room or for the end of the queue. While there are none, the core need not
/// learn of the end of a send before something else happens.
#[derive(Default)]
pub(super) struct SendWaiters(Rc<Cell<usize>>);

impl SendWaiters {
    /// Adds one, until what is returned is dropped.
    pub(super) fn add(&self) -> SendWaiter {
        self.0.set(self.0.get() + 1);
        SendWaiter(Rc::clone(&self.0))
    }

    /// Whether a task waits.
    pub(super) fn is_any(&self) -> bool {
        self.0.get() > 0
    }
}

/// A task that waits, as its socket holds it.
pub(super) struct SendWaiter(Rc<Cell<usize>>);

impl Drop for SendWaiter {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
