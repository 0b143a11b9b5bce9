//! One call: an agent's request, down a link, and what comes back.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future;

use crate::base::{Clock, CoreId, Share, Time, Traffic};
use crate::edge::agent_request::AgentRequest;
use crate::edge::bonds::Bond;
use crate::edge::call_notes::CallNotes;
use crate::edge::edge_core::EdgeCore;
use crate::edge::front::Front;
use crate::edge::gate::PeerInfo;
use crate::edge::link_choice::Chosen;
use crate::edge::moves::{Moved, Moves};
use crate::edge::open::{CallTarget, NotOpened, Opened};
use crate::edge::overload::{self, Entry, Full};
use crate::edge::recording::{Ending, count_refused, failed_call, finish, guarded, keep_refused, note_era, record};
use crate::edge::route_limits::{CallPlace, PlaceAsked};
use crate::edge::settings::EdgeTables;
use crate::edge::shared::Counters;
use crate::edge::source_permits::ConnectionPermit;
use crate::edge::task_calls::AnswerSize;
use crate::edge::usage::LinkUsage;
use crate::engine::{Core, StreamError};
use crate::exchange::{
    CallFailure, CallReport, FailedCall, HeadReadError, OverloadRefusal, Refusal, TimeoutStream, answer_to_body,
    forwarded, requested_host, trace_of,
};
use crate::latency::{CallPhases, EdgeStamps, Outcome, Phase, Retries, SERVER_TIMING_LEN_MAX, Stage, server_timing};
use crate::policy::Source;
use crate::route::{Route, Scheme};
use crate::serve::{
    CallDeadline, CallGuard, CallLabel, Http1Request, LabelError, Next, NextHop, NextHopWork, ReadAheadLimits,
    RelayError, RelayHooks, Relayed, Replay, Request, RequestLimits, ResponseExtras, Service, relay,
};
use crate::tls::Connection;
use crate::wire::http1::{BodyError, HeadError, Method, RequestEdits, RequestHead, ResponseHead, TimeLeftEdit};
use crate::wire::mcp::{self, Era};

/// Who calls on a connection, from where, and how it counts.
pub(super) struct Caller {
    pub(super) core: Rc<EdgeCore>,
    /// The agent's address, as text.
    peer: String,
    /// The same, as admission rules see it.
    pub(super) source: Source,
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
    HandOver(CoreId, Moved),
}

/// The calls of an agent's connection.
pub(super) struct AgentCalls<'a> {
    caller: &'a Caller,
    /// Memory for a head that is not whole.
    greeting: Share,
    next_hop: NextHopWork,
    /// The start of a body that may have to be sent again; none before a call of a tunnel that has several connectors.
    replay: Option<Box<Replay>>,
    /// In a box, so that the task does not have its size.
    work: Box<CallWork>,
}

/// What is kept of a call while it lasts; used again for its memory.
#[derive(Default)]
struct CallWork {
    timing: Vec<u8>,
    stamps: EdgeStamps,
    guard: CallGuard,
    /// Its place among the calls of its route in flight, where those are limited.
    place: Cell<Option<CallPlace>>,
    notes: CallNotes,
    /// Whether the answer may be that of a server to an agent of the other era.
    is_refused: bool,
    /// Whether it has waited for a link in vain.
    has_waited: bool,
    /// Whether the connection has come from another core for the request that is read next.
    moved: Moved,
    /// When the request began, on whichever core.
    began: Time,
    again: Again,
}

/// What is known of a call that may have to be opened again.
#[derive(Default)]
struct Again {
    /// Which connector it is to go to.
    bond: Bond,
    /// How often the connection has gone to another core for it.
    moves: Moves,
    /// Why the connector before has not passed it on.
    refused: Option<CallFailure>,
    retries: Retries,
    /// How long to wait before that.
    pause: Duration,
    /// Whether a part of the body was read: it is sent again from its start.
    has_begun: bool,
    /// Whether another connector may take it.
    may_move: bool,
    /// Whether it was opened again already.
    has_moved: bool,
}

