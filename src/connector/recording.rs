//! Records a call that has ended: figures, learned latencies, task, call log.

use crate::base::Time;
use crate::connector::agent_work::AgentWork;
use crate::connector::call_context::CallContext;
use crate::connector::call_end::CallEnd;
use crate::connector::kept_calls::outcome_of;
use crate::connector::settings::ConnectorRoute;
use crate::connector::shared::Counters;
use crate::exchange::{CallFailure, CallReport, FailedCall, requested_host, trace_of};
use crate::latency::{
    CallOrigin, CallPhases, CallRecord, CallStage, CallerTimeSource, Outcome, OwnAnswer, Phase, Retries, SampledCall,
    TraceQueue,
};
use crate::route::Hostname;
use crate::serve::{
    AnswerSize, CallEnded, EndedCall, GuardedCall, NoteCounters, PlacedCall, Request, add_to_task, export_call, leave,
    sample_at_connector, task_of,
};
use crate::wire::mcp::{Call, SESSION_ID};

/// The report of a call that failed, with its label as far as it is known.
pub(super) fn report_of(
    context: CallContext<'_>,
    request: &mut impl Request,
    route: &ConnectorRoute,
    phase: Phase,
    report: impl FnOnce(FailedCall<'_>) -> CallReport,
) -> Option<CallReport> {
    let of_body = request.label()?.trace();
    let trace = trace_of(request.head()).or(of_body);
    let call = request.label()?.call();
    Some(report(context.failed_call(route, trace, phase, call)))
}

/// A call, and the terms of its guard.
pub(super) fn guarded<'a>(route: &'a ConnectorRoute, call: &'a Call) -> GuardedCall<'a> {
    let (deadline, breaker) = (route.deadlines_of(call.tool()), route.breaker_of(call.tool()));
    GuardedCall { call, route: route.name.as_str(), deadline, breaker }
}

/// The facts about a call that has ended.
pub(super) struct Noted<'a> {
    pub(super) work: &'a AgentWork,
    /// Whether it was begun, and not refused or cancelled before that.
    pub(super) is_begun: bool,
    /// Whether the edge cut it and answered.
    pub(super) is_cut_by_edge: bool,
    /// Whether its server was sent a cancel notification.
    pub(super) is_cancelled: bool,
    /// The report for its agent, if it was not begun.
    pub(super) report: Option<&'a CallReport>,
}

/// Records a call that has ended. A call of an agent, which has a `host`, is also counted with its duration.
pub(super) fn record(
    context: CallContext<'_>,
    request: &mut impl Request,
    host: Option<&Hostname>,
    end: &CallEnd,
    ended: Option<Result<(), CallFailure>>,
    noted: Noted<'_>,
) {
    let Noted { work, is_begun, is_cut_by_edge, is_cancelled, report } = noted;
    let AgentWork { guard, until, queue, .. } = work;
    // Without a begun call, these belong to an earlier call.
    let (retries, again) = if is_begun { (work.retries, work.again) } else { (Retries::default(), None) };
    let core = context.core;
    if let Some(label) = request.label() {
        let Counters { texts_changed, texts_flagged, answers_over_ceiling, answers_cut, .. } = &core.connector.counters;
        label.log_answer_note(NoteCounters { texts_changed, texts_flagged, answers_over_ceiling, answers_cut });
    }
    let keeps = core.figures.calls.borrow().is_on();
    let traces = core.connector.settings.traces.as_deref();
    let sampled = traces.and_then(|traces| Some((traces, sample(context, request, traces)?)));
    if host.is_none() && !keeps && sampled.is_none() {
        return;
    }
    let stamps = &end.stamps;
    let phases = context.phases(stamps).queued(queue.waited);
    let (outcome, now) = (outcome_of(ended), core.core.turn_time());
    let of_body = request.label().and_then(|label| label.trace());
    let policy = request.label().and_then(|label| label.policy_mark());
    // Taken in any case, so that it is freed even if the route is gone.
    let place = queue.place.take();
    let kept = (keeps || sampled.is_some())
        .then(|| queue.note(context.kept(request.head()).with_phases(&phases), place.as_ref()));
    let counted = host.and_then(|host| {
        core.upstreams.route_of(host, |route| {
            let answer = if is_begun { work.answer_size } else { AnswerSize::default() };
            add_call_to_task(
                context,
                request,
                route,
                &TaskEnd { answer, phases: &phases, outcome, is_sent: stamps.is_sent() },
            );
            let call = request.label()?.call();
            let mut recorder = core.figures.recorder.borrow_mut();
            let (counters, eras) = (&core.connector.counters, &core.connector.eras);
            if let Some((method, status)) = call.method().zip(stamps.status())
                && eras.note(&route.name, method, status, now)
            {
                Counters::add(&counters.eras_differed);
            }
            let method = call.method().unwrap_or(call.kind().name());
            let tool = call.tool().unwrap_or_default();
            let label = guard.label_of(route.name.as_str(), method, tool, &mut recorder);
            recorder.record(label, &phases, outcome);
            recorder.count_retries(label, retries.made());
            if let Some(place) = place {
                let (status, is_opened) = (stamps.status().unwrap_or_default(), stamps.is_sent());
                let ended = PlacedCall { call, label, phases: &phases, outcome, status, is_opened };
                leave(place, &ended, &recorder, now);
            }
            let ended = CallEnded { label, phases: &phases, outcome, is_opened: is_begun };
            Some((label, guard.end(&guarded(route, call), ended, &mut recorder, now)))
        })?
    });
    let Some(kept) = kept else { return };
    // In a call of the edge, the guard is that of an earlier agent's call.
    let of_agent = Some(guard).filter(|_| host.is_some());
    let in_force = of_agent.filter(|_| is_begun).and_then(|guard| guard.deadline.enforced());
    let in_force = in_force.map(|deadline| (deadline, false));
    let (deadline, missed) = counted.and_then(|(_, judged)| judged).or(in_force).unzip();
    let is_reported = |failure: &CallFailure| *failure != CallFailure::Cancelled && !is_cut_by_edge;
    let failure = ended.and_then(Result::err).filter(is_reported);
    let kept = CallRecord {
        label: counted.map(|(label, _)| label),
        trace: kept.trace.or(of_body),
        stage: CallStage::of(outcome),
        outcome: Some(outcome),
        policy,
        deadline,
        missed: missed.unwrap_or_default(),
        status: stamps.status().unwrap_or_default(),
        again,
        ..kept
    };
    let of_edge = || {
        let left = *until - stamps.began();
        Some((left, CallerTimeSource::Edge)).filter(|_| host.is_none() && *until != Time::NEVER)
    };
    let caller = of_agent.and_then(|guard| guard.deadline.caller());
    let kept = kept.with_retries(retries.made()).with_caller(caller.or_else(of_edge));
    let kept = kept.with_probe(of_agent.is_some_and(|guard| guard.is_probe)).with_cancellation(is_cancelled);
    let kept = kept.with_own(failure.map(|failure| failure.own_answer(report)));
    core.figures.keep(&kept);
    if let Some((traces, sampled)) = sampled {
        let route = route_name(context, request);
        export_call(traces, request, sampled, kept, stamps.points(now), &route);
    }
}

