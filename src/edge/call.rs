//! One call: an agent's request, down a link, and what comes back.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use crate::base::{Clock, CoreId, Time, Traffic};
use crate::edge::agents::{Agent, say};
use crate::edge::edge_core::EdgeCore;
use crate::edge::open::{NoStream, Opened, Wanted};
use crate::edge::settings::EdgeTables;
use crate::edge::shared::Counters;
use crate::edge::usage::LinkUsage;
use crate::engine::{ByteStream, Core, StreamError};
use crate::exchange::{
    CallFailure, Carry, CarryError, HeadReadError, INTERIM_MAX, Intake, Outlet, Patient, Refusal, carry_body,
    check_request, clear_scratch, forwarded, read_on,
};
use crate::latency::{
    CallPhases, ConnectorTimes, EdgeStamps, OTHER, Outcome, SERVER_TIMING_LEN_MAX, SlowVerdict, server_timing,
};
use crate::link::CallStream;
use crate::route::Route;
use crate::tls::Connection;
use crate::wire::http1::{
    Answer, BodyDecoder, BodyEncoder, BodyError, Framing, Method, RequestEdits, RequestHead, ResponseEdits,
    ResponseHead, write_request, write_response,
};
use crate::wire::jsonrpc::Peek;
use crate::wire::mcp;
use crate::wire::mux::{Cause, Phases};

/// How long the body of a request that cannot be passed on is read, to learn the id that the answer should have.
const READ_ID_WITHIN: Duration = Duration::from_millis(500);

/// What becomes of the agent's connection.
pub(super) enum Next {
    /// It may carry another request.
    Keep,
    /// It is closed, after what was sent.
    Close,
    /// It is broken off, so that the agent sees that the answer is not whole.
    Abort,
    /// It goes to another core, which serves this request.
    HandOver(CoreId),
}

/// What a connection needs for its calls; kept from one to the next for its memory.
#[derive(Default)]
pub(super) struct Work {
    request: RequestWork,
    response: ResponseWork,
    call: mcp::Call,
}

#[derive(Default)]
struct RequestWork {
    decoder: BodyDecoder,
    outlet: Outlet,
    scratch: Vec<u8>,
    peek: Peek,
}

#[derive(Default)]
struct ResponseWork {
    head: ResponseHead,
    intake: Intake,
    decoder: BodyDecoder,
    outlet: Outlet,
    scratch: Vec<u8>,
    timing: Vec<u8>,
}

/// How the way back ended.
enum Back {
    /// The whole answer was queued; whether the connection can be kept.
    Done(bool),
    /// It did not come, or not whole.
    Failed(CallFailure),
    /// The agent's side failed.
    AgentGone,
    /// The agent did not read for too long.
    AgentStalled,
}

impl Back {
    /// Why an answer could not be sent on.
    fn unsent(error: &StreamError) -> Back {
        match error {
            StreamError::TimedOut => Back::AgentStalled,
            // The agent or a buffer was waited for, and the answer came to an end meanwhile.
            StreamError::ResetWith { .. } => Back::Failed(CallFailure::of_stream(error)),
            _ => Back::AgentGone,
        }
    }
}

/// How the way there ended before the way back did.
enum There {
    AgentGone,
    AgentStalled,
    Broken(BodyError),
}

