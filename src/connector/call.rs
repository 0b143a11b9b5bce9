//! One call at the connector: the request is sent to an upstream, and the response back to the edge.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::base::{CallFailure, Clock, Time, Traffic};
use crate::connector::call_request::CallRequest;
use crate::connector::connector_core::ConnectorCore;
use crate::connector::identity::Addresses;
use crate::connector::shared::Counters;
use crate::connector::upstream_stream::UpstreamStream;
use crate::connector::upstreams::Served;
use crate::engine::{ByteStream, Core, StreamError};
use crate::exchange::{Asked, CalledAddress, ExchangeState, TimeoutStream, forwarded, forwarded_peer, requested_host};
use crate::latency::{ConnectorStamps, connector_timing};
use crate::link::{CallStream, CarrierStream};
use crate::route::Scheme;
use crate::serve::{
    CallGuard, CallLabel, NextHop, NextHopWork, RelayError, RelayHooks, Relayed, Replay, ResponseExtras, relay,
};
use crate::upstream::{Checkout, UpstreamConnection};
use crate::wire::http1::{BodyError, Method, RequestEdits, RequestHead, ResponseHead};

/// Whom the upstream is told that a call comes from.
#[derive(Clone, Copy)]
pub(super) enum Caller<'a> {
    /// The edge: it has said so in the head, and answers for itself.
    Edge,
    /// An agent whose TLS ends here. Its address, as the edge tells it.
    Agent(&'a str),
}

/// Where a call comes from.
#[derive(Clone, Copy)]
pub(super) struct CallContext<'a> {
    pub(super) core: &'a ConnectorCore,
    pub(super) stream: &'a CallStream,
    pub(super) caller: Caller<'a>,
    /// How its route must be carried.
    pub(super) traffic: Traffic,
}

/// What a worker needs towards upstreams; kept from one call to the next for its memory.
#[derive(Default)]
pub(super) struct UpstreamWork {
    next_hop: NextHopWork,
    replay: Replay,
    /// In a box, so that the task does not have its size.
    pub(super) agents: Box<AgentWork>,
}

/// What is kept of a call of an agent whose TLS ends here, while it lasts; used again for its memory.
#[derive(Default)]
pub(super) struct AgentWork {
    timing: Vec<u8>,
    pub(super) guard: CallGuard,
}

/// How far a call came.
pub(super) struct CallEnd {
    /// When it came where.
    pub(super) stamps: ConnectorStamps,
    /// Whether the head of a response was sent, so that no other can be.
    pub(super) has_begun: bool,
    /// Whether the caller's connection can carry another request.
    pub(super) keeps: bool,
}

/// Why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallError {
    /// For any reason but the request's body.
    Failed(CallFailure),
    /// The request's body is malformed.
    BadBody(BodyError),
}

/// Why an exchange failed.
enum ExchangeError {
    Failed(CallError),
    /// The upstream closed the connection before the first byte of a response.
    Silent,
    /// The same, and nothing of the request had been sent.
    Unsent,
    /// The upstream's host has not acknowledged any of the request, or has vanished later, before a response.
    Vanished,
}

impl ExchangeError {
    /// Whether a request with this method may be sent once more. `was_used` says that others had used the connection.
    fn may_resend(&self, method: Method, was_used: bool) -> bool {
        match self {
            ExchangeError::Unsent => true,
            ExchangeError::Silent | ExchangeError::Vanished => was_used && method.is_idempotent(),
            ExchangeError::Failed(_) => false,
        }
    }
}

impl CallError {
    /// The failure with which a stream of the edge is reset.
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
}

impl UpstreamWork {
    /// Forgets all of what it carried.
    pub(super) fn clear(&mut self) {
        self.next_hop.clear();
        self.replay.start(false);
    }

