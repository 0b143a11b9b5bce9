//! One call at the connector: the request is sent to an upstream and the response to the edge.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use memchr::memmem;

use crate::base::{Budget, CallFailure, Clock, Time, Traffic};
use crate::connector::call_request::CallRequest;
use crate::connector::cancel::may_be_cancelled;
use crate::connector::checkout::{Held, checkout};
use crate::connector::connector_core::ConnectorCore;
use crate::connector::identity::Addresses;
use crate::connector::places::QueueNotes;
use crate::connector::shared::Counters;
use crate::connector::upstream_stream::UpstreamStream;
use crate::connector::upstreams::{DecidedBy, Served};
use crate::engine::{Core, StreamError, Timer};
use crate::exchange::{
    AnsweringStream, CallReport, CalledAddress, ExchangeState, TimeoutStream, forwarded, forwarded_peer,
    requested_host, trace_of,
};
use crate::identity::{CallerCertificate, ShownCertificates};
use crate::latency::{ConnectorStamps, NoRetry, Phase, Reached, RecordedTime, Retries, SentAgain, connector_timing};
use crate::link::{CallStream, CarrierStream};
use crate::policy::SafeRequests;
use crate::route::Scheme;
use crate::serve::{
    AnswerSize, Answered, AuditLog, AuditReceipt, CallAudit, CallGuard, CallLabel, CallerLimits, Listing, NextHop,
    NextHopWork, ReadAheadLimits, RelayError, RelayHooks, Relayed, Replay, ResponseExtras, relay,
};
use crate::upstream::{Checkout, UpstreamConnection};
use crate::wire::http1::{BodyError, Method, PolicyEdit, RequestEdits, RequestHead, ResponseHead, TimeLeftEdit};
use crate::wire::jsonrpc::Peek;
use crate::wire::{AnswerStream, MethodScan};

/// When the caller's time is over after a response began, the edge ends the response, because it can end an event
/// stream between two events. The connector cuts it if the edge has not done so within this time.
const EDGE_CUTS_WITHIN: Duration = Duration::from_secs(1);
/// How much earlier than the edge the connector fails an unsent call, in addition to the time on the link: the edge
/// does not know that nothing was sent.
const UNSENT_REPORT_MARGIN: Duration = Duration::from_millis(10);

/// The end of the method name in a `tools/list` request, however its slash is escaped.
const LIST: &[u8] = b"list\"";

/// The caller that the upstream is told about.
#[derive(Clone, Copy)]
pub(super) enum Caller<'a> {
    /// The edge, which has described the agent in the head, with its certificate in a resealed session.
    Edge(Option<&'a EdgeCertificate>),
    /// An agent whose TLS ends in this connector.
    Agent(&'a SessionAgent),
}

/// The agent of a TLS session that ends in this connector.
pub(super) struct SessionAgent {
    /// Its address, as sent by the edge.
    pub(super) address: String,
    /// Its client certificate, as far as it is known.
    pub(super) certificate: CallerCertificate,
}

/// The certificate of the edge in a TLS session with it.
pub(super) struct EdgeCertificate {
    pub(super) shown: Arc<ShownCertificates>,
    /// When it was shown, since 1970.
    pub(super) at: Duration,
}

/// The stream and caller of a call.
#[derive(Clone, Copy)]
pub(super) struct CallContext<'a> {
    pub(super) core: &'a ConnectorCore,
    pub(super) stream: &'a CallStream,
    pub(super) caller: Caller<'a>,
    /// The traffic that its route must have.
    pub(super) traffic: Traffic,
    /// The number that the edge gave to the call or the session; 0 if none. A copy, because a stream that is reset
    /// loses it.
    pub(super) number: u64,
}

/// The state of a worker towards upstreams. Reused by the next call, for its memory.
#[derive(Default)]
pub(super) struct UpstreamWork {
    next_hop: NextHopWork,
    replay: Box<Replay>,
    /// Boxed, so that the task does not pay for its size.
    pub(super) agents: Box<AgentWork>,
}

