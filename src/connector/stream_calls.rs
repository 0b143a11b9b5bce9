//! The calls on one stream of the edge: a single call, or the calls of an inner TLS session.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use crate::base::Time;
use crate::connector::authorize::{self, Settled, UnknownCaller};
use crate::connector::call::{AgentWork, CallContext, CallEnd, CallError, UpstreamWork, count, unless_broken};
use crate::connector::call_request::CallRequest;
use crate::connector::cancel::cancel;
use crate::connector::connector_core::ConnectorCore;
use crate::connector::kept_calls::outcome_of;
use crate::connector::settings::ConnectorRoute;
use crate::connector::shared::Counters;
use crate::connector::upstreams::CallTerms;
use crate::exchange::{CallFailure, CallReport, FailedCall, HeadReadError, Refusal, check_request, trace_of};
use crate::latency::{CallRecord, CallStage, CallerTimeSource, ConnectorStamps, Phase, Retries, connector_timing};
use crate::link::CallStream;
use crate::policy::ToolPolicy;
use crate::route::{Hostname, Scheme};
use crate::serve::{CallEnded, GuardedCall, Http1Request, LabelError, Next, Request, RequestLimits, Service};
use crate::wire::http1::Method;
use crate::wire::mcp::{self, Call};

/// How long the edge may take to send the head of a request on a stream that it has opened.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The calls on a stream. Those of agents are answered here when they fail; for those of the edge the stream is reset.
pub(super) struct StreamCalls<'a> {
    pub(super) context: CallContext<'a>,
    /// The host of an agent's session, for which alone it may call.
    pub(super) host: Option<&'a Hostname>,
    pub(super) work: &'a mut UpstreamWork,
    /// Whether a request was received.
    pub(super) has_called: bool,
}

/// How a stream is left.
pub(super) enum Leave {
    /// It is reset, with this failure for the edge.
    Reset(CallFailure),
    /// The edge has given it up.
    GivenUp,
}

impl Service for StreamCalls<'_> {
    type Stream = CallStream;
    type Leave = Leave;

    const OWN_PHASE: Phase = Phase::Connector;

    fn limits(&self) -> RequestLimits {
        let CallContext { core, stream, .. } = self.context;
        let settings = &core.connector.settings;
        let (idle_timeout, header_timeout) = match stream.is_sealed() {
            true => (settings.idle_timeout, settings.header_timeout),
            false => (HEAD_TIMEOUT, HEAD_TIMEOUT),
        };
        RequestLimits { first_timeout: idle_timeout, idle_timeout, header_timeout }
    }

    async fn idle_ends(&self) {
        let CallContext { core, stream, .. } = self.context;
        if !stream.is_sealed() {
            pending::<()>().await;
        }
        let _idle = core.figures.count_idle();
        // The edge sees for itself that the link is to end, and closes the sessions that it does not use.
        if !self.context.is_agents() {
            pending::<()>().await;
        }
        stream.on_link().carrier_draining().await;
    }

    fn on_head_refused(&mut self, error: &HeadReadError) -> Option<Leave> {
        let CallContext { core, stream, .. } = self.context;
        let failure = match error {
            HeadReadError::Timeout => CallFailure::Deadline,
            HeadReadError::Head(_) | HeadReadError::Stream(_) => CallFailure::RequestRefused,
        };
        if stream.is_sealed() {
            Counters::add(&core.connector.counters.requests_refused);
        } else {
            let is_gone = matches!(error, HeadReadError::Stream(_));
            count(core, if is_gone { None } else { Some(Err(failure)) });
        }
        self.context.keep_unreadable(error.own_answer());
        let can_tell = self.context.is_agents() && !matches!(error, HeadReadError::Stream(_));
        (!can_tell).then_some(Leave::Reset(failure))
    }

    fn call(&mut self, request: &mut Http1Request<'_, CallStream>) -> impl Future<Output = Next<Leave>> {
        self.carry(request)
    }
}

