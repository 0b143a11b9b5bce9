//! One call: an agent's request, sent over a link, and its answer.

use std::rc::Rc;
use std::task::Context;
use std::time::Duration;

use crate::base::{Clock, Share, Traffic};
use crate::edge::agent_request::AgentRequest;
use crate::edge::authorize;
use crate::edge::bonds::Bond;
use crate::edge::call_answers::{fail, fail_with, leave_unsent, refuse, refuse_unlabelled};
use crate::edge::call_end::{CallEndReason, cut_failure};
use crate::edge::call_notes::CallNotes;
use crate::edge::call_work::{CallWork, Leave, RetryState};
use crate::edge::caller::{Admitted, Caller};
use crate::edge::carry_call::{Carried, carry};
use crate::edge::edge_core::EdgeCore;
use crate::edge::hedged::{Hedged, Tries};
use crate::edge::link_choice::Chosen;
use crate::edge::moves::{Moved, Moves};
use crate::edge::open::{CallTarget, NotOpened, Opened};
use crate::edge::recording::{Ending, finish, guarded, keep_refused, note_era};
use crate::edge::settings::EdgeTables;
use crate::edge::shared::Counters;
use crate::exchange::{
    CallFailure, CallReport, FailedCall, HeadReadError, OverloadRefusal, Refusal, TimeoutStream, answer_to_body,
};
use crate::latency::{CallStage, CallerTimeSource, EdgeStamps, Outcome, Phase};
use crate::route::Route;
use crate::serve::{
    BreakerRefused, CallAudit, CallPlace, Entry, Full, Http1Request, LabelError, Next, NextHopWork, PlaceTerms, Queued,
    QueuedEnd, ReadAheadLimits, RelayError, Relayed, Replay, Request, RequestLimits, Service,
};
use crate::tls::Connection;
use crate::wire::MethodScan;
use crate::wire::http1::{HeadError, Method};
use crate::wire::mcp;

/// The calls of one agent's connection.
pub(super) struct AgentCalls<'a> {
    caller: &'a Caller,
    /// Memory for incomplete heads of requests.
    greeting: Share,
    next_hop: NextHopWork,
    /// The start of a body that may have to be sent again; none before the first call of a tunnel with several
    /// connectors.
    replay: Option<Box<Replay>>,
    /// Boxed, so that the task does not contain it.
    work: Box<CallWork>,
}

