//! One call: an agent's request, down a link, and what comes back.

use std::rc::Rc;

use crate::base::{Clock, CoreId, Share, Time, Traffic};
use crate::edge::agent_request::AgentRequest;
use crate::edge::edge_core::EdgeCore;
use crate::edge::front::Front;
use crate::edge::gate::PeerInfo;
use crate::edge::link_choice::Chosen;
use crate::edge::moves::Moves;
use crate::edge::open::{CallTarget, NotOpened, Opened};
use crate::edge::settings::EdgeTables;
use crate::edge::shared::Counters;
use crate::edge::source_permits::ConnectionPermit;
use crate::edge::usage::LinkUsage;
use crate::engine::StreamError;
use crate::exchange::{CallFailure, HeadReadError, Refusal, TimeoutStream, forwarded, requested_host};
use crate::latency::{
    CallPhases, EdgeStamps, OTHER, Outcome, Phase, SERVER_TIMING_LEN_MAX, SlowVerdict, server_timing,
};
use crate::policy::{LeftOut, Source};
use crate::route::{Route, Scheme};
use crate::serve::{
    Http1Request, Keepalive, LabelError, Next, NextHop, NextHopWork, RelayError, RelayHooks, Relayed, Request,
    RequestLimits, ResponseExtras, Service, relay,
};
use crate::tls::Connection;
use crate::wire::http1::{BodyError, HeadError, Method, RequestEdits, RequestHead, ResponseHead};
use crate::wire::mcp::{self, Era};

/// Who calls on a connection, from where, and how it counts.
pub(super) struct Caller {
    pub(super) core: Rc<EdgeCore>,
    /// The agent's address, as text.
    peer: String,
    /// The same, as admission rules see it.
    source: Source,
    /// What stands in front of the edge.
    pub(super) front: Front,
    /// Its permit among the connections of its source, if those are counted.
    permit: Option<ConnectionPermit>,
    /// Whether its connection is TLS.
    pub(super) is_tls: bool,
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
    caller: &'a Caller,
    /// Memory for a head that is not whole.
    greeting: Share,
    /// How often the connection has gone to another core for the request that is read next.
    moves: Moves,
    next_hop: NextHopWork,
    timing: Vec<u8>,
}

impl Caller {
    pub(super) fn new(core: &Rc<EdgeCore>, peer_info: &mut PeerInfo, is_tls: bool) -> Caller {
        let peer = peer_info.peer.map(|peer| peer.ip().to_canonical().to_string()).unwrap_or_default();
        Caller {
            core: Rc::clone(core),
            peer,
            source: peer_info.source,
            front: peer_info.front,
            permit: peer_info.permit.take(),
            is_tls,
        }
    }
}

