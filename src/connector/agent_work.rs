//! The state of one call at the connector: its time, its retries, and what is noted of its answer.

use std::cell::Cell;
use std::time::Duration;

use crate::base::{CallFailure, Time};
use crate::connector::call_context::CallContext;
use crate::connector::connector_core::ConnectorCore;
use crate::connector::places::QueueNotes;
use crate::connector::upstreams::DecidedBy;
use crate::engine::Timer;
use crate::latency::{Retries, SentAgain};
use crate::serve::{AnswerSize, CallAudit, CallGuard, Listing, ReadAheadLimits};
use crate::wire::{AnswerStream, MethodScan};

/// How much earlier than the edge the connector fails an unsent call, in addition to the time on the link: the edge
/// does not know that nothing was sent.
const UNSENT_REPORT_MARGIN: Duration = Duration::from_millis(10);

/// The state of one call. Reused by the next one, for its memory.
#[derive(Default)]
pub(super) struct AgentWork {
    pub(super) retries: Retries,
    /// The retry of the call, if there was one.
    pub(super) again: Option<SentAgain>,
    /// When the call began.
    pub(super) began: Time,
    /// When the caller has to be answered; never, if its time is not known.
    pub(super) until: Time,
    /// The tables by which the request was decided.
    pub(super) decided_by: DecidedBy,
    /// The timer for `until` during the wait for a connection.
    pub(super) timer: Option<Timer>,
    /// The answer, if it may list tools.
    pub(super) listing: Listing,
    /// Finds the notification of changed tools, if that is needed.
    pub(super) changed: Cell<Option<MethodScan>>,
    /// The value of `Server-Timing`, for agents whose TLS ends here.
    pub(super) timing: Vec<u8>,
    /// Deadline and breakers, for agents whose TLS ends here.
    pub(super) guard: CallGuard,
    pub(super) audit: CallAudit,
    /// Its place among the route's calls in flight, for agents whose TLS ends here.
    pub(super) queue: QueueNotes,
    /// Reads an answer that is an event stream.
    pub(super) answer: AnswerStream,
    /// The size of the answer.
    pub(super) answer_size: AnswerSize,
    /// The failure that was sent to the agent at the end of an event stream, if any.
    pub(super) sent_failure: Option<CallFailure>,
}

impl AgentWork {
    /// Whether the caller's time is known.
    pub(super) fn is_limited(&self) -> bool {
        self.until != Time::NEVER
    }

    /// When a call must have been sent at the latest. Any later, the edge would answer before this side can report a
    /// failure.
    pub(super) fn send_by(&self, context: &CallContext<'_>) -> Time {
        match self.is_limited() && !context.is_agents() {
            true => self.until.back(context.stream.on_link().way() + UNSENT_REPORT_MARGIN),
            false => self.until,
        }
    }

    /// The rest of the caller's time; none if that is not known.
    pub(super) fn left(&self, now: Time) -> Option<Duration> {
        self.is_limited().then(|| self.until - now)
    }

    /// The limits for reading a body until the label is known.
    pub(super) fn read_ahead_limits<'c>(&self, core: &'c ConnectorCore) -> ReadAheadLimits<'c> {
        let limits = core.read_ahead_limits();
        ReadAheadLimits { timeout: limits.timeout.min(self.until - core.core.turn_time()), ..limits }
    }
}
