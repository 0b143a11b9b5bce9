//! The calls on one stream of the edge: a single call, or the calls of an inner TLS session.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use crate::base::Time;
use crate::connector::authorize::{self, Settled, UnknownCaller};
use crate::connector::call::UpstreamWork;
use crate::connector::call_context::CallContext;
use crate::connector::call_end::{CallEnd, count, unless_broken};
use crate::connector::call_error::CallError;
use crate::connector::call_request::CallRequest;
use crate::connector::cancel::cancel;
use crate::connector::connector_core::ConnectorCore;
use crate::connector::places::QueueNotes;
use crate::connector::recording::{Noted, TaskEnd, add_call_to_task, guarded, record, record_denied, report_of};
use crate::connector::settings::{ConnectorRoute, FixedAnswer};
use crate::connector::shared::Counters;
use crate::connector::upstreams::CallTerms;
use crate::exchange::{CallFailure, CallReport, HeadReadError, OverloadRefusal, Refusal, check_request};
use crate::latency::{CallerTimeSource, ConnectorStamps, Outcome, Phase, Retries, connector_timing};
use crate::link::CallStream;
use crate::policy::ToolPolicy;
use crate::route::{Hostname, Scheme};
use crate::serve::{
    self, AnswerSize, Http1Request, LabelError, Next, PlaceTerms, Queued, QueuedEnd, Request, RequestLimits, Service,
    needs_place,
};
use crate::wire::http1::Method;
use crate::wire::mcp;

/// How long the edge may take to send the head of a request on a stream that it has opened.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The calls on a stream. When a call of an agent fails, it is answered here; for a call of the edge, the stream is
/// reset.
pub(super) struct StreamCalls<'a> {
    pub(super) context: CallContext<'a>,
    /// The host of an agent's session, the only one that the agent may call.
    pub(super) host: Option<&'a Hostname>,
    pub(super) work: &'a mut UpstreamWork,
    /// Whether a request was received.
    pub(super) has_called: bool,
}

