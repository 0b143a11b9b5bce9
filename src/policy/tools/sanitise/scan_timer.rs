//! The time that looking at texts may take.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::base::{Clock, Time};

/// After how many bytes the clock is read again. Each kind that is looked for reads all bytes of a text.
pub(super) const CHECK_LEN: usize = 16 * 1024;

/// The time was up before all texts were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OutOfTime;

/// How much time the texts of one call have taken. Without a clock there is no limit.
#[derive(Clone, Default)]
pub(in crate::policy::tools) struct ScanTime {
    clock: Option<Rc<dyn Clock>>,
    /// Whether each message has the time for itself, because they belong to different calls.
    is_by_message: bool,
    spent: Cell<Duration>,
}

/// Measures the time for one message.
pub(in crate::policy::tools) struct ScanTimer<'a> {
    clock: Option<&'a dyn Clock>,
    began: Time,
    until: Time,
    /// The bytes that were read since the clock was.
    unchecked: usize,
}

impl ScanTime {
    pub(in crate::policy::tools) fn new(clock: Rc<dyn Clock>, is_by_message: bool) -> ScanTime {
        ScanTime { clock: Some(clock), is_by_message, spent: Cell::default() }
    }

    /// Looks at a message of the call, within what is left of the time.
    pub(in crate::policy::tools) fn within<T>(&self, max: Duration, look: impl FnOnce(&mut ScanTimer<'_>) -> T) -> T {
        let Some(clock) = self.clock.as_deref() else { return look(&mut ScanTimer::unlimited()) };
        let began = clock.now();
        let until = began + max.saturating_sub(self.spent.get());
        let looked = look(&mut ScanTimer { clock: Some(clock), began, until, unchecked: 0 });
        if !self.is_by_message {
            self.spent.set(self.spent.get() + (clock.now() - began));
        }
        looked
    }
}

impl fmt::Debug for ScanTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScanTime").field("spent", &self.spent.get()).finish_non_exhaustive()
    }
}

impl ScanTimer<'_> {
    /// For texts whose length limits the time.
    pub(super) fn unlimited() -> ScanTimer<'static> {
        ScanTimer { clock: None, began: Time::ZERO, until: Time::NEVER, unchecked: 0 }
    }

    /// Whether no time is left when the look begins.
    pub(super) fn is_used_up(&self) -> bool {
        self.until <= self.began
    }

    /// Counts bytes that are about to be read.
    ///
    /// # Errors
    ///
    /// If the time is up.
    pub(super) fn spend(&mut self, bytes: usize) -> Result<(), OutOfTime> {
        self.unchecked += bytes;
        match self.clock.filter(|_| self.unchecked >= CHECK_LEN) {
            Some(clock) => {
                self.unchecked = 0;
                if clock.now() >= self.until { Err(OutOfTime) } else { Ok(()) }
            }
            None => Ok(()),
        }
    }
}
