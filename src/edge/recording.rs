//! Records a call that has ended: figures, usage, learned latencies, log lines.

use std::cell::Cell;
use std::num::NonZeroU64;

use crate::edge::audit;
use crate::edge::call_notes::{CallNotes, HedgeNote};
use crate::edge::edge_core::EdgeCore;
use crate::edge::open::Opened;
use crate::edge::shared::Counters;
use crate::edge::usage::LinkUsage;
use crate::exchange::{FailedCall, Refusal};
use crate::latency::{
    CallOrigin, CallPhases, CallRecord, CallStage, EdgeStamps, EdgeTimes, OTHER, Outcome, OwnAnswer, Phase,
    SlowVerdict, TraceId, server_timing,
};
use crate::link::CarrierStream;
use crate::route::Route;
use crate::serve::{
    CallDeadline, CallEnded, CallGuard, CallPlace, EndedCall, GuardedCall, NoteCounters, PlacedCall, Request,
    SessionKey, add_to_task, export_call, leave, sample_at_edge, task_of,
};
use crate::wire::mcp::{self, Call};

/// How a call has ended.
pub(super) struct Ending<'a> {
    pub(super) notes: &'a CallNotes,
    /// The guard of the call; none if the request did not become a call.
    pub(super) guard: Option<&'a CallGuard>,
    /// The call's place among those in flight, if it has one.
    pub(super) place: Option<&'a Cell<Option<CallPlace>>>,
    pub(super) stamps: &'a EdgeStamps,
    /// The stream that it went over, if it was opened.
    pub(super) stream: Option<&'a CarrierStream>,
    /// The answer of the edge itself, if any.
    pub(super) own: Option<OwnAnswer>,
    pub(super) outcome: Outcome,
}

/// Counts a call that went over a link and has ended.
pub(super) fn finish(
    core: &EdgeCore,
    request: &mut impl Request,
    route: &Route,
    opened: &Opened,
    times: EdgeTimes,
    ending: Ending<'_>,
) {
    let phases = CallPhases::split(times, opened.stream.on_link().times());
    if ending.outcome == Outcome::Ok && !phases.is_of_gateway() {
        core.figures.on_good_call(core.core.turn_time());
    }
    let ending = Ending { stream: Some(opened.stream.on_link()), ..ending };
    record(core, request, route, Some(&opened.usage), &phases, ending);
}

/// Counts a call that has ended, in `usage` too if it went over a link.
pub(super) fn record(
    core: &EdgeCore,
    request: &mut impl Request,
    route: &Route,
    usage: Option<&LinkUsage>,
    phases: &CallPhases,
    ending: Ending<'_>,
) {
    let Ending { notes, guard, place, stamps, stream, own, outcome } = ending;
    audit::on_end(core, request, route, usage, phases, (notes, own, outcome));
    let now = core.core.turn_time();
    let place = place.and_then(Cell::take);
    let traces = core.edge.settings.traces.as_deref();
    let origin = CallOrigin { process: core.edge.instance, number: notes.number };
    let sampled = traces.and_then(|traces| Some((traces, sample_at_edge(traces, request, origin)?)));
    let kept = (core.figures.keeps_calls() || sampled.is_some()).then(|| {
        let kept = notes.record(request.head(), now).with_caller(guard.and_then(|guard| guard.deadline.caller()));
        let kept = kept.with_probe(guard.is_some_and(|guard| guard.is_probe));
        match place.as_ref().and_then(CallPlace::taken) {
            Some((in_flight, limit)) => kept.with_place(in_flight, limit, false),
            None => kept,
        }
    });
    let trace = request.label().and_then(|label| label.trace());
    let session =
        || notes.session.or_else(|| core.bonds.session_of(request.head(), &route.tunnel)).map(|SessionKey(key)| key);
    let task = core.edge.tasks().and_then(|tasks| task_of(tasks, request.head(), trace, session));
    let Some(label) = request.label() else { return };
    let Counters { texts_changed, texts_flagged, answers_over_ceiling, answers_cut, .. } = &core.edge.counters;
    label.log_answer_note(NoteCounters { texts_changed, texts_flagged, answers_over_ceiling, answers_cut });
    let (arguments, policy) = (label.arguments_digest(), label.policy_mark());
    let call = label.call();
    let method = call.method().unwrap_or(call.kind().name());
    let tool = call.tool().unwrap_or_default();
    let mut recorder = core.figures.recorder.borrow_mut();
    let label = match guard {
        Some(guard) => guard.label_of(route.name.as_str(), method, tool, &mut recorder),
        None => recorder.label(route.name.as_str(), method, tool),
    };
    recorder.record(label, phases, outcome);
    if notes.retries > 0 {
        recorder.count_retries(label, notes.retries);
    }
    if let Some(usage) = usage {
        usage.count(label, now);
    }
    if let Some(HedgeNote { won, loser, .. }) = &notes.hedged {
        loser.count(label, now);
        recorder.count_hedge(label, *won);
        Counters::add(&core.edge.counters.hedges);
        if *won {
            Counters::add(&core.edge.counters.hedges_won);
        }
    }
    if let Some(place) = place {
        let (status, is_opened) = (notes.status, usage.is_some());
        let ended = PlacedCall { call, label, phases, outcome, status, is_opened };
        leave(place, &ended, &recorder, now);
    }
    if let Some((tasks, task)) = core.edge.tasks().zip(task) {
        let (answer, is_opened) = (notes.answer, usage.is_some());
        let price = call.tool().map_or(0, |tool| route.own.price(tool));
        let ended = EndedCall { call, arguments, answer, phases, outcome, is_opened, price };
        add_to_task(tasks, task, &ended, now);
    }
    let judged = guard.and_then(|guard| {
        let ended = CallEnded { label, phases, outcome, is_opened: usage.is_some() };
        guard.end(&guarded(core, route, call), ended, &mut recorder, now)
    });
    // An event stream is meant to last, so its duration says nothing.
    let lasts = call.kind() == mcp::CallKind::Stream || method == mcp::LISTEN;
    let verdict = if lasts {
        SlowVerdict::Quick
    } else {
        let usual = || {
            let terms = route.own.terms(&core.edge.settings.deadlines, call.tool());
            recorder.deadline(label, &terms, now).usual_max()
        };
        core.figures.slow_calls.borrow_mut().judge(now, phases.took(), usual)
    };
    if let SlowVerdict::Log { left_out } = verdict {
        let mut split = Vec::new();
        server_timing(phases, &mut split);
        let split = String::from_utf8_lossy(&split);
        // To the microsecond, because smaller parts are noise.
        let took_ms = (phases.took().as_secs_f64() * 1e6).round() / 1e3;
        tracing::warn!(
            route = route.name.as_str(),
            method,
            tool,
            call = format_args!("{:x}", notes.number),
            outcome = outcome.name(),
            took_ms,
            %split,
            left_out,
            "slow call"
        );
    }
    if let Some(kept) = kept {
        let deadline = guard.map(|guard| &guard.deadline).filter(|_| usage.is_some());
        let in_force = deadline.and_then(CallDeadline::enforced).map(|deadline| (deadline, false));
        let (deadline, missed) = judged.or(in_force).unzip();
        let kept = CallRecord {
            label: Some(label),
            trace: kept.trace.or(trace),
            connector: usage.and_then(|usage| NonZeroU64::new(usage.connector())),
            stage: CallStage::of(outcome),
            outcome: Some(outcome),
            deadline,
            missed: missed.unwrap_or_default(),
            slow: verdict != SlowVerdict::Quick,
            policy,
            ..kept.with_own(own).with_phases(phases)
        };
        core.figures.calls.borrow_mut().record(&kept);
        if let Some((traces, sampled)) = sampled {
            let points = stamps.points(stream.map(CarrierStream::received_at), now);
            export_call(traces, request, sampled, kept, points, route.name.as_str());
        }
    }
}