    /// Carries a call to its end.
    pub(super) async fn call(
        &mut self,
        context: &CallContext<'_>,
        request: &mut impl CallRequest,
        end: &mut CallEnd,
    ) -> Result<(), CallError> {
        let served =
            context.core.upstreams.for_request(request.head()).ok_or(CallError::Failed(CallFailure::NoRoute))?;
        if served.traffic() != context.traffic {
            return Err(CallError::Failed(CallFailure::SealMismatch));
        }
        let (mut may_resend, mut needs_fresh) = (true, false);
        loop {
            let connecting = match needs_fresh {
                false => served.upstream.checkout().await,
                true => served.upstream.connect().await,
            };
            let Checkout { connection, connect } = connecting
                .map_err(|error| CallError::Failed(served.on_failed(&error, context.core.core.turn_time())))?;
            if let Some(took) = connect {
                served.on_connected();
                end.stamps.on_connected(took);
            }
            let was_used = connect.is_none();
            let mut held = Held(Some(connection));
            let exchanged = match held.get() {
                UpstreamConnection::Http(connection) => {
                    if may_resend {
                        // Only a connection that was used before may have been closed by the upstream meanwhile.
                        self.replay.start(was_used);
                    }
                    needs_fresh = true;
                    self.exchange(context, &served, request, connection, end).await
                }
                UpstreamConnection::Http2(stream) => {
                    if may_resend {
                        // The upstream may refuse any request.
                        self.replay.start(true);
                    }
                    // A connection that is of no more use takes no more calls.
                    needs_fresh = false;
                    // In a box, so that calls over HTTP/1.1 do not have its size.
                    Box::pin(self.exchange(context, &served, request, &**stream, end)).await
                }
            };
            served.on_answer(end.stamps.status());
            match exchanged {
                Ok(kept) => {
                    if let Some(keep) = kept {
                        held.release(keep, self.next_hop.idle_timeout());
                    }
                    return Ok(());
                }
                // The upstream may have closed an idle connection while the request was on its way. A request that the
                // upstream may have received is sent again only if that does no harm (RFC 9110, section 9.2.2).
                Err(ref error) if error.may_resend(request.head().method(), was_used) && self.replay.rewind() => {
                    Counters::add(&context.core.connector.counters.requests_resent);
                    may_resend = false;
                }
                Err(ExchangeError::Unsent) => return Err(CallError::Failed(CallFailure::UpstreamUnsent)),
                Err(ExchangeError::Silent) => return Err(CallError::Failed(CallFailure::UpstreamBroken)),
                Err(ExchangeError::Vanished) => return Err(CallError::Failed(CallFailure::TimedOut)),
                Err(ExchangeError::Failed(error)) => return Err(error),
            }
        }
    }