impl<'a> AgentCalls<'a> {
    pub(super) fn new(caller: &'a Caller, moves: Moves) -> AgentCalls<'a> {
        let greeting = caller.core.greetings.share();
        AgentCalls { caller, greeting, moves, next_hop: NextHopWork::default(), timing: Vec::new() }
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
        self.greeting.set(len)
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

    fn call(&mut self, request: &mut Http1Request<'_, Connection>) -> impl Future<Output = Next<Leave>> {
        self.answer(request)
    }
}

impl AgentCalls<'_> {
    /// Serves a request whose head was read.
    pub(super) async fn answer<'r>(&mut self, request: &mut impl AgentRequest<'r>) -> Next<Leave> {
        let core = Rc::clone(&self.caller.core);
        let mut moves = std::mem::take(&mut self.moves);
        let Ok(_permit) = core.gate.begin_call(self.caller.permit.as_ref()) else {
            Counters::add(&core.edge.counters.requests_refused);
            request.refuse(Refusal::TooManyCalls).await;
            return Next::Close;
        };
        let _counted = core.drain.count_call();
        let tables = core.tables.get();
        let host = requested_host(request.head());
        let route = host.ok().and_then(|host| tables.routes.lookup(&host));
        request.set_scheme(self.caller.scheme(request, route));
        let admitted = host.and_then(|_| self.caller.admit(request, &tables, route));
        let route = match admitted {
            Ok(route) => route,
            Err(refusal) => return refuse(&core, request, refusal).await,
        };
        if request.is_preflight() {
            let keep = request.answer_preflight(!core.is_draining()).await;
            return if keep { Next::Keep } else { Next::Close };
        }
        let mut stamps = EdgeStamps::new(request.began());
        let bond = core.bonds.of_request(request.head(), &route.tunnel, request.began());
        if route.own.needs_label {
            // Once a part of the body was read, the connection cannot go to another core.
            let host = request.head().host().unwrap_or_default();
            if let Chosen::OtherCore(target) = core.choose_link(&route.tunnel, host, bond, moves) {
                return Next::Leave(Leave::HandOver(target, moves.and_one()));
            }
            if let Err(error) = request.read_label(core.read_ahead_limits()).await {
                return refuse_unlabelled(&core, request, route, &stamps, error).await;
            }
            moves = Moves::spent();
        }
        let seal = match route.traffic {
            Traffic::Resealed => tables.tunnels.get(&route.tunnel).and_then(|entry| entry.seal.as_ref()),
            Traffic::Plain | Traffic::Passthrough => None,
        };
        let host = request.head().host().unwrap_or_default();
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

    /// Carries request and response over the stream.
    async fn exchange<'r>(
        &mut self,
        request: &mut impl AgentRequest<'r>,
        route: &Route,
        opened: &Opened,
        stamps: &mut EdgeStamps,
    ) -> Next<Leave> {
        let AgentCalls { caller: Caller { core, peer, front, is_tls, .. }, next_hop, timing, .. } = self;
        let stream = &opened.stream;
        let to_agent = TimeoutStream::new(request.carrier(), &core.edge.settings.write_timeout, |taken, cx| {
            core.exchange_state(stream.on_link(), taken, cx)
        });
        let mut hooks;
        let relayed = {
            let incoming = request.incoming(&to_agent);
            hooks = EdgeHooks { core, opened, request: incoming.head, stamps, timing, is_refused: false };
            let public = route.own.public.as_ref().or(core.edge.settings.public.as_ref());
            let called = front.called(public, *is_tls, incoming.head);
            let append = forwarded(peer.as_bytes(), called);
            // A GET waits for events, for as long as the agent does.
            let waits_for_events = incoming.head.method() == Method::Get;
            let first_byte_timeout = route.own.first_byte_timeout.unwrap_or(core.edge.settings.first_byte_timeout);
            let drop_expect = incoming.label.as_ref().is_some_and(|label| label.has_continued());
            let edits = RequestEdits { drop_forwarded: true, drop_expect, append: &append, ..RequestEdits::default() };
            let mut next_hop = NextHop::new(stream, stream, next_hop, incoming.head, edits);
            next_hop.finish = !stream.is_sealed();
            next_hop.first_byte_timeout = (!waits_for_events).then_some(first_byte_timeout);
            relay(incoming, next_hop, &core.core, &mut hooks)
        }
        .await;
        let Relayed { result, has_begun, keeps, is_cut, .. } = relayed;
        let is_refused = hooks.is_refused;
        request.end_response();
        let whole = stream.is_sealed() && request.is_received() && !is_cut && next_hop.is_reusable();
        next_hop.clear();
        let error = match result {
            Ok(()) => {
                stamps.on_last_to_agent(core.core.now());
                opened.whole.set(whole);
                if is_refused {
                    note_era(core, request, route);
                }
                let outcome = request.delivered(&to_agent, keeps, core).await;
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
    /// The agent closed its connection before its answer was complete.
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
    /// Whether the answer may be that of a server to an agent of the other era.
    is_refused: bool,
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
        self.is_refused = Era::is_refusal(head.status());
        self.core.bonds.on_answer(&self.opened.usage, self.request, head, self.core.core.turn_time());
        let phases = self.opened.stream.on_link().times();
        self.timing.clear();
        self.timing.reserve(SERVER_TIMING_LEN_MAX);
        server_timing(&CallPhases::split(self.stamps.times(&self.core.core), phases), self.timing);
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
async fn refuse(core: &EdgeCore, request: &mut impl Request, refusal: Refusal) -> Next<Leave> {
    Counters::add(&core.edge.counters.requests_refused);
    count_refused(core, refusal);
    request.refuse(refusal).await;
    Next::Close
}

/// Answers a request whose label is needed and cannot become known.
async fn refuse_unlabelled(
    core: &EdgeCore,
    request: &mut impl Request,
    route: &Route,
    stamps: &EdgeStamps,
    error: LabelError,
) -> Next<Leave> {
    let outcome = match &error {
        LabelError::Refused(refusal) => refusal.outcome(),
        LabelError::Body(_) => Outcome::BadRequest,
        LabelError::CallerLeft => Outcome::AgentGone,
    };
    record(core, request, route, None, &CallPhases::split(stamps.times(&core.core), None), outcome);
    match error {
        LabelError::Refused(refusal) => request.refuse(refusal).await,
        LabelError::Body(error) => request.refuse_body(error).await,
        LabelError::CallerLeft => return Next::Leave(Leave::Abort),
    }
    Counters::add(&core.edge.counters.requests_refused);
    Next::Close
}

/// Answers a call that got no answer from its upstream.
async fn fail(
    core: &EdgeCore,
    request: &mut impl Request,
    route: &Route,
    usage: Option<&LinkUsage>,
    stamps: &EdgeStamps,
    failure: CallFailure,
) -> Next<Leave> {
    let phases = CallPhases::split(stamps.times(&core.core), None);
    let mut timing = Vec::new();
    server_timing(&phases, &mut timing);
    let keep = request.fail(failure, &timing, !core.is_draining()).await;
    record(core, request, route, usage, &phases, failure.outcome());
    if keep { Next::Keep } else { Next::Close }
}

fn finish(
    core: &EdgeCore,
    request: &mut impl Request,
    route: &Route,
    opened: &Opened,
    stamps: &EdgeStamps,
    outcome: Outcome,
) {
    let times = stamps.times(&core.core);
    let phases = CallPhases::split(times, opened.stream.on_link().times());
    if outcome == Outcome::Ok && !phases.is_of_gateway() {
        core.figures.on_good_call(core.core.turn_time());
    }
    record(core, request, route, Some(&opened.usage), &phases, outcome);
}

/// Counts a call that has ended; in `usage` too, if it went down a link.
fn record(
    core: &EdgeCore,
    request: &mut impl Request,
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
    /// The scheme by which the agent called; `route` is that of the host, if there is one.
    pub(super) fn scheme(&self, request: &impl Request, route: Option<&Route>) -> Scheme {
        let own = route.and_then(|route| route.own.public.as_ref());
        let public = own.or(self.core.edge.settings.public.as_ref());
        self.front.scheme(public, self.is_tls, request.head())
    }

    /// The route of a request, if the request may be passed on.
    fn admit<'t>(
        &self,
        request: &impl Request,
        tables: &EdgeTables,
        route: Option<&'t Route>,
    ) -> Result<&'t Route, Refusal> {
        if !self.core.edge.settings.origins.allow(request.head(), self.scheme(request, route)) {
            return Err(Refusal::Origin);
        }
        let route = route.ok_or(Refusal::UnknownHost)?;
        let verdict = tables.admission.judge_call(&self.source, &route.tunnel);
        if !self.core.gate.admits_call(&self.source, verdict) {
            return Err(Refusal::Network);
        }
        if route.traffic == Traffic::Passthrough { Err(Refusal::Passthrough) } else { Ok(route) }
    }
}

/// Notes that a server has refused a request as one of the other era of MCP does, if the request opens a conversation.
fn note_era(core: &EdgeCore, request: &mut impl Request, route: &Route) {
    let opened = request.label().and_then(|label| Era::of_opening(label.call().method()?));
    let Some(era) = opened else { return };
    Counters::add(&core.edge.counters.eras_differed);
    if let Some(LeftOut { same, others }) = core.edge.log_era(&route.name, era, core.core.turn_time()) {
        tracing::info!(
            route = route.name.as_str(),
            same,
            others,
            "an agent of MCP {} was refused, as by a server of {}: agents that speak both try the other way by themselves; for the \
             rest, update the server or the agent, and check the path",
            era.revisions(),
            era.other().revisions()
        );
    }
}

/// Counts a request that is of no route.
fn count_refused(core: &EdgeCore, refusal: Refusal) {
    let mut recorder = core.figures.recorder.borrow_mut();
    let label = recorder.label(OTHER, OTHER, "");
    recorder.record(label, &CallPhases::default(), refusal.outcome());
}
