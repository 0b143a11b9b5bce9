//! Deadline and circuit breakers of a call.

use std::cell::Cell;

use crate::base::{BreakerTerms, DeadlineTerms, GuardMode, Time};
use crate::exchange::{BreakerRefusal, CallReport, FailedCall};
use crate::latency::{
    BreakerChange, BreakerChanges, BreakerOpen, BreakerScope, BreakerState, CallCounts, CallLimit, CallPhases,
    CallResult, ForcedState, LabelBreakers, LabelId, Outcome, Permit, Recorder,
};
use crate::serve::call_deadline::{CallDeadline, has_answer, may_have_answer};
use crate::wire::mcp::Call;

/// The guard of the current call. Reused by the next one.
#[derive(Default)]
pub struct CallGuard {
    /// How long the call may take.
    pub deadline: CallDeadline,
    /// The permit of its breakers, if they are enforced.
    permit: Cell<Option<Permit>>,
    /// Whether the call is a probe of a breaker.
    pub is_probe: bool,
    /// The label that was looked up last: that of this call, or of an earlier one, which often has the same.
    label: Cell<Option<LabelId>>,
}

/// A call that a breaker refused.
pub struct BreakerRefused {
    scope: BreakerScope,
    refused: BreakerOpen,
    counts: CallCounts,
}

/// The result of a call that has ended.
#[derive(Clone, Copy)]
pub struct CallEnded<'a> {
    /// The label under which it is counted.
    pub label: LabelId,
    /// The phases of the call.
    pub phases: &'a CallPhases,
    /// The outcome that is recorded for it.
    pub outcome: Outcome,
    /// Whether it was handed to the next hop, which starts the deadline.
    pub is_opened: bool,
}

/// The call, and the terms of its route.
#[derive(Clone, Copy)]
pub struct GuardedCall<'a> {
    /// The label of the call.
    pub call: &'a Call,
    /// The name of its route.
    pub route: &'a str,
    /// The terms of its deadline.
    pub deadline: DeadlineTerms,
    /// The terms of its breakers.
    pub breaker: BreakerTerms,
}

impl CallGuard {
    /// Starts a call of a route with these terms.
    pub fn begin(&mut self, terms: &DeadlineTerms) {
        self.deadline.begin(terms);
        self.permit.set(None);
        self.is_probe = false;
    }

    /// Continues a call that has [begun](CallGuard::begin), now that its label is known.
    ///
    /// # Errors
    ///
    /// If a breaker refuses the call.
    pub fn begin_labelled(
        &mut self,
        guarded: &GuardedCall<'_>,
        recorder: &mut Recorder,
        now: Time,
    ) -> Result<(), BreakerRefused> {
        let GuardedCall { call, route, deadline, breaker } = *guarded;
        self.deadline.keep_to(&deadline);
        if !may_have_answer(call) {
            return Ok(());
        }
        let label = self.label_of(route, call.method().unwrap_or_default(), call.tool().unwrap_or_default(), recorder);
        let mut patience = 1;
        if let Some(breakers) = recorder.breakers(label)
            && (breaker.is_enforced() || breakers.is_forced_open())
        {
            let (admitted, changes) = breakers.admit(now);
            log(breakers, breaker.mode, changes);
            let permit = admitted.map_err(|(scope, refused)| {
                let counts = breakers.opened_by(scope, now);
                BreakerRefused { scope, refused, counts }
            })?;
            patience = permit.patience();
            self.is_probe = permit.is_probe();
            self.permit.set(Some(permit));
        }
        if deadline.is_enforced() {
            self.deadline.enforce(recorder.deadline(label, &deadline, now), &deadline, patience);
        }
        Ok(())
    }

    /// The label of a call with these names. It is looked up unless the last one had the same names.
    pub fn label_of(&self, route: &str, method: &str, tool: &str, recorder: &mut Recorder) -> LabelId {
        let known = self.label.get().filter(|label| recorder.has_names(*label, route, method, tool));
        let label = known.unwrap_or_else(|| recorder.label(route, method, tool));
        self.label.set(Some(label));
        label
    }

