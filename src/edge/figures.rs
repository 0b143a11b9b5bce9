//! The figures of the calls of one core.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use crate::base::Time;
use crate::latency::{BreakerTable, LatencySettings, LearnedTable, Recorder, SlowCallSettings, SlowCalls};

/// How long calls took, which of them were slow, and when the last one succeeded.
pub(super) struct CallFigures {
    pub(super) recorder: RefCell<Recorder>,
    pub(super) slow_calls: RefCell<SlowCalls>,
    last_good_call: Cell<Option<Time>>,
}

impl CallFigures {
    pub(super) fn new(
        latency: LatencySettings,
        learned: &Arc<LearnedTable>,
        breakers: &Arc<BreakerTable>,
        slow_calls: SlowCallSettings,
    ) -> CallFigures {
        CallFigures {
            recorder: RefCell::new(Recorder::new(latency).with_learned(learned).with_breakers(breakers)),
            slow_calls: RefCell::new(SlowCalls::new(slow_calls)),
            last_good_call: Cell::new(None),
        }
    }

    /// Notes that a call succeeded.
    pub(super) fn on_good_call(&self, now: Time) {
        self.last_good_call.set(Some(now));
    }

    /// The time since the last call that succeeded; none before the first.
    pub(super) fn since_good_call(&self, now: Time) -> Option<Duration> {
        self.last_good_call.get().map(|at| now - at)
    }
}
