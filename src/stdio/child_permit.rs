use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use crate::stdio::stats::StdioStats;

/// The place of one child among those that are allowed. It is free again when this is dropped.
pub(super) struct ChildPermit {
    count: Rc<Cell<usize>>,
    stats: Arc<StdioStats>,
}

impl ChildPermit {
    /// Takes a place in this count.
    pub(super) fn new(count: &Rc<Cell<usize>>, stats: &Arc<StdioStats>) -> ChildPermit {
        count.set(count.get() + 1);
        stats.set_children(count.get());
        ChildPermit { count: Rc::clone(count), stats: Arc::clone(stats) }
    }
}

impl Drop for ChildPermit {
    fn drop(&mut self) {
        self.count.set(self.count.get() - 1);
        self.stats.set_children(self.count.get());
    }
}
