//! One call: an agent's request, down a link, and what comes back.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use crate::base::{Clock, CoreId, Share, Time, Traffic};
use crate::edge::edge_core::EdgeCore;
use crate::edge::front::Front;
use crate::edge::gate::PeerInfo;
use crate::edge::moves::Moves;
use crate::edge::open::{CallTarget, NotOpened, Opened};
use crate::edge::places::Place;
use crate::edge::settings::EdgeTables;
use crate::edge::shared::Counters;
use crate::edge::usage::LinkUsage;
use crate::engine::{ByteStream, StreamError};
use crate::exchange::{CallFailure, HeadReadError, Refusal, TimeoutStream, check_request, forwarded};
use crate::latency::{
    CallPhases, EdgeStamps, OTHER, Outcome, Phase, SERVER_TIMING_LEN_MAX, SlowVerdict, server_timing,
};
use crate::policy::Source;
use crate::route::{Route, Scheme};
use crate::serve::{
    Keepalive, Next, NextHop, NextHopWork, RelayError, RelayHooks, Relayed, Request, RequestLimits, ResponseExtras,
    Service, relay,
};
use crate::tls::Connection;
use crate::wire::http1::{BodyError, HeadError, Method, RequestEdits, RequestHead, ResponseHead};
use crate::wire::mcp;

/// Who calls on a connection, from where, and how it counts.
pub(super) struct Caller {
    pub(super) core: Rc<EdgeCore>,
    /// The agent's address, as text.
    peer: String,
    /// The same, as admission rules see it.
    source: Source,
    /// What stands in front of the edge.
    pub(super) front: Front,
    /// Its place among the connections of its source, if those are counted.
    place: Option<Place>,
    /// Memory for a head that is not whole.
    greeting: Share,
    /// How often the connection has gone to another core for the request that is read next.
    pub(super) moves: Moves,
}

/// Why an agent's connection is left in another way than by closing it.
pub(super) enum Leave {
    /// It is reset, so that the agent sees that the response is not whole.
    Abort,
    /// It goes to another core, which serves the request, as often as it has by then.
    HandOver(CoreId, Moves),
}

/// The calls of an agent's connection.
pub(super) struct AgentCalls<'a> {
    caller: &'a mut Caller,
    next_hop: NextHopWork,
    timing: Vec<u8>,
}

type AgentRequest<'a> = Request<'a, Connection>;

impl Caller {
    pub(super) fn new(core: &Rc<EdgeCore>, peer_info: &mut PeerInfo) -> Caller {
        let peer = peer_info.peer.map(|peer| peer.ip().to_canonical().to_string()).unwrap_or_default();
        Caller {
            core: Rc::clone(core),
            peer,
            source: peer_info.source,
            front: peer_info.front,
            place: peer_info.place.take(),
            greeting: core.greetings.share(),
            moves: Moves::default(),
        }
    }
}

impl<'a> AgentCalls<'a> {
    pub(super) fn new(caller: &'a mut Caller) -> AgentCalls<'a> {
        AgentCalls { caller, next_hop: NextHopWork::default(), timing: Vec::new() }
    }
}

impl Service for AgentCalls<'_> {
    type Stream = Connection;
    type Leave = Leave;

    const OWN_PHASE: Phase = Phase::Edge;

    fn limits(&self) -> RequestLimits {
        let settings = &self.caller.core.edge.settings;
        RequestLimits {
            // A connection that has sent nothing yet has less time than one that has called.
            first_timeout: settings.header_timeout,
            idle_timeout: settings.idle_timeout,
            header_timeout: settings.header_timeout,
        }
    }

    async fn idle_ends(&self) {
        self.caller.core.drain.begun().await;
    }

    fn may_keep(&mut self, len: usize) -> bool {
        self.caller.greeting.set(len)
    }

    fn on_head_refused(&mut self, error: &HeadReadError) -> Option<Leave> {
        let counters = &self.caller.core.edge.counters;
        if *error == HeadReadError::Head(HeadError::Crowded) {
            Counters::add(&counters.greetings_refused);
        }
        if !matches!(error, HeadReadError::Stream(_)) {
            Counters::add(&counters.requests_refused);
        }
        None
    }

