//! Connections of agents whose TLS ends in the connector: routed by the server name in the ClientHello, and carried
//! still encrypted.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future;

use crate::base::{CallFailure, CoreId, Time, Traffic, TunnelId};
use crate::edge::agent_routes::asks_for_certificate;
use crate::edge::agents;
use crate::edge::bonds::Bond;
use crate::edge::edge_core::EdgeCore;
use crate::edge::front::Front;
use crate::edge::gate::PeerInfo;
use crate::edge::message::CoreMessage;
use crate::edge::moves::Moves;
use crate::edge::open::{CallTarget, NotOpened};
use crate::edge::shared::Counters;
use crate::engine::{ByteStream, Lease, Pool, StreamError, leases_of, send_bytes};
use crate::exchange::{Refusal, TimeoutStream};
use crate::latency::{CallRecord, CallStage, HostText, OwnAnswer};
use crate::link::CarrierStream;
use crate::route::{Hostname, Route};
use crate::tls::{
    ALPN_ENROL, ALPN_LINK, Alert, Connection, DetachedConnection, HandshakeError, Peeked, ServerNamePeek, TlsError,
};
use crate::wire::mux::Withdrawal;

/// How long a refused agent may take to read the alert.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a connection may change to another connector before anything was sent to its agent.
const CONNECTOR_CHANGES_MAX: u32 = 2;
/// The method under which such connections are counted, as their content cannot be read.
const LABEL: &str = "passthrough";

/// The first bytes of a connection, and what they contain.
pub(super) struct FirstBytes {
    received: Vec<u8>,
    /// The server name of the ClientHello (RFC 6066 section 3).
    host: Option<Hostname>,
    /// Whether the ClientHello offers a protocol of connectors.
    is_connectors: bool,
}

/// A connection of an agent whose TLS ends in the connector.
pub(super) struct Passing {
    connection: Connection,
    received: Vec<u8>,
    host: Hostname,
    route: Route,
}

/// Reads until the server name that the agent asks for.
pub(super) async fn peek(
    core: &EdgeCore,
    socket: &impl ByteStream,
    first: Lease,
) -> Result<FirstBytes, HandshakeError> {
    let mut greeting = core.greetings.share();
    let reading = read_name(socket, first, |len| greeting.set(len));
    let reading = core.core.timeout(core.edge.settings.handshake_timeout, reading);
    reading.await.map_err(|_| HandshakeError::Timeout)?
}

/// Reads until the server name is known. The bytes are copied into one piece, because an agent that sends single bytes
/// would hold a buffer for each.
async fn read_name(
    socket: &impl ByteStream,
    first: Lease,
    mut may_keep: impl FnMut(usize) -> bool,
) -> Result<FirstBytes, HandshakeError> {
    let mut peek = ServerNamePeek::default();
    let mut peeked = peek.feed(&first);
    drop(first);
    while peeked == Peeked::More {
        if !may_keep(peek.received_len()) {
            return Err(TlsError::Crowded.into());
        }
        let Some(lease) = socket.recv().await? else { break };
        peeked = peek.feed(&lease);
    }
    let host = if let Peeked::Name(name) = peeked { name.parse().ok() } else { None };
    let is_connectors = [ALPN_LINK, ALPN_ENROL].iter().any(|protocol| peek.offers(protocol));
    Ok(FirstBytes { received: peek.into_received(), host, is_connectors })
}

impl FirstBytes {
    /// Whether the peer is a connector and not an agent.
    pub(super) fn is_connectors(&self) -> bool {
        self.is_connectors
    }

    /// The bytes that were received, for the TLS handshake.
    pub(super) async fn into_leases(self, pool: &Pool) -> Vec<Lease> {
        leases_of(pool, &self.received).await
    }

    /// Whether the route of the server name asks agents for a certificate.
    pub(super) fn asks_for_certificate(&self, core: &EdgeCore) -> bool {
        self.host.is_some_and(|host| core.tables.get().routes.lookup(&host).is_some_and(asks_for_certificate))
    }