/// What came of a stream that was opened for a call.
enum Exchanged {
    /// The call has ended.
    Done(Next<Leave>),
    /// The connector did not pass it on, and another may.
    NotPassedOn(CallFailure),
}

impl CallWork {
    /// How the call has ended.
    fn ending(&self, outcome: Outcome) -> Ending<'_> {
        Ending { notes: &self.notes, guard: Some(&self.guard), place: Some(&self.place), own: None, outcome }
    }
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
    pub(super) fn new(caller: &'a Caller, moved: Moved) -> AgentCalls<'a> {
        let greeting = caller.core.greetings.share();
        let work = Box::new(CallWork { moved, ..CallWork::default() });
        AgentCalls { caller, greeting, next_hop: NextHopWork::default(), replay: None, work }
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
        if let Some(own) = error.own_answer() {
            Counters::add(&counters.requests_refused);
            let now = self.caller.core.core.turn_time();
            self.caller.core.figures.on_turned_away(now, self.caller.source.address, Stage::Request, own);
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
        let Moved { mut moves, began } = std::mem::take(&mut self.work.moved);
        self.work.began = began.unwrap_or(request.began());
        self.work.place.set(None);
        self.work.notes = CallNotes::begin(core.links.next_call(), self.caller.source.address);
        let Ok(_permit) = core.gate.begin_call(self.caller.permit.as_ref()) else {
            Counters::add(&core.edge.counters.requests_refused);
            keep_refused(&core, request, &self.work.notes, Refusal::TooManyCalls);
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
            Err(refusal) => return refuse(&core, request, &self.work.notes, refusal).await,
        };
        if request.is_preflight() {
            let keep = request.answer_preflight(!core.is_draining()).await;
            return if keep { Next::Keep } else { Next::Close };
        }
        if let (Some(_), Some(label)) = (core.edge.tasks(), request.label()) {
            label.digest_arguments();
        }
        self.work.stamps = EdgeStamps::new(request.began());
        self.work.guard.begin(&route.own.terms(&core.edge.settings.deadlines, None));
        self.bound_by_caller(request, route);
        let bond = core.bonds.of_request(request.head(), &route.tunnel, request.began());
        self.work.has_waited = false;
        let needs_label = route.own.needs_label(&core.edge.settings.deadlines, &core.edge.settings.breaker);
        if needs_label {
            if let Err(next) = self.read_label(request, route, bond, moves).await {
                return next;
            }
            moves = Moves::spent();
        }
        if let Some(report) = self.begin_guard(request, route, needs_label) {
            let failed = Failed { failure: CallFailure::BreakerOpen, report: Some(report) };
            let left = self.work.guard.deadline.caller_left(core.core.turn_time());
            // In a box, so that other calls do not have its size.
            return Box::pin(async {
                request.learn_id(left).await;
                fail_with(&core, request, route, None, &self.work, failed).await
            })
            .await;
        }
        match overload::enter(&core, request.head(), route, &self.caller.source) {
            Entry::Enters(place) => self.work.place.set(place),
            // In a box, so that other calls do not have its size.
            Entry::Full(full) => match Box::pin(self.wait_for_place(request, route, full, bond, moves)).await {
                Ok(place) => {
                    self.work.place.set(place);
                    moves = Moves::spent();
                }
                Err(next) => return next,
            },
        }
        self.work.again = Again { bond, moves, ..Again::default() };
        loop {
            if !self.work.again.pause.is_zero() {
                // In a box, so that calls do not have its size.
                Box::pin(core.core.sleep(std::mem::take(&mut self.work.again.pause))).await;
            }
            let Again { bond, moves, .. } = self.work.again;
            let host = request.head().host().unwrap_or_default();
            let seal = match route.traffic {
                Traffic::Resealed => tables.tunnels.get(&route.tunnel).and_then(|entry| entry.seal.as_ref()),
                Traffic::Plain | Traffic::Passthrough => None,
            };
            let (call, has_waited) = (self.work.notes.number, self.work.has_waited);
            let until = self.work.guard.deadline.answer_by();
            let target = CallTarget { route, host, seal, peer: None, bond, moves, call, has_waited, until };
            self.work.notes.opens(core.core.turn_time());
            // Taken out of the match: within it, it would take its place twice for as long as the call lasts.
            let opened = match core.open(target).await {
                Ok(opened) => opened,
                Err(NotOpened::HandOver(target)) => {
                    // It asks for a place there as well.
                    self.work.place.set(None);
                    return Next::Leave(Leave::HandOver(target, self.moved(moves)));
                }
                Err(NotOpened::Failed(failure)) => {
                    // The failure that the first connector reported is more useful than the lack of another one.
                    self.work.notes.on_opened(core.core.turn_time());
                    if failure == CallFailure::CallerTimeoutUnsent {
                        self.work.guard.deadline.on_cut_for_caller();
                    }
                    let failure = self.work.again.refused.unwrap_or(failure);
                    return fail(&core, request, route, None, &self.work, failure).await;
                }
                Err(not_opened) => {
                    let (failure, other) = match not_opened {
                        NotOpened::NotPassedOn(failure, connector) => (failure, Some(connector)),
                        _ => (CallFailure::ConnectorOffline, None),
                    };
                    let may = other.is_none_or(|connector| {
                        failure.may_pass_elsewhere() && core.may_move(&route.tunnel, self.work.again.bond, connector)
                    });
                    self.work.notes.on_opened(core.core.turn_time());
                    if !may || !self.again(&core, route) {
                        let failure = self.work.again.refused.unwrap_or(failure);
                        return fail(&core, request, route, None, &self.work, failure).await;
                    }
                    if let Some(connector) = other {
                        self.work.notes.on_not_passed_on(failure, connector);
                    }
                    self.work.again.refused = Some(failure);
                    self.work.again.bond = other.map_or(self.work.again.bond, Bond::Other);
                    continue;
                }
            };
            self.work.notes.on_opened(core.core.turn_time());
            let may_move = core.may_move(&route.tunnel, self.work.again.bond, opened.usage.connector());
            self.work.again.may_move = may_move;
            if self.work.again.retries.made() > 0 {
                let counters = &core.edge.counters;
                let has_moved = std::mem::replace(&mut self.work.again.has_moved, true);
                Counters::add(if has_moved { &counters.calls_moved_again } else { &counters.calls_moved });
            }
            if !self.work.again.has_begun {
                let may_withdraw = core.allow_withdrawal(&route.tunnel, &opened, request.head());
                self.keep_body(may_move || may_withdraw);
            }
            match self.exchange(request, route, &opened).await {
                Exchanged::Done(next) => {
                    if opened.whole.get() {
                        core.keep_session(opened, request.head().host().unwrap_or_default());
                    }
                    return next;
                }
                Exchanged::NotPassedOn(failure) => {
                    let connector = opened.usage.connector();
                    self.work.notes.on_not_passed_on(failure, connector);
                    if !self.again(&core, route) {
                        let usage = Some(&*opened.usage);
                        return fail(&core, request, route, usage, &self.work, failure).await;
                    }
                    // Once a part of the body was read, the connection cannot go to another core.
                    self.work.again.moves = Moves::spent();
                    (self.work.again.refused, self.work.again.has_begun) = (Some(failure), true);
                    if !opened.stream.on_link().is_withdrawn() {
                        self.work.again.bond = Bond::Other(connector);
                    }
                }
            }
        }
    }

    /// Reads the body as far as it takes to know what the call is about, on the core that has a link for it.
    ///
    /// # Errors
    ///
    /// What becomes of the connection, if the call has been answered or goes to another core.
    async fn read_label(
        &mut self,
        request: &mut impl Request,
        route: &Route,
        bond: Bond,
        moves: Moves,
    ) -> Result<(), Next<Leave>> {
        let core = Rc::clone(&self.caller.core);
        // Once a part of the body was read, the connection cannot go to another core.
        let host = request.head().host().unwrap_or_default();
        let elsewhere = match core.choose_link(&route.tunnel, host, bond, moves) {
            Chosen::OtherCore(target) => Some(target),
            Chosen::Wait(_) => {
                let call = self.work.notes.number;
                let target = CallTarget {
                    route,
                    host,
                    seal: None,
                    peer: None,
                    bond,
                    moves,
                    call,
                    has_waited: false,
                    until: self.work.guard.deadline.answer_by(),
                };
                // In a box, so that other calls do not have its size.
                self.work.notes.opens(core.core.turn_time());
                let found = Box::pin(core.wait_for_link(target)).await;
                self.work.notes.on_opened(core.core.turn_time());
                self.work.has_waited = found.is_err();
                found.ok().filter(|found| *found != core.core.id())
            }
            Chosen::Link(_) | Chosen::Unproven(_) => None,
        };
        if let Some(target) = elsewhere {
            return Err(Next::Leave(Leave::HandOver(target, self.moved(moves))));
        }
        if let Err(error) = request.read_label(self.read_ahead_limits(&core)).await {
            let is_over = self.work.guard.deadline.answer_by() <= core.core.turn_time();
            if is_over && matches!(error, LabelError::Refused(Refusal::LateBody)) {
                self.work.guard.deadline.on_cut_for_caller();
                return Err(fail(&core, request, route, None, &self.work, CallFailure::CallerTimeoutUnsent).await);
            }
            return Err(refuse_unlabelled(&core, request, route, &self.work, error).await);
        }
        Ok(())
    }

    /// What a body may use until it says what it calls.
    fn read_ahead_limits<'c>(&self, core: &'c EdgeCore) -> ReadAheadLimits<'c> {
        let limits = core.read_ahead_limits();
        let left = self.work.guard.deadline.answer_by() - core.core.turn_time();
        ReadAheadLimits { timeout: limits.timeout.min(left), ..limits }
    }

    /// The request whose connection goes to another core once more.
    fn moved(&self, moves: Moves) -> Moved {
        Moved { moves: moves.and_one(), began: Some(self.work.began) }
    }

    /// Waits for a place among the calls of the route in flight, on the core that has a link for the call; none if it needs none.
    ///
    /// # Errors
    ///
    /// What becomes of the connection, if the call has been answered or goes to another core.
    async fn wait_for_place<'r>(
        &mut self,
        request: &mut impl AgentRequest<'r>,
        route: &Route,
        full: Full,
        bond: Bond,
        moves: Moves,
    ) -> Result<Option<CallPlace>, Next<Leave>> {
        let core = Rc::clone(&self.caller.core);
        self.read_label(request, route, bond, moves).await?;
        // Calls that have a place may wait for just this message.
        if request.label().is_some_and(|label| !label.may_expect_answer()) {
            return Ok(None);
        }
        let asked = core.core.turn_time();
        let left = self.work.guard.deadline.caller_left(asked);
        let overload = match full.ask(&core, request, route, left) {
            PlaceAsked::Admitted(place) => return Ok(Some(place)),
            PlaceAsked::Refused(overload) => overload,
            PlaceAsked::Waits(waiting) => {
                // A call that nobody waits for leaves its turn to the next.
                let left = async {
                    request.caller_left().await;
                    None
                };
                let decided = future::or(async { Some(waiting.place().await) }, left).await;
                self.work.notes.queued = core.core.turn_time() - asked;
                match decided {
                    Some(Ok(place)) => return Ok(Some(place)),
                    Some(Err(overload)) => overload,
                    None => return Err(leave_unsent(&core, request, route, &self.work)),
                }
            }
        };
        request.learn_id(self.work.guard.deadline.caller_left(core.core.turn_time())).await;
        let report = told_of(request, route, &self.work.notes, |call| {
            CallReport::overloaded(&OverloadRefusal { call, overload })
        });
        let failed = Failed { failure: CallFailure::ConcurrencyLimit, report };
        Err(fail_with(&core, request, route, None, &self.work, failed).await)
    }

    /// Whether a call that was not passed on is opened again elsewhere, after a pause that is noted.
    fn again(&mut self, core: &EdgeCore, route: &Route) -> bool {
        let left = self.work.guard.deadline.caller_left(core.core.turn_time());
        let retries_max = core.edge.settings.retries_max;
        let again = core.links.again(&route.tunnel, retries_max, &mut self.work.again.retries, left);
        match again {
            Ok(pause) => {
                self.work.again.pause = pause;
                self.work.notes.retries += 1;
            }
            Err(_) => Counters::add(&core.edge.counters.calls_move_denied),
        }
        again.is_ok()
    }

    /// Starts the guard of a call. Returns the report of the call if a breaker refuses it.
    fn begin_guard(&mut self, request: &mut impl Request, route: &Route, is_labelled: bool) -> Option<CallReport> {
        let (core, guard) = (&self.caller.core, &mut self.work.guard);
        let call = request.label().filter(|_| is_labelled)?.call();
        let mut recorder = core.figures.recorder.borrow_mut();
        let begun = guard.begin_labelled(&guarded(core, route, call), &mut recorder, core.core.turn_time());
        let refused = begun.err()?;
        told_of(request, route, &self.work.notes, |call| refused.report(call))
    }

    /// Notes how long the agent waits for its answer, if it or its route says so. A stream of events lasts as long as it wants.
    fn bound_by_caller(&mut self, request: &impl Request, route: &Route) {
        if request.head().method() != Method::Post {
            return;
        }
        let said = request.head().caller_timeout().unwrap_or_else(|_| {
            Counters::add(&self.caller.core.edge.counters.caller_timeouts_malformed);
            None
        });
        if let Some(waits) = said.or(route.own.client_timeout)
            && !mcp::asks_for_stream(request.head())
        {
            self.work.guard.deadline.bound_by_caller(self.work.began, waits);
        }
    }

    /// Keeps the start of the next body, if `keep` is true, so that the call can go to another connector.
    fn keep_body(&mut self, keep: bool) {
        if keep {
            self.replay.get_or_insert_default().start(true);
        } else if let Some(replay) = &mut self.replay {
            replay.start(false);
        }
    }

    /// Carries request and response over the stream.
    async fn exchange<'r>(&mut self, request: &mut impl AgentRequest<'r>, route: &Route, opened: &Opened) -> Exchanged {
        let AgentCalls { caller: Caller { core, peer, front, is_tls, .. }, next_hop, replay, work, .. } = self;
        let stream = &opened.stream;
        let to_agent = TimeoutStream::new(request.carrier(), &core.edge.settings.write_timeout, |taken, cx| {
            core.exchange_state(stream.on_link(), taken, cx)
        });
        let mut hooks;
        let relayed = {
            let incoming = request.incoming(&to_agent);
            let request = incoming.head;
            work.is_refused = false;
            hooks = EdgeHooks { core, opened, request, work };
            let public = route.own.public.as_ref().or(core.edge.settings.public.as_ref());
            let called = front.called(public, *is_tls, incoming.head);
            let append = forwarded(peer.as_bytes(), called);
            // A GET waits for events, for as long as the agent does.
            let waits_for_events = incoming.head.method() == Method::Get;
            let drop_expect = incoming.label.as_ref().is_some_and(|label| label.has_continued());
            // The OPEN of a sealed session says nothing of the calls that it carries.
            let left = || hooks.work.guard.deadline.caller_left(core.core.turn_time());
            let time_left = match (stream.is_sealed(), left()) {
                (false, _) => TimeLeftEdit::Keep,
                (true, None) => TimeLeftEdit::Drop,
                (true, Some(left)) => TimeLeftEdit::Replace(left.saturating_sub(stream.on_link().way())),
            };
            let edits = RequestEdits {
                drop_forwarded: true,
                drop_expect,
                time_left,
                append: &append,
                ..RequestEdits::default()
            };
            let mut next_hop = NextHop::new(stream, stream, next_hop, incoming.head, edits);
            next_hop.finish = !stream.is_sealed();
            next_hop.replay = replay.as_deref_mut();
            next_hop.first_byte_timeout = (!waits_for_events).then(|| hooks.work.guard.deadline.first_byte_timeout());
            next_hop.caller = hooks.work.guard.deadline.caller_limits();
            relay(incoming, next_hop, &core.core, &mut hooks)
        }
        .await;
        let Relayed { result, has_begun, keeps, is_cut, .. } = relayed;
        let is_refused = work.is_refused;
        if result == Err(RelayError::Late) {
            work.guard.deadline.on_cut(core.core.now());
        }
        let ended = result.map_err(|error| Ended::of(error, &mut work.guard.deadline));
        if let Err(Ended::Failed { failure, .. }) = ended
            && !has_begun
            && failure.may_pass_elsewhere()
            && (work.again.may_move || opened.stream.on_link().is_withdrawn())
            && replay.as_deref_mut().is_some_and(Replay::rewind)
        {
            return Exchanged::NotPassedOn(failure);
        }
        request.end_response();
        let whole = opened.stream.is_sealed() && request.is_received() && !is_cut && next_hop.is_reusable();
        next_hop.clear();
        let ended = match ended {
            Ok(()) => {
                if work.guard.deadline.was_cut() {
                    opened.stream.on_link().reset(cut_failure(&work.guard.deadline));
                }
                work.stamps.on_last_to_agent(core.core.now());
                opened.whole.set(whole);
                if is_refused {
                    note_era(core, request, route);
                }
                let delivered = request.delivered(&to_agent, keeps, core).await;
                let is_late = delivered == Outcome::Ok && work.guard.deadline.was_cut();
                let outcome = if is_late { Outcome::TimedOut } else { delivered };
                let times = work.stamps.times(&core.core);
                finish(core, request, route, opened, times, work.ending(outcome));
                return Exchanged::Done(match delivered {
                    Outcome::Ok if keeps && request.is_received() => Next::Keep,
                    Outcome::Ok => Next::Close,
                    _ => Next::Leave(Leave::Abort),
                });
            }
            Err(ended) => ended,
        };
        if let Some(failure) = ended.reset() {
            opened.stream.on_link().reset(failure);
        }
        match ended {
            Ended::Failed { failure, .. } if !has_begun => {
                let failed = fail(core, request, route, Some(&opened.usage), work, failure).await;
                return Exchanged::Done(failed);
            }
            Ended::BadBody(error) if !has_begun => {
                let times = work.stamps.times(&core.core);
                let ending = Ending { own: Some(answer_to_body(error)), ..work.ending(Outcome::BadRequest) };
                finish(core, request, route, opened, times, ending);
                request.refuse_body(error).await;
                return Exchanged::Done(Next::Close);
            }
            // It lasts as long as the agent wants.
            Ended::AgentGone if has_begun && work.stamps.is_standing() => {
                work.stamps.on_last_to_agent(core.core.now());
                let times = work.stamps.times(&core.core);
                finish(core, request, route, opened, times, work.ending(Outcome::Ok));
            }
            ended => {
                let times = work.stamps.times(&core.core);
                finish(core, request, route, opened, times, work.ending(ended.outcome()));
            }
        }
        Exchanged::Done(Next::Leave(Leave::Abort))
    }
}

