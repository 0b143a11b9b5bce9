//! Connections of agents.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future;

use crate::base::Clock;
use crate::edge::agents_http2;
use crate::edge::call::{AgentCalls, Caller, Leave};
use crate::edge::connectors;
use crate::edge::edge_core::EdgeCore;
use crate::edge::front::Front;
use crate::edge::gate::{AdmissionError, PeerInfo, Port, PreAccept};
use crate::edge::message::CoreMessage;
use crate::edge::moves::Moves;
use crate::edge::passthrough::{self, Passing};
use crate::edge::settings::PlainHttp;
use crate::edge::shared::Counters;
use crate::engine::{ByteStream, Detached, Lease, Listener, Socket, StreamError};
use crate::exchange::{Outlet, Refusal};
use crate::latency::{Phase, SERVER_TIMING, own_timing};
use crate::route::Scheme;
use crate::serve::{Requests, serve};
use crate::tls::{ALPN_HTTP2, Connection, DetachedConnection, HandshakeError, TlsError};
use crate::wire::http1::Answer;
use crate::wire::http2::PREFACE;

/// How long an agent that was refused may take to read why, and one that has everything to end its side.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);
/// The same while the edge is to end.
const DRAIN_FAREWELL: Duration = Duration::from_millis(500);
/// The first byte of a TLS connection: a handshake record (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// An agent's connection.
struct Agent {
    connection: Connection,
    requests: Requests,
    caller: Caller,
    /// How often it has gone to another core for its first request.
    moves: Moves,
    /// Whether it speaks HTTP/2.
    is_http2: bool,
}

/// Accepts agents until it is dropped.
pub(super) async fn accept(here: Rc<EdgeCore>, listener: Listener) {
    loop {
        match listener.accept().await {
            Ok(_) if here.drain.agents_open() >= here.edge.settings.connections_max => {
                Counters::add(&here.edge.counters.connections_refused);
            }
            Ok((detached, peer)) => {
                if let Some(connection) = here.gate.pre_accept(Port::Agents, peer) {
                    here.core.spawn(serve_new(Rc::clone(&here), detached, connection));
                }
            }
            Err(error) => {
                Counters::add(&here.edge.counters.accepts_failed);
                tracing::warn!(%error, "accepting agents");
            }
        }
    }
}

/// Takes in a connection that another core accepted, with its first request unread.
pub(super) fn adopt(
    here: &Rc<EdgeCore>,
    detached: DetachedConnection,
    peer: Option<SocketAddr>,
    front: Front,
    moves: Moves,
) {
    let here = Rc::clone(here);
    let core = here.core.clone();
    core.spawn(async move {
        let _counted = here.drain.count_agent();
        match Connection::adopt(&here.core, detached, here.edge.settings.agent_socket()).await {
            Ok((connection, first)) => {
                let source = here.tables.get().admission.source(peer.map(|peer| peer.ip()));
                let mut visitor = here.gate.handed_over(peer, source, front);
                let mut agent = Agent::new(&here, connection, first, &mut visitor);
                agent.moves = moves;
                agent.serve(peer).await;
            }
            Err(error) => tracing::warn!(%error, "taking in a connection that was handed over"),
        }
    });
}

async fn serve_new(here: Rc<EdgeCore>, detached: Detached, pre_accept: PreAccept) {
    let _counted = here.drain.count_agent();
    // Taken out of the match: within it, the agent would take its place twice for as long as it is served.
    let (agent, peer) = match greet(&here, detached, pre_accept).await {
        Ok(Some(greeted)) => greeted,
        Ok(None) | Err(AdmissionError::Refused) => return,
        Err(error) => {
            Counters::add(&here.edge.counters.handshakes_failed);
            if matches!(error, AdmissionError::Connection(HandshakeError::Tls(TlsError::Crowded))) {
                Counters::add(&here.edge.counters.greetings_refused);
            }
            tracing::debug!(%error, "an agent's connection did not come about");
            return;
        }
    };
    agent.serve(peer).await;
}

/// An agent, and where it comes from.
type Greeted = (Box<Agent>, Option<SocketAddr>);