    /// The route of the server name, if it is passthrough.
    pub(super) fn route(&self, core: &EdgeCore) -> Option<(Hostname, Route)> {
        let host = self.host?;
        let tables = core.tables.get();
        let route = tables.routes.lookup(&host).filter(|route| route.traffic == Traffic::Passthrough)?;
        Some((host, route.clone()))
    }
}

/// Takes over a connection that another core accepted.
pub(super) fn adopt(core: &Rc<EdgeCore>, detached: DetachedConnection, peer: Option<SocketAddr>, moves: Moves) {
    let task_core = Rc::clone(core);
    core.core.spawn(async move {
        let core = &task_core;
        let _counted = core.drain.count_agent();
        let adopted = Connection::adopt(&core.core, detached, core.edge.settings.agent_socket()).await;
        let (connection, first) = match adopted {
            Ok((connection, Some(first))) => (connection, first),
            Ok((_, None)) => return,
            Err(error) => return tracing::warn!(%error, "cannot take over a connection of another core"),
        };
        let Ok(peek) = peek(core, &connection, first).await else { return };
        // The tables may have changed in the meantime, so that the host no longer has such a route.
        let Some((host, route)) = peek.route(core) else { return };
        let source = core.tables.get().admission.source(peer.map(|peer| peer.ip()));
        let peer_info = core.gate.handed_over(peer, source, Front::default());
        Passing { connection, received: peek.received, host, route }.serve(core, &peer_info, moves).await;
    });
}

impl Passing {
    pub(super) fn new(connection: Connection, peek: FirstBytes, (host, route): (Hostname, Route)) -> Passing {
        Passing { connection, received: peek.received, host, route }
    }