    /// Carries request and response over one connection; returns whether that can be kept, if the exchange is whole.
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
        let to = Asked::new(to, upstream.is_acknowledged());
        let agents = context.is_agents().then_some(&mut *self.agents);
        let of_agents = agents.as_ref().map(|agents| agents.guard.deadline.first_byte_timeout);
        let mut hooks;
        let relayed = {
            let incoming = request.incoming(context.stream);
            let head = incoming.head;
            hooks = ConnectorHooks {
                context,
                addresses: &served.addresses,
                request: head,
                upstream,
                stamps: &mut end.stamps,
                agents,
            };
            let public = served.addresses.public();
            let (peer, called) = match context.caller {
                Caller::Edge => (forwarded_peer(head), public),
                Caller::Agent(address) => {
                    (address.as_bytes(), public.or_else(|| Some(CalledAddress::of(Scheme::Https, head))))
                }
            };
            // Without an address of our own to tell, what the edge has told stands.
            let append = called.map(|called| forwarded(peer, called));
            let edits = RequestEdits {
                host: Some(served.addresses.host()),
                origin: served.addresses.origin(),
                drop_forwarded: append.is_some(),
                append: append.as_ref().map_or(&[], |fields| fields),
                drop_expect: incoming.label.as_ref().is_some_and(|label| label.has_continued()),
                ..RequestEdits::default()
            };
            // A GET waits for events, for as long as the agent does. The edge has a limit of its own.
            let limit = of_agents.or(served.first_byte_timeout()).filter(|_| head.method() != Method::Get);
            let mut next_hop = NextHop::new(&to, &to, &mut self.next_hop, head, edits);
            next_hop.first_byte_timeout = limit;
            next_hop.flush = U::QUEUES_APART;
            next_hop.replay = Some(&mut self.replay);
            relay(incoming, next_hop, &context.core.core, &mut hooks)
        }
        .await;
        let Relayed { result, has_begun, is_sent, keeps, is_cut } = relayed;
        (end.has_begun, end.keeps) = (has_begun, keeps);
        if let Err(error) = result {
            if error == RelayError::Late {
                self.agents.guard.deadline.on_cut();
            }
            if let Some(why) = upstream_fault(&error) {
                upstream.log_fault(&why);
            }
            let error = failed(&error);
            return Err(match error {
                ExchangeError::Silent if upstream.has_sent_nothing(&context.core.core, to.sent_before()).await => {
                    ExchangeError::Unsent
                }
                ExchangeError::Vanished => {
                    // The others lead to the same host.
                    served.upstream.close_idle();
                    ExchangeError::Vanished
                }
                error => error,
            });
        }
        end.stamps.on_last_received(upstream.received_at());
        context.stream.on_link().send_times(&end.stamps.times(&context.core.core));
        context.stream.finish_message();
        Ok(is_sent.then(|| !is_cut && self.next_hop.is_reusable()))
    }
}

/// Takes the times of an exchange at the connector, and tells them to the edge.
struct ConnectorHooks<'a, U> {
    context: &'a CallContext<'a>,
    addresses: &'a Addresses,
    request: &'a RequestHead,
    upstream: &'a U,
    stamps: &'a mut ConnectorStamps,
    /// For agents whose TLS ends here.
    agents: Option<&'a mut AgentWork>,
}

impl<U: UpstreamStream> RelayHooks for ConnectorHooks<'_, U> {
    fn on_request_head_queued(&mut self) {
        let now = self.context.core.core.now();
        self.stamps.on_sent(now);
        if let Some(agents) = &mut self.agents {
            agents.guard.deadline.on_sent(now);
        }
    }

    fn received_at(&self) -> Time {
        self.upstream.received_at()
    }

    fn core(&self) -> &Core {
        &self.context.core.core
    }

    fn on_body_bytes(&mut self, bytes: &[u8]) {
        if let Some(agents) = self.agents.as_mut().filter(|_| self.stamps.is_event_stream()) {
            agents.guard.deadline.on_event_bytes(bytes, self.context.core.core.turn_time());
        }
    }

    fn cuts_at(&self) -> Option<Time> {
        self.agents.as_ref()?.guard.deadline.cuts_at()
    }

    fn on_cut(&mut self, label: &mut CallLabel) -> Option<Vec<u8>> {
        let deadline = &mut self.agents.as_mut()?.guard.deadline;
        let core = self.context.core;
        let (call, tunnel) = (label.call(), core.connector.settings.tunnel.as_str());
        let report = core.upstreams.route_of(&requested_host(self.request).ok()?, |route| {
            deadline.report(call, tunnel, route.name.as_str())
        })?;
        deadline.on_cut();
        Some(report.event(CallFailure::Deadline, label.rpc_id()?))
    }

    fn sse_keepalive(&self) -> Option<Duration> {
        // What goes to the edge is kept alive there.
        self.context.core.connector.settings.sse_keepalive.filter(|_| self.agents.is_some())
    }

    fn on_response_head(&mut self, head: &ResponseHead, received_at: Time) -> ResponseExtras<'_> {
        self.stamps.on_received(received_at);
        self.stamps.on_status(head.status());
        let CallContext { core, stream, .. } = *self.context;
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
        match &mut self.agents {
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
    }

    fn streams_end(&self) -> impl Future<Output = ()> {
        self.context.stream.on_link().carrier_draining()
    }
}