/// Finds out whether the agent speaks TLS, by its first byte, and makes the handshake if it does.
async fn greet(
    here: &Rc<EdgeCore>,
    detached: Detached,
    pre_accept: PreAccept,
) -> Result<Option<Greeted>, AdmissionError> {
    let settings = &here.edge.settings;
    let io_error = |error: io::Error| HandshakeError::Stream((&error).into());
    let socket = here.core.adopt(detached, here.edge.settings.agent_socket()).await.map_err(io_error)?;
    let (mut visitor, mut first) = here.gate.accept(Port::Agents, pre_accept, &socket).await?;
    if first.is_none() {
        let draining = async {
            here.drain.begun().await;
            Ok(Ok(None))
        };
        // One that has said nothing yet is owed less patience than one that has called.
        let received = future::or(here.core.timeout(settings.header_timeout, socket.recv()), draining).await;
        first = received.map_err(|_| HandshakeError::Timeout)?.map_err(HandshakeError::from)?;
    }
    let Some(first) = first else { return Ok(None) };
    let speaks_tls = first.first() == Some(&TLS_HANDSHAKE);
    if speaks_tls && (here.edge.passes_through() || settings.connectors_on_agents_listen) {
        // In a box, as most edges need none of it.
        return Box::pin(greet_named(here, socket, first, visitor)).await;
    }
    if settings.connectors_on_agents_listen && !here.gate.admits_agent(&visitor.source) {
        return Err(AdmissionError::Refused);
    }
    let Some(config) = settings.agents_tls.as_ref().filter(|_| speaks_tls) else {
        let agent = greet_plain(here, Connection::plain(socket), first, &mut visitor).await;
        return Ok(agent.map(|agent| (agent, visitor.peer)));
    };
    let timeout = here.core.sleep(settings.handshake_timeout);
    let greeting = Some(here.greetings.share());
    let connection = Connection::server(socket, config, Some(first), greeting, timeout).await?;
    Ok(Some((Agent::new(here, connection, None, &mut visitor), visitor.peer)))
}

/// Reads the first message first: the TLS of some agents ends elsewhere, and their connection is then carried to its end; and it
/// may be a connector.
async fn greet_named(
    here: &Rc<EdgeCore>,
    socket: Socket,
    first: Lease,
    mut visitor: PeerInfo,
) -> Result<Option<Greeted>, AdmissionError> {
    let settings = &here.edge.settings;
    let peek = passthrough::peek(here, &socket, first).await?;
    if settings.connectors_on_agents_listen {
        if peek.is_connectors() {
            let first = peek.into_leases(here.core.pool()).await;
            if let Some(peer) = here.gate.admit_connector(visitor) {
                connectors::take_in(here, socket, first, peer);
            }
            return Ok(None);
        }
        if !here.gate.admits_agent(&visitor.source) {
            return Err(AdmissionError::Refused);
        }
    }
    if let Some(route) = peek.route(here) {
        Passing::new(Connection::plain(socket), peek, route).serve(here, &visitor, Moves::default()).await;
        return Ok(None);
    }
    let Some(config) = settings.agents_tls.as_ref() else {
        // It is refused by its first byte.
        let Some(first) = peek.into_leases(here.core.pool()).await.into_iter().next() else { return Ok(None) };
        let agent = greet_plain(here, Connection::plain(socket), first, &mut visitor).await;
        return Ok(agent.map(|agent| (agent, visitor.peer)));
    };
    let timeout = here.core.sleep(settings.handshake_timeout);
    let greeting = Some(here.greetings.share());
    let first = peek.into_leases(here.core.pool()).await;
    let connection = Connection::server(socket, config, first, greeting, timeout).await?;
    Ok(Some((Agent::new(here, connection, None, &mut visitor), visitor.peer)))
}

async fn greet_plain(
    here: &Rc<EdgeCore>,
    connection: Connection,
    first: Lease,
    visitor: &mut PeerInfo,
) -> Option<Box<Agent>> {
    let may = match here.edge.settings.plain_http {
        PlainHttp::Never => false,
        PlainHttp::Loopback => visitor.direct.is_some_and(|direct| direct.ip().to_canonical().is_loopback()),
        PlainHttp::Anywhere => true,
    };
    if may && here.edge.settings.http2 && first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
        // In a box, as it is rare.
        let (connection, first) = Box::pin(read_preface(here, connection, first)).await?;
        return Some(Agent::new(here, connection, first, visitor));
    }
    if may {
        return Some(Agent::new(here, connection, Some(first), visitor));
    }
    Counters::add(&here.edge.counters.requests_refused);
    let (mut timing, mut answer) = (Vec::new(), Vec::new());
    own_timing(Phase::Edge, here.core.now() - connection.received_at(), &mut timing);
    Answer { append: &[(SERVER_TIMING, &timing)], ..Refusal::PlainHttp.answer() }.write(&mut answer);
    drop(first);
    let mut outlet = Outlet::default();
    // An agent that has left needs no answer.
    if outlet.put(&connection, here.core.pool(), &answer).await.is_ok() {
        let _ = outlet.flush(&connection);
    }
    connection.close_gracefully(FAREWELL).await;
    None
}