/// The state of one call. Reused by the next one, for its memory.
#[derive(Default)]
pub(super) struct AgentWork {
    pub(super) retries: Retries,
    /// The retry of the call, if there was one.
    pub(super) again: Option<SentAgain>,
    /// When the call began.
    pub(super) began: Time,
    /// When the caller has to be answered; never, if its time is not known.
    pub(super) until: Time,
    /// The tables by which the request was decided.
    pub(super) decided_by: DecidedBy,
    /// The timer for `until` during the wait for a connection.
    timer: Option<Timer>,
    /// The answer, if it may list tools.
    listing: Listing,
    /// Finds the notification of changed tools, if that is needed.
    changed: Cell<Option<MethodScan>>,
    /// The value of `Server-Timing`, for agents whose TLS ends here.
    timing: Vec<u8>,
    /// Deadline and breakers, for agents whose TLS ends here.
    pub(super) guard: CallGuard,
    pub(super) audit: CallAudit,
    /// Its place among the route's calls in flight, for agents whose TLS ends here.
    pub(super) queue: QueueNotes,
    /// Reads an answer that is an event stream.
    pub(super) answer: AnswerStream,
    /// The size of the answer.
    pub(super) answer_size: AnswerSize,
    /// The failure that was sent to the agent at the end of an event stream, if any.
    pub(super) sent_failure: Option<CallFailure>,
}

/// How a call ended.
pub(super) struct CallEnd {
    /// The timestamps of its phases.
    pub(super) stamps: ConnectorStamps,
    /// Whether the head of a response was sent, so that no other can be sent.
    pub(super) has_begun: bool,
    /// Whether the caller's connection can carry another request.
    pub(super) keeps: bool,
}

/// Why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallError {
    /// Any reason except a malformed request body.
    Failed(CallFailure),
    /// The request's body is malformed.
    BadBody(BodyError),
}

/// Why an exchange failed.
enum ExchangeError {
    Failed(CallError),
    /// The upstream closed the connection before the first byte of a response.
    Silent,
    /// The upstream closed the connection before anything of the request was sent.
    Unsent,
    /// The upstream's host acknowledged nothing of the request, or vanished later, before a response.
    Vanished,
}

impl ExchangeError {
    /// How far the request got. `was_used`: the connection had carried other requests.
    fn reached(&self, was_used: bool) -> Reached {
        match self {
            ExchangeError::Unsent => Reached::Never,
            ExchangeError::Silent | ExchangeError::Vanished => Reached::Silent { was_used },
            ExchangeError::Failed(_) => Reached::Answered,
        }
    }
}

impl From<ExchangeError> for CallError {
    fn from(error: ExchangeError) -> CallError {
        match error {
            ExchangeError::Unsent => CallError::Failed(CallFailure::UpstreamUnsent),
            ExchangeError::Silent => CallError::Failed(CallFailure::UpstreamSilent),
            ExchangeError::Vanished => CallError::Failed(CallFailure::TimedOut),
            ExchangeError::Failed(error) => error,
        }
    }
}

impl CallError {
    /// The failure with which the edge's stream is reset.
    pub(super) fn failure(self) -> CallFailure {
        match self {
            CallError::Failed(failure) => failure,
            CallError::BadBody(_) => CallFailure::RequestBroken,
        }
    }
}

impl CallEnd {
    /// A call that was received at `began`.
    pub(super) fn new(began: Time) -> CallEnd {
        CallEnd { stamps: ConnectorStamps::new(began), has_begun: false, keeps: false }
    }
}

impl CallContext<'_> {
    pub(super) fn is_agents(&self) -> bool {
        matches!(self.caller, Caller::Agent(_))
    }

    /// What is known of the caller's certificate.
    pub(super) fn certificate(&self) -> &CallerCertificate {
        match self.caller {
            Caller::Edge(_) => CallerCertificate::UNKNOWN,
            Caller::Agent(agent) => &agent.certificate,
        }
    }

    /// The certificates that the edge has shown, and when, since 1970.
    pub(super) fn edge_certificate(&self) -> Option<(&ShownCertificates, Duration)> {
        match self.caller {
            Caller::Edge(shown) => shown.map(|EdgeCertificate { shown, at }| (&**shown, *at)),
            Caller::Agent(_) => None,
        }
    }
}