impl StreamCalls<'_> {
    /// Serves a request whose head was read.
    pub(super) async fn carry<R: CallRequest>(&mut self, request: &mut R) -> Next<Leave> {
        self.has_called = true;
        self.work.agents.until = self.until(request).unwrap_or(Time::NEVER);
        self.work.agents.audit = self.context.begin_audit(request);
        let StreamCalls { context, work, host, .. } = self;
        if let Some(refusal) = host.and_then(|host| refusal(*context, request, host)) {
            Counters::add(&context.core.connector.counters.requests_refused);
            context.keep_refused(request.head(), refusal);
            request.refuse(refusal).await;
            return Next::Close;
        }
        if host.is_some() && request.is_preflight() {
            let keep = request.answer_preflight(!context.core.is_draining()).await;
            return if keep { Next::Keep } else { Next::Close };
        }
        if work.agents.audit.refuses() {
            // In a box, so that other calls do not have its size.
            return Box::pin(self.refuse_unrecorded(request)).await;
        }
        let CallTerms { auth, policy, by } = context.core.upstreams.terms_of(request.head());
        work.agents.decided_by = by;
        let policy = match authorize::identify(*context, request, auth, policy) {
            Ok(policy) => policy,
            // In a box, so that other calls do not have its size.
            Err(unknown) => match Box::pin(self.settle_caller(request, unknown)).await {
                Ok(policy) => policy,
                Err(next) => return next,
            },
        };
        let StreamCalls { context, work, host, .. } = self;
        let is_enforced = |host: &Hostname| {
            let breakers = context.core.connector.breakers();
            let is_enforced =
                |route: &ConnectorRoute| route.needs_label() || breakers.is_forced_open(route.name.as_str());
            context.core.upstreams.route_of(host, is_enforced)
        };
        if (govern(*context, request, policy) || host.and_then(is_enforced).unwrap_or_default())
            && let Err(error) = request.read_label(work.agents.read_ahead_limits(context.core)).await
        {
            let is_over = work.agents.until <= context.core.core.turn_time();
            if is_over && matches!(error, LabelError::Refused(Refusal::LateBody)) {
                // In a box, so that other calls do not have its size.
                return Box::pin(self.answer_late(request)).await;
            }
            // In a box, so that other calls do not have its size.
            return Box::pin(self.refuse_unlabelled(request, error)).await;
        }
        if let Some(host) = *host
            && let Some(report) = begin_guard(*context, work, request, host)
        {
            // In a box, so that other calls do not have its size.
            return Box::pin(self.answer_uncalled(request, CallFailure::BreakerOpen, Some(report))).await;
        }
        let began = if R::OWNS_STREAM { context.stream.on_link().received_at() } else { request.began() };
        let mut end = CallEnd::new(began);
        let done = {
            let mut calling = pin!(work.call(context, request, &mut end));
            unless_broken::<R, _>(context.stream.on_link(), calling.as_mut()).await
        };
        request.end_response();
        let done = match done {
            // Within a TLS session the end of the stream may be seen first, and what the edge has said of it then.
            Ok(Err(error)) if R::OWNS_STREAM && error.failure() == CallFailure::Cancelled => {
                context.stream.on_link().broken_for().map_or(done, Err)
            }
            done => done,
        };
        let stopped = match done {
            Ok(result) => result.err().map(CallError::failure),
            Err(failure) => Some(failure),
        };
        // An agent's event stream that was cut has ended as it should.
        let was_cut = matches!(stopped, Some(CallFailure::CallerTimeout | CallFailure::Deadline))
            || (stopped.is_none() && host.is_some() && work.agents.guard.deadline.was_cut());
        let is_cancelled = was_cut && end.stamps.is_sent() && cancel(context, request, work);
        work.clear();
        let mut ended = match done {
            Ok(result) => Some(result.map_err(CallError::failure)),
            Err(CallFailure::CallerTimeout) => Some(Err(CallFailure::CallerTimeout)),
            Err(_) => None,
        };
        if end.stamps.is_standing() && matches!(ended, None | Some(Err(CallFailure::Cancelled))) {
            // It lasts as long as the agent wants.
            ended = Some(Ok(()));
        }
        if let (Some(Ok(())), Some(failure)) = (ended, work.agents.told_failure) {
            ended = Some(Err(failure));
        }
        count(context.core, ended);
        if ended == Some(Err(CallFailure::CallerTimeoutUnsent)) {
            work.agents.guard.deadline.on_cut_for_caller();
        }
        if host.is_some() && ended == Some(Ok(())) && work.agents.guard.deadline.was_cut() {
            let is_of_caller = work.agents.guard.deadline.is_of_caller();
            ended = Some(Err(if is_of_caller { CallFailure::CallerTimeout } else { CallFailure::Deadline }));
        }
        let is_cut_by_edge = done == Err(CallFailure::Deadline);
        let recorded = if is_cut_by_edge { Some(Err(CallFailure::Deadline)) } else { ended };
        let noted = Noted { work: &work.agents, is_cut_by_edge, is_cancelled };
        record(*context, request, *host, &end, recorded, noted);
        context.record_end(&work.agents.audit, request, &end, ended, work.agents.retries);
        let keeps = end.keeps && request.is_received() && context.stream.is_sealed();
        let error = match done {
            Err(_) => return Next::Leave(Leave::GivenUp),
            Ok(Ok(())) => return if keeps { Next::Keep } else { Next::Close },
            Ok(Err(error)) => error,
        };
        if host.is_none() || end.has_begun || error.failure() == CallFailure::Cancelled {
            return Next::Leave(Leave::Reset(error.failure()));
        }
        self.answer(request, error, &end.stamps).await
    }

    /// Goes on with a request whose caller is not known yet. Returns the policy of its route, or what follows it if it was answered.
    async fn settle_caller<R: CallRequest>(
        &self,
        request: &mut R,
        unknown: UnknownCaller,
    ) -> Result<Option<Arc<ToolPolicy>>, Next<Leave>> {
        let settled = {
            let mut settling = pin!(authorize::settle(self.context, request, unknown, self.work.agents.until));
            unless_broken::<R, _>(self.context.stream.on_link(), settling.as_mut()).await
        };
        match settled {
            Err(_) => {
                count(self.context.core, None);
                Err(Next::Leave(Leave::GivenUp))
            }
            Ok(Settled::Known(policy)) => Ok(policy),
            Ok(Settled::Answered(keep)) => Err(if keep { Next::Keep } else { Next::Close }),
            Ok(Settled::Denied(error)) => Err(self.refuse_unlabelled(request, error).await),
        }
    }

    /// When the caller of a request has to be answered, if it is known how long it waits.
    fn until(&mut self, request: &mut impl Request) -> Option<Time> {
        let StreamCalls { context, work, host, .. } = self;
        let CallContext { core, stream, .. } = *context;
        if let Some(host) = host {
            let guard = &mut work.agents.guard;
            let usual = core.upstreams.route_of(host, |route| {
                guard.begin(&route.deadlines);
                route.client_timeout
            })?;
            let (waits, source) = caller_timeout(core, request, usual)?;
            work.agents.guard.deadline.bound_by_caller(request.began(), waits, source);
            return Some(work.agents.guard.deadline.answer_by());
        }
        // An inner session carries many calls, so that the edge says it in the head of each.
        match stream.is_sealed() {
            true => request.head().time_left().map(|left| request.began() + left),
            false => stream.on_link().until(),
        }
    }

    /// Answers a call that cannot be written to the audit log.
    async fn refuse_unrecorded(&self, request: &mut impl Request) -> Next<Leave> {
        let failure = CallFailure::AuditUnavailable;
        count(self.context.core, Some(Err(failure)));
        if self.host.is_none() {
            self.record_uncalled(request, failure);
            return Next::Leave(Leave::Reset(failure));
        }
        let report = self.report(request, failure, false);
        self.answer_uncalled(request, failure, report).await
    }

    /// Answers a call that was denied, which could not be written to the audit log.
    async fn answer_unrecorded(&self, request: &mut impl Request) -> Next<Leave> {
        let failure = CallFailure::AuditUnavailable;
        count(self.context.core, Some(Err(failure)));
        if self.host.is_none() {
            return Next::Leave(Leave::Reset(failure));
        }
        self.answer(request, CallError::Failed(failure), &CallEnd::new(request.began()).stamps).await
    }

    /// Answers an agent that has not said in its time what it calls.
    async fn answer_late(&self, request: &mut impl Request) -> Next<Leave> {
        let late = CallFailure::CallerTimeoutUnsent;
        count(self.context.core, Some(Err(late)));
        if self.host.is_none() {
            return Next::Leave(Leave::Reset(late));
        }
        let report = self.report(request, late, false);
        self.answer_uncalled(request, late, report).await
    }

    /// Answers an agent whose call was not begun, and failed so.
    async fn answer_uncalled(
        &self,
        request: &mut impl Request,
        failure: CallFailure,
        report: Option<CallReport>,
    ) -> Next<Leave> {
        let StreamCalls { context, work, .. } = self;
        let core = context.core;
        let mut timing = Vec::new();
        connector_timing(&CallEnd::new(request.began()).stamps.times(&core.core), &mut timing);
        request.learn_id(work.agents.left(core.core.turn_time())).await;
        self.record_uncalled(request, failure);
        let told = work.agents.audit.told(failure, &core.core).await;
        let report = report.filter(|_| told == failure);
        let keep = request.fail(told, report.as_ref(), &timing, !core.is_draining()).await;
        if keep { Next::Keep } else { Next::Close }
    }

    /// Keeps a call that was not begun, and failed so.
    fn record_uncalled(&self, request: &mut impl Request, failure: CallFailure) {
        let StreamCalls { context, host, work, .. } = self;
        let (end, ended) = (CallEnd::new(request.began()), Some(Err(failure)));
        let noted = Noted { work: &AgentWork::default(), is_cut_by_edge: false, is_cancelled: false };
        record(*context, request, *host, &end, ended, noted);
        context.record_end(&work.agents.audit, request, &end, ended, Retries::default());
    }

    /// What is told of a call that failed.
    fn report(&self, request: &mut impl Request, failure: CallFailure, is_sent: bool) -> Option<CallReport> {
        let StreamCalls { context, host, work, .. } = self;
        let may_have_run = failure != CallFailure::CallerTimeoutUnsent;
        let deadline = Some(&work.agents.guard.deadline).filter(|deadline| deadline.was_cut() && may_have_run);
        let tell = |route: &ConnectorRoute| {
            let phase = failure.phase(if is_sent { Phase::Upstream } else { Phase::Connector });
            told_of(*context, request, route, phase, |call| match deadline {
                Some(deadline) if !call.method.is_empty() => deadline.report(call),
                _ => CallReport::of(&call),
            })
        };
        context.core.upstreams.route_of((*host)?, tell)?
    }

    /// Answers an agent whose request does not say for certain what it calls, where that is needed.
    async fn refuse_unlabelled(&self, request: &mut impl Request, error: LabelError) -> Next<Leave> {
        match error {
            LabelError::Refused(refusal) => request.refuse(refusal).await,
            LabelError::Body(error) => request.refuse_body(error).await,
            LabelError::Denied(denied) => {
                let core = self.context.core;
                Counters::add(&core.connector.counters.calls_denied);
                if denied.is_at_ceiling() {
                    Counters::add(&core.connector.counters.calls_over_ceiling);
                }
                let own = denied.own_answer();
                let policy = request.label().and_then(|label| label.policy_mark());
                self.context.keep_denied(request.head(), own, policy);
                self.context.record_denied(&self.work.agents.audit, request, own);
                if !self.work.agents.audit.is_settled(&core.core).await {
                    return self.answer_unrecorded(request).await;
                }
                let may_keep = self.context.stream.is_sealed() && !core.is_draining();
                let keep = request.deny(&denied, self.work.agents.left(core.core.turn_time()), may_keep).await;
                self.context.stream.finish_message();
                return if keep { Next::Keep } else { Next::Close };
            }
            LabelError::CallerLeft => return Next::Leave(Leave::GivenUp),
        }
        self.context.stream.finish_message();
        Counters::add(&self.context.core.connector.counters.requests_refused);
        Next::Close
    }

    /// Answers an agent whose call failed before a response began.
    async fn answer(&self, request: &mut impl Request, error: CallError, stamps: &ConnectorStamps) -> Next<Leave> {
        let keep = match error {
            CallError::Failed(failure) => {
                let (mut timing, core) = (Vec::new(), self.context.core);
                connector_timing(&stamps.times(&core.core), &mut timing);
                request.learn_id(self.work.agents.left(core.core.turn_time())).await;
                let told = self.work.agents.audit.told(failure, &core.core).await;
                let report = self.report(request, failure, stamps.is_sent()).filter(|_| told == failure);
                request.fail(told, report.as_ref(), &timing, !core.is_draining()).await
            }
            CallError::BadBody(_) if !self.work.agents.audit.is_settled(&self.context.core.core).await => false,
            CallError::BadBody(error) => {
                request.refuse_body(error).await;
                false
            }
        };
        if keep { Next::Keep } else { Next::Close }
    }
}