impl Work {
    /// Serves one request, whose head is read.
    pub(super) async fn call(&mut self, agent: &mut Agent, began: Time) -> Next {
        let here = Rc::clone(&agent.here);
        let _counted = here.drain.count_call();
        let tables = here.tables.get();
        self.call.read_head(&agent.head);
        self.request.peek.clear();
        self.request.decoder.restart(agent.head.framing());
        let route = match admit(agent, &tables) {
            Ok(route) => route,
            Err(refusal) => return self.refuse(agent, refusal).await,
        };
        let mut stamps = EdgeStamps::new(began);
        // Taken out of the match: within it, it would take its place twice for as long as the call lasts.
        let host = agent.head.host().unwrap_or_default();
        let seal = match route.traffic {
            Traffic::Resealed => tables.tunnels.get(&route.tunnel).and_then(|entry| entry.seal.as_ref()),
            Traffic::Plain | Traffic::Passthrough => None,
        };
        let bond = here.bonds.of_request(&agent.head, &route.tunnel, began);
        let wanted = Wanted { route, host, seal, peer: None, bond, moves: agent.moves };
        let opened = match here.open(wanted).await {
            Ok(opened) => opened,
            Err(NoStream::HandOver(core)) => return Next::HandOver(core),
            Err(NoStream::Failed(failure)) => return self.fail(agent, route, None, &stamps, failure).await,
        };
        let next = self.exchange(agent, route, &opened, &mut stamps).await;
        if opened.whole.get() {
            here.keep_session(opened, agent.head.host().unwrap_or_default());
        }
        next
    }

    /// Carries request and response over the stream, at the same time.
    async fn exchange(&mut self, agent: &mut Agent, route: &Route, opened: &Opened, stamps: &mut EdgeStamps) -> Next {
        let (Work { request, response, .. }, stream) = (&mut *self, &opened.stream);
        let Agent { here, connection, intake, head, peer, .. } = agent;
        let begun = Cell::new(false);
        let to_agent =
            Patient::new(connection, &here.edge.settings.write_timeout, |cx| here.course(stream.on_link(), cx));
        let framing = match request.send_head(here, connection, head, peer, stream).await {
            Ok(framing) => framing,
            // Whatever there is to say of it, the way back says.
            Err(_) => Framing::None,
        };
        stamps.on_handed_to_link(here.core.now());
        // Raced where they lie: moved into a combinator they would take their place twice, for as long as the call lasts.
        let ended = {
            let mut back = pin!(response.receive(here, head, &to_agent, opened, stamps, &begun));
            let mut there = pin!(request.send_body(&here.core, &to_agent, connection, intake, framing, stream));
            poll_fn(|cx| match back.as_mut().poll(cx) {
                Poll::Pending => there.as_mut().poll(cx).map(Err),
                done => done.map(Ok),
            })
            .await
        };
        let sent_whole = request.decoder.is_done();
        request.outlet.clear();
        response.outlet.clear();
        clear_scratch(&mut request.scratch);
        clear_scratch(&mut response.scratch);
        response.head.clear();
        // Behind an answer there should be nothing.
        let rest = response.intake.has_rest();
        *response.intake.rest() = None;
        match ended {
            Ok(Back::Done(keep)) => {
                stamps.on_last_to_agent(here.core.now());
                opened.whole.set(stream.is_sealed() && sent_whole && !rest);
                let outcome = match delivered(&to_agent, keep).await {
                    Outcome::Ok if !keep => taken(here, connection).await,
                    outcome => outcome,
                };
                self.finish(agent, route, opened, stamps, outcome);
                match outcome {
                    Outcome::Ok if keep && sent_whole => Next::Keep,
                    Outcome::Ok => Next::Close,
                    _ => Next::Abort,
                }
            }
            Ok(Back::Failed(failure)) if !begun.get() => {
                self.fail(agent, route, Some(&opened.usage), stamps, failure).await
            }
            Ok(Back::Failed(failure)) => {
                self.finish(agent, route, opened, stamps, failure.outcome());
                Next::Abort
            }
            Ok(Back::AgentGone) | Err(There::AgentGone) => {
                stream.on_link().reset(Cause::Cancelled);
                self.finish(agent, route, opened, stamps, Outcome::AgentGone);
                Next::Abort
            }
            Ok(Back::AgentStalled) | Err(There::AgentStalled) => {
                stream.on_link().reset(Cause::Cancelled);
                self.finish(agent, route, opened, stamps, Outcome::AgentStalled);
                Next::Abort
            }
            Err(There::Broken(error)) => {
                stream.on_link().reset(Cause::RequestBroken);
                self.finish(agent, route, opened, stamps, Outcome::BadRequest);
                if begun.get() {
                    return Next::Abort;
                }
                let mut answer = Vec::new();
                error.write_answer(&mut answer);
                say(&agent.here, &agent.connection, &answer).await;
                Next::Close
            }
        }
    }