impl AgentWork {
    /// Whether the caller's time is known.
    pub(super) fn is_limited(&self) -> bool {
        self.until != Time::NEVER
    }

    /// When a call must have been sent at the latest. Any later, the edge would answer before this side can report a
    /// failure.
    fn send_by(&self, context: &CallContext<'_>) -> Time {
        match self.is_limited() && !context.is_agents() {
            true => self.until.back(context.stream.on_link().way() + UNSENT_REPORT_MARGIN),
            false => self.until,
        }
    }

    /// The rest of the caller's time; none if that is not known.
    pub(super) fn left(&self, now: Time) -> Option<Duration> {
        self.is_limited().then(|| self.until - now)
    }

    /// The limits for reading a body until the label is known.
    pub(super) fn read_ahead_limits<'c>(&self, core: &'c ConnectorCore) -> ReadAheadLimits<'c> {
        let limits = core.read_ahead_limits();
        ReadAheadLimits { timeout: limits.timeout.min(self.until - core.core.turn_time()), ..limits }
    }
}

impl UpstreamWork {
    /// Resets the state for another call.
    pub(super) fn clear(&mut self) {
        self.next_hop.clear();
        self.replay.clear();
    }

    /// Carries a call to its end.
    pub(super) async fn call(
        &mut self,
        context: &CallContext<'_>,
        request: &mut impl CallRequest,
        end: &mut CallEnd,
    ) -> Result<(), CallError> {
        let upstreams = &context.core.upstreams;
        if !upstreams.holds(self.agents.decided_by) {
            // Its route may have another upstream, policy or credential by now. The caller may retry and is checked
            // again.
            return Err(CallError::Failed(CallFailure::UpstreamUnsent));
        }
        let served = upstreams.for_request(request.head()).ok_or(CallError::Failed(CallFailure::NoRoute))?;
        if served.traffic() != context.traffic {
            return Err(CallError::Failed(CallFailure::SealMismatch));
        }
        served.on_call();
        (self.agents.retries, self.agents.again, self.agents.sent_failure) = (Retries::default(), None, None);
        self.agents.answer_size = AnswerSize::default();
        let send_by = self.agents.send_by(context);
        let mut needs_fresh = false;
        // The earlier failure of the call, if it may have run.
        let mut before = None;
        let late = |before: Option<CallError>| {
            let sent = before.map(|_| CallError::Failed(CallFailure::CallerTimeout));
            sent.unwrap_or(CallError::Failed(CallFailure::CallerTimeoutUnsent))
        };
        loop {
            if send_by <= context.core.core.turn_time() {
                return Err(late(before));
            }
            let timer = &mut self.agents.timer;
            let upstream = served.way_for(request.head(), context.core.core.turn_time());
            let taken = checkout(&context.core.core, upstream, needs_fresh, send_by, timer).await;
            self.agents.timer = None;
            let Checkout { connection, connect } = taken.ok_or_else(|| late(before))?.map_err(|error| {
                let failure = served.on_failed(&error, context.core.core.turn_time());
                before.unwrap_or(CallError::Failed(failure))
            })?;
            if let Some(took) = connect {
                served.on_connected();
                end.stamps.on_connected(took);
            }
            let was_used = connect.is_none();
            let mut held = Held::new(connection);
            let exchanged = match held.get() {
                UpstreamConnection::Http(connection) => {
                    if self.agents.retries.made() == 0 {
                        // Only a reused connection may have been closed by the upstream in the meantime.
                        let keeps = was_used || served.learns(request.head());
                        let may_cancel = may_be_cancelled(context, request.head(), keeps);
                        self.replay.start(keeps.then_some(&context.core.kept_bodies), may_cancel);
                    }
                    needs_fresh = true;
                    self.exchange(context, &served, request, connection, end).await
                }
                UpstreamConnection::Http2(stream) => {
                    if self.agents.retries.made() == 0 {
                        // The upstream may refuse any request.
                        let may_cancel = may_be_cancelled(context, request.head(), true);
                        self.replay.start(Some(&context.core.kept_bodies), may_cancel);
                    }
                    // An unusable connection takes no more calls.
                    needs_fresh = false;
                    // Boxed, so that calls over HTTP/1.1 do not pay for its size.
                    Box::pin(self.exchange(context, &served, request, &**stream, end)).await
                }
            };
            served.on_answer(end.stamps.status());
            served.on_era(request.head(), end.stamps.status());
            match exchanged {
                Ok(kept) => {
                    if let Some(keep) = kept {
                        held.release(keep, self.next_hop.idle_timeout());
                    }
                    return Ok(());
                }
                // The upstream may have closed an idle connection while the request was on its way. A request that the
                // upstream may have received is sent again only if that does no harm (RFC 9110, section 9.2.2).
                Err(error) => {
                    let reached = error.reached(was_used);
                    let may_have_run = match error {
                        ExchangeError::Silent => true,
                        // The possible effect of an idempotent request matters less than why it failed.
                        ExchangeError::Vanished => !request.head().method().is_idempotent(),
                        ExchangeError::Unsent | ExchangeError::Failed(_) => false,
                    };
                    let again = self.again(context, &served, request.head(), reached);
                    let failed = CallError::from(error);
                    let Some(pause) = again else {
                        let is_unsent = !failed.failure().may_have_acted();
                        return Err(before.filter(|_| is_unsent).unwrap_or(failed));
                    };
                    before = before.or(Some(failed).filter(|_| may_have_run));
                    if !pause.is_zero() {
                        // Boxed, so that calls do not pay for its size.
                        Box::pin(context.core.core.sleep(pause)).await;
                    }
                }
            }
        }
    }