/// How long the caller of a request waits for its answer, and who says so: the caller, or the route, where callers `usual`ly wait so
/// long. A stream of events lasts as long as the caller wants.
fn caller_timeout(
    core: &ConnectorCore,
    request: &impl Request,
    usual: Option<Duration>,
) -> Option<(Duration, CallerTimeSource)> {
    let head = request.head();
    if head.method() != Method::Post || mcp::asks_for_stream(head) {
        return None;
    }
    let said = head.caller_timeout().unwrap_or_else(|_| {
        Counters::add(&core.connector.counters.caller_timeouts_malformed);
        None
    });
    let said = said.map(|waits| (waits, CallerTimeSource::Field));
    said.or_else(|| Some((usual?, CallerTimeSource::Setting)))
}

/// Why an agent's request on a session for `host` is not passed on.
fn refusal(context: CallContext<'_>, request: &impl Request, host: &Hostname) -> Option<Refusal> {
    match check_request(request.head(), &context.core.connector.settings.origins, Scheme::Https) {
        Ok(named) if named == *host => None,
        Ok(_) => Some(Refusal::OtherHost),
        Err(refusal) => Some(refusal),
    }
}

/// Has a request decided by the policy of its route before it is passed on. Returns whether there is one.
fn govern(context: CallContext<'_>, request: &mut impl Request, policy: Option<Arc<ToolPolicy>>) -> bool {
    if let Some(policy) = &policy {
        let unix = || Duration::from_secs(context.core.connector.settings.clock.now().as_secs());
        request.govern(policy, context.agent_address(request.head()), unix);
    }
    policy.is_some()
}

