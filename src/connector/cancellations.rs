//! How many cancel notifications are in flight on one core.

use std::cell::Cell;
use std::rc::Rc;

/// The most notifications in flight on one core, so that a server that stopped answering keeps its connections for
/// calls.
const UNDER_WAY_MAX: u32 = 16;

/// The notifications in flight on one core.
#[derive(Clone, Default)]
pub(super) struct Cancellations(Rc<Cell<u32>>);

/// A notification in flight. Dropping it makes room for another.
pub(super) struct CancellationPermit(Rc<Cell<u32>>);

impl Cancellations {
    /// Counts one more; none if there are too many.
    pub(super) fn begin(&self) -> Option<CancellationPermit> {
        let count = self.0.get();
        (count < UNDER_WAY_MAX).then(|| {
            self.0.set(count + 1);
            CancellationPermit(Rc::clone(&self.0))
        })
    }
}

impl Drop for CancellationPermit {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
