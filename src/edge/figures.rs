//! Statistics of the calls of one core.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::Time;
use crate::edge::settings::EdgeSettings;
use crate::latency::{BreakerTable, CallLog, CallStage, LearnedTable, OwnAnswer, Recorder, SlowCalls};

/// The durations of calls, the slow ones, and the time of the last success.
pub(super) struct CallFigures {
    pub(super) recorder: RefCell<Recorder>,
    pub(super) slow_calls: RefCell<SlowCalls>,
    /// The log of the last calls and of refused connections.
    pub(super) calls: Rc<RefCell<CallLog>>,
    last_good_call: Cell<Option<Time>>,
}

impl CallFigures {
    pub(super) fn new(
        settings: &EdgeSettings,
        learned: &Arc<LearnedTable>,
        breakers: &Arc<BreakerTable>,
    ) -> CallFigures {
        let recorder = Recorder::new(settings.latency).with_learned(learned).with_breakers(breakers);
        CallFigures {
            recorder: RefCell::new(recorder),
            slow_calls: RefCell::new(SlowCalls::new(settings.slow_calls)),
            calls: Rc::new(RefCell::new(CallLog::new(settings.calls_kept))),
            last_good_call: Cell::new(None),
        }
    }

    /// Whether a call log is kept.
    pub(super) fn keeps_calls(&self) -> bool {
        self.calls.borrow().is_on()
    }

    /// Logs a refused connection, or a request that cannot be parsed.
    pub(super) fn on_turned_away(&self, now: Time, peer: Option<IpAddr>, stage: CallStage, own: OwnAnswer) {
        self.calls.borrow_mut().record_turned_away(now, peer, stage, own);
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
