use std::cell::Cell;

use crate::base::Time;
use crate::http2::Watch;

/// When bytes were last received on a connection.
#[derive(Default)]
pub(super) struct Heard {
    at: Cell<Time>,
}

impl Heard {
    pub(super) fn at(&self) -> Time {
        self.at.get()
    }

    /// Notes that the other side has shown that it is there.
    pub(super) fn set(&self, now: Time) {
        self.at.set(now);
    }
}

impl Watch for Heard {
    fn feed(&self, _: &[u8], now: Time) {
        self.at.set(now);
    }
}
