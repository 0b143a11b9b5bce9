//! Connections of agents at the edge.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future;

use crate::base::Clock;
use crate::edge::agents_http2;
use crate::edge::call::AgentCalls;
use crate::edge::call_work::Leave;
use crate::edge::caller::Caller;
use crate::edge::connectors;
use crate::edge::edge_core::EdgeCore;
use crate::edge::gate::{AdmissionError, PeerInfo, Port, PreAccept};
use crate::edge::message::{AgentOrigin, CoreMessage};
use crate::edge::moves::{Moved, Moves};
use crate::edge::passthrough::{self, Passing};
use crate::edge::settings::PlainHttp;
use crate::edge::shared::Counters;
use crate::engine::{ByteStream, Detached, Lease, Listener, Socket, StreamError};
use crate::exchange::{Outlet, Refusal};
use crate::identity::{CallerCertificate, ShownCertificates};
use crate::latency::{CallStage, OwnAnswer, Phase, SERVER_TIMING, own_timing};
use crate::route::Scheme;
use crate::serve::{Requests, serve};
use crate::tls::{ALPN_HTTP2, Connection, DetachedConnection, HandshakeError, TlsError};
use crate::wire::http1::Answer;
use crate::wire::http2::PREFACE;

/// How long a refused agent may take to read the reason, and an agent that has received everything to close its side.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The same limit while the edge drains.
const DRAIN_CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// The first byte of a TLS connection: a handshake record (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// Why an agent's connection is refused, for the call log.
const FULL: OwnAnswer = OwnAnswer::unanswered(
    "connections_max",
    "as many connections of agents are open as edge.connections_max allows: raise it, or find out who calls",
);

/// The connection of an agent before its protocol is known.
struct Agent {
    connection: Connection,
    requests: Requests,
    caller: Caller,
    /// The agent's address, which is handed over with the connection.
    peer: Option<SocketAddr>,
    /// How often the connection was handed over for its first request.
    moved: Moved,
    /// Whether it speaks HTTP/2.
    is_http2: bool,
}

/// Accepts agents until it is dropped.
pub(super) async fn accept(core: Rc<EdgeCore>, listener: Listener) {
    loop {
        match listener.accept().await {
            Ok((_, peer)) if core.drain.agents_open() >= core.edge.settings.connections_max => {
                Counters::add(&core.edge.counters.connections_refused);
                let address = peer.map(|peer| peer.ip().to_canonical());
                core.figures.on_turned_away(core.core.turn_time(), address, CallStage::Accept, FULL);
            }
            Ok((detached, peer)) => {
                if let Some(connection) = core.gate.pre_accept(Port::Agents, peer) {
                    core.core.spawn(serve_new(Rc::clone(&core), detached, connection));
                }
            }
            Err(error) => {
                Counters::add(&core.edge.counters.accepts_failed);
                tracing::warn!(%error, "cannot accept an agent's connection");
            }
        }
    }
}

/// Takes over a connection that another core accepted and whose first request is unread.
pub(super) fn adopt(core: &Rc<EdgeCore>, detached: DetachedConnection, origin: AgentOrigin, moved: Moved) {
    let task_core = Rc::clone(core);
    core.core.spawn(async move {
        let core = task_core;
        let _counted = core.drain.count_agent();
        match Connection::adopt(&core.core, detached, core.edge.settings.agent_socket()).await {
            Ok((connection, first)) => {
                let AgentOrigin { peer, front, certificate } = origin;
                let source = core.tables.get().admission.source(peer.map(|peer| peer.ip()));
                let mut peer_info = core.gate.handed_over(peer, source, front);
                let mut agent = Agent::new(&core, connection, first, &mut peer_info);
                agent.moved = moved;
                agent.caller.set_certificate(certificate);
                agent.serve().await;
            }
            Err(error) => tracing::warn!(%error, "cannot take over a connection from another core"),
        }
    });
}

async fn serve_new(core: Rc<EdgeCore>, detached: Detached, pre_accept: PreAccept) {
    let _counted = core.drain.count_agent();
    let (pre_accept, address) = pre_accept.and_address();
    // Taken out of the match, in which the future would contain the agent twice.
    let agent = match greet(&core, detached, pre_accept).await {
        Ok(Some(greeted)) => greeted,
        Ok(None) | Err(AdmissionError::Refused) => return,
        Err(error) => {
            Counters::add(&core.edge.counters.handshakes_failed);
            if matches!(error, AdmissionError::Connection(HandshakeError::Tls(TlsError::Crowded))) {
                Counters::add(&core.edge.counters.greetings_refused);
            }
            let (stage, own) = error.as_answer();
            core.figures.on_turned_away(core.core.turn_time(), address, stage, own);
            tracing::debug!(%error, "setting up an agent's connection failed");
            return;
        }
    };
    agent.serve().await;
}

