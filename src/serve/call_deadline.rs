//! The deadline of a call.

use std::time::Duration;

use crate::base::{DeadlineTerms, Time};
use crate::exchange::{CallReport, LateCall};
use crate::latency::{CallLimit, CallPhases, Deadline, DeadlineReason, Outcome, StatusClass, Wait, WaitEnd};
use crate::wire::ProgressScan;
use crate::wire::mcp::{self, Call, CallKind};

/// The deadline of the call under way, and how long that has been waited for. Kept from one call to the next.
pub struct CallDeadline {
    /// How long the answer may take to begin.
    pub first_byte_timeout: Duration,
    /// The deadline, where it is enforced.
    enforced: Option<Deadline>,
    progress_max: Duration,
    /// When the request was handed to the next hop.
    began: Time,
    /// When the call last gave a sign of progress.
    progressed: Time,
    /// The longest time without one before that.
    longest: Duration,
    scan: ProgressScan,
    was_cut: bool,
}

impl Default for CallDeadline {
    fn default() -> CallDeadline {
        CallDeadline {
            first_byte_timeout: Duration::MAX,
            enforced: None,
            progress_max: Duration::ZERO,
            began: Time::ZERO,
            progressed: Time::ZERO,
            longest: Duration::ZERO,
            scan: ProgressScan::default(),
            was_cut: false,
        }
    }
}

/// Whether calls of this label are guarded: those that expect an answer, and whose method says what they are.
pub(super) fn has_answer(call: &Call) -> bool {
    let is_known = call.method().is_some_and(|method| method != mcp::LISTEN && method != mcp::OTHER);
    call.kind() == CallKind::Request && is_known
}

impl CallDeadline {
    /// Starts with a call of a route with these terms.
    pub fn begin(&mut self, terms: &DeadlineTerms) {
        *self = CallDeadline { first_byte_timeout: terms.ceiling, ..CallDeadline::default() };
    }

    /// Enforces this deadline, so many times as long as the ceiling allows.
    pub(super) fn enforce(&mut self, mut deadline: Deadline, terms: &DeadlineTerms, patience: u32) {
        deadline.limit = deadline.limit.saturating_mul(patience).min(terms.ceiling);
        self.first_byte_timeout = deadline.limit;
        self.progress_max = terms.progress_max;
        self.enforced = Some(deadline);
    }

    /// When the request was handed to the next hop.
    pub(super) fn began(&self) -> Time {
        self.began
    }

    /// The request was handed to the next hop.
    pub fn on_sent(&mut self, now: Time) {
        (self.began, self.progressed) = (now, now);
    }

    /// Bytes of an event stream that answers the call have come.
    pub fn on_event_bytes(&mut self, bytes: &[u8], now: Time) {
        if self.scan.feed(bytes) {
            self.longest = self.longest.max(now - self.progressed);
            self.progressed = now;
        }
    }

    /// When the call is cut, if it is to be.
    #[must_use]
    pub fn cuts_at(&self) -> Option<Time> {
        let limit = self.enforced?.limit;
        Some((self.progressed + limit).min(self.began + self.progress_max.max(limit)))
    }

    /// The call is cut, because a limit has passed.
    pub fn on_cut(&mut self) {
        self.was_cut = true;
    }

    /// Whether the call was cut.
    #[must_use]
    pub fn was_cut(&self) -> bool {
        self.was_cut
    }

    /// The deadline, where it is enforced.
    #[must_use]
    pub fn enforced(&self) -> Option<CallLimit> {
        self.enforced.as_ref().map(|deadline| CallLimit::of(deadline, true))
    }

    /// What is told of a call that was cut.
    #[must_use]
    pub fn report(&self, call: &Call, tunnel: &str, route: &str) -> CallReport {
        let limit = self.enforced.map_or(self.first_byte_timeout, |deadline| deadline.limit);
        let is_learned =
            |deadline: &Deadline| matches!(deadline.reason, DeadlineReason::Learned | DeadlineReason::Floor);
        CallReport::late(&LateCall {
            tunnel,
            route,
            method: call.method().unwrap_or_default(),
            tool: call.tool(),
            limit,
            is_learned: self.enforced.as_ref().is_some_and(is_learned),
            usual: self.enforced.and_then(|deadline| deadline.usual),
        })
    }

    /// How long a call was waited for that ends `now`; none if it has no deadline or says nothing of others.
    #[must_use]
    pub fn ended(
        &self,
        terms: DeadlineTerms,
        call: &Call,
        phases: &CallPhases,
        outcome: Outcome,
        now: Time,
    ) -> Option<Wait> {
        let end = match outcome {
            Outcome::Ok if phases.status() == Some(StatusClass::Success) => WaitEnd::Answered,
            Outcome::TimedOut if self.was_cut => WaitEnd::Cut,
            Outcome::TimedOut | Outcome::AgentGone | Outcome::AgentStalled => WaitEnd::GivenUp,
            _ => return None,
        };
        let (waited, took) = match phases.is_event_stream() {
            true => (self.longest.max(now - self.progressed), now - self.began),
            false => (phases.beyond_edge(), phases.beyond_edge()),
        };
        has_answer(call).then_some(Wait { terms, enforced: self.enforced, end, waited, took, teaches: true })
    }
}
