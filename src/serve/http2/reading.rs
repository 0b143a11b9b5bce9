use std::cell::{Cell, RefCell};

use crate::base::Time;
use crate::http2::Watch;
use crate::wire::http2::HeaderBlocks;

/// The state of the header block that is being received.
#[derive(Default)]
pub(super) struct Reading {
    blocks: RefCell<HeaderBlocks>,
    open_since: Cell<Option<Time>>,
}

impl Reading {
    /// When the incomplete header block began, if there is one.
    pub(super) fn open_since(&self) -> Option<Time> {
        self.open_since.get()
    }

    /// How many bytes of it have arrived.
    pub(super) fn open_len(&self) -> usize {
        self.blocks.borrow().open_len()
    }
}

impl Watch for Reading {
    fn feed(&self, bytes: &[u8], now: Time) {
        let mut blocks = self.blocks.borrow_mut();
        let ended = blocks.ended();
        blocks.feed(bytes);
        let since = self.open_since.get().filter(|_| blocks.ended() == ended).unwrap_or(now);
        self.open_since.set((blocks.open_len() > 0).then_some(since));
    }
}