    /// The pause before a failed request is retried; none if it is not.
    fn again(
        &mut self,
        context: &CallContext<'_>,
        served: &Served,
        head: &RequestHead,
        reached: Reached,
    ) -> Option<Duration> {
        let counters = &context.core.connector.counters;
        let is_silent = matches!(reached, Reached::Silent { was_used: true });
        let is_safe = is_silent && !head.method().is_idempotent() && self.is_safe(served, head);
        // A body that was not kept cannot be sent again.
        self.replay.kept()?;
        let random = context.core.retry.random_fraction();
        let may_run_twice = is_safe || head.method().is_idempotent();
        let left = self.agents.left(context.core.core.turn_time());
        let retries_max = context.core.connector.settings.retries_max;
        match served.again(retries_max, &mut self.agents.retries, reached, may_run_twice, left, random) {
            Ok(pause) => {
                self.replay.rewind();
                Counters::add(&counters.requests_resent);
                if is_safe {
                    Counters::add(&counters.resends_safe);
                }
                if reached == Reached::Never {
                    Counters::add(&counters.resends_unread);
                }
                let (was_unread, before) = match self.agents.again {
                    Some(SentAgain::Resent { is_unread, paused }) => (is_unread, paused.get()),
                    _ => (true, Duration::ZERO),
                };
                let (is_unread, paused) = (was_unread && reached == Reached::Never, RecordedTime::of(before + pause));
                self.agents.again = Some(SentAgain::Resent { is_unread, paused });
                return Some(pause);
            }
            Err(NoRetry::Budget) => Counters::add(&counters.resends_denied),
            Err(NoRetry::Spent) => Counters::add(&counters.resends_spent),
            Err(NoRetry::MayHaveRun | NoRetry::Deadline) => {}
        }
        None
    }

    /// Whether a POST request may run twice, by the hints that its route trusts. The body is parsed only now, because
    /// few calls fail.
    fn is_safe(&self, served: &Served, head: &RequestHead) -> bool {
        let (Some(safe), Some(body)) = (served.resend(), self.replay.kept()) else { return false };
        let mut peek = Peek::default();
        peek.feed(body);
        head.method() == Method::Post && safe.may_run_twice(head, &peek)
    }

    /// Passes the request's parsed message to `read`, if it was kept.
    pub(super) fn read_message<T>(&mut self, read: impl FnOnce(&Peek) -> T) -> Option<T> {
        self.replay.read_message(read)
    }