/// Detects TLS by the first byte, and makes the handshake if the agent uses it.
async fn greet(
    core: &Rc<EdgeCore>,
    detached: Detached,
    pre_accept: PreAccept,
) -> Result<Option<Box<Agent>>, AdmissionError> {
    let settings = &core.edge.settings;
    let io_error = |error: io::Error| HandshakeError::Stream((&error).into());
    let socket = core.core.adopt(detached, core.edge.settings.agent_socket()).await.map_err(io_error)?;
    let (mut peer_info, mut first) = core.gate.accept(Port::Agents, pre_accept, &socket).await?;
    if first.is_none() {
        let draining = async {
            core.drain.begun().await;
            Ok(Ok(None))
        };
        // A connection without any byte has less time than one that has carried a call.
        let received = future::or(core.core.timeout(settings.header_timeout, socket.recv()), draining).await;
        first = received.map_err(|_| HandshakeError::Timeout)?.map_err(HandshakeError::from)?;
    }
    let Some(first) = first else { return Ok(None) };
    let speaks_tls = first.first() == Some(&TLS_HANDSHAKE);
    if speaks_tls && (core.edge.reads_names() || settings.connectors_on_agents_listen) {
        // Boxed, because most edges do not need it.
        return Box::pin(greet_named(core, socket, first, peer_info)).await;
    }
    if settings.connectors_on_agents_listen && !core.gate.admits_agent(&peer_info.source) {
        return Err(AdmissionError::Refused);
    }
    let Some(config) = settings.agents_tls.as_ref().filter(|_| speaks_tls) else {
        return Ok(greet_plain(core, Connection::plain(socket), first, &mut peer_info).await);
    };
    let timeout = core.core.sleep(settings.handshake_timeout);
    let greeting = Some(core.greetings.share());
    let connection = Connection::server(socket, config, Some(first), greeting, timeout).await?;
    Ok(Some(Agent::new(core, connection, None, &mut peer_info)))
}

/// Reads the ClientHello first. The TLS of some agents ends in the connector: their connection is then carried to its
/// end. The peer may also be a connector.
async fn greet_named(
    core: &Rc<EdgeCore>,
    socket: Socket,
    first: Lease,
    mut peer_info: PeerInfo,
) -> Result<Option<Box<Agent>>, AdmissionError> {
    let settings = &core.edge.settings;
    let peek = passthrough::peek(core, &socket, first).await?;
    if settings.connectors_on_agents_listen {
        if peek.is_connectors() {
            let first = peek.into_leases(core.core.pool()).await;
            if let Some(peer) = core.gate.admit_connector(peer_info) {
                connectors::take_in(core, socket, first, peer);
            }
            return Ok(None);
        }
        if !core.gate.admits_agent(&peer_info.source) {
            return Err(AdmissionError::Refused);
        }
    }
    if let Some(route) = peek.route(core) {
        Passing::new(Connection::plain(socket), peek, route).serve(core, &peer_info, Moves::default()).await;
        return Ok(None);
    }
    let Some(config) = settings.agents_tls.as_ref() else {
        // Plain HTTP is refused by its first byte.
        let Some(first) = peek.into_leases(core.core.pool()).await.into_iter().next() else { return Ok(None) };
        return Ok(greet_plain(core, Connection::plain(socket), first, &mut peer_info).await);
    };
    let timeout = core.core.sleep(settings.handshake_timeout);
    let greeting = Some(core.greetings.share());
    let asking = settings.agents_tls_asking.as_ref().filter(|_| peek.asks_for_certificate(core));
    let first = peek.into_leases(core.core.pool()).await;
    let connection = Connection::server(socket, asking.unwrap_or(config), first, greeting, timeout).await?;
    let shown = asking.map(|_| CallerCertificate::Asked(connection.with_peer_certificates(ShownCertificates::of)));
    let mut agent = Agent::new(core, connection, None, &mut peer_info);
    if let Some(shown) = shown {
        agent.caller.set_certificate(shown);
    }
    Ok(Some(agent))
}