/// Starts the guard of an agent's call. Returns the report of the call if a breaker refuses it.
fn begin_guard(
    context: CallContext<'_>,
    work: &mut UpstreamWork,
    request: &mut impl Request,
    host: &Hostname,
) -> Option<CallReport> {
    let core = context.core;
    let guard = &mut work.agents.guard;
    let begun = core.upstreams.route_of(host, |route| {
        let call = request.label()?.call();
        let mut recorder = core.figures.recorder.borrow_mut();
        let begun = guard.begin_labelled(&guarded(route, call), &mut recorder, core.core.turn_time());
        drop(recorder);
        let refused = begun.err()?;
        told_of(context, request, route, Phase::Connector, |call| refused.report(call))
    });
    begun.flatten()
}

/// What is told of a call that failed, by its label as far as that is known.
fn told_of(
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

/// A call, and the terms of what guards it.
fn guarded<'a>(route: &'a ConnectorRoute, call: &'a Call) -> GuardedCall<'a> {
    let (deadline, breaker) = (route.deadlines_of(call.tool()), route.breaker_of(call.tool()));
    GuardedCall { call, route: route.name.as_str(), deadline, breaker }
}

/// What is known of a call that has ended.
struct Noted<'a> {
    work: &'a AgentWork,
    /// Whether the edge cut it, and answered.
    is_cut_by_edge: bool,
    /// Whether its server was sent a message that it is cancelled.
    is_cancelled: bool,
}