    /// Learns from a complete answer which tools may be called twice, if it lists tools.
    fn learn(&mut self, served: &Served) {
        let (Some(safe), Some(body)) = (served.resend(), self.replay.kept()) else { return };
        if !self.agents.listing.is_kept() {
            return;
        }
        // Parsing a message allocates, and most calls do not need it.
        if memmem::find(body, LIST).is_none() {
            return;
        }
        let mut peek = Peek::default();
        peek.feed(body);
        if SafeRequests::is_listing(&peek) {
            let from_start = SafeRequests::is_first_page(body);
            self.agents.listing.read(|answer, is_events, may_be_all| {
                safe.learn(answer, is_events, from_start && may_be_all);
            });
        }
    }

    /// Carries request and response over one connection; returns whether the connection can be kept, if the exchange
    /// was complete.
    async fn exchange<U: UpstreamStream>(
        &mut self,
        context: &CallContext<'_>,
        served: &Served,
        request: &mut impl CallRequest,
        upstream: &U,
        end: &mut CallEnd,
    ) -> Result<Option<bool>, ExchangeError> {
        let state = |taken, _: &mut Context<'_>| {
            context.stream.on_link().reader_took(taken);
            if context.stream.on_link().is_carrier_draining() {
                ExchangeState::Draining
            } else {
                ExchangeState::Running
            }
        };
        let to = TimeoutStream::new(upstream.stream(), &context.core.connector.settings.write_timeout, state);
        let to = AnsweringStream::new(to, upstream.acknowledged_within());
        let of_agents = context.is_agents().then(|| self.agents.guard.deadline.first_byte_timeout());
        let caller = match context.is_agents() {
            true => self.agents.guard.deadline.caller_limits(),
            false => CallerLimits::new(self.agents.until, self.agents.until + EDGE_CUTS_WITHIN),
        };
        self.agents.listing.expect(served.learns(request.head()));
        self.agents.changed.set(served.resend().map(|_| MethodScan::tools_changed()));
        let mut hooks;
        let relayed = {
            let incoming = request.incoming(context.stream);
            let head = incoming.head;
            let left = self.agents.left(context.core.core.turn_time());
            hooks = ConnectorHooks {
                context,
                addresses: &served.addresses,
                request: head,
                upstream,
                stamps: &mut end.stamps,
                work: &mut self.agents,
            };
            let (mut append, number) = (None, incoming.label.as_ref().and_then(|label| label.caller_number()));
            let caller_key = served.caller_key(number);
            let edits = RequestEdits {
                edge_identity: caller_key.as_deref(),
                drop_expect: incoming.label.as_ref().is_some_and(|label| label.has_continued()),
                policy: incoming.label.as_ref().map_or(PolicyEdit::NONE, |label| label.policy_edit()),
                timeout: left.filter(|_| served.sends_timeout()),
                ..addressed(context, served, head, &mut append)
            };
            // A GET waits for events for as long as the agent wants. The edge has its own limit.
            let limit = of_agents.or(served.first_byte_timeout()).filter(|_| head.method() != Method::Get);
            let mut next_hop = NextHop::new(&to, &to, &mut self.next_hop, head, edits);
            next_hop.first_byte_timeout = limit;
            next_hop.caller = caller;
            next_hop.flush = U::QUEUES_APART;
            next_hop.replay = Some(&mut self.replay);
            relay(incoming, next_hop, &context.core.core, &mut hooks)
        }
        .await;
        let Relayed { result, has_begun, is_sent, keeps, is_cut } = relayed;
        (end.has_begun, end.keeps) = (has_begun, keeps);
        if let Err(error) = result {
            if error == RelayError::Late {
                self.agents.guard.deadline.on_cut(context.core.core.now());
            }
            if let Some(why) = upstream_fault(&error) {
                upstream.log_fault(&why);
            }
            let is_of_caller = error == RelayError::Late && self.agents.until <= context.core.core.turn_time();
            let error = match (is_of_caller, end.stamps.is_sent()) {
                (true, true) => ExchangeError::Failed(CallError::Failed(CallFailure::CallerTimeout)),
                (true, false) => ExchangeError::Failed(CallError::Failed(CallFailure::CallerTimeoutUnsent)),
                (false, _) => failed(&error),
            };
            return Err(match error {
                ExchangeError::Silent if upstream.has_sent_nothing(&context.core.core, to.sent_before()).await => {
                    ExchangeError::Unsent
                }
                ExchangeError::Vanished => {
                    // The other connections lead to the same host.
                    served.upstream.close_idle();
                    ExchangeError::Vanished
                }
                error => error,
            });
        }
        if !is_cut {
            self.learn(served);
        }
        end.stamps.on_last_received(upstream.received_at());
        context.stream.on_link().send_times(&end.stamps.times(&context.core.core));
        context.stream.finish_message();
        Ok(is_sent.then(|| !is_cut && self.next_hop.is_reusable()))
    }
}