/// What is to be logged of an exchange that failed through the upstream's doing.
fn upstream_fault(error: &RelayError) -> Option<String> {
    match error {
        RelayError::Protocol(violation) => Some(violation.to_string()),
        RelayError::Broken(Some(StreamError::Protocol(why))) => Some(why.to_string()),
        RelayError::Broken(_) | RelayError::NotTaken => {
            Some("the upstream closed the connection before its answer was complete".to_owned())
        }
        RelayError::NoResponse(Some(StreamError::Protocol(why))) => Some(why.to_string()),
        RelayError::NoResponse(Some(StreamError::TimedOut)) => {
            Some("its host acknowledges nothing any more: check that it is up and can be reached".to_owned())
        }
        _ => None,
    }
}

fn failed(error: &RelayError) -> ExchangeError {
    let failure = match error {
        RelayError::NoResponse(Some(StreamError::TimedOut)) => return ExchangeError::Vanished,
        RelayError::NoResponse(_) => return ExchangeError::Silent,
        RelayError::BadBody(error) => return ExchangeError::Failed(CallError::BadBody(*error)),
        // The caller has gone: no other reason can be reported.
        RelayError::CallerLeft | RelayError::CallerStalled | RelayError::Respond(_) => CallFailure::Cancelled,
        RelayError::Broken(_) | RelayError::NotTaken => CallFailure::UpstreamBroken,
        RelayError::Stalled => CallFailure::TimedOut,
        RelayError::Late => CallFailure::Deadline,
        RelayError::Protocol(_) => CallFailure::UpstreamProtocol,
    };
    ExchangeError::Failed(CallError::Failed(failure))
}

/// Drives a call until it is done; none when the edge gave it up first, so that whatever the call has come to is dropped, and
/// the upstream sees that at once. On a stream that it shares a call does not watch for that.
pub(super) fn unless_broken<R: CallRequest, T>(
    stream: &CarrierStream,
    mut calling: Pin<&mut impl Future<Output = T>>,
) -> impl Future<Output = Option<T>> {
    poll_fn(move |cx| match calling.as_mut().poll(cx) {
        Poll::Ready(ended) => Poll::Ready(Some(ended)),
        Poll::Pending if R::OWNS_STREAM => stream.poll_broken(cx).map(|_| None),
        Poll::Pending => Poll::Pending,
    })
}

/// Counts how a call ended; none when the edge gave it up.
pub(super) fn count(core: &ConnectorCore, ended: Option<Result<(), CallFailure>>) {
    let counters = &core.connector.counters;
    match ended {
        Some(Ok(())) => {}
        Some(Err(CallFailure::NoRoute)) => Counters::add(&counters.calls_unrouted),
        Some(Err(CallFailure::Overloaded)) => Counters::add(&counters.calls_overloaded),
        Some(Err(CallFailure::Cancelled)) | None => Counters::add(&counters.calls_cancelled),
        Some(Err(_)) => Counters::add(&counters.calls_failed),
    }
}

/// What carries an exchange. Dropped before the exchange is whole, it is reset.
struct Held(Option<UpstreamConnection>);

impl Held {
    fn get(&self) -> &UpstreamConnection {
        self.0.as_ref().expect("only `release` takes it")
    }

    /// The exchange is whole: a connection is kept for another, for as long as the upstream says, or closed.
    fn release(&mut self, keep: bool, idle_timeout: Option<Duration>) {
        match self.0.take() {
            Some(UpstreamConnection::Http(connection)) if keep => connection.give_back(idle_timeout),
            // A stream has ended, and its connection has room for another.
            Some(UpstreamConnection::Http(_) | UpstreamConnection::Http2(_)) | None => {}
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        match self.0.take() {
            Some(UpstreamConnection::Http(connection)) => connection.connection().abort(),
            Some(UpstreamConnection::Http2(stream)) => stream.abort(),
            None => {}
        }
    }
}