    /// Carries the connection to its end.
    pub(super) async fn serve(self, core: &Rc<EdgeCore>, peer_info: &PeerInfo, moves: Moves) {
        let verdict = core.tables.get().admission.judge_call(&peer_info.source, &self.route.tunnel);
        let attempt = Attempt { core, peer: peer_info.peer, host: self.host, number: core.links.next_call() };
        if !core.gate.admits_call(&peer_info.source, verdict) {
            attempt.keep_refused(Refusal::Network);
            return self.refuse(core, Alert::AccessDenied).await;
        }
        let Ok(_permit) = core.gate.begin_call(peer_info.permit.as_ref()) else {
            attempt.keep_refused(Refusal::TooManyCalls);
            return self.refuse(core, Alert::InternalError).await;
        };
        let address = peer_info.peer.map(|peer| peer.ip().to_canonical().to_string());
        let (host, peer) = (&self.host, address.as_ref());
        let bond = Bond::of_address(peer_info.peer.map(|peer| peer.ip()));
        let call = attempt.number;
        let target = CallTarget {
            route: &self.route,
            host,
            seal: None,
            peer,
            bond,
            moves,
            call,
            has_waited: false,
            until: Time::NEVER,
        };
        let (stream, mut usage) = match core.open_on_link(target).await {
            Ok(opened) => opened,
            Err(NotOpened::HandOver(target)) => {
                return self.hand_over(core, target, peer_info.peer, moves.and_one()).await;
            }
            Err(not_opened) => {
                let failure = match not_opened {
                    NotOpened::Failed(failure) | NotOpened::NotPassedOn(failure, _) => failure,
                    NotOpened::HandOver(_) | NotOpened::Withdrawn => CallFailure::ConnectorOffline,
                };
                attempt.keep_failed(&self.route, None, failure);
                Counters::add(&core.edge.counters.requests_refused);
                return self.refuse(core, Alert::InternalError).await;
            }
        };
        Counters::add(&core.edge.counters.passed_through);
        let label = core.figures.recorder.borrow_mut().label(self.route.name.as_str(), LABEL, "");
        usage.count(label, core.core.turn_time());
        let received = RefCell::new(Rc::new(self.received));
        let tunnel = &self.route.tunnel;
        let mut stream = stream;
        let mut moved = 0;
        let carried = loop {
            let may_move = moved < CONNECTOR_CHANGES_MAX;
            if may_move {
                stream.set_withdrawal(Withdrawal::UntilSent);
            }
            let carried = carry(core, &self.connection, &received, (&stream, tunnel, host.as_str())).await;
            let is_given_up = matches!(carried, Err(Broken::ConnectorStalled { .. }));
            if is_given_up {
                Counters::add(&core.edge.counters.passed_through_given_up);
                stream.reset(CallFailure::Cancelled);
            }
            let has_failed =
                matches!(carried, Err(Broken::Link { begun: false, .. } | Broken::ConnectorStalled { begun: false }));
            let is_taken_back = has_failed && (stream.is_withdrawn() || is_given_up);
            if !may_move || !is_taken_back || received.borrow().is_empty() {
                break carried;
            }
            // The agent waits for the answer to its first message. Nothing of it was sent, or only a ClientHello, which
            // may be repeated. The connection cannot be handed over.
            let again = core.open_on_link(CallTarget { moves: Moves::spent(), ..target }).await;
            let Ok((other, of_other)) = again else { break carried };
            let counters = &core.edge.counters;
            Counters::add(if moved == 0 { &counters.calls_moved } else { &counters.calls_moved_again });
            of_other.count(label, core.core.turn_time());
            (stream, usage) = (other, of_other);
            moved += 1;
        };
        let Passing { connection, .. } = self;
        if matches!(carried, Err(Broken::AgentGone | Broken::AgentStalled)) {
            stream.reset(CallFailure::Cancelled);
        }
        if let Err(Broken::Link { begun: false, failure }) = carried {
            attempt.keep_failed(&self.route, Some(usage.connector()), failure);
        } else if let Err(Broken::ConnectorStalled { begun: false }) = carried {
            attempt.keep_failed(&self.route, Some(usage.connector()), CallFailure::LinkLost);
        }
        // The connector's stream is not needed any more.
        drop(stream);
        match carried {
            Ok(()) => agents::close(core, connection).await,
            Err(Broken::AgentGone) => connection.abort(),
            Err(Broken::AgentStalled) => {
                Counters::add(&core.edge.counters.passed_through_stalled);
                connection.abort();
            }
            // The connector's own alert was passed on.
            Err(Broken::Link { begun: true, failure: CallFailure::SealRefused }) => {
                connection.close_gracefully(CLOSE_TIMEOUT).await
            }
            Err(Broken::Link { begun: false, .. } | Broken::ConnectorStalled { begun: false }) => {
                // Nothing was sent to the agent yet, so an alert can still be sent in plain text.
                send_alert(core, &connection, Alert::InternalError).await;
                connection.close_gracefully(CLOSE_TIMEOUT).await;
            }
            Err(Broken::Link { begun: true, .. } | Broken::ConnectorStalled { begun: true }) => connection.abort(),
        }
    }

    async fn refuse(self, core: &EdgeCore, alert: Alert) {
        send_alert(core, &self.connection, alert).await;
        self.connection.close_gracefully(CLOSE_TIMEOUT).await;
    }

    /// Hands the connection over to a core that has a link for it, with all bytes that were read.
    async fn hand_over(self, core: &EdgeCore, target: CoreId, peer: Option<SocketAddr>, moves: Moves) {
        let detached = match self.connection.detach(self.received).await {
            Ok(detached) => detached,
            Err(error) => return tracing::debug!(%error, "cannot hand a connection over"),
        };
        core.hand_over(target, CoreMessage::Passing(Box::new(detached), peer, moves)).await;
    }
}

/// A connection for the call log, which contains it if it ends before its connector answered.
struct Attempt<'a> {
    core: &'a EdgeCore,
    peer: Option<SocketAddr>,
    host: Hostname,
    number: u64,
}