/// The changes that address a request to its upstream. `append` contains the fields to add.
pub(super) fn addressed<'a>(
    context: &CallContext<'a>,
    served: &'a Served,
    head: &'a RequestHead,
    append: &'a mut Option<[(&'static str, &'a [u8]); 3]>,
) -> RequestEdits<'a> {
    let public = served.addresses.public();
    *append = match context.caller {
        // If the connector knows no address, the edge's fields stay as they are.
        Caller::Edge(_) => public.map(|called| forwarded(forwarded_peer(head), called)),
        Caller::Agent(SessionAgent { address, .. }) => {
            let called = public.unwrap_or_else(|| CalledAddress::of(Scheme::Https, head));
            Some(forwarded(address.as_bytes(), called))
        }
    };
    RequestEdits {
        host: served.addresses.new_host(),
        origin: served.addresses.origin(),
        drop_forwarded: append.is_some(),
        time_left: if context.stream.is_sealed() { TimeLeftEdit::Drop } else { TimeLeftEdit::Keep },
        append: append.as_ref().map_or(&[], |fields| fields),
        ..RequestEdits::default()
    }
}

/// Takes the timestamps of an exchange at the connector, and sends them to the edge.
struct ConnectorHooks<'a, U> {
    context: &'a CallContext<'a>,
    addresses: &'a Addresses,
    request: &'a RequestHead,
    upstream: &'a U,
    stamps: &'a mut ConnectorStamps,
    work: &'a mut AgentWork,
}

impl<U> ConnectorHooks<'_, U> {
    /// The error event at the end of an event stream whose call failed; none if the id of the call is not known.
    fn last_event(&self, failure: CallFailure, label: &mut CallLabel) -> Option<Vec<u8>> {
        let deadline = &self.work.guard.deadline;
        let trace = trace_of(self.request).or_else(|| label.trace());
        let call = label.call();
        let report = self.context.core.upstreams.route_of(&requested_host(self.request).ok()?, |route| {
            let call = self.context.failed_call(route, trace, failure.phase(Phase::Upstream), call);
            if deadline.was_cut() { deadline.report(call) } else { CallReport::of(&call) }
        })?;
        Some(report.event(failure, label.rpc_id()?))
    }

    /// The state of a call of an agent whose TLS ends here.
    fn agents(&mut self) -> Option<&mut AgentWork> {
        self.context.is_agents().then_some(&mut *self.work)
    }
}

