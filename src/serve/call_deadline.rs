//! The deadline of a call.

use std::time::Duration;

use crate::base::{DeadlineTerms, Time};
use crate::exchange::{CallReport, FailedCall, LateCall, LimitSource};
use crate::latency::{
    CallLimit, CallPhases, CallWait, CallerTimeSource, Deadline, DeadlineReason, Outcome, StatusClass, WaitEnd,
    answer_within,
};
use crate::serve::next_hop::CallerLimits;
use crate::wire::MethodScan;
use crate::wire::mcp::{self, Call, CallKind};

/// How long a caller waits for its answer.
#[derive(Clone, Copy)]
struct CallerTime {
    /// When it has to be answered.
    answer_by: Time,
    /// When it does not wait any longer.
    ends_at: Time,
    waits: Duration,
    source: CallerTimeSource,
}

/// The deadline of the call under way, and how long that has been waited for. Kept from one call to the next.
pub struct CallDeadline {
    /// How long the answer may take to begin.
    first_byte_timeout: Duration,
    /// How long the caller waits, if that is known.
    caller: Option<CallerTime>,
    /// The deadline, where it is enforced.
    enforced: Option<Deadline>,
    progress_max: Duration,
    /// When the request was handed to the next hop.
    began: Time,
    /// How long after that it was sent again, if the second try answers.
    sent_again: Duration,
    /// When the call last gave a sign of progress.
    progressed: Time,
    /// The longest time without one before that.
    longest: Duration,
    scan: MethodScan,
    was_cut: bool,
    /// Whether the call was cut because its caller would not have waited any longer.
    is_of_caller: bool,
}

impl Default for CallDeadline {
    fn default() -> CallDeadline {
        CallDeadline {
            first_byte_timeout: Duration::MAX,
            caller: None,
            enforced: None,
            progress_max: Duration::ZERO,
            began: Time::ZERO,
            sent_again: Duration::ZERO,
            progressed: Time::ZERO,
            longest: Duration::ZERO,
            scan: MethodScan::progress(),
            was_cut: false,
            is_of_caller: false,
        }
    }
}

/// Whether calls of this label are guarded: those that expect an answer, and whose method says what they are.
#[must_use]
pub fn has_answer(call: &Call) -> bool {
    call.kind() == CallKind::Request && is_of_known_method(call)
}

/// The same of a call that begins: the id, which says that it expects an answer, may be at the end of its body.
pub(super) fn may_have_answer(call: &Call) -> bool {
    let is_notification = || call.method().is_some_and(|method| method.starts_with("notifications/"));
    has_answer(call) || (call.kind() == CallKind::Unknown && is_of_known_method(call) && !is_notification())
}

fn is_of_known_method(call: &Call) -> bool {
    call.method().is_some_and(|method| method != mcp::LISTEN && method != mcp::OTHER)
}

impl CallDeadline {
    /// Starts with a call of a route with these terms.
    pub fn begin(&mut self, terms: &DeadlineTerms) {
        *self = CallDeadline { first_byte_timeout: terms.ceiling, ..CallDeadline::default() };
    }

    /// Keeps to the ceiling of these terms, those of its tool.
    pub(super) fn keep_to(&mut self, terms: &DeadlineTerms) {
        self.first_byte_timeout = terms.ceiling;
    }

    /// How much of the time is left for which the caller waits; none if that is not known.
    #[must_use]
    pub fn caller_left(&self, now: Time) -> Option<Duration> {
        self.caller.map(|caller| caller.answer_by - now)
    }

    /// When the caller has to be answered; never if it is not known how long it waits.
    #[must_use]
    pub fn answer_by(&self) -> Time {
        self.caller.map_or(Time::NEVER, |caller| caller.answer_by)
    }

    /// The limits of an answer that follow from how long the caller waits.
    #[must_use]
    pub fn caller_limits(&self) -> CallerLimits {
        let of_caller = |caller: CallerTime| CallerLimits::new(caller.answer_by, caller.ends_at);
        self.caller.map_or(CallerLimits::NONE, of_caller)
    }