    /// Ends the call `now`: its duration is learned and its breakers are updated. Returns its deadline, if it had one,
    /// and whether that was missed.
    pub fn end(
        &self,
        guarded: &GuardedCall<'_>,
        ended: CallEnded<'_>,
        recorder: &mut Recorder,
        now: Time,
    ) -> Option<(CallLimit, bool)> {
        let GuardedCall { call, deadline, breaker, .. } = *guarded;
        let CallEnded { label, phases, outcome, is_opened } = ended;
        let permit = self.permit.take();
        let is_closed = permit.as_ref().is_none_or(|permit| permit.breakers().are_closed());
        let is_asked = is_opened && !phases.is_of_connector();
        let wait = is_asked.then(|| self.deadline.ended(deadline, call, phases, outcome, now)).flatten();
        let judged = wait.and_then(|wait| recorder.learn(label, &wait.with_breaker(is_closed), now));
        let is_late = judged.is_some_and(|judged| judged.is_missed);
        // The duration of the rest of an answer says nothing, except for an event stream, whose head may be sent before
        // the tool runs.
        let is_unanswered = phases.status().is_none() || phases.is_event_stream();
        let is_long = judged.is_some_and(|judged| judged.is_long) && is_unanswered;
        let judgement = judged.map(|judged| (judged.limit, judged.is_missed));
        let Some(breakers) = recorder.breakers(label).filter(|_| breaker.mode != GuardMode::Off && has_answer(call))
        else {
            return judgement;
        };
        let is_of_caller = outcome == Outcome::TimedOut && self.deadline.is_of_caller();
        let result = result(phases, outcome, is_late, is_long).filter(|_| is_late || is_long || !is_of_caller);
        let began = self.deadline.began();
        let changes = match permit {
            Some(permit) => breakers.end(permit, result, &breaker, began, now),
            // It had no permit because a breaker refused it, or because the breaker was not enforced when the call
            // began.
            None if matches!(
                outcome,
                Outcome::BreakerOpen | Outcome::ConcurrencyLimited | Outcome::AuditUnavailable
            ) =>
            {
                return judgement;
            }
            None => breakers.observe(result, &breaker, began, now),
        };
        log(breakers, breaker.mode, changes);
        judgement
    }
}

impl BreakerRefused {
    /// The report of the call.
    #[must_use]
    pub fn report(&self, call: FailedCall<'_>) -> CallReport {
        let BreakerRefused { scope, refused, counts } = *self;
        CallReport::breaker_open(&BreakerRefusal { call, scope, refused, counts })
    }
}

/// What the end of a call shows about its upstream; none if nothing. Once calls of a label have become slow, the
/// deadline may be longer than callers wait. Calls that are given up then show whether the server answers.
fn result(phases: &CallPhases, outcome: Outcome, is_late: bool, is_long: bool) -> Option<CallResult> {
    match outcome {
        Outcome::Ok if phases.is_of_connector() => None,
        Outcome::Ok if phases.is_of_gateway() => Some(CallResult::Failed),
        Outcome::Ok if is_late => Some(CallResult::Late),
        Outcome::Ok => Some(CallResult::Answered),
        Outcome::UpstreamFailed | Outcome::TimedOut => Some(CallResult::Failed),
        // The agent stopped waiting, after it had waited long enough.
        Outcome::AgentGone if is_late || is_long => Some(CallResult::Failed),
        Outcome::AgentStalled if is_late => Some(CallResult::Failed),
        Outcome::UpstreamRefused => Some(CallResult::Unreached),
        _ => None,
    }
}

/// Logs changes of breakers, each once, on the core where it happened.
fn log(of: &LabelBreakers, mode: GuardMode, changes: BreakerChanges) {
    if changes != BreakerChanges::default() {
        log_changes(of, mode, changes);
    }
}

#[cold]
fn log_changes(of: &LabelBreakers, mode: GuardMode, BreakerChanges { upstream, tool }: BreakerChanges) {
    let label = of.label();
    for (change, method, name) in [(upstream, "", ""), (tool, &*label.method, &*label.tool)] {
        let Some(BreakerChange { to, counts, is_again }) = change else { continue };
        let (route, mode) = (&*label.route, mode.name());
        match to {
            // Log once per outage, not each time that a probe confirms it.
            BreakerState::Open { .. } if is_again => {
                tracing::debug!(
                    route,
                    method,
                    tool = name,
                    mode,
                    "circuit breaker opened again: a probe failed or exceeded its deadline"
                );
            }
            BreakerState::Open { remaining } => tracing::warn!(
                route,
                method,
                tool = name,
                mode,
                calls = counts.calls,
                failed = counts.failed,
                late = counts.slow,
                open_ms = remaining.as_millis() as u64,
                "circuit breaker opened"
            ),
            BreakerState::HalfOpen => {
                tracing::debug!(route, method, tool = name, mode, "circuit breaker half open: probes are sent")
            }
            BreakerState::Closed => {
                tracing::info!(route, method, tool = name, mode, "circuit breaker closed")
            }
            // Logged by the operator's request itself.
            BreakerState::Forced(ForcedState::Open | ForcedState::Closed) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::{ConnectorTimes, EdgeTimes, StatusClass};

    #[test]
    fn refusals_by_the_connector_do_not_count_for_the_server() {
        for (status, of_server) in [(200, CallResult::Answered), (429, CallResult::Answered), (503, CallResult::Failed)]
        {
            let edge = EdgeTimes { status: Some(StatusClass::of(status)), ..EdgeTimes::default() };
            let result_of = |times| result(&CallPhases::split(edge, times), Outcome::Ok, false, false);
            assert_eq!(result_of(Some(ConnectorTimes::default())), Some(of_server), "{status}");
            assert_eq!(result_of(None), None, "{status}");
        }
    }
}