/// Keeps a call that has ended. One of an agent, which is for `host`, is counted, and how long it took recorded.
fn record(
    context: CallContext<'_>,
    request: &mut impl Request,
    host: Option<&Hostname>,
    end: &CallEnd,
    ended: Option<Result<(), CallFailure>>,
    noted: Noted<'_>,
) {
    let AgentWork { guard, retries, again, until, .. } = noted.work;
    let core = context.core;
    let keeps = core.figures.calls.borrow().is_on();
    if host.is_none() && !keeps {
        return;
    }
    let stamps = &end.stamps;
    let phases = context.phases(stamps);
    let (outcome, now) = (outcome_of(ended), core.core.turn_time());
    let of_body = request.label().and_then(|label| label.trace());
    let policy = request.label().and_then(|label| label.policy_mark());
    let kept = keeps.then(|| context.kept(request.head()).with_phases(&phases));
    let counted = host.and_then(|host| {
        let call = request.label()?.call();
        let mut recorder = core.figures.recorder.borrow_mut();
        core.upstreams.route_of(host, |route| {
            let (counters, eras) = (&core.connector.counters, &core.connector.eras);
            if let Some((method, status)) = call.method().zip(stamps.status())
                && eras.note(&route.name, method, status, now)
            {
                Counters::add(&counters.eras_differed);
            }
            let method = call.method().unwrap_or(call.kind().name());
            let label = recorder.label(route.name.as_str(), method, call.tool().unwrap_or_default());
            recorder.record(label, &phases, outcome);
            recorder.count_retries(label, retries.made());
            let ended = CallEnded { label, phases: &phases, outcome, is_opened: true };
            (label, guard.end(&guarded(route, call), ended, &mut recorder, now))
        })
    });
    let Some(kept) = kept else { return };
    let in_force = guard.deadline.enforced().filter(|_| host.is_some()).map(|deadline| (deadline, false));
    let (deadline, missed) = counted.and_then(|(_, judged)| judged).or(in_force).unzip();
    let is_told = |failure: &CallFailure| *failure != CallFailure::Cancelled && !noted.is_cut_by_edge;
    let failure = ended.and_then(Result::err).filter(is_told);
    let kept = CallRecord {
        label: counted.map(|(label, _)| label),
        trace: kept.trace.or(of_body),
        stage: CallStage::of(outcome),
        outcome: Some(outcome),
        policy,
        deadline,
        missed: missed.unwrap_or_default(),
        status: stamps.status().unwrap_or_default(),
        again: *again,
        ..kept
    };
    let of_edge = || {
        let left = *until - stamps.began();
        Some((left, CallerTimeSource::Edge)).filter(|_| host.is_none() && *until != Time::NEVER)
    };
    let kept = kept.with_retries(retries.made()).with_caller(guard.deadline.caller().or_else(of_edge));
    let kept = kept.with_probe(guard.is_probe).with_cancellation(noted.is_cancelled);
    core.figures.keep(&kept.with_own(failure.map(|failure| failure.own_answer(None))));
}