impl<U: UpstreamStream> RelayHooks for ConnectorHooks<'_, U> {
    fn on_request_head_queued(&mut self) {
        let now = self.context.core.core.now();
        self.stamps.on_sent(now);
        if let Some(agents) = self.agents() {
            agents.guard.deadline.on_sent(now);
        }
    }

    fn received_at(&self) -> Time {
        self.upstream.received_at()
    }

    fn core(&self) -> &Core {
        &self.context.core.core
    }

    fn lists(&self) -> &Budget {
        &self.context.core.lists
    }

    fn on_list_filtered(&mut self) {
        self.work.listing.be_part();
    }

    fn on_lists_crowded(&self) {
        Counters::add(&self.context.core.connector.counters.lists_crowded);
    }

    fn on_body_bytes(&mut self, bytes: &[u8]) {
        self.work.answer_size.bytes += bytes.len() as u64;
        self.work.listing.keep(bytes);
        self.work.audit.on_body_bytes(bytes, self.stamps.is_event_stream());
        if !self.stamps.is_event_stream() {
            return;
        }
        self.on_standing_bytes(bytes);
        self.work.answer.feed(bytes);
        let now = self.context.core.core.turn_time();
        if let Some(agents) = self.agents() {
            agents.guard.deadline.on_event_bytes(bytes, now);
        }
    }

    fn records_in(&self) -> Option<&AuditLog> {
        self.work.audit.required()
    }

    fn record_answer(&mut self, answered: &Answered<'_>, label: Option<&mut CallLabel>) -> Option<AuditReceipt> {
        let progress = (&mut *self.stamps, self.work.retries);
        self.context.record_answer(&self.work.audit, self.request, progress, answered, label)
    }

    fn on_standing_bytes(&self, bytes: &[u8]) {
        let Some(mut changed) = self.work.changed.get() else { return };
        if changed.feed(bytes)
            && let Some(served) = self.context.core.upstreams.for_request(self.request)
            && let Some(safe) = served.resend()
        {
            safe.forget();
        }
        self.work.changed.set(Some(changed));
    }

    fn cuts_at(&self) -> Option<Time> {
        self.context.is_agents().then(|| self.work.guard.deadline.cuts_at())?
    }

    fn on_cut(&mut self, label: &mut CallLabel) -> Option<Vec<u8>> {
        let now = self.context.core.core.now();
        self.agents()?.guard.deadline.on_cut(now);
        self.last_event(CallFailure::Deadline, label)
    }

    fn on_broken(&mut self, error: &RelayError, label: &mut CallLabel) -> Option<Vec<u8>> {
        self.agents().filter(|agents| agents.answer.takes_error())?;
        if let Some(why) = upstream_fault(error) {
            self.upstream.log_fault(&why);
        }
        let failure = CallError::from(failed(error)).failure();
        let event = self.last_event(failure, label)?;
        self.work.sent_failure = Some(failure);
        Some(event)
    }

    fn sse_keepalive(&self) -> Option<Duration> {
        // For calls of the edge, the edge sends the comments.
        self.context.core.connector.settings.sse_keepalive.filter(|_| self.context.is_agents())
    }

    fn on_response_head(&mut self, head: &ResponseHead, received_at: Time) -> ResponseExtras<'_> {
        self.stamps.on_received(received_at);
        self.stamps.on_status(head.status());
        self.work.listing.begin(head);
        let CallContext { core, stream, .. } = *self.context;
        if core.connector.tasks().is_some() {
            self.work.answer_size = AnswerSize::of(head.get("content-type"));
        }
        let now = core.core.now();
        self.stamps.on_handed_to_link(now);
        let times = self.stamps.times(&core.core);
        stream.on_link().send_times(&times);
        let is_agents = self.context.is_agents();
        let is_metadata = self.addresses.is_metadata(self.request, head);
        let public = (is_metadata || head.may_name_itself())
            .then(|| self.addresses.in_response(self.request, is_agents))
            .flatten();
        let extras = ResponseExtras { may_keep: true, server_timing: None, public, is_metadata };
        match self.agents() {
            None => extras,
            Some(AgentWork { timing, .. }) => {
                timing.clear();
                connector_timing(&times, timing);
                ResponseExtras { may_keep: !core.is_draining(), server_timing: Some(timing), ..extras }
            }
        }
    }

    fn on_event_stream(&mut self, is_standing: bool) {
        self.stamps.on_event_stream(is_standing);
        self.work.answer = AnswerStream::default();
        if is_standing {
            self.work.queue.place.set(None);
        }
    }

    fn streams_end(&self) -> impl Future<Output = ()> {
        self.context.stream.on_link().carrier_draining()
    }
}