/// The result of an exchange on a stream.
enum Exchanged {
    /// The call has ended.
    Done(Next<Leave>),
    /// The connector did not pass the call on, and another may.
    NotPassedOn(CallFailure),
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
            // A connection without any byte has less time than one that has carried a call.
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
            self.caller.core.figures.on_turned_away(now, self.caller.source.address, CallStage::Request, own);
        }
        None
    }

    async fn call(&mut self, request: &mut Http1Request<'_, Connection>) -> Next<Leave> {
        let next = self.answer(request).await;
        // After each call the connection stops keeping the body.
        self.keep_body(false);
        self.work.found = None;
        next
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
        let route = match self.admit(request, &tables) {
            Ok(route) => route,
            Err(refusal) => return refuse(&core, request, &self.work.notes, refusal).await,
        };
        if request.is_preflight() {
            let keep = request.answer_preflight(!core.is_draining()).await;
            return if keep { Next::Keep } else { Next::Close };
        }
        if let (Some(tasks), Some(label)) = (core.edge.tasks(), request.label()) {
            label.digest_arguments(tasks.seed());
        }
        self.work.notes.audit = CallAudit::begin(core.edge.settings.audit.as_ref(), request.label());
        self.work.stamps = EdgeStamps::new(request.began());
        self.work.guard.begin(&route.own.terms(&core.edge.settings.deadlines, None));
        self.bound_by_caller(request, route);
        if self.work.notes.audit.refuses() {
            return fail(&core, request, route, None, &self.work, CallFailure::AuditUnavailable).await;
        }
        if let Some(auth) = &route.own.auth
            && let Err(stop) = authorize::identify(self.caller, request, route, auth)
            // Boxed, so that other calls do not pay for its size.
            && let Err(next) = Box::pin(authorize::settle(self.caller, request, route, auth, &self.work, stop)).await
        {
            return next;
        }
        let bond = core.bonds.of_request(request.head(), &route.tunnel, request.began());
        self.work.notes.session = bond.session();
        self.work.has_waited = false;
        let needs_label = route.own.needs_label(&core.edge.settings.deadlines, &core.edge.settings.breaker)
            || core.edge.breakers().is_forced_open(route.name.as_str());
        if needs_label {
            if let Err(next) = self.read_label(request, route, bond, moves).await {
                return next;
            }
            moves = Moves::spent();
        }
        // The policy has decided: no token is made for a call that it denies.
        if let Some(auth) = &route.own.auth
            && let Err(stop) = authorize::exchange(self.caller, request)
            // Boxed, so that other calls do not pay for its size.
            && let Err(next) = Box::pin(authorize::settle(self.caller, request, route, auth, &self.work, stop)).await
        {
            return next;
        }
        if let Some(refused) = self.begin_guard(request, route, needs_label) {
            let (work, failure) = (&self.work, CallFailure::BreakerOpen);
            return fail_with(&core, request, route, None, work, failure, |call| refused.report(call)).await;
        }
        match core.enter_route(request.head(), route, &self.caller.source) {
            Entry::Enters(place) => self.work.place.set(place),
            // Boxed, so that other calls do not pay for its size.
            Entry::Full(full) => {
                match Box::pin(self.wait_for_place(request, route, full, bond, (!needs_label).then_some(moves))).await {
                    Ok(place) => {
                        self.work.place.set(place);
                        moves = Moves::spent();
                    }
                    Err(next) => return next,
                }
            }
        }
        self.work.retry = RetryState { bond, moves, ..RetryState::default() };
        loop {
            if !self.work.retry.pause.is_zero() {
                // Boxed, so that calls do not pay for its size.
                Box::pin(core.core.sleep(std::mem::take(&mut self.work.retry.pause))).await;
            }
            let RetryState { bond, moves, .. } = self.work.retry;
            let host = &self.work.host;
            let seal = match route.traffic {
                Traffic::Resealed => tables.tunnels.get(&route.tunnel).and_then(|entry| entry.seal.as_ref()),
                Traffic::Plain | Traffic::Passthrough => None,
            };
            let (call, has_waited) = (self.work.notes.number, self.work.has_waited);
            let until = self.work.guard.deadline.answer_by();
            let target = CallTarget { route, host, seal, peer: None, bond, moves, call, has_waited, until };
            self.work.notes.opens(core.core.turn_time());
            // Taken out of the match, in which the future would contain it twice.
            let opened = match core.open(target, self.work.found.take()).await {
                Ok(opened) => opened,
                Err(NotOpened::HandOver(target)) => {
                    // The other core takes a place for the call itself.
                    self.work.place.set(None);
                    return Next::Leave(Leave::HandOver(target, self.moved(moves)));
                }
                Err(NotOpened::Failed(failure)) => {
                    // The failure that the first connector reported is more useful than the lack of another one.
                    self.work.notes.on_opened(core.core.turn_time());
                    if failure == CallFailure::CallerTimeoutUnsent {
                        self.work.guard.deadline.on_cut_for_caller();
                    }
                    let failure = self.work.retry.refused.unwrap_or(failure);
                    return fail(&core, request, route, None, &self.work, failure).await;
                }
                Err(not_opened) => {
                    let (failure, other) = match not_opened {
                        NotOpened::NotPassedOn(failure, connector) => (failure, Some(connector)),
                        _ => (CallFailure::ConnectorOffline, None),
                    };
                    let may = other.is_none_or(|connector| {
                        failure.may_pass_elsewhere() && core.may_move(&route.tunnel, self.work.retry.bond, connector)
                    });
                    self.work.notes.on_opened(core.core.turn_time());
                    if !may || !self.again(&core, route) {
                        let failure = self.work.retry.refused.unwrap_or(failure);
                        return fail(&core, request, route, None, &self.work, failure).await;
                    }
                    if let Some(connector) = other {
                        self.work.notes.on_not_passed_on(failure, connector);
                    }
                    self.work.retry.refused = Some(failure);
                    self.work.retry.bond = other.map_or(self.work.retry.bond, Bond::Other);
                    continue;
                }
            };
            self.work.notes.on_opened(core.core.turn_time());
            let may_move = core.may_move(&route.tunnel, self.work.retry.bond, opened.usage.connector());
            self.work.retry.may_move = may_move;
            if self.work.retry.retries.made() > 0 {
                let counters = &core.edge.counters;
                let has_moved = std::mem::replace(&mut self.work.retry.has_moved, true);
                Counters::add(if has_moved { &counters.calls_moved_again } else { &counters.calls_moved });
            }
            if !self.work.retry.has_begun {
                let may_withdraw = core.allow_withdrawal(&route.tunnel, &opened, request.head());
                self.keep_body(may_move || may_withdraw);
            }
            match self.exchange(request, route, &opened).await {
                Exchanged::Done(next) => {
                    if opened.whole.get() {
                        core.keep_session(opened, &self.work.host);
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
                    // After a part of the body was read, the connection cannot be handed over.
                    self.work.retry.moves = Moves::spent();
                    (self.work.retry.refused, self.work.retry.has_begun) = (Some(failure), true);
                    if !opened.stream.on_link().is_withdrawn() {
                        self.work.retry.bond = Bond::Other(connector);
                    }
                }
            }
        }
    }

    /// The route of a request that is admitted.
    fn admit<'t>(&mut self, request: &mut impl Request, tables: &'t EdgeTables) -> Result<&'t Route, Refusal> {
        let Admitted { host, route } = self.caller.admit(request, tables)?;
        self.work.host = host;
        Ok(route)
    }

    /// Reads the body until the label is known, on the core that has a link for the call.
    ///
    /// # Errors
    ///
    /// What to do with the connection, if the call was answered or goes to another core.
    async fn read_label(
        &mut self,
        request: &mut impl Request,
        route: &Route,
        bond: Bond,
        moves: Moves,
    ) -> Result<(), Next<Leave>> {
        let core = Rc::clone(&self.caller.core);
        // After a part of the body was read, the connection cannot be handed over.
        let host = &self.work.host;
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
                // Boxed, so that other calls do not pay for its size.
                self.work.notes.opens(core.core.turn_time());
                let found = Box::pin(core.wait_for_link(target)).await;
                self.work.notes.on_opened(core.core.turn_time());
                self.work.has_waited = found.is_err();
                found.ok().filter(|found| *found != core.core.id())
            }
            Chosen::Link(link) => {
                self.work.found = Some((link, core.core.turn_time()));
                None
            }
            Chosen::Silent(_) => None,
        };
        if let Some(target) = elsewhere {
            return Err(Next::Leave(Leave::HandOver(target, self.moved(moves))));
        }
        if let Some(policy) = &route.own.policy {
            let unix = || Duration::from_secs(core.edge.settings.clock.now().as_secs());
            request.govern(policy, self.caller.source.address, unix);
        }
        if let Err(error) = request.read_label(self.read_ahead_limits(&core)).await {
            let is_over = self.work.guard.deadline.answer_by() <= core.core.turn_time();
            if is_over && matches!(error, LabelError::Refused(Refusal::LateBody)) {
                self.work.guard.deadline.on_cut_for_caller();
                return Err(fail(&core, request, route, None, &self.work, CallFailure::CallerTimeoutUnsent).await);
            }
            // Boxed, so that other calls do not pay for its size.
            return Err(Box::pin(refuse_unlabelled(&core, request, route, &self.work, error)).await);
        }
        Ok(())
    }

    /// The limits for reading a body until the label is known.
    fn read_ahead_limits<'c>(&self, core: &'c EdgeCore) -> ReadAheadLimits<'c> {
        let limits = core.read_ahead_limits();
        let left = self.work.guard.deadline.answer_by() - core.core.turn_time();
        ReadAheadLimits { timeout: limits.timeout.min(left), ..limits }
    }

    /// The state of a request whose connection is handed over once more.
    fn moved(&self, moves: Moves) -> Moved {
        Moved { moves: moves.and_one(), began: Some(self.work.began) }
    }

    /// Waits for a place among the calls of the route in flight, on the core that has a link for the call; none if it
    /// needs none. `unread` is how often the connection has moved, if the label was not read.
    ///
    /// # Errors
    ///
    /// What to do with the connection, if the call was answered or goes to another core.
    async fn wait_for_place<'r>(
        &mut self,
        request: &mut impl AgentRequest<'r>,
        route: &Route,
        full: Full,
        bond: Bond,
        unread: Option<Moves>,
    ) -> Result<Option<CallPlace>, Next<Leave>> {
        let core = Rc::clone(&self.caller.core);
        if let Some(moves) = unread {
            self.read_label(request, route, bond, moves).await?;
        }
        let terms = &route.own.concurrency_terms(&core.edge.settings.concurrency);
        let left = self.work.guard.deadline.caller_left(core.core.turn_time());
        let (recorder, route_name) = (&core.figures.recorder, route.name.as_str());
        let asks = PlaceTerms { core: &core.core, recorder, route: route_name, terms, left };
        let Queued { waited, end } = full.wait(request, asks).await;
        self.work.notes.queued = waited;
        let overload = match end {
            QueuedEnd::Enters(place) => return Ok(place),
            QueuedEnd::Refused(overload) => overload,
            QueuedEnd::CallerLeft => return Err(leave_unsent(&core, request, route, &self.work)),
        };
        self.work.notes.overload = Some(overload);
        let report = |call: FailedCall<'_>| CallReport::overloaded(&OverloadRefusal { call, overload });
        Err(fail_with(&core, request, route, None, &self.work, CallFailure::ConcurrencyLimit, report).await)
    }

    /// Whether a call that was not passed on is retried on another connector. Stores the pause before that.
    fn again(&mut self, core: &EdgeCore, route: &Route) -> bool {
        let left = self.work.guard.deadline.caller_left(core.core.turn_time());
        let retries_max = core.edge.settings.retries_max;
        let again = core.links.again(&route.tunnel, retries_max, &mut self.work.retry.retries, left);
        match again {
            Ok(pause) => {
                self.work.retry.pause = pause;
                self.work.notes.on_again(pause);
            }
            Err(_) => Counters::add(&core.edge.counters.calls_move_denied),
        }
        again.is_ok()
    }

    /// Starts the guard of a call. Returns the refusal if a breaker refuses the call.
    fn begin_guard(&mut self, request: &mut impl Request, route: &Route, is_labelled: bool) -> Option<BreakerRefused> {
        let (core, guard) = (&self.caller.core, &mut self.work.guard);
        let call = request.label().filter(|_| is_labelled)?.call();
        let mut recorder = core.figures.recorder.borrow_mut();
        guard.begin_labelled(&guarded(core, route, call), &mut recorder, core.core.turn_time()).err()
    }

    /// Limits the call to the time for which its agent waits, if the request or the route says so. An event stream
    /// lasts as long as the agent wants.
    fn bound_by_caller(&mut self, request: &impl Request, route: &Route) {
        if request.head().method() != Method::Post {
            return;
        }
        let timeout =
            request.head().caller_timeout().map(|timeout| Some((timeout?, CallerTimeSource::Field))).unwrap_or_else(
                |_| {
                    Counters::add(&self.caller.core.edge.counters.caller_timeouts_malformed);
                    None
                },
            );
        let set = || Some((route.own.client_timeout?, CallerTimeSource::Setting));
        if let Some((waits, source)) = timeout.or_else(set)
            && !mcp::asks_for_stream(request.head())
        {
            self.work.guard.deadline.bound_by_caller(self.work.began, waits, source);
        }
    }

    /// Sets whether the start of the next body is kept, so that the call can go to another connector.
    fn keep_body(&mut self, keep: bool) {
        if keep {
            self.replay.get_or_insert_default().start(Some(&self.caller.core.kept_bodies), false);
        } else if let Some(replay) = &mut self.replay {
            replay.clear();
        }
    }

    /// Carries request and response over the first stream, or over that of a second try.
    async fn exchange<'r>(&mut self, request: &mut impl AgentRequest<'r>, route: &Route, first: &Opened) -> Exchanged {
        let AgentCalls { caller, next_hop, replay, work, .. } = self;
        let core = &caller.core;
        work.listing.expect(core.learns_tools(request, route));
        work.changed.set(route.own.may_hedge().then(MethodScan::tools_changed));
        let plan = core.plan_hedge(request, route, &caller.source, work, first);
        let hedged = plan.map(|plan| Box::new(Hedged::new(plan, first, std::mem::take(&mut work.copy))));
        let tries = Tries { core, first, hedged };
        let state = |taken, cx: &mut Context<'_>| tries.exchange_state(taken, cx);
        let to_agent = TimeoutStream::new(request.carrier(), &core.edge.settings.write_timeout, state);
        let mut hooks = None;
        let carried = Carried { caller, route, tries: &tries, next_hop, replay: replay.as_deref_mut(), work };
        let relayed = match tries.hedged.as_deref() {
            None => carry(carried, &tries.first.stream, request, &to_agent, &mut hooks).await,
            Some(hedged) => Box::pin(carry(carried, hedged, request, &to_agent, &mut hooks)).await,
        };
        let core = tries.core;
        let Relayed { result, has_begun, keeps, is_cut, is_sent } = relayed;
        let is_refused = work.is_refused;
        if result.is_err() {
            work.on_exchange_failed(tries.answering().stream.on_link(), is_sent, &core.core);
        }
        if result == Err(RelayError::Late) {
            work.guard.deadline.on_cut(core.core.now());
        }
        let ended =
            result.map_err(|error| CallEndReason::of(error, &mut work.guard.deadline, work.stamps.is_handed_over()));
        if let Err(CallEndReason::Failed { failure, .. }) = ended
            && !has_begun
            && failure.may_pass_elsewhere()
            && !tries.are_two()
            && (work.retry.may_move || tries.first.stream.on_link().is_withdrawn())
            && replay.as_deref_mut().is_some_and(Replay::rewind)
        {
            return Exchanged::NotPassedOn(failure);
        }
        request.end_response();
        work.notes.hedged = tries.hedged.as_ref().and_then(|hedged| hedged.end());
        let opened = tries.answering();
        let whole = opened.stream.is_sealed() && request.is_received() && !is_cut && next_hop.is_reusable();
        next_hop.clear();
        if ended.is_ok() {
            core.learn_tools(request, route, work, replay.as_deref().and_then(Replay::kept));
        }
        if let Some(replay) = replay {
            replay.clear();
        }
        let ended = match ended {
            Ok(()) => {
                if work.guard.deadline.was_cut() {
                    opened.stream.on_link().reset(cut_failure(&work.guard.deadline));
                }
                work.stamps.on_last_to_agent(core.core.now());
                opened.whole.set(whole);
                if is_refused {
                    note_era(core, request, route, work.notes.status);
                }
                let delivered = request.delivered(&to_agent, keeps, core).await;
                let outcome = match (delivered, work.sent_failure) {
                    (Outcome::Ok, Some(failure)) => failure.outcome(),
                    (Outcome::Ok, None) if work.guard.deadline.was_cut() => Outcome::TimedOut,
                    (delivered, _) => delivered,
                };
                // The answer need not wait for what is recorded about it.
                core.core.after_sends().await;
                let times = work.stamps.times(&core.core);
                finish(core, request, route, opened, times, work.ending(outcome));
                if let Some(hedged) = tries.hedged {
                    let (second, memory) = hedged.into_parts();
                    work.copy = memory;
                    if let Some(second) = second.filter(|second| second.whole.get()) {
                        core.keep_session(*second, &work.host);
                    }
                }
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
            CallEndReason::Failed { failure, .. } if !has_begun => {
                let failed = fail(core, request, route, Some(&opened.usage), work, failure).await;
                return Exchanged::Done(failed);
            }
            CallEndReason::BadBody(error) if !has_begun => {
                let times = work.stamps.times(&core.core);
                let ending = Ending { own: Some(answer_to_body(error)), ..work.ending(Outcome::BadRequest) };
                finish(core, request, route, opened, times, ending);
                if !work.notes.audit.is_settled(&core.core).await {
                    return Exchanged::Done(Next::Leave(Leave::Abort));
                }
                request.refuse_body(error).await;
                return Exchanged::Done(Next::Close);
            }
            // The event stream lasts as long as the agent wants, or the agent has the answer that it has asked for.
            CallEndReason::AgentGone if has_begun && (work.stamps.is_standing() || work.has_answer()) => {
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