/// Records a call that the policy of its route denied.
pub(super) fn record_denied(context: CallContext<'_>, request: &mut impl Request, own: OwnAnswer) {
    let core = context.core;
    let policy = request.label().and_then(|label| label.policy_mark());
    let kept = CallRecord {
        stage: CallStage::Policy,
        outcome: Some(Outcome::Denied),
        policy,
        ..context.kept(request.head()).with_own(Some(own))
    };
    core.figures.keep(&kept);
    let Some(traces) = core.connector.settings.traces.as_deref() else { return };
    if let Some(sampled) = sample(context, request, traces) {
        let points = CallEnd::new(request.began()).stamps.points(core.core.turn_time());
        let route = route_name(context, request);
        export_call(traces, request, sampled, kept, points, &route);
    }
}

/// The name of the route of a request; empty if its route is gone.
fn route_name(context: CallContext<'_>, request: &impl Request) -> String {
    let host = requested_host(request.head()).ok();
    let name = host.and_then(|host| context.core.upstreams.route_of(&host, |route| route.name.to_string()));
    name.unwrap_or_default()
}

/// Whether the call is sampled. The calls of an inner TLS session share the number of the session, so the edge has no
/// span that only one of them is part of.
fn sample(context: CallContext<'_>, request: &mut impl Request, traces: &TraceQueue) -> Option<SampledCall> {
    let instance = context.stream.on_link().edge_instance().filter(|_| !context.stream.is_sealed());
    let edge = instance.map(|process| CallOrigin { process, number: context.number });
    sample_at_connector(traces, request, edge)
}

/// The end of a call that may belong to a task.
pub(super) struct TaskEnd<'a> {
    pub(super) answer: AnswerSize,
    pub(super) phases: &'a CallPhases,
    pub(super) outcome: Outcome,
    /// Whether it was sent to its server.
    pub(super) is_sent: bool,
}

/// Adds an agent's call to its task, if tasks are counted and it belongs to one.
pub(super) fn add_call_to_task(
    context: CallContext<'_>,
    request: &mut impl Request,
    route: &ConnectorRoute,
    end: &TaskEnd<'_>,
) {
    let Some(tasks) = context.core.connector.tasks() else { return };
    let trace = request.label().and_then(|label| label.trace());
    let session = || request.head().get(SESSION_ID).filter(|id| !id.is_empty()).map(|id| tasks.session_hash(id));
    let Some(task) = task_of(tasks, request.head(), trace, session) else { return };
    let Some(label) = request.label() else { return };
    let arguments = label.arguments_digest();
    let call = label.call();
    let TaskEnd { answer, phases, outcome, is_sent: is_opened } = *end;
    let price = route.price_of(call.tool());
    let ended = EndedCall { call, arguments, answer, phases, outcome, is_opened, price };
    add_to_task(tasks, task, &ended, context.core.core.turn_time());
}
