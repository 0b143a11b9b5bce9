//! The deadline of a call.

use std::time::Duration;

use crate::base::{DeadlineTerms, Time};
use crate::edge::edge_core::EdgeCore;
use crate::exchange::{CallReport, LateCall};
use crate::latency::{CallPhases, Deadline, DeadlineReason, Outcome, StatusClass, Wait, WaitEnd};
use crate::route::Route;
use crate::serve::Request;
use crate::wire::ProgressScan;
use crate::wire::mcp::{self, Call, CallKind};

/// The deadline of the call under way, and how long that has been waited for. Kept from one call to the next.
pub(super) struct CallDeadline {
    /// How long the answer may take to begin.
    pub(super) first_byte_timeout: Duration,
    /// The deadline, where it is enforced.
    enforced: Option<Deadline>,
    progress_max: Duration,
    /// When the request was handed to the link.
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

/// Whether calls of this label have a deadline: those that expect an answer, and whose method says what they are.
fn has_deadline(call: &Call) -> bool {
    let is_known = call.method().is_some_and(|method| method != mcp::LISTEN && method != mcp::OTHER);
    call.kind() == CallKind::Request && is_known
}

impl CallDeadline {
    /// Starts with a call of a route, whose label was read first if `is_labelled` is true.
    pub(super) fn begin(&mut self, core: &EdgeCore, request: &mut impl Request, route: &Route, is_labelled: bool) {
        let of_edge = &core.edge.settings.deadlines;
        let terms = route.own.terms(of_edge, None);
        *self = CallDeadline { first_byte_timeout: terms.ceiling, ..CallDeadline::default() };
        let Some(call) = request.label().filter(|_| is_labelled).map(|label| label.call()) else { return };
        let terms = route.own.terms(of_edge, call.tool());
        self.first_byte_timeout = terms.ceiling;
        if terms.is_enforced() && has_deadline(call) {
            let mut recorder = core.figures.recorder.borrow_mut();
            let method = call.method().unwrap_or_default();
            let label = recorder.label(route.name.as_str(), method, call.tool().unwrap_or_default());
            let deadline = recorder.deadline(label, &terms, core.core.turn_time());
            self.first_byte_timeout = deadline.limit;
            self.progress_max = terms.progress_max;
            self.enforced = Some(deadline);
        }
    }

    /// The request was handed to the link.
    pub(super) fn on_sent(&mut self, now: Time) {
        (self.began, self.progressed) = (now, now);
    }

    /// Bytes of an event stream that answers the call have come.
    pub(super) fn on_event_bytes(&mut self, bytes: &[u8], now: Time) {
        if self.scan.feed(bytes) {
            self.longest = self.longest.max(now - self.progressed);
            self.progressed = now;
        }
    }

    /// When the call is cut, if it is to be.
    pub(super) fn cuts_at(&self) -> Option<Time> {
        let limit = self.enforced?.limit;
        Some((self.progressed + limit).min(self.began + self.progress_max.max(limit)))
    }

    /// The call is cut, because a limit has passed.
    pub(super) fn on_cut(&mut self) {
        self.was_cut = true;
    }

    /// Whether the call was cut.
    pub(super) fn was_cut(&self) -> bool {
        self.was_cut
    }

    /// What is told of a call that was cut.
    pub(super) fn report(&self, call: &Call, route: &Route) -> CallReport {
        let limit = self.enforced.map_or(self.first_byte_timeout, |deadline| deadline.limit);
        let is_learned =
            |deadline: &Deadline| matches!(deadline.reason, DeadlineReason::Learned | DeadlineReason::Floor);
        CallReport::late(&LateCall {
            tunnel: route.tunnel.as_str(),
            route: route.name.as_str(),
            method: call.method().unwrap_or_default(),
            tool: call.tool(),
            limit,
            is_learned: self.enforced.as_ref().is_some_and(is_learned),
            usual: self.enforced.and_then(|deadline| deadline.usual),
        })
    }

    /// How long a call was waited for that ends `now`; none if it has no deadline or says nothing of others.
    pub(super) fn ended(
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
        has_deadline(call).then_some(Wait { terms, enforced: self.enforced, end, waited, took })
    }
}