    async fn call(&mut self, request: &mut AgentRequest<'_>) -> Next<Leave> {
        let core = Rc::clone(&self.caller.core);
        let moves = std::mem::take(&mut self.caller.moves);
        let Ok(_place) = core.gate.begin_call(self.caller.place.as_ref()) else {
            Counters::add(&core.edge.counters.requests_refused);
            request.refuse(Refusal::TooManyCalls).await;
            return Next::Close;
        };
        let _counted = core.drain.count_call();
        let tables = core.tables.get();
        request.set_scheme(self.caller.scheme(request));
        let route = match self.caller.admit(request, &tables) {
            Ok(route) => route,
            Err(refusal) => return refuse(&core, request, refusal).await,
        };
        if request.is_preflight() {
            let keep = request.answer_preflight(!core.is_draining()).await;
            return if keep { Next::Keep } else { Next::Close };
        }
        let mut stamps = EdgeStamps::new(request.began());
        let seal = match route.traffic {
            Traffic::Resealed => tables.tunnels.get(&route.tunnel).and_then(|entry| entry.seal.as_ref()),
            Traffic::Plain | Traffic::Passthrough => None,
        };
        let host = request.head().host().unwrap_or_default();
        let bond = core.bonds.of_request(request.head(), &route.tunnel, request.began());
        let target = CallTarget { route, host, seal, peer: None, bond, moves };
        // Taken out of the match: within it, it would take its place twice for as long as the call lasts.
        let opened = match core.open(target).await {
            Ok(opened) => opened,
            Err(NotOpened::HandOver(target)) => return Next::Leave(Leave::HandOver(target, moves.and_one())),
            Err(NotOpened::Failed(failure)) => return fail(&core, request, route, None, &stamps, failure).await,
        };
        let next = self.exchange(request, route, &opened, &mut stamps).await;
        if opened.whole.get() {
            core.keep_session(opened, request.head().host().unwrap_or_default());
        }
        next
    }
}

impl AgentCalls<'_> {
    /// Carries request and response over the stream.
    async fn exchange(
        &mut self,
        request: &mut AgentRequest<'_>,
        route: &Route,
        opened: &Opened,
        stamps: &mut EdgeStamps,
    ) -> Next<Leave> {
        let AgentCalls { caller: Caller { core, peer, front, .. }, next_hop, timing } = self;
        let (connection, stream) = (request.stream(), &opened.stream);
        let to_agent = TimeoutStream::new(connection, &core.edge.settings.write_timeout, |taken, cx| {
            core.exchange_state(stream.on_link(), taken, cx)
        });
        let mut hooks;
        let relayed = {
            let incoming = request.incoming(&to_agent, true);
            hooks = EdgeHooks { core, opened, request: incoming.head, stamps, timing };
            let called = front.called(core.edge.settings.public.as_ref(), connection.is_tls(), incoming.head);
            let append = forwarded(peer.as_bytes(), called);
            // A GET waits for events, for as long as the agent does.
            let waits_for_events = incoming.head.method() == Method::Get;
            let first_byte_timeout = (!waits_for_events).then_some(core.edge.settings.first_byte_timeout);
            let edits = RequestEdits { drop_forwarded: true, append: &append, ..RequestEdits::default() };
            let mut next_hop = NextHop::new(stream, stream, next_hop, incoming.head, edits);
            next_hop.finish = !stream.is_sealed();
            next_hop.first_byte_timeout = first_byte_timeout;
            relay(incoming, next_hop, &core.core, &mut hooks)
        }
        .await;
        let Relayed { result, has_begun, keeps, is_cut, .. } = relayed;
        request.end_response();
        let whole = stream.is_sealed() && request.is_received() && !is_cut && next_hop.is_reusable();
        next_hop.clear();
        let error = match result {
            Ok(()) => {
                stamps.on_last_to_agent(core.core.now());
                opened.whole.set(whole);
                let outcome = match delivered(&to_agent, keeps).await {
                    Outcome::Ok if !keeps => acknowledged(core, connection).await,
                    outcome => outcome,
                };
                finish(core, request, route, opened, stamps, outcome);
                return match outcome {
                    Outcome::Ok if keeps && request.is_received() => Next::Keep,
                    Outcome::Ok => Next::Close,
                    _ => Next::Leave(Leave::Abort),
                };
            }
            Err(error) => error,
        };
        let ended = Ended::of(error);
        if let Some(failure) = ended.reset() {
            stream.on_link().reset(failure);
        }
        match ended {
            Ended::Failed { failure, .. } if !has_begun => {
                return fail(core, request, route, Some(&opened.usage), stamps, failure).await;
            }
            Ended::BadBody(error) if !has_begun => {
                finish(core, request, route, opened, stamps, Outcome::BadRequest);
                request.refuse_body(error).await;
                return Next::Close;
            }
            // It lasts as long as the agent wants.
            Ended::AgentGone if has_begun && stamps.is_standing() => {
                stamps.on_last_to_agent(core.core.now());
                finish(core, request, route, opened, stamps, Outcome::Ok);
            }
            ended => finish(core, request, route, opened, stamps, ended.outcome()),
        }
        Next::Leave(Leave::Abort)
    }
}

