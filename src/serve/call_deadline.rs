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

/// The time limit that the caller has for its answer.
#[derive(Clone, Copy)]
struct CallerTime {
    /// When it has to be answered at the latest.
    answer_by: Time,
    /// When the caller stops waiting.
    ends_at: Time,
    waits: Duration,
    source: CallerTimeSource,
}

/// The deadline of the current call, and the progress of the wait for its answer. Reused by the next call.
pub struct CallDeadline {
    /// The limit for the first byte of the answer.
    first_byte_timeout: Duration,
    /// The caller's time limit, if known.
    caller: Option<CallerTime>,
    /// The deadline, if it is enforced.
    enforced: Option<Deadline>,
    progress_max: Duration,
    /// When the request was handed to the next hop.
    began: Time,
    /// The delay after which the call was sent again, if the second try answers.
    sent_again: Duration,
    /// When the call last reported progress.
    progressed: Time,
    /// The longest earlier interval without progress.
    longest: Duration,
    scan: MethodScan,
    was_cut: bool,
    /// Whether the call was cut because its caller's time was over.
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

/// Whether calls of this label have deadlines: they expect an answer, and their method is known.
#[must_use]
pub fn has_answer(call: &Call) -> bool {
    call.kind() == CallKind::Request && is_of_known_method(call)
}

/// Like [`CallDeadline::has_answer`] for a call that begins: the id, which shows that it expects an answer, may be at
/// the end of the body.
pub(super) fn may_have_answer(call: &Call) -> bool {
    let is_notification = || call.method().is_some_and(|method| method.starts_with("notifications/"));
    has_answer(call) || (call.kind() == CallKind::Unknown && is_of_known_method(call) && !is_notification())
}

fn is_of_known_method(call: &Call) -> bool {
    call.method().is_some_and(|method| method != mcp::LISTEN && method != mcp::OTHER)
}

impl CallDeadline {
    /// Starts a call of a route with these terms.
    pub fn begin(&mut self, terms: &DeadlineTerms) {
        *self = CallDeadline { first_byte_timeout: terms.ceiling, ..CallDeadline::default() };
    }

    /// Applies the ceiling of these terms, which are those of the tool.
    pub(super) fn keep_to(&mut self, terms: &DeadlineTerms) {
        self.first_byte_timeout = terms.ceiling;
    }

    /// The rest of the caller's time, if that is known.
    #[must_use]
    pub fn caller_left(&self, now: Time) -> Option<Duration> {
        self.caller.map(|caller| caller.answer_by - now)
    }

    /// When the caller has to be answered; never, if its time is not known.
    #[must_use]
    pub fn answer_by(&self) -> Time {
        self.caller.map_or(Time::NEVER, |caller| caller.answer_by)
    }

    /// The limits of the answer that follow from the caller's time.
    #[must_use]
    pub fn caller_limits(&self) -> CallerLimits {
        let of_caller = |caller: CallerTime| CallerLimits::new(caller.answer_by, caller.ends_at);
        self.caller.map_or(CallerLimits::NONE, of_caller)
    }

    /// Enforces this deadline, multiplied by `patience`, up to the ceiling.
    pub(super) fn enforce(&mut self, mut deadline: Deadline, terms: &DeadlineTerms, patience: u32) {
        deadline.limit = deadline.limit.saturating_mul(patience).min(terms.ceiling);
        self.first_byte_timeout = deadline.limit;
        self.progress_max = terms.progress_max;
        self.enforced = Some(deadline);
    }

    /// Sets the caller's time: it waits for `waits` from `since`. The call ends a little earlier, so that the caller
    /// still receives the error.
    pub fn bound_by_caller(&mut self, since: Time, waits: Duration, source: CallerTimeSource) {
        let answer_by = since + answer_within(waits);
        self.caller = Some(CallerTime { answer_by, ends_at: since + waits, waits, source });
    }

    /// How long the caller waits, and where that was stated, if known.
    #[must_use]
    pub fn caller(&self) -> Option<(Duration, CallerTimeSource)> {
        self.caller.map(|caller| (caller.waits, caller.source))
    }

    /// The limit for the first byte after the request was sent, shortened to the caller's time.
    #[must_use]
    pub fn first_byte_timeout(&self) -> Duration {
        self.first_byte_timeout
    }

    /// When the request was handed to the next hop.
    pub(super) fn began(&self) -> Time {
        self.began
    }

    /// Notes that the request was handed to the next hop.
    pub fn on_sent(&mut self, now: Time) {
        (self.began, self.progressed) = (now, now);
    }

    /// Notes that the answer is that of a second try, sent `after` the first. The first try would have taken longer.
    pub fn on_sent_again(&mut self, after: Duration) {
        self.sent_again = after;
    }

    /// Reads bytes of an event stream that answers the call.
    pub fn on_event_bytes(&mut self, bytes: &[u8], now: Time) {
        if self.scan.feed(bytes) {
            self.longest = self.longest.max(now - self.progressed);
            self.progressed = now;
        }
    }

    /// When the call is cut, if it has a limit.
    #[must_use]
    pub fn cuts_at(&self) -> Option<Time> {
        let of_deadline = self
            .enforced
            .map(|Deadline { limit, .. }| (self.progressed + limit).min(self.began + self.progress_max.max(limit)));
        let of_caller = self.caller.map(|caller| caller.answer_by);
        of_deadline.into_iter().chain(of_caller).min()
    }

    /// Notes that the call is cut `now` because a limit has passed.
    pub fn on_cut(&mut self, now: Time) {
        self.was_cut = true;
        self.is_of_caller = self.caller.is_some_and(|caller| now >= caller.answer_by);
    }

    /// Notes that the next hop ended the call because the caller's time was over.
    pub fn on_cut_for_caller(&mut self) {
        (self.was_cut, self.is_of_caller) = (true, self.caller.is_some());
    }

    /// Whether the call was cut because its caller's time was over, which says nothing about the server.
    #[must_use]
    pub fn is_of_caller(&self) -> bool {
        self.is_of_caller
    }

    /// Whether the call was cut.
    #[must_use]
    pub fn was_cut(&self) -> bool {
        self.was_cut
    }

    /// The deadline, if it is enforced.
    #[must_use]
    pub fn enforced(&self) -> Option<CallLimit> {
        self.enforced.as_ref().map(|deadline| CallLimit::of(deadline, true))
    }

    /// The report for the caller of a call that was cut.
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
        // An enforced deadline is explained by the latencies from which it was computed.
        let usual = self.enforced.and_then(|deadline| deadline.usual).or(call.usual);
        CallReport::late(&LateCall { call: FailedCall { usual, ..call }, limit, source })
    }

    /// How long a call that ends `now` was awaited; none if it has no deadline, or if its duration must not be learned.
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