impl Attempt<'_> {
    fn keep_refused(&self, refusal: Refusal) {
        let record = CallRecord { stage: refusal.stage(), outcome: Some(refusal.outcome()), ..self.record() };
        self.keep(record, refusal.own_answer());
    }

    fn keep_failed(&self, route: &Route, connector: Option<u64>, failure: CallFailure) {
        let label = self.core.figures.recorder.borrow_mut().label(route.name.as_str(), LABEL, "");
        let (stage, outcome) = (CallStage::of(failure.outcome()), Some(failure.outcome()));
        let connector = connector.and_then(NonZeroU64::new);
        let record = CallRecord { label: Some(label), connector, stage, outcome, ..self.record() };
        self.keep(record, failure.own_answer(None));
    }

    fn record(&self) -> CallRecord {
        let (number, peer, host) = (self.number, self.peer.map(|peer| peer.ip()), HostText::of(self.host.as_str()));
        CallRecord { number, peer, host, ..CallRecord::new(self.core.core.turn_time()) }
    }

    /// The agent gets a TLS alert, and no HTTP status.
    fn keep(&self, record: CallRecord, own: OwnAnswer) {
        let record = CallRecord { status: 0, ..record.with_own(Some(own)) };
        self.core.figures.calls.borrow_mut().record(&record);
    }
}

/// How a connection ended early.
enum Broken {
    AgentGone,
    /// The agent stopped reading for longer than the write timeout.
    AgentStalled,
    Link {
        failure: CallFailure,
        /// Whether anything was sent to the agent.
        begun: bool,
    },
    /// The connector was stalled, while another one responds.
    ConnectorStalled {
        begun: bool,
    },
}

/// Carries bytes both ways until the connector has sent its last.
///
/// `received` holds what was read from the agent, until more arrives from either side.
async fn carry(
    core: &EdgeCore,
    connection: &Connection,
    received: &RefCell<Rc<Vec<u8>>>,
    (stream, tunnel, host): (&CarrierStream, &TunnelId, &str),
) -> Result<(), Broken> {
    let pool = core.core.pool();
    let begun = Cell::new(false);
    // Whether the agent has sent something since it last received anything.
    let waits = Cell::new(true);
    let is_given_up = || core.links.is_given_up(tunnel, host, stream);
    let gave_up = Cell::new(false);
    let broken = |error: StreamError| match error {
        _ if gave_up.get() => Broken::ConnectorStalled { begun: begun.get() },
        // The agent's half failed; the other direction reports the reason.
        StreamError::ResetWith { failure } => Broken::Link { failure, begun: begun.get() },
        StreamError::TimedOut => Broken::AgentStalled,
        _ => Broken::AgentGone,
    };
    let there = async {
        send_first(stream, pool, received).await?;
        while let Some(lease) = connection.recv().await? {
            forget(received);
            if !waits.replace(true) {
                stream.on_call();
                if is_given_up() {
                    gave_up.set(true);
                    return Err(StreamError::Closed);
                }
            }
            room(core, connection, stream).await?;
            stream.send(lease)?;
        }
        stream.finish();
        // The connector sees the end only after the agent's bytes, for which the link may have no room.
        let flushed = core.core.timeout(core.write_timeout(), stream.flushed()).await;
        flushed.map_err(|_| StreamError::TimedOut)??;
        future::pending::<Result<(), StreamError>>().await
    };
    let back = async {
        let to = TimeoutStream::new(connection, &core.edge.settings.write_timeout, |taken, cx| {
            core.exchange_state(stream, taken, cx)
        });
        while let Some(lease) = stream.recv().await? {
            begun.set(true);
            waits.set(false);
            forget(received);
            to.ready().await?;
            to.send(lease)?;
        }
        Ok(())
    };
    let stalled = async {
        let mut seen = core.links.times_stalled();
        while !waits.get() || !is_given_up() {
            seen = core.links.stalled_after(seen).await;
        }
        gave_up.set(true);
        Err(StreamError::Closed)
    };
    future::or(future::or(back, there), stalled).await.map_err(broken)
}

/// Frees the first message, once, because its replacement allocates.
fn forget(received: &RefCell<Rc<Vec<u8>>>) {
    if !received.borrow().is_empty() {
        received.take();
    }
}

/// Sends what was read from the agent. It is not taken out, because the link may accept it late or never, and more may
/// arrive before that.
async fn send_first(to: &impl ByteStream, pool: &Pool, received: &RefCell<Rc<Vec<u8>>>) -> Result<(), StreamError> {
    let first = Rc::clone(&received.borrow());
    send_bytes(to, pool, &first).await
}