    /// Enforces this deadline, so many times as long as the ceiling allows.
    pub(super) fn enforce(&mut self, mut deadline: Deadline, terms: &DeadlineTerms, patience: u32) {
        deadline.limit = deadline.limit.saturating_mul(patience).min(terms.ceiling);
        self.first_byte_timeout = deadline.limit;
        self.progress_max = terms.progress_max;
        self.enforced = Some(deadline);
    }

    /// The caller began to wait at `since`, and waits so long. It is answered a little before, so that it gets the answer.
    pub fn bound_by_caller(&mut self, since: Time, waits: Duration, source: CallerTimeSource) {
        let answer_by = since + answer_within(waits);
        self.caller = Some(CallerTime { answer_by, ends_at: since + waits, waits, source });
    }

    /// How long the caller waits, and who said so, if that is known.
    #[must_use]
    pub fn caller(&self) -> Option<(Duration, CallerTimeSource)> {
        self.caller.map(|caller| (caller.waits, caller.source))
    }

    /// How long the answer may take to begin once the request was sent, as far as its caller waits so long.
    #[must_use]
    pub fn first_byte_timeout(&self) -> Duration {
        self.first_byte_timeout
    }

    /// When the request was handed to the next hop.
    pub(super) fn began(&self) -> Time {
        self.began
    }

    /// The request was handed to the next hop.
    pub fn on_sent(&mut self, now: Time) {
        (self.began, self.progressed) = (now, now);
    }

    /// The answer is that of a second try, which began so long after the first. The first would have taken longer.
    pub fn on_sent_again(&mut self, after: Duration) {
        self.sent_again = after;
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
        let of_deadline = self
            .enforced
            .map(|Deadline { limit, .. }| (self.progressed + limit).min(self.began + self.progress_max.max(limit)));
        let of_caller = self.caller.map(|caller| caller.answer_by);
        of_deadline.into_iter().chain(of_caller).min()
    }

    /// The call is cut `now`, because a limit has passed.
    pub fn on_cut(&mut self, now: Time) {
        self.was_cut = true;
        self.is_of_caller = self.caller.is_some_and(|caller| now >= caller.answer_by);
    }

    /// The next hop has ended the call, because its caller would not have waited any longer.
    pub fn on_cut_for_caller(&mut self) {
        (self.was_cut, self.is_of_caller) = (true, self.caller.is_some());
    }

    /// Whether the call was cut because its caller would not have waited any longer, which says nothing of the server.
    #[must_use]
    pub fn is_of_caller(&self) -> bool {
        self.is_of_caller
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
    pub fn report(&self, call: FailedCall<'_>) -> CallReport {
        let is_learned =
            |deadline: &Deadline| matches!(deadline.reason, DeadlineReason::Learned | DeadlineReason::Floor);
        let (limit, source) = match (self.caller.filter(|_| self.is_of_caller), self.enforced) {
            (Some(CallerTime { waits, .. }), _) => (waits, LimitSource::Caller),
            (None, Some(deadline)) if is_learned(&deadline) => (deadline.limit, LimitSource::Learned),
            (None, enforced) => {
                (enforced.map_or(self.first_byte_timeout, |deadline| deadline.limit), LimitSource::Setting)
            }
        };
        // A deadline that was enforced is explained by the times from which it was computed.
        let usual = self.enforced.and_then(|deadline| deadline.usual).or(call.usual);
        CallReport::late(&LateCall { call: FailedCall { usual, ..call }, limit, source })
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
    ) -> Option<CallWait> {
        let end = match outcome {
            Outcome::Ok if phases.status() == Some(StatusClass::Success) => WaitEnd::Answered,
            Outcome::TimedOut if self.was_cut && !self.is_of_caller => WaitEnd::Cut,
            Outcome::TimedOut | Outcome::AgentGone | Outcome::AgentStalled => WaitEnd::GivenUp,
            _ => return None,
        };
        let (waited, took) = match phases.is_event_stream() {
            true => (self.longest.max(now - self.progressed), now - self.began),
            false => (phases.beyond_edge() + self.sent_again, phases.beyond_edge() + self.sent_again),
        };
        has_answer(call).then_some(CallWait { terms, enforced: self.enforced, end, waited, took, teaches: true })
    }
}