/// How a stream is ended.
pub(super) enum Leave {
    /// Reset it, with this failure for the edge.
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
        // The edge knows that the link drains, and closes the idle sessions itself.
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
        self.work.agents.queue = QueueNotes::default();
        self.work.agents.until = self.until(request).unwrap_or(Time::NEVER);
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
        work.agents.audit = context.begin_audit(request);
        if host.is_some()
            && let (Some(tasks), Some(label)) = (context.core.connector.tasks(), request.label())
        {
            label.digest_arguments(tasks.seed());
        }
        if work.agents.audit.refuses() {
            // Boxed, so that other calls do not pay for its size.
            return Box::pin(self.refuse_unrecorded(request)).await;
        }
        let CallTerms { auth, policy, answer, by } = context.core.upstreams.terms_of(request.head());
        if let Some(answer) = answer {
            // Boxed, so that other calls do not pay for its size.
            return Box::pin(self.answer_fixed(request, answer)).await;
        }
        work.agents.decided_by = by;
        let policy = match authorize::identify(*context, request, auth, policy) {
            Ok(policy) => policy,
            // Boxed, so that other calls do not pay for its size.
            Err(unknown) => match Box::pin(self.settle_caller(request, unknown)).await {
                Ok(policy) => policy,
                Err(next) => return next,
            },
        };
        if let Some(next) = self.guard(request, policy).await {
            return next;
        }
        let StreamCalls { context, work, host, .. } = self;
        let mut end = CallEnd::new(work.agents.began);
        let done = {
            let mut calling = pin!(work.call(context, request, &mut end));
            unless_broken::<R, _>(context.stream.on_link(), calling.as_mut()).await
        };
        request.end_response();
        let done = match done {
            // In a TLS session the end of the stream may be seen first, together with the edge's reason.
            Ok(Err(error)) if R::OWNS_STREAM && error.failure() == CallFailure::Cancelled => {
                context.stream.on_link().broken_for().map_or(done, Err)
            }
            done => done,
        };
        let stopped = match done {
            Ok(result) => result.err().map(CallError::failure),
            Err(failure) => Some(failure),
        };
        // An agent's event stream that was cut has ended in order.
        let was_cut = matches!(stopped, Some(CallFailure::CallerTimeout | CallFailure::Deadline))
            || (stopped.is_none() && host.is_some() && work.agents.guard.deadline.was_cut());
        let is_cancelled = was_cut && end.stamps.is_sent() && cancel(context, request, work);
        work.clear();
        let mut ended = match done {
            Ok(result) => Some(result.map_err(CallError::failure)),
            Err(CallFailure::CallerTimeout) => Some(Err(CallFailure::CallerTimeout)),
            Err(_) => None,
        };
        let has_all = end.stamps.is_standing() || (end.stamps.is_event_stream() && work.agents.answer.is_complete());
        if has_all && matches!(ended, None | Some(Err(CallFailure::Cancelled))) {
            // The event stream lasts as long as the agent wants, or the agent has the answer that it has asked for.
            ended = Some(Ok(()));
        }
        if let (Some(Ok(())), Some(failure)) = (ended, work.agents.sent_failure) {
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
        let noted = Noted { work: &work.agents, is_begun: true, is_cut_by_edge, is_cancelled, report: None };
        record(*context, request, *host, &end, recorded, noted);
        context.record_end(&work.agents.audit, request, &end, recorded, work.agents.retries);
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

    /// Gives a request the answer that the rule for it has.
    async fn answer_fixed(&self, request: &mut impl Request, answer: FixedAnswer) -> Next<Leave> {
        let body = if request.head().method() == Method::Head { "" } else { answer.body };
        let (status, len) = (answer.status, answer.body.len());
        let text = format!(
            "HTTP/1.1 {status} \r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len}\r\n\r\n{body}"
        );
        request.respond(|_, out| out.extend_from_slice(text.as_bytes())).await;
        self.context.stream.finish_message();
        Next::Close
    }

    /// Checks a request by the policy and the guards of its route. If it was answered or given up, returns what to do
    /// with the connection.
    async fn guard<R: CallRequest>(&mut self, request: &mut R, policy: Option<Arc<ToolPolicy>>) -> Option<Next<Leave>> {
        let StreamCalls { context, work, host, .. } = self;
        let guards = |host: &Hostname| {
            let breakers = context.core.connector.breakers();
            context.core.upstreams.route_of(host, |route| {
                let needs_label = route.needs_label() || breakers.is_forced_open(route.name.as_str());
                (needs_label, needs_place(request.head(), &route.concurrency))
            })
        };
        let (needs_label, needs_place) = host.and_then(guards).unwrap_or_default();
        let queue = &mut work.agents.queue;
        queue.is_needed = needs_place;
        queue.is_labelled = govern(*context, request, policy) || needs_label;
        if queue.is_labelled
            && let Err(error) = request.read_label(work.agents.read_ahead_limits(context.core)).await
        {
            // Boxed, so that other calls do not pay for its size.
            return Some(Box::pin(self.answer_unlabelled(request, error)).await);
        }
        // The policy has decided: no token is made for a call that it denies.
        if let Err(unknown) = authorize::exchange(*context, request)
            // Boxed, so that other calls do not pay for its size.
            && let Err(next) = Box::pin(self.settle_caller(request, unknown)).await
        {
            return Some(next);
        }
        let StreamCalls { context, work, host, .. } = self;
        if work.agents.queue.is_labelled
            && let Some(host) = *host
            && let Some(report) = begin_guard(*context, work, request, host)
        {
            // Boxed, so that other calls do not pay for its size.
            return Some(Box::pin(self.answer_uncalled(request, CallFailure::BreakerOpen, Some(report))).await);
        }
        work.agents.began = if R::OWNS_STREAM { context.stream.on_link().received_at() } else { request.began() };
        if let Some(host) = *host
            && enter(*context, request, host, &mut work.agents.queue)
        {
            // Boxed, so that other calls do not pay for its size.
            return Box::pin(self.wait_for_place(request, host)).await;
        }
        None
    }

    /// Continues with a request whose caller is not identified yet. Returns the policy of its route, or what to do with
    /// the connection if it was answered.
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

    /// When the caller of a request has to be answered, if its time is known.
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
        // An inner session carries many calls, so the edge states the time in the head of each.
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
            self.record_uncalled(request, Some(failure), None);
            return Next::Leave(Leave::Reset(failure));
        }
        let report = self.report(request, failure, false);
        self.answer_uncalled(request, failure, report).await
    }

    /// Answers a denied call that could not be written to the audit log.
    async fn answer_unrecorded(&self, request: &mut impl Request) -> Next<Leave> {
        let failure = CallFailure::AuditUnavailable;
        count(self.context.core, Some(Err(failure)));
        if self.host.is_none() {
            return Next::Leave(Leave::Reset(failure));
        }
        self.answer(request, CallError::Failed(failure), &CallEnd::new(request.began()).stamps).await
    }

    /// Waits for a place among the route's calls in flight. If the call was answered or given up, returns what to do
    /// with the connection.
    async fn wait_for_place<R: CallRequest>(&mut self, request: &mut R, host: &Hostname) -> Option<Next<Leave>> {
        let core = self.context.core;
        let full = self.work.agents.queue.take_full()?;
        if !self.work.agents.queue.is_labelled
            && let Err(error) = request.read_label(self.work.agents.read_ahead_limits(core)).await
        {
            return Some(self.answer_unlabelled(request, error).await);
        }
        let (route, terms) = core.upstreams.route_of(host, |route| (route.name.clone(), route.concurrency))?;
        let left = self.work.agents.left(core.core.turn_time());
        let recorder = &core.figures.recorder;
        let asks = PlaceTerms { core: &core.core, recorder, route: route.as_str(), terms: &terms, left };
        let queued = {
            let mut waiting = pin!(full.wait(request, asks));
            unless_broken::<R, _>(self.context.stream.on_link(), waiting.as_mut()).await
        };
        let notes = &mut self.work.agents.queue;
        let end = queued.map(|Queued { waited, end }| {
            notes.waited = waited;
            end
        });
        let overload = match end {
            Ok(QueuedEnd::Enters(place)) => {
                notes.place.set(place);
                return None;
            }
            Ok(QueuedEnd::Refused(overload)) => {
                notes.overload = Some(overload);
                overload
            }
            Ok(QueuedEnd::CallerLeft) | Err(_) => {
                count(core, None);
                self.record_uncalled(request, None, None);
                return Some(Next::Leave(Leave::GivenUp));
            }
        };
        let report = core.upstreams.route_of(host, |route| {
            report_of(self.context, request, route, Phase::Connector, |call| {
                CallReport::overloaded(&OverloadRefusal { call, overload })
            })
        });
        Some(self.answer_uncalled(request, CallFailure::ConcurrencyLimit, report.flatten()).await)
    }

    /// Answers a request whose label is needed and is ambiguous or late.
    async fn answer_unlabelled(&mut self, request: &mut impl Request, error: LabelError) -> Next<Leave> {
        let is_over = self.work.agents.until <= self.context.core.core.turn_time();
        match is_over && matches!(error, LabelError::Refused(Refusal::LateBody)) {
            true => self.answer_late(request).await,
            false => self.refuse_unlabelled(request, error).await,
        }
    }

    /// Answers an agent whose request was late with its label.
    async fn answer_late(&mut self, request: &mut impl Request) -> Next<Leave> {
        let late = CallFailure::CallerTimeoutUnsent;
        self.work.agents.guard.deadline.on_cut_for_caller();
        count(self.context.core, Some(Err(late)));
        if self.host.is_none() {
            return Next::Leave(Leave::Reset(late));
        }
        let report = self.report(request, late, false);
        self.answer_uncalled(request, late, report).await
    }

    /// Answers an agent whose call failed before it was begun.
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
        self.record_uncalled(request, Some(failure), report.as_ref());
        let reported = work.agents.audit.failure_to_report(failure, &core.core).await;
        let report = report.filter(|_| reported == failure);
        let keep = request.fail(reported, report.as_ref(), &timing, !core.is_draining()).await;
        if keep { Next::Keep } else { Next::Close }
    }

    /// Records a call that failed before it was begun; none if its caller has left.
    fn record_uncalled(&self, request: &mut impl Request, failure: Option<CallFailure>, report: Option<&CallReport>) {
        let StreamCalls { context, host, work, .. } = self;
        let (end, ended) = (CallEnd::new(request.began()), failure.map(Err));
        let work = &work.agents;
        let noted = Noted { work, is_begun: false, is_cut_by_edge: false, is_cancelled: false, report };
        record(*context, request, *host, &end, ended, noted);
        context.record_end(&work.audit, request, &end, ended, Retries::default());
    }

    /// The report of a call that failed.
    fn report(&self, request: &mut impl Request, failure: CallFailure, is_sent: bool) -> Option<CallReport> {
        let StreamCalls { context, host, work, .. } = self;
        let may_have_run = failure != CallFailure::CallerTimeoutUnsent;
        let deadline = Some(&work.agents.guard.deadline).filter(|deadline| deadline.was_cut() && may_have_run);
        let tell = |route: &ConnectorRoute| {
            let phase = failure.phase(if is_sent { Phase::Upstream } else { Phase::Connector });
            report_of(*context, request, route, phase, |call| match deadline {
                Some(deadline) if !call.method.is_empty() => deadline.report(call),
                _ => CallReport::of(&call),
            })
        };
        context.core.upstreams.route_of((*host)?, tell)?
    }

    /// Answers an agent whose request has no certain label, although one is needed.
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
                if denied.is_unevaluated() {
                    Counters::add(&core.connector.counters.calls_unevaluated);
                }
                let own = denied.own_answer();
                record_denied(self.context, request, own);
                self.add_denied_to_task(request);
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

    /// Adds an agent's call that the policy of its route denied to its task.
    fn add_denied_to_task(&self, request: &mut impl Request) {
        let Some(host) = self.host else { return };
        let phases = &self.context.phases(&CallEnd::new(request.began()).stamps);
        let end = TaskEnd { answer: AnswerSize::default(), phases, outcome: Outcome::Denied, is_sent: false };
        self.context.core.upstreams.route_of(host, |route| add_call_to_task(self.context, request, route, &end));
    }

    /// Answers an agent whose call failed before a response began.
    async fn answer(&self, request: &mut impl Request, error: CallError, stamps: &ConnectorStamps) -> Next<Leave> {
        let keep = match error {
            CallError::Failed(failure) => {
                let (mut timing, core) = (Vec::new(), self.context.core);
                connector_timing(&stamps.times(&core.core), &mut timing);
                request.learn_id(self.work.agents.left(core.core.turn_time())).await;
                let reported = self.work.agents.audit.failure_to_report(failure, &core.core).await;
                let report = self.report(request, failure, stamps.is_sent()).filter(|_| reported == failure);
                request.fail(reported, report.as_ref(), &timing, !core.is_draining()).await
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

/// How long the caller of a request waits for its answer, and the source of that: the caller, or the route (`usual`).
/// An event stream lasts as long as the caller wants.
fn caller_timeout(
    core: &ConnectorCore,
    request: &impl Request,
    usual: Option<Duration>,
) -> Option<(Duration, CallerTimeSource)> {
    let head = request.head();
    if head.method() != Method::Post || mcp::asks_for_stream(head) {
        return None;
    }
    let timeout = head.caller_timeout().unwrap_or_else(|_| {
        Counters::add(&core.connector.counters.caller_timeouts_malformed);
        None
    });
    let timeout = timeout.map(|waits| (waits, CallerTimeSource::Field));
    timeout.or_else(|| Some((usual?, CallerTimeSource::Setting)))
}

/// Why an agent's request on a session for `host` is refused.
fn refusal(context: CallContext<'_>, request: &impl Request, host: &Hostname) -> Option<Refusal> {
    match check_request(request.head(), &context.core.connector.settings.origins, Scheme::Https) {
        Ok(named) if named == *host => None,
        Ok(_) => Some(Refusal::OtherHost),
        Err(refusal) => Some(refusal),
    }
}

/// Makes the policy of the route decide a request before it is forwarded. Returns whether there is a policy.
fn govern(context: CallContext<'_>, request: &mut impl Request, policy: Option<Arc<ToolPolicy>>) -> bool {
    if let Some(policy) = &policy {
        let unix = || Duration::from_secs(context.core.connector.settings.clock.now().as_secs());
        request.govern(policy, context.agent_address(request.head()), unix);
    }
    policy.is_some()
}

/// Gives an agent's call a place among its route's calls in flight, if it needs one and one is free. Returns whether it
/// has to wait.
fn enter(context: CallContext<'_>, request: &impl Request, host: &Hostname, queue: &mut QueueNotes) -> bool {
    let core = context.core;
    let asked = || {
        core.upstreams.route_of(host, |route| {
            let limit = core.limits.of(&core.connector.limits, &route.name, core.upstreams.version());
            if limit.is_none() {
                Counters::add(&core.connector.counters.calls_unlimited);
            }
            Some(serve::enter(limit?, &core.core, context.agent_address(request.head()), &route.concurrency))
        })
    };
    let entry = queue.is_needed.then(asked).flatten().flatten();
    entry.is_some_and(|entry| queue.on_entry(entry))
}

/// Starts the guard of an agent's call. Returns the report of the call, if a breaker refuses it.
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
        report_of(context, request, route, Phase::Connector, |call| refused.report(call))
    });
    begun.flatten()
}