    /// Answers a request that is none of our calls.
    async fn refuse(&mut self, agent: &mut Agent, refusal: Refusal) -> Next {
        let here = &agent.here;
        Counters::add(&here.edge.counters.requests_refused);
        count_refused(here, refusal);
        let mut answer = Vec::new();
        Answer { to_head: agent.head.method() == Method::Head, ..refusal.answer() }.write(&mut answer);
        say(here, &agent.connection, &answer).await;
        Next::Close
    }

    /// Answers a call that got no answer from its upstream, with the id of its message if that can be learnt.
    async fn fail(
        &mut self,
        agent: &mut Agent,
        route: &Route,
        usage: Option<&LinkUsage>,
        stamps: &EdgeStamps,
        failure: CallFailure,
    ) -> Next {
        self.request.read_id(agent).await;
        let keep = self.request.decoder.is_done() && agent.head.keep_alive() && !agent.here.is_draining();
        let mut answer = Vec::new();
        let told = failure.answer(self.request.peek.id());
        Answer { close: !keep, to_head: agent.head.method() == Method::Head, ..told }.write(&mut answer);
        say(&agent.here, &agent.connection, &answer).await;
        let now = agent.here.core.now();
        self.record(agent, route, usage, &CallPhases::split(stamps.times(now), None), failure.outcome());
        if keep { Next::Keep } else { Next::Close }
    }

    fn finish(&mut self, agent: &Agent, route: &Route, opened: &Opened, stamps: &EdgeStamps, outcome: Outcome) {
        let times = stamps.times(agent.here.core.now());
        let phases = CallPhases::split(times, opened.stream.on_link().phases().map(connector_times));
        if outcome == Outcome::Ok {
            agent.here.figures.on_good_call(agent.here.core.turn_time());
        }
        self.record(agent, route, Some(&opened.usage), &phases, outcome);
    }