/// How an exchange ended that did not succeed.
enum Ended {
    /// The agent left.
    AgentGone,
    /// The agent neither read nor sent what it should for too long.
    AgentStalled,
    /// The agent's body is malformed.
    BadBody(BodyError),
    /// No response came, or not all of it.
    Failed {
        failure: CallFailure,
        /// Whether the stream is still to be reset.
        reset: bool,
    },
}

impl Ended {
    fn of(error: RelayError) -> Ended {
        match error {
            RelayError::CallerLeft => Ended::AgentGone,
            RelayError::CallerStalled | RelayError::Respond(StreamError::TimedOut) => Ended::AgentStalled,
            RelayError::BadBody(error) => Ended::BadBody(error),
            // The agent or a buffer was waited for, and the stream came to an end meanwhile.
            RelayError::Respond(error @ StreamError::ResetWith { .. }) => Ended::of_stream(Some(error)),
            RelayError::Respond(_) => Ended::AgentGone,
            RelayError::NoResponse(error) | RelayError::Broken(error) => Ended::of_stream(error),
            RelayError::NotTaken | RelayError::Stalled => Ended::of_stream(None),
            RelayError::Protocol(_) => Ended::Failed { failure: CallFailure::UpstreamProtocol, reset: true },
            RelayError::Late => Ended::Failed { failure: CallFailure::Deadline, reset: true },
        }
    }

    fn of_stream(error: Option<StreamError>) -> Ended {
        let failure = error.map_or(CallFailure::UpstreamBroken, |error| CallFailure::of_stream(&error));
        Ended::Failed { failure, reset: false }
    }

    /// The failure with which the stream is reset, if it is not yet.
    fn reset(&self) -> Option<CallFailure> {
        match self {
            Ended::AgentGone | Ended::AgentStalled => Some(CallFailure::Cancelled),
            Ended::BadBody(_) => Some(CallFailure::RequestBroken),
            Ended::Failed { failure, reset } => reset.then_some(*failure),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Ended::AgentGone => Outcome::AgentGone,
            Ended::AgentStalled => Outcome::AgentStalled,
            Ended::BadBody(_) => Outcome::BadRequest,
            Ended::Failed { failure, .. } => failure.outcome(),
        }
    }
}

/// Takes the times of an exchange at the edge.
struct EdgeHooks<'a> {
    core: &'a EdgeCore,
    opened: &'a Opened,
    request: &'a RequestHead,
    stamps: &'a mut EdgeStamps,
    timing: &'a mut Vec<u8>,
}