/// A call, and the terms of its guard.
pub(super) fn guarded<'a>(core: &EdgeCore, route: &'a Route, call: &'a Call) -> GuardedCall<'a> {
    let settings = &core.edge.settings;
    GuardedCall {
        call,
        route: route.name.as_str(),
        deadline: route.own.terms(&settings.deadlines, call.tool()),
        breaker: route.own.breaker_terms(&settings.breaker, call.tool()),
    }
}

/// The failed call and its phase, for the report to its agent.
pub(super) fn failed_call<'a>(
    core: &EdgeCore,
    route: &'a Route,
    notes: &CallNotes,
    trace: Option<TraceId>,
    phase: Phase,
    call: &'a Call,
) -> FailedCall<'a> {
    let (method, tool) = (call.method().unwrap_or_default(), call.tool());
    let mut recorder = core.figures.recorder.borrow_mut();
    let usual = recorder.usual(route.name.as_str(), method, tool.unwrap_or_default(), core.core.turn_time());
    FailedCall {
        tunnel: route.tunnel.as_str(),
        route: route.name.as_str(),
        method,
        tool,
        number: notes.number,
        trace,
        phase,
        usual,
    }
}

/// Logs that a server refused a request like a server of another MCP era, if the request opens a conversation.
pub(super) fn note_era(core: &EdgeCore, request: &mut impl Request, route: &Route, status: u16) {
    let Some(method) = request.label().and_then(|label| label.call().method()) else { return };
    if core.edge.eras.note(&route.name, method, status, core.core.turn_time()) {
        Counters::add(&core.edge.counters.eras_differed);
    }
}

/// Adds a request to the call log that was refused before it became a call.
pub(super) fn keep_refused(core: &EdgeCore, request: &impl Request, notes: &CallNotes, refusal: Refusal) {
    let record = notes.record(request.head(), core.core.turn_time()).with_own(Some(refusal.own_answer()));
    let (stage, outcome) = (refusal.stage(), Some(refusal.outcome()));
    core.figures.calls.borrow_mut().record(&CallRecord { stage, outcome, ..record });
}

/// Counts a refused request without a route.
pub(super) fn count_refused(core: &EdgeCore, refusal: Refusal) {
    let mut recorder = core.figures.recorder.borrow_mut();
    let label = recorder.label(OTHER, OTHER, "");
    recorder.record(label, &CallPhases::default(), refusal.outcome());
}
