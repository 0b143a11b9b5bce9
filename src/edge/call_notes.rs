//! Facts about a call in flight, for the call log.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::base::{CallFailure, Time};
use crate::edge::usage::LinkUsage;
use crate::exchange::trace_of;
use crate::latency::{CallRecord, HostText, Overload, RecordedTime, SentAgain};
use crate::serve::{AnswerSize, CallAudit, SessionKey};
use crate::wire::http1::RequestHead;

/// Facts about a call in flight, for the call log.
#[derive(Default)]
pub(super) struct CallNotes {
    /// The number of the call, which is sent to the connector.
    pub(super) number: u64,
    /// The address of its agent.
    peer: Option<IpAddr>,
    /// The MCP session that it names, once that was read.
    pub(super) session: Option<SessionKey>,
    /// When it began to wait for a connector.
    opens_at: Time,
    /// How long it waited for a connector.
    waited: Duration,
    /// How long it waited for a place among the calls of its route.
    pub(super) queued: Duration,
    /// Why it was refused a place.
    pub(super) overload: Option<Overload>,
    /// The failure and number of the first connector that did not pass it on, and the failure of the last one.
    moved: Option<(CallFailure, u64, CallFailure)>,
    /// How often it was retried.
    pub(super) retries: u32,
    /// How long it paused before retries.
    paused: Duration,
    /// The status of the MCP server's answer; 0 if it has not answered.
    pub(super) status: u16,
    pub(super) answer: AnswerSize,
    pub(super) audit: CallAudit,
    /// The second try, if there was one.
    pub(super) hedged: Option<HedgeNote>,
}

/// The second try of a call.
pub(super) struct HedgeNote {
    /// The connector of the second try.
    pub(super) connector: u64,
    /// How long after the first try it began.
    pub(super) after: Duration,
    /// Whether it answered the call.
    pub(super) won: bool,
    /// The usage counter of the try that did not answer.
    pub(super) loser: Rc<LinkUsage>,
}

impl CallNotes {
    /// A call that begins.
    pub(super) fn begin(number: u64, peer: Option<IpAddr>) -> CallNotes {
        CallNotes { number, peer, ..CallNotes::default() }
    }

    /// The address of its agent.
    pub(super) fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// Notes that the call begins to wait for a connector.
    pub(super) fn opens(&mut self, now: Time) {
        self.opens_at = now;
    }

    /// Notes that it has found a connector, or no longer waits.
    pub(super) fn on_opened(&mut self, now: Time) {
        self.waited += now - self.opens_at;
    }

    /// Notes that this connector did not pass the call on, and another may.
    pub(super) fn on_not_passed_on(&mut self, failure: CallFailure, connector: u64) {
        self.moved.get_or_insert((failure, connector, failure)).2 = failure;
    }

    /// Notes that the call is retried after a pause.
    pub(super) fn on_again(&mut self, pause: Duration) {
        self.retries += 1;
        self.paused += pause;
    }

    /// The record of a call with this head that ended `now`.
    pub(super) fn record(&self, head: &RequestHead, now: Time) -> CallRecord {
        let CallNotes { number, peer, waited, queued, moved, status, paused, .. } = *self;
        let host = HostText::of(head.host().unwrap_or_default());
        let trace = trace_of(head);
        let paused = RecordedTime::of(paused);
        let moved = moved.map(|(failure, connector, last)| SentAgain::NotPassedOn { failure, connector, last, paused });
        let hedged = self.hedged.as_ref().map(|hedge| {
            let HedgeNote { connector, after, won, .. } = *hedge;
            SentAgain::Slow { connector, after: RecordedTime::of(after), won }
        });
        // A call that was moved has no second try.
        let again = moved.or(hedged);
        let record = CallRecord { number, trace, peer, host, again, status, ..CallRecord::new(now) };
        let record = record.with_wait(waited).with_queue_time(queued).with_retries(self.retries);
        match self.overload {
            Some(Overload { in_flight, limit, is_of_agent, .. }) => record.with_place(in_flight, limit, is_of_agent),
            None => record,
        }
    }
}