    /// Counts a call that has ended; in `usage` too, if it went down a link.
    fn record(
        &mut self,
        agent: &Agent,
        route: &Route,
        usage: Option<&LinkUsage>,
        phases: &CallPhases,
        outcome: Outcome,
    ) {
        self.call.read_body(&self.request.peek);
        let here = &agent.here;
        let method = self.call.method().unwrap_or(self.call.kind().name());
        let tool = self.call.tool().unwrap_or_default();
        let mut recorder = here.figures.recorder.borrow_mut();
        let label = recorder.label(route.name.as_str(), method, tool);
        recorder.record(label, phases, outcome);
        if let Some(usage) = usage {
            usage.count(label, here.core.turn_time());
        }
        // A stream of events is meant to last: how long it did says nothing.
        let lasts = self.call.kind() == mcp::Kind::Stream || method == "subscriptions/listen";
        if lasts {
            return;
        }
        let verdict = here.figures.slow_calls.borrow_mut().judge(here.core.turn_time(), phases.took());
        if let SlowVerdict::Log { left_out } = verdict {
            let mut split = Vec::new();
            server_timing(phases, &mut split);
            let split = String::from_utf8_lossy(&split);
            let took_ms = phases.took().as_secs_f64() * 1e3;
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
}

impl RequestWork {
    /// Puts the head of the request on the stream; returns how its body goes on.
    async fn send_head(
        &mut self,
        here: &EdgeCore,
        connection: &Connection,
        head: &RequestHead,
        peer: &str,
        stream: &CallStream,
    ) -> Result<Framing, StreamError> {
        let framing = head.framing().toward(crate::wire::http1::Version::Http11);
        let scheme: &[u8] = if connection.is_tls() { b"https" } else { b"http" };
        let append = forwarded(peer.as_bytes(), scheme, head);
        let edits = RequestEdits { framing, drop_forwarded: true, append: &append, ..RequestEdits::default() };
        self.scratch.clear();
        write_request(head, &edits, &mut self.scratch);
        self.outlet.put(stream, here.core.pool(), &self.scratch).await?;
        Ok(framing)
    }

    /// Carries the body over, then watches for the agent to leave. Ends only when something is wrong on this side; what is
    /// wrong with the stream, the way back tells.
    async fn send_body(
        &mut self,
        core: &Core,
        patient: &impl ByteStream,
        connection: &Connection,
        intake: &mut Intake,
        framing: Framing,
        stream: &CallStream,
    ) -> There {
        let RequestWork { decoder, outlet, scratch, peek } = self;
        let mut encoder = BodyEncoder::new(framing);
        let carry = Carry {
            from: patient,
            intake,
            decoder,
            to: stream,
            outlet,
            encoder: &mut encoder,
            pool: core.pool(),
            scratch,
        };
        match carry_body(carry, |bytes| peek.feed(bytes)).await {
            Ok(()) => stream.finish_message(),
            Err(CarryError::From(StreamError::TimedOut)) => return There::AgentStalled,
            // The stream failed while the agent was waited for: the way back tells why.
            Err(CarryError::From(StreamError::ResetWith { .. })) => {}
            Err(CarryError::From(_) | CarryError::Body(BodyError::Truncated)) => return There::AgentGone,
            Err(CarryError::Body(error)) => return There::Broken(error),
            Err(CarryError::Length(_) | CarryError::To(_)) => {}
        }
        // The agent has nothing more to say in this call. If it ends the connection, it has gone; if it sends another
        // request ahead, that waits.
        intake.ended(connection).await;
        There::AgentGone
    }

    /// Reads on, for a moment, what of the body is still to come, to find the message's id.
    async fn read_id(&mut self, agent: &mut Agent) {
        let RequestWork { decoder, peek, .. } = self;
        let Agent { here, connection, intake, head, .. } = agent;
        if head.expects_continue() {
            // The agent keeps its body back.
            return;
        }
        let read = read_on(connection, intake, decoder, |bytes| {
            peek.feed(bytes);
            !peek.is_done()
        });
        // Without the id the answer says less.
        let _ = here.core.timeout(READ_ID_WITHIN, read).await;
    }
}

impl ResponseWork {
    /// Carries what comes back to the agent.
    async fn receive(
        &mut self,
        here: &EdgeCore,
        request: &RequestHead,
        to: &impl ByteStream,
        opened: &Opened,
        stamps: &mut EdgeStamps,
        begun: &Cell<bool>,
    ) -> Back {
        let (ResponseWork { head, intake, decoder, outlet, scratch, timing }, stream) = (self, &opened.stream);
        // The answer to the call before may have broken off in the middle of its head.
        head.clear();
        let pool = here.core.pool();
        // One time for all heads: interim responses do not begin it anew.
        let deadline = here.core.turn_time() + here.edge.settings.first_byte_timeout;
        let mut interim = 0;
        let framing = loop {
            match response_head(here, request.method(), stream, intake, head, deadline).await {
                Ok(()) => {}
                Err(failure) => return Back::Failed(failure),
            }
            scratch.clear();
            if head.is_interim() {
                interim += 1;
                if interim > INTERIM_MAX {
                    stream.on_link().reset(Cause::UpstreamProtocol);
                    return Back::Failed(CallFailure::UpstreamBroken);
                }
                if request.version() == crate::wire::http1::Version::Http11 {
                    write_response(head, &ResponseEdits::default(), scratch);
                    if let Err(error) = outlet.put(to, pool, scratch).await.and_then(|()| outlet.flush(to)) {
                        return Back::unsent(&error);
                    }
                }
                continue;
            }
            break head.framing().toward(request.version());
        };
        stamps.on_from_link(stream.on_link().received_at());
        here.bonds.on_answer(&opened.usage, request, head, here.core.turn_time());
        let keep = request.keep_alive() && framing != Framing::UntilClose && !here.is_draining();
        let phases = stream.on_link().phases().map(connector_times);
        timing.clear();
        timing.reserve(SERVER_TIMING_LEN_MAX);
        server_timing(&CallPhases::split(stamps.times(here.core.now()), phases), timing);
        let append: [(&str, &[u8]); 1] = [("Server-Timing", timing)];
        write_response(head, &ResponseEdits { framing, close: !keep, append: &append }, scratch);
        begun.set(true);
        if let Err(error) = outlet.put(to, pool, scratch).await {
            return Back::unsent(&error);
        }
        stamps.on_to_agent(here.core.now());
        decoder.restart(head.framing());
        let mut encoder = BodyEncoder::new(framing);
        let carry = Carry { from: stream, intake, decoder, to, outlet, encoder: &mut encoder, pool, scratch };
        match carry_body(carry, |_| {}).await {
            Ok(()) => Back::Done(keep),
            Err(CarryError::To(error)) => Back::unsent(&error),
            Err(CarryError::From(error)) => Back::Failed(CallFailure::of_stream(&error)),
            Err(CarryError::Body(_) | CarryError::Length(_)) => Back::Failed(CallFailure::UpstreamBroken),
        }
    }
}

/// Waits until the system has the whole of an answer, where it is the last on its connection or more than is sent at once: an
/// answer that is cut then was not a good one. A last one has still to be [`taken`].
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
async fn taken(here: &EdgeCore, connection: &Connection) -> Outcome {
    outcome_of(&connection.taken(|| here.write_timeout()).await)
}

fn outcome_of(sent: &Result<(), StreamError>) -> Outcome {
    match sent {
        Ok(()) => Outcome::Ok,
        Err(StreamError::TimedOut) => Outcome::AgentStalled,
        Err(_) => Outcome::AgentGone,
    }
}

/// Counts a request that is of no route.
fn count_refused(here: &EdgeCore, refusal: Refusal) {
    let mut recorder = here.figures.recorder.borrow_mut();
    let label = recorder.label(OTHER, OTHER, "");
    recorder.record(label, &CallPhases::default(), refusal.outcome());
}

/// Reads a head of the response, before the deadline that the upstream has for the final one.
async fn response_head(
    here: &EdgeCore,
    method: Method,
    stream: &CallStream,
    intake: &mut Intake,
    head: &mut ResponseHead,
    deadline: Time,
) -> Result<(), CallFailure> {
    let read = intake.response_head(stream, head, method);
    // A GET waits for events, for as long as the agent does.
    let read = if method == Method::Get {
        read.await
    } else {
        let timed = here.core.timeout(deadline - here.core.turn_time(), read).await;
        timed.map_err(|_| {
            stream.on_link().reset(Cause::Deadline);
            CallFailure::TimedOut
        })?
    };
    match read {
        Ok(true) => Ok(()),
        Err(HeadReadError::Stream(error)) => Err(CallFailure::of_stream(&error)),
        Ok(false) | Err(HeadReadError::Head(_) | HeadReadError::Timeout) => Err(CallFailure::UpstreamBroken),
    }
}

/// Says which route a request is for, if it may be passed on at all.
fn admit<'t>(agent: &Agent, tables: &'t EdgeTables) -> Result<&'t Route, Refusal> {
    let host = check_request(&agent.head, &agent.here.edge.settings.allowed_origins)?;
    let route = tables.routes.lookup(&host).ok_or(Refusal::UnknownHost)?;
    let verdict = tables.admission.judge_call(&agent.source, &route.tunnel);
    if !agent.here.gate.admits_call(&agent.source, verdict) {
        return Err(Refusal::Network);
    }
    if route.traffic == Traffic::Passthrough { Err(Refusal::Passthrough) } else { Ok(route) }
}

/// The connector's figures, as they crossed the link.
fn connector_times(phases: Phases) -> ConnectorTimes {
    let some = |ns: u64| (ns > 0).then(|| Duration::from_nanos(ns));
    ConnectorTimes {
        connector: Duration::from_nanos(phases.connector_ns),
        upstream_connect: some(phases.upstream_connect_ns),
        upstream: Duration::from_nanos(phases.upstream_first_ns),
        upstream_last: some(phases.upstream_last_ns),
    }
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