/// The failure of a call that was cut.
fn cut_failure(deadline: &CallDeadline) -> CallFailure {
    if deadline.is_of_caller() { CallFailure::CallerTimeout } else { CallFailure::Deadline }
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
    fn of(error: RelayError, deadline: &mut CallDeadline) -> Ended {
        let ended = Ended::of_error(error, deadline);
        if let Ended::Failed { failure: CallFailure::CallerTimeout | CallFailure::CallerTimeoutUnsent, .. } = ended {
            deadline.on_cut_for_caller();
        }
        ended
    }

    fn of_error(error: RelayError, deadline: &CallDeadline) -> Ended {
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
            RelayError::Late => Ended::Failed { failure: cut_failure(deadline), reset: true },
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
    work: &'a mut CallWork,
}

impl RelayHooks for EdgeHooks<'_> {
    fn on_request_head_queued(&mut self) {
        let now = self.core.core.now();
        self.work.stamps.on_handed_to_link(now);
        self.work.guard.deadline.on_sent(now);
    }

    fn received_at(&self) -> Time {
        self.opened.stream.on_link().received_at()
    }

    fn on_response_head(&mut self, head: &ResponseHead, received_at: Time) -> ResponseExtras<'_> {
        self.work.stamps.on_from_link(received_at);
        self.work.stamps.on_status(head.status());
        self.work.notes.status = head.status();
        self.work.notes.answer = AnswerSize::of(head.get("content-type"));
        self.work.is_refused = Era::is_refusal(head.status());
        self.core.bonds.on_answer(&self.opened.usage, self.request, head, self.core.core.turn_time());
        let phases = self.opened.stream.on_link().times();
        let timing = &mut self.work.timing;
        timing.clear();
        timing.reserve(SERVER_TIMING_LEN_MAX);
        server_timing(&CallPhases::split(self.work.stamps.times(&self.core.core), phases), timing);
        ResponseExtras {
            may_keep: !self.core.is_draining(),
            server_timing: Some(timing),
            public: None,
            is_metadata: false,
        }
    }

    fn on_response_head_queued(&mut self) {
        self.work.stamps.on_to_agent(self.core.core.now());
    }

    fn on_event_stream(&mut self, is_standing: bool) {
        self.work.stamps.on_event_stream(is_standing);
        if is_standing {
            self.work.place.set(None);
        }
    }

    /// Where the link is to end, the connector ends them, behind all that it has sent.
    fn streams_end(&self) -> impl Future<Output = ()> {
        self.core.drain.begun()
    }

    fn sse_keepalive(&self) -> Option<Duration> {
        self.core.edge.settings.sse_keepalive
    }

    fn core(&self) -> &Core {
        &self.core.core
    }

    fn on_body_bytes(&mut self, bytes: &[u8]) {
        self.work.notes.answer.bytes += bytes.len() as u64;
        if self.work.stamps.is_event_stream() {
            self.work.guard.deadline.on_event_bytes(bytes, self.core.core.turn_time());
        }
    }

    fn cuts_at(&self) -> Option<Time> {
        self.work.guard.deadline.cuts_at()
    }

    fn on_cut(&mut self, label: &mut CallLabel) -> Option<Vec<u8>> {
        let tables = self.core.tables.get();
        let route = tables.routes.lookup(&requested_host(self.request).ok()?)?;
        self.work.guard.deadline.on_cut(self.core.core.now());
        let trace = trace_of(self.request).or_else(|| label.trace());
        let call = failed_call(route, &self.work.notes, trace, label.call());
        let report = self.work.guard.deadline.report(call);
        let id = label.rpc_id()?;
        Some(report.event(cut_failure(&self.work.guard.deadline), id))
    }
}