/// Waits until the link accepts more of the agent's bytes.
///
/// The agent may leave in the meantime, which the connector cannot see while the agent's bytes wait here. An agent that
/// has only finished sending may still wait for its answer, for as long as an agent that does not read.
async fn room(core: &EdgeCore, connection: &Connection, stream: &CarrierStream) -> Result<(), StreamError> {
    let left = async {
        poll_fn(|cx| connection.poll_ended(cx)).await;
        let failed = poll_fn(|cx| connection.poll_send_failed(cx));
        Err(core.core.timeout(core.write_timeout(), failed).await.unwrap_or(StreamError::Reset))
    };
    future::or(stream.ready(), left).await
}

async fn send_alert(core: &EdgeCore, connection: &Connection, alert: Alert) {
    // The agent may have left.
    let _ = send_bytes(connection, core.core.pool(), &alert.record()).await;
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::engine::Class;

    /// An agent whose bytes arrive one by one, each in its own buffer.
    struct ByteByByte(Pool, RefCell<VecDeque<u8>>);

    impl ByteByByte {
        fn next(&self) -> Option<Lease> {
            let byte = self.1.borrow_mut().pop_front()?;
            let mut lease = self.0.take(Class::Small)?;
            lease.append(&[byte]);
            Some(lease)
        }
    }

    impl ByteStream for ByteByByte {
        fn poll_recv(&self, _: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
            Poll::Ready(Ok(self.next()))
        }

        fn send(&self, _: Lease) -> Result<(), StreamError> {
            Err(StreamError::Closed)
        }

        fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
            Poll::Ready(Err(StreamError::Closed))
        }

        fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
            self.poll_ready(cx)
        }

        fn finish(&self) {}

        fn abort(&self) {}
    }

    #[test]
    fn an_agent_that_sends_byte_by_byte_holds_no_buffer_while_it_is_waited_for() {
        let pool = Pool::new(0);
        // A first message that never ends, in a record of the maximum length.
        let record = [&[22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc][..], &[0; 4_000]].concat();
        let agent = ByteByByte(pool.clone(), RefCell::new(record.iter().copied().collect()));
        let first = agent.next().unwrap();
        let peek = futures_lite::future::block_on(read_name(&agent, first, |_| true)).unwrap();
        assert_eq!((peek.host, peek.received.len()), (None, record.len()));
        assert_eq!(pool.usage().leased_bytes, 0);
    }

    /// A link that has no room until the test makes some.
    #[derive(Default)]
    struct Narrow {
        has_room: Cell<bool>,
        sent: RefCell<Vec<u8>>,
    }

    impl ByteStream for Narrow {
        fn poll_recv(&self, _: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
            Poll::Pending
        }

        fn send(&self, lease: Lease) -> Result<(), StreamError> {
            self.sent.borrow_mut().extend_from_slice(&lease);
            Ok(())
        }

        fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
            if self.has_room.get() { Poll::Ready(Ok(())) } else { Poll::Pending }
        }

        fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
            self.poll_ready(cx)
        }

        fn finish(&self) {}

        fn abort(&self) {}
    }

    #[test]
    fn a_first_message_that_waits_for_the_link_is_kept_until_more_arrives() {
        let pool = Pool::new(1 << 20);
        let cx = &mut Context::from_waker(Waker::noop());
        let link = Narrow::default();
        let received = RefCell::new(Rc::new(b"hello".to_vec()));
        {
            let mut sending = pin!(send_first(&link, &pool, &received));
            assert!(sending.as_mut().poll(cx).is_pending());
        }
        assert_eq!(**received.borrow(), b"hello", "another link can have it");
        let mut sending = pin!(send_first(&link, &pool, &received));
        assert!(sending.as_mut().poll(cx).is_pending());
        assert_eq!(**received.borrow(), b"hello");
        // Data has arrived from the connector and is sent to the agent.
        received.take();
        link.has_room.set(true);
        assert!(matches!(sending.as_mut().poll(cx), Poll::Ready(Ok(()))));
        assert_eq!(*link.sent.borrow(), b"hello");
        assert!(received.borrow().is_empty(), "it is not sent again");
    }
}