async fn greet_plain(
    core: &Rc<EdgeCore>,
    connection: Connection,
    first: Lease,
    peer_info: &mut PeerInfo,
) -> Option<Box<Agent>> {
    let may = match core.edge.settings.plain_http {
        PlainHttp::Never => false,
        PlainHttp::Loopback => peer_info.direct.is_some_and(|direct| direct.ip().to_canonical().is_loopback()),
        PlainHttp::Anywhere => true,
    };
    if may && core.edge.settings.http2 && first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
        // Boxed, because it is rare.
        let (connection, first) = Box::pin(read_preface(core, connection, first)).await?;
        return Some(Agent::new(core, connection, first, peer_info));
    }
    if may {
        return Some(Agent::new(core, connection, Some(first), peer_info));
    }
    Counters::add(&core.edge.counters.requests_refused);
    let (address, refusal) = (peer_info.source.address, Refusal::PlainHttp);
    core.figures.on_turned_away(core.core.turn_time(), address, refusal.stage(), refusal.own_answer());
    let (mut timing, mut answer) = (Vec::new(), Vec::new());
    own_timing(Phase::Edge, core.core.now() - connection.received_at(), &mut timing);
    Answer { append: &[(SERVER_TIMING, &timing)], ..refusal.answer() }.write(&mut answer);
    drop(first);
    let mut outlet = Outlet::default();
    // An agent that has left needs no answer.
    if outlet.put(&connection, core.core.pool(), &answer).await.is_ok() {
        let _ = outlet.flush(&connection);
    }
    connection.close_gracefully(CLOSE_TIMEOUT).await;
    None
}

/// Reads until it is known whether the agent speaks HTTP/2; `first` is the start of its preface.
async fn read_preface(core: &EdgeCore, connection: Connection, first: Lease) -> Option<(Connection, Option<Lease>)> {
    let mut received = first.to_vec();
    drop(first);
    let reading = async {
        while received.len() < PREFACE.len() && PREFACE.starts_with(&received) {
            received.extend_from_slice(&connection.recv().await.ok()??);
        }
        Some(())
    };
    core.core.timeout(core.edge.settings.header_timeout, reading).await.ok()??;
    let detached = connection.detach(received).await.ok()?;
    Connection::adopt(&core.core, detached, core.edge.settings.agent_socket()).await.ok()
}

impl Agent {
    /// Boxed, because a future contains a value once for each function that it is moved through.
    fn new(core: &Rc<EdgeCore>, connection: Connection, first: Option<Lease>, peer_info: &mut PeerInfo) -> Box<Agent> {
        let is_http2 = core.edge.settings.http2
            && match connection.is_tls() {
                true => connection.with_alpn(|protocol| protocol == Some(ALPN_HTTP2)),
                false => first.as_ref().is_some_and(|first| first.starts_with(PREFACE)),
            };
        let mut requests = Requests::new(first);
        requests.read_labels(true);
        let is_tls = connection.is_tls();
        requests.answer_browsers(Some(&core.edge.settings.origins), Scheme::of_connection(is_tls));
        let caller = Caller::new(core, peer_info, is_tls);
        let (peer, moved) = (peer_info.peer, Moved::default());
        Box::new(Agent { connection, requests, caller, peer, moved, is_http2 })
    }

    /// Serves one request after another.
    async fn serve(mut self: Box<Self>) {
        if self.is_http2 {
            let Agent { connection, requests, caller, peer, .. } = *self;
            // Boxed, so that other connections do not pay for its size.
            return Box::pin(agents_http2::serve(caller, peer, connection, requests.into_received())).await;
        }
        let Agent { connection, requests, caller, moved, .. } = &mut *self;
        let core = caller.core.core.clone();
        // The memory of the requests is freed before the agent's time to read the rest.
        let left = serve(&core, requests, connection, &mut AgentCalls::new(caller, *moved)).await;
        let Agent { connection, requests, caller, peer, .. } = *self;
        match left {
            None => {
                drop(requests);
                close(&caller.core, connection).await;
            }
            Some(Leave::Abort) => connection.abort(),
            Some(Leave::HandOver(target, moved)) => match connection.detach(requests.into_unanswered()).await {
                Ok(detached) => {
                    let message = CoreMessage::Agent(Box::new(detached), caller.origin(peer), moved);
                    caller.core.hand_over(target, message).await;
                }
                Err(error) => tracing::debug!(%error, "handing a connection over"),
            },
        }
    }
}

/// Closes a connection once the agent has received everything.
pub(super) async fn close(core: &EdgeCore, connection: Connection) {
    let patience = if core.is_draining() { DRAIN_CLOSE_TIMEOUT } else { CLOSE_TIMEOUT };
    let closed = connection.close_when_taken(|| core.write_timeout(), patience).await;
    if closed == Err(StreamError::TimedOut) {
        Counters::add(&core.edge.counters.answers_cut_at_close);
        tracing::debug!("an agent's connection was reset before the end of its last answer: the agent stopped reading");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size in bytes of the future of an agent's connection, without buffers and TLS session.
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