/// Answers a request that is none of our calls.
async fn refuse(core: &EdgeCore, request: &mut impl Request, notes: &CallNotes, refusal: Refusal) -> Next<Leave> {
    Counters::add(&core.edge.counters.requests_refused);
    count_refused(core, refusal);
    keep_refused(core, request, notes, refusal);
    request.refuse(refusal).await;
    Next::Close
}

/// Answers a request whose label is needed and cannot become known.
async fn refuse_unlabelled(
    core: &EdgeCore,
    request: &mut impl Request,
    route: &Route,
    work: &CallWork,
    error: LabelError,
) -> Next<Leave> {
    let (outcome, own) = match &error {
        LabelError::Refused(refusal) => (refusal.outcome(), Some(refusal.own_answer())),
        LabelError::Body(error) => (Outcome::BadRequest, Some(answer_to_body(*error))),
        LabelError::CallerLeft => (Outcome::AgentGone, None),
    };
    let ending = Ending { notes: &work.notes, guard: None, place: None, own, outcome };
    record(core, request, route, None, &CallPhases::split(work.stamps.times(&core.core), None), ending);
    match error {
        LabelError::Refused(refusal) => request.refuse(refusal).await,
        LabelError::Body(error) => request.refuse_body(error).await,
        LabelError::CallerLeft => return Next::Leave(Leave::Abort),
    }
    Counters::add(&core.edge.counters.requests_refused);
    Next::Close
}