impl RelayHooks for EdgeHooks<'_> {
    fn on_request_head_queued(&mut self) {
        self.stamps.on_handed_to_link(self.core.core.now());
    }

    fn received_at(&self) -> Time {
        self.opened.stream.on_link().received_at()
    }

    fn on_response_head(&mut self, head: &ResponseHead, received_at: Time) -> ResponseExtras<'_> {
        self.stamps.on_from_link(received_at);
        self.stamps.on_status(head.status());
        self.core.bonds.on_answer(&self.opened.usage, self.request, head, self.core.core.turn_time());
        let phases = self.opened.stream.on_link().times();
        self.timing.clear();
        self.timing.reserve(SERVER_TIMING_LEN_MAX);
        server_timing(&CallPhases::split(self.stamps.times(self.core.core.now()), phases), self.timing);
        ResponseExtras {
            may_keep: !self.core.is_draining(),
            server_timing: Some(self.timing),
            public: None,
            is_metadata: false,
        }
    }

    fn on_response_head_queued(&mut self) {
        self.stamps.on_to_agent(self.core.core.now());
    }

    fn on_event_stream(&mut self, is_standing: bool) {
        self.stamps.on_event_stream(is_standing);
    }

    /// Where the link is to end, the connector ends them, behind all that it has sent.
    fn streams_end(&self) -> impl Future<Output = ()> {
        self.core.drain.begun()
    }

    fn keepalive(&self) -> Option<Keepalive<'_>> {
        let silence_max = self.core.edge.settings.sse_keepalive?;
        Some(Keepalive { core: &self.core.core, silence_max })
    }
}

/// Answers a request that is none of our calls.
async fn refuse(core: &EdgeCore, request: &mut AgentRequest<'_>, refusal: Refusal) -> Next<Leave> {
    Counters::add(&core.edge.counters.requests_refused);
    count_refused(core, refusal);
    request.refuse(refusal).await;
    Next::Close
}

/// Answers a call that got no answer from its upstream.
async fn fail(
    core: &EdgeCore,
    request: &mut AgentRequest<'_>,
    route: &Route,
    usage: Option<&LinkUsage>,
    stamps: &EdgeStamps,
    failure: CallFailure,
) -> Next<Leave> {
    let phases = CallPhases::split(stamps.times(core.core.now()), None);
    let mut timing = Vec::new();
    server_timing(&phases, &mut timing);
    let keep = request.fail(failure, &timing, !core.is_draining()).await;
    record(core, request, route, usage, &phases, failure.outcome());
    if keep { Next::Keep } else { Next::Close }
}

fn finish(
    core: &EdgeCore,
    request: &mut AgentRequest<'_>,
    route: &Route,
    opened: &Opened,
    stamps: &EdgeStamps,
    outcome: Outcome,
) {
    let times = stamps.times(core.core.now());
    let phases = CallPhases::split(times, opened.stream.on_link().times());
    if outcome == Outcome::Ok && !phases.is_of_gateway() {
        core.figures.on_good_call(core.core.turn_time());
    }
    record(core, request, route, Some(&opened.usage), &phases, outcome);
}

/// Counts a call that has ended; in `usage` too, if it went down a link.
fn record(
    core: &EdgeCore,
    request: &mut AgentRequest<'_>,
    route: &Route,
    usage: Option<&LinkUsage>,
    phases: &CallPhases,
    outcome: Outcome,
) {
    let Some(call) = request.label().map(|label| label.call()) else { return };
    let method = call.method().unwrap_or(call.kind().name());
    let tool = call.tool().unwrap_or_default();
    let mut recorder = core.figures.recorder.borrow_mut();
    let label = recorder.label(route.name.as_str(), method, tool);
    recorder.record(label, phases, outcome);
    if let Some(usage) = usage {
        usage.count(label, core.core.turn_time());
    }
    // A stream of events is meant to last: how long it did says nothing.
    if call.kind() == mcp::CallKind::Stream || method == "subscriptions/listen" {
        return;
    }
    let verdict = core.figures.slow_calls.borrow_mut().judge(core.core.turn_time(), phases.took());
    if let SlowVerdict::Log { left_out } = verdict {
        let mut split = Vec::new();
        server_timing(phases, &mut split);
        let split = String::from_utf8_lossy(&split);
        // To the microsecond: a longer fraction is noise.
        let took_ms = (phases.took().as_secs_f64() * 1e6).round() / 1e3;
        tracing::warn!(
            route = route.name.as_str(),
            method,
            tool,
            outcome = outcome.name(),
            took_ms,
            %split,
            left_out,
            "slow call"
        );
    }
}