/// Reads on until it is known whether the agent begins as in HTTP/2, of whose preface `first` is the start.
async fn read_preface(here: &EdgeCore, connection: Connection, first: Lease) -> Option<(Connection, Option<Lease>)> {
    let mut received = first.to_vec();
    drop(first);
    let reading = async {
        while received.len() < PREFACE.len() && PREFACE.starts_with(&received) {
            received.extend_from_slice(&connection.recv().await.ok()??);
        }
        Some(())
    };
    here.core.timeout(here.edge.settings.header_timeout, reading).await.ok()??;
    let detached = connection.detach(received).await.ok()?;
    Connection::adopt(&here.core, detached, here.edge.settings.agent_socket()).await.ok()
}

impl Agent {
    /// In a box: a task holds what is moved from one function into the next at each of its places.
    fn new(here: &Rc<EdgeCore>, connection: Connection, first: Option<Lease>, visitor: &mut PeerInfo) -> Box<Agent> {
        let is_http2 = here.edge.settings.http2
            && match connection.is_tls() {
                true => connection.with_alpn(|protocol| protocol == Some(ALPN_HTTP2)),
                false => first.as_ref().is_some_and(|first| first.starts_with(PREFACE)),
            };
        let mut requests = Requests::new(first);
        requests.read_labels(true);
        let is_tls = connection.is_tls();
        requests.answer_browsers(Some(&here.edge.settings.origins), Scheme::of_connection(is_tls));
        let caller = Caller::new(here, visitor, is_tls);
        Box::new(Agent { connection, requests, caller, moves: Moves::default(), is_http2 })
    }

    /// Serves one request after another.
    async fn serve(mut self: Box<Self>, peer: Option<SocketAddr>) {
        if self.is_http2 {
            let Agent { connection, requests, caller, .. } = *self;
            // In a box, so that other connections do not have its size.
            return Box::pin(agents_http2::serve(caller, peer, connection, requests.into_received())).await;
        }
        let Agent { connection, requests, caller, moves, .. } = &mut *self;
        let core = caller.here.core.clone();
        // Its memory is given back before the time that the agent takes to read on.
        let left = serve(&core, requests, connection, &mut AgentCalls::new(caller, *moves)).await;
        let Agent { connection, requests, caller, .. } = *self;
        match left {
            None => {
                drop(requests);
                close(&caller.here, connection).await;
            }
            Some(Leave::Abort) => connection.abort(),
            Some(Leave::HandOver(core, moves)) => match connection.detach(requests.into_unanswered()).await {
                Ok(detached) => {
                    let message = CoreMessage::Agent(Box::new(detached), peer, caller.front, moves);
                    caller.here.hand_over(core, message).await;
                }
                Err(error) => tracing::debug!(%error, "handing a connection over"),
            },
        }
    }
}

/// Closes a connection once the agent has all that was sent.
pub(super) async fn close(here: &EdgeCore, connection: Connection) {
    let patience = if here.is_draining() { DRAIN_FAREWELL } else { FAREWELL };
    let closed = connection.close_when_taken(|| here.write_timeout(), patience).await;
    if closed == Err(StreamError::TimedOut) {
        Counters::add(&here.edge.counters.answers_cut_at_close);
        tracing::debug!("an agent was cut off before it had all of its last answer: it took nothing for too long");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an agent's connection costs, besides its buffers and its TLS session, for as long as it lasts.
    const FUTURE_LEN_MAX: usize = 3500;

    fn future_len<A, B, C, F: Future>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_agents_task_is_small() {
        let len = future_len(serve_new);
        assert!(len <= FUTURE_LEN_MAX, "{len} bytes");
    }
}