/// The log text for an exchange that failed because of the upstream.
fn upstream_fault(error: &RelayError) -> Option<String> {
    match error {
        RelayError::Protocol(violation) => Some(violation.to_string()),
        RelayError::Broken(Some(StreamError::Protocol(why))) => Some(why.to_string()),
        // A call over HTTP/2 that the connector cut.
        RelayError::Broken(Some(StreamError::ResetWith { .. })) => None,
        RelayError::Broken(_) | RelayError::NotTaken => {
            Some("the upstream closed the connection before its answer was complete".to_owned())
        }
        RelayError::NoResponse(Some(StreamError::Protocol(why))) => Some(why.to_string()),
        RelayError::NoResponse(Some(StreamError::TimedOut)) => {
            Some("its host no longer acknowledges anything: check that it is up and reachable".to_owned())
        }
        _ => None,
    }
}

fn failed(error: &RelayError) -> ExchangeError {
    let failure = match error {
        RelayError::NoResponse(Some(StreamError::TimedOut)) => return ExchangeError::Vanished,
        RelayError::NoResponse(Some(StreamError::ResetWith { failure })) => *failure,
        RelayError::NoResponse(_) => return ExchangeError::Silent,
        RelayError::BadBody(error) => return ExchangeError::Failed(CallError::BadBody(*error)),
        // The caller has left, so no other reason can be reported.
        RelayError::CallerLeft | RelayError::CallerStalled | RelayError::Respond(_) => CallFailure::Cancelled,
        RelayError::Broken(Some(StreamError::ResetWith { failure })) => *failure,
        RelayError::Broken(_) | RelayError::NotTaken => CallFailure::UpstreamBroken,
        RelayError::Stalled => CallFailure::TimedOut,
        RelayError::Late => CallFailure::Deadline,
        RelayError::Unrecorded => CallFailure::Unrecorded,
        RelayError::CrowdedLists => CallFailure::CrowdedLists,
        RelayError::OverCeiling => CallFailure::AnswerOverCeiling,
        RelayError::Protocol(_) => CallFailure::UpstreamProtocol,
    };
    ExchangeError::Failed(CallError::Failed(failure))
}

/// Runs a call until it ends, or until the edge gives it up; the error is the reason. The call is then dropped, and the
/// upstream notices that at once. A call on a shared stream is not watched.
pub(super) fn unless_broken<R: CallRequest, T>(
    stream: &CarrierStream,
    mut calling: Pin<&mut impl Future<Output = T>>,
) -> impl Future<Output = Result<T, CallFailure>> {
    poll_fn(move |cx| match calling.as_mut().poll(cx) {
        Poll::Ready(ended) => Poll::Ready(Ok(ended)),
        Poll::Pending if R::OWNS_STREAM => stream.poll_broken(cx).map(Err),
        Poll::Pending => Poll::Pending,
    })
}

/// Counts the end of a call; none if the edge gave it up.
pub(super) fn count(core: &ConnectorCore, ended: Option<Result<(), CallFailure>>) {
    let counters = &core.connector.counters;
    match ended {
        Some(Ok(())) => {}
        Some(Err(CallFailure::NoRoute)) => Counters::add(&counters.calls_unrouted),
        Some(Err(CallFailure::Overloaded)) => Counters::add(&counters.calls_overloaded),
        Some(Err(CallFailure::SlowReader)) => Counters::add(&counters.calls_cut_unread),
        Some(Err(CallFailure::CallerTimeout | CallFailure::CallerTimeoutUnsent)) => {
            Counters::add(&counters.calls_out_of_time);
        }
        Some(Err(CallFailure::Cancelled)) | None => Counters::add(&counters.calls_cancelled),
        Some(Err(_)) => Counters::add(&counters.calls_failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server whose answer was cut here has answered, even if nothing was passed on.
    #[test]
    fn a_call_that_was_cut_before_its_answer_was_forwarded_does_not_count_as_unsent() {
        let cut = StreamError::ResetWith { failure: CallFailure::SlowReader };
        for error in [RelayError::NoResponse(Some(cut.clone())), RelayError::Broken(Some(cut))] {
            let failed = failed(&error);
            assert_eq!(failed.reached(true), Reached::Answered, "{error:?}");
            assert_eq!(CallError::from(failed), CallError::Failed(CallFailure::SlowReader), "{error:?}");
        }
        assert_eq!(failed(&RelayError::NoResponse(None)).reached(true), Reached::Silent { was_used: true });
    }
}