impl Caller {
    /// The scheme by which the agent called.
    fn scheme(&self, request: &AgentRequest<'_>) -> Scheme {
        let public = self.core.edge.settings.public.as_ref();
        self.front.scheme(public, request.stream().is_tls(), request.head())
    }

    /// The route that a request is for, if the request may be passed on.
    fn admit<'t>(&self, request: &AgentRequest<'_>, tables: &'t EdgeTables) -> Result<&'t Route, Refusal> {
        let host = check_request(request.head(), &self.core.edge.settings.origins, self.scheme(request))?;
        let route = tables.routes.lookup(&host).ok_or(Refusal::UnknownHost)?;
        let verdict = tables.admission.judge_call(&self.source, &route.tunnel);
        if !self.core.gate.admits_call(&self.source, verdict) {
            return Err(Refusal::Network);
        }
        if route.traffic == Traffic::Passthrough { Err(Refusal::Passthrough) } else { Ok(route) }
    }
}

/// Waits until the system has the whole of an answer, where it is the last on its connection or more than is sent at once: an
/// answer that is cut then was not a good one. A last one has still to be [`acknowledged`].
async fn delivered(to_agent: &impl ByteStream, keep: bool) -> Outcome {
    let mut whole = !keep;
    let sent = poll_fn(|cx| {
        if !whole {
            match to_agent.poll_ready(cx) {
                Poll::Pending => whole = true,
                ready => return ready,
            }
        }
        to_agent.poll_flushed(cx)
    });
    outcome_of(&sent.await)
}

/// Ends a connection behind its last answer, and waits until the agent's system has all of it: until then, whatever ends the connection
/// cuts the answer.
async fn acknowledged(core: &EdgeCore, connection: &Connection) -> Outcome {
    outcome_of(&connection.finish_acknowledged(|| core.write_timeout()).await)
}

fn outcome_of(sent: &Result<(), StreamError>) -> Outcome {
    match sent {
        Ok(()) => Outcome::Ok,
        Err(StreamError::TimedOut) => Outcome::AgentStalled,
        Err(_) => Outcome::AgentGone,
    }
}

/// Counts a request that is of no route.
fn count_refused(core: &EdgeCore, refusal: Refusal) {
    let mut recorder = core.figures.recorder.borrow_mut();
    let label = recorder.label(OTHER, OTHER, "");
    recorder.record(label, &CallPhases::default(), refusal.outcome());
}

#[cfg(test)]
mod tests {
    use std::task::Context;

    use super::*;
    use crate::engine::Lease;

    /// An agent's connection that is in one state for good.
    struct Agent {
        ready: Poll<Result<(), StreamError>>,
        flushed: Result<(), StreamError>,
    }

    impl ByteStream for Agent {
        fn poll_recv(&self, _: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
            Poll::Pending
        }

        fn send(&self, _: Lease) -> Result<(), StreamError> {
            Ok(())
        }

        fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
            self.ready.clone()
        }

        fn poll_flushed(&self, _: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
            Poll::Ready(self.flushed.clone())
        }

        fn finish(&self) {}

        fn abort(&self) {}
    }

    #[test]
    fn an_answer_that_was_cut_is_not_a_good_one() {
        let (ok, reset, late) = (Ok(()), Err(StreamError::Reset), Err(StreamError::TimedOut));
        for (keep, ready, flushed, outcome) in [
            (true, Poll::Ready(ok.clone()), late.clone(), Outcome::Ok),
            (true, Poll::Ready(reset.clone()), ok.clone(), Outcome::AgentGone),
            (true, Poll::Pending, ok.clone(), Outcome::Ok),
            (true, Poll::Pending, late.clone(), Outcome::AgentStalled),
            (false, Poll::Ready(ok.clone()), ok.clone(), Outcome::Ok),
            (false, Poll::Ready(ok.clone()), late, Outcome::AgentStalled),
            (false, Poll::Ready(reset.clone()), reset.clone(), Outcome::AgentGone),
            (false, Poll::Pending, reset, Outcome::AgentGone),
        ] {
            let agent = Agent { ready, flushed };
            assert_eq!(futures_lite::future::block_on(delivered(&agent, keep)), outcome, "{keep}");
        }
    }
}
