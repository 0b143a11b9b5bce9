//! What is noted of a call while it is under way, for the list of the last calls.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::base::{CallFailure, Time};
use crate::edge::usage::LinkUsage;
use crate::exchange::trace_of;
use crate::latency::{CallRecord, HostText, Overload, RecordedTime, SentAgain};
use crate::serve::{AnswerSize, CallAudit, SessionKey};
use crate::wire::http1::RequestHead;

/// What is noted of a call while it is under way.
#[derive(Default)]
pub(super) struct CallNotes {
    /// Its number, which its connector is told.
    pub(super) number: u64,
    /// The address of its agent.
    peer: Option<IpAddr>,
    /// The MCP session that it names, once that was looked for.
    pub(super) session: Option<SessionKey>,
    /// When it began to look for a connector.
    opens_at: Time,
    /// How long it waited for one.
    waited: Duration,
    /// How long it waited for a place among the calls of its route.
    pub(super) queued: Duration,
    /// Why it got no place there.
    pub(super) overload: Option<Overload>,
    /// The first connector, which did not pass it on, and why; and why the last one did not.
    moved: Option<(CallFailure, u64, CallFailure)>,
    /// How often it was opened again.
    pub(super) retries: u32,
    /// How long it waited before that.
    paused: Duration,
    /// The status of the MCP server's answer; 0 if it has not answered.
    pub(super) status: u16,
    pub(super) answer: AnswerSize,
    pub(super) audit: CallAudit,
    /// How it was tried twice, if it was.
    pub(super) hedged: Option<HedgeNote>,
}

/// How a call was tried twice.
pub(super) struct HedgeNote {
    /// The connector of the second try.
    pub(super) connector: u64,
    /// How long after the first it began.
    pub(super) after: Duration,
    /// Whether it answered the call.
    pub(super) won: bool,
    /// Where the try is counted that did not.
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

    /// It looks for a connector.
    pub(super) fn opens(&mut self, now: Time) {
        self.opens_at = now;
    }

    /// It has found one, or does not wait any longer.
    pub(super) fn on_opened(&mut self, now: Time) {
        self.waited += now - self.opens_at;
    }

    /// The connector with this number did not pass it on, and another may.
    pub(super) fn on_not_passed_on(&mut self, failure: CallFailure, connector: u64) {
        self.moved.get_or_insert((failure, connector, failure)).2 = failure;
    }

    /// It is opened again, after a pause.
    pub(super) fn on_again(&mut self, pause: Duration) {
        self.retries += 1;
        self.paused += pause;
    }

    /// What is kept of a call with this head that has ended `now`.
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
        // A call that was moved is not tried twice.
        let again = moved.or(hedged);
        let record = CallRecord { number, trace, peer, host, again, status, ..CallRecord::new(now) };
        let record = record.with_wait(waited).with_queue_time(queued).with_retries(self.retries);
        match self.overload {
            Some(Overload { in_flight, limit, is_of_agent, .. }) => record.with_place(in_flight, limit, is_of_agent),
            None => record,
        }
    }
}