/// Ends a call whose agent has left before it was opened.
fn leave_unsent(core: &EdgeCore, request: &mut impl Request, route: &Route, work: &CallWork) -> Next<Leave> {
    let phases = CallPhases::split(work.stamps.times(&core.core), None);
    record(core, request, route, None, &phases, work.ending(Outcome::AgentGone));
    Next::Leave(Leave::Abort)
}

/// Why a call got no answer from its upstream, and what is told of it besides.
struct Failed {
    failure: CallFailure,
    report: Option<CallReport>,
}

/// Answers a call that got no answer from its upstream.
async fn fail(
    core: &EdgeCore,
    request: &mut impl Request,
    route: &Route,
    usage: Option<&LinkUsage>,
    work: &CallWork,
    failure: CallFailure,
) -> Next<Leave> {
    // In a box, so that other calls do not have its size.
    Box::pin(async {
        request.learn_id(work.guard.deadline.caller_left(core.core.turn_time())).await;
        // Without a stream the deadline has not begun.
        let may_have_run = failure != CallFailure::CallerTimeoutUnsent;
        let cut = usage.map(|_| &work.guard.deadline).filter(|deadline| deadline.was_cut() && may_have_run);
        let report = told_of(request, route, &work.notes, |call| match cut {
            Some(cut) if !call.method.is_empty() => cut.report(call),
            _ => CallReport::of(&call),
        });
        fail_with(core, request, route, usage, work, Failed { failure, report }).await
    })
    .await
}

/// What is told of a call that failed, by its label as far as that is known.
fn told_of(
    request: &mut impl Request,
    route: &Route,
    notes: &CallNotes,
    report: impl FnOnce(FailedCall<'_>) -> CallReport,
) -> Option<CallReport> {
    let of_body = request.label()?.trace();
    let trace = trace_of(request.head()).or(of_body);
    let call = request.label()?.call();
    Some(report(failed_call(route, notes, trace, call)))
}

/// The same, with what is told of the call.
async fn fail_with(
    core: &EdgeCore,
    request: &mut impl Request,
    route: &Route,
    usage: Option<&LinkUsage>,
    work: &CallWork,
    failed: Failed,
) -> Next<Leave> {
    let phases = CallPhases::split(work.stamps.times(&core.core), None);
    let mut timing = Vec::new();
    server_timing(&phases, &mut timing);
    let keep = request.fail(failed.failure, failed.report.as_ref(), &timing, !core.is_draining()).await;
    let own = Some(failed.failure.own_answer(failed.report.as_ref()));
    record(core, request, route, usage, &phases, Ending { own, ..work.ending(failed.failure.outcome()) });
    if keep { Next::Keep } else { Next::Close }
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
