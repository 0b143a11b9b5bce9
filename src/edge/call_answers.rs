//! Answers of the edge to calls that did not reach a server, or got no answer from it.

use crate::edge::call_notes::CallNotes;
use crate::edge::call_work::{CallWork, Leave};
use crate::edge::edge_core::EdgeCore;
use crate::edge::recording::{Ending, count_refused, failed_call, keep_refused, record};
use crate::edge::shared::Counters;
use crate::edge::usage::LinkUsage;
use crate::exchange::{CallFailure, CallReport, FailedCall, Refusal, answer_to_body, trace_of};
use crate::latency::{CallPhases, Outcome, server_timing};
use crate::route::Route;
use crate::serve::{LabelError, Next, Request};

/// Answers a request that is not forwarded.
pub(super) async fn refuse(
    core: &EdgeCore,
    request: &mut impl Request,
    notes: &CallNotes,
    refusal: Refusal,
) -> Next<Leave> {
    Counters::add(&core.edge.counters.requests_refused);
    count_refused(core, refusal);
    keep_refused(core, request, notes, refusal);
    request.refuse(refusal).await;
    Next::Close
}

/// Answers a request whose label is needed and cannot be determined.
pub(super) async fn refuse_unlabelled(
    core: &EdgeCore,
    request: &mut impl Request,
    route: &Route,
    work: &CallWork,
    error: LabelError,
) -> Next<Leave> {
    let (outcome, own) = match &error {
        LabelError::Refused(refusal) => (refusal.outcome(), Some(refusal.own_answer())),
        LabelError::Body(error) => (Outcome::BadRequest, Some(answer_to_body(*error))),
        LabelError::Denied(denied) => (Outcome::Denied, Some(denied.own_answer())),
        LabelError::CallerLeft => (Outcome::AgentGone, None),
    };
    let ending = Ending { guard: None, place: None, own, ..work.ending(outcome) };
    record(core, request, route, None, &CallPhases::split(work.stamps.times(&core.core), None), ending);
    if !work.notes.audit.is_settled(&core.core).await {
        return Next::Leave(Leave::Abort);
    }
    match error {
        LabelError::Refused(refusal) => request.refuse(refusal).await,
        LabelError::Body(error) => request.refuse_body(error).await,
        LabelError::Denied(denied) => {
            Counters::add(&core.edge.counters.calls_denied);
            if denied.is_at_ceiling() {
                Counters::add(&core.edge.counters.calls_over_ceiling);
            }
            if denied.is_unevaluated() {
                Counters::add(&core.edge.counters.calls_unevaluated);
            }
            let left = work.guard.deadline.caller_left(core.core.turn_time());
            // Boxed, so that other calls do not pay for its size.
            let keep = Box::pin(request.deny(&denied, left, !core.is_draining())).await;
            return if keep { Next::Keep } else { Next::Close };
        }
        LabelError::CallerLeft => return Next::Leave(Leave::Abort),
    }
    Counters::add(&core.edge.counters.requests_refused);
    Next::Close
}

/// Ends a call whose agent left before it was opened.
pub(super) fn leave_unsent(core: &EdgeCore, request: &mut impl Request, route: &Route, work: &CallWork) -> Next<Leave> {
    let phases = CallPhases::split(work.stamps.times(&core.core), None);
    record(core, request, route, None, &phases, work.ending(Outcome::AgentGone));
    Next::Leave(Leave::Abort)
}

/// Answers a call that got no answer from its upstream.
pub(super) async fn fail(
    core: &EdgeCore,
    request: &mut impl Request,
    route: &Route,
    usage: Option<&LinkUsage>,
    work: &CallWork,
    failure: CallFailure,
) -> Next<Leave> {
    // Without a stream, the deadline has not begun.
    let may_have_run = failure != CallFailure::CallerTimeoutUnsent;
    let cut = usage.map(|_| &work.guard.deadline).filter(|deadline| deadline.was_cut() && may_have_run);
    let report = |call: FailedCall<'_>| match cut {
        Some(cut) if !call.method.is_empty() => cut.report(call),
        _ => CallReport::of(&call),
    };
    fail_with(core, request, route, usage, work, failure, report).await
}

/// Like [`fail`], with a report of the call, made after id and trace were read from its message.
pub(super) async fn fail_with(
    core: &EdgeCore,
    request: &mut impl Request,
    route: &Route,
    usage: Option<&LinkUsage>,
    work: &CallWork,
    failure: CallFailure,
    report: impl FnOnce(FailedCall<'_>) -> CallReport,
) -> Next<Leave> {
    // Boxed, so that other calls do not pay for its size.
    Box::pin(async {
        request.learn_id(work.guard.deadline.caller_left(core.core.turn_time())).await;
        let report = report_of(core, request, route, work, failure, report);
        let phases = CallPhases::split(work.stamps.times(&core.core), None);
        let mut timing = Vec::new();
        server_timing(&phases, &mut timing);
        let own = Some(failure.own_answer(report.as_ref()));
        record(core, request, route, usage, &phases, Ending { own, ..work.ending(failure.outcome()) });
        let reported = work.notes.audit.failure_to_report(failure, &core.core).await;
        let report = report.filter(|_| reported == failure);
        let keep = request.fail(reported, report.as_ref(), &timing, !core.is_draining()).await;
        if keep { Next::Keep } else { Next::Close }
    })
    .await
}

/// The report of a call that failed, with its label as far as it is known.
fn report_of(
    core: &EdgeCore,
    request: &mut impl Request,
    route: &Route,
    work: &CallWork,
    failure: CallFailure,
    report: impl FnOnce(FailedCall<'_>) -> CallReport,
) -> Option<CallReport> {
    let of_body = request.label()?.trace();
    let trace = trace_of(request.head()).or(of_body);
    let call = request.label()?.call();
    Some(report(failed_call(core, route, &work.notes, trace, work.phase_of(failure), call)))
}
