//! Connections of agents whose TLS ends in the connector: chosen by the name in their first message, carried unread.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future;

use crate::base::Traffic;
use crate::edge::agents;
use crate::edge::edge_core::EdgeCore;
use crate::edge::gate::PeerInfo;
use crate::edge::message::CoreMessage;
use crate::edge::open::{NoStream, Wanted};
use crate::edge::shared::Counters;
use crate::engine::driver::SocketOptions;
use crate::engine::{ByteStream, Lease, Pool, StreamError, lease_of};
use crate::exchange::Patient;
use crate::link::LinkStream;
use crate::route::{Hostname, Route};
use crate::tls::{Alert, Connection, DetachedConnection, HandshakeError, Peeked, ServerNamePeek, TlsError};
use crate::wire::mux::Cause;

/// How long an agent may take to read why it was turned away.
const FAREWELL: Duration = Duration::from_secs(2);
/// How such connections are called where calls have a method: what they carry nobody here can read.
const LABEL: &str = "passthrough";

/// How much of what was read goes on in one piece, in bytes.
const PIECE_LEN_MAX: usize = 16 * 1024;

/// The first bytes of a connection, and what they say.
pub(super) struct Peek {
    received: Vec<u8>,
    host: Option<Hostname>,
}

/// An agent whose TLS does not end here.
pub(super) struct Passing {
    connection: Connection,
    received: Vec<u8>,
    host: Hostname,
    route: Route,
}

/// Reads as far as the name that the agent asks for.
pub(super) async fn peek(here: &EdgeCore, socket: &impl ByteStream, first: Lease) -> Result<Peek, HandshakeError> {
    let mut greeting = here.greetings.share();
    let reading = read_name(socket, first, |len| greeting.set(len));
    let reading = here.core.timeout(here.edge.settings.handshake_timeout, reading);
    reading.await.map_err(|_| HandshakeError::Timeout)?
}

/// What comes is copied together: an agent that sends it byte by byte would hold a buffer for each.
async fn read_name(
    socket: &impl ByteStream,
    first: Lease,
    mut may_keep: impl FnMut(usize) -> bool,
) -> Result<Peek, HandshakeError> {
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
    Ok(Peek { received: peek.into_received(), host })
}

impl Peek {
    /// What was received, for whoever makes the handshake.
    pub(super) async fn into_leases(self, pool: &Pool) -> Vec<Lease> {
        let mut leases = Vec::new();
        for piece in self.received.chunks(PIECE_LEN_MAX) {
            leases.push(lease_of(pool, piece, 0).await);
        }
        leases
    }

    /// The route, if the name has one whose TLS does not end here.
    pub(super) fn route(&self, here: &EdgeCore) -> Option<(Hostname, Route)> {
        let host = self.host?;
        let tables = here.edge.tables();
        let route = tables.routes.lookup(&host).filter(|route| route.traffic == Traffic::Passthrough)?;
        Some((host, route.clone()))
    }
}

/// Takes in a connection that another core accepted.
pub(super) fn adopt(here: &Rc<EdgeCore>, detached: DetachedConnection, peer: Option<SocketAddr>) {
    let here = Rc::clone(here);
    let core = here.core.clone();
    core.spawn(async move {
        let _counted = here.drain.count_agent();
        let adopted = Connection::adopt(&here.core, detached, SocketOptions::default()).await;
        let (connection, first) = match adopted {
            Ok((connection, Some(first))) => (connection, first),
            Ok((_, None)) => return,
            Err(error) => return tracing::warn!(%error, "taking in a connection that was handed over"),
        };
        let Ok(peek) = peek(&here, &connection, first).await else { return };
        // The tables may have changed on the way: then it is as if the agent had come to the wrong place.
        let Some((host, route)) = peek.route(&here) else { return };
        let source = here.edge.tables().admission.source(peer.map(|peer| peer.ip()));
        let visitor = here.gate.handed_over(peer, source);
        Passing { connection, received: peek.received, host, route }.serve(&here, &visitor, false).await;
    });
}

impl Passing {
    pub(super) fn new(connection: Connection, peek: Peek, (host, route): (Hostname, Route)) -> Passing {
        Passing { connection, received: peek.received, host, route }
    }

    /// Carries the connection to its end.
    pub(super) async fn serve(self, here: &Rc<EdgeCore>, visitor: &PeerInfo, may_hand_over: bool) {
        let verdict = here.edge.tables().admission.judge_call(&visitor.source, &self.route.tunnel);
        if !here.gate.admits_call(&visitor.source, verdict) {
            return self.turn_away(here, Alert::AccessDenied).await;
        }
        let Ok(_place) = here.gate.begin_call(visitor.place.as_ref()) else {
            return self.turn_away(here, Alert::InternalError).await;
        };
        let address = visitor.peer.map(|peer| peer.ip().to_canonical().to_string());
        let (host, peer) = (self.host.as_str(), address.as_deref());
        let wanted = Wanted { route: &self.route, host, seal: None, peer, may_hand_over };
        let (stream, usage) = match here.open_on_link(wanted).await {
            Ok(opened) => opened,
            Err(NoStream::HandOver(core)) => return self.hand_over(here, core, visitor.peer).await,
            Err(NoStream::Refused(_) | NoStream::Offline(_) | NoStream::Unsealed(..)) => {
                Counters::add(&here.edge.counters.requests_refused);
                return self.turn_away(here, Alert::InternalError).await;
            }
        };
        Counters::add(&here.edge.counters.passed_through);
        let label = here.figures.recorder.borrow_mut().label(self.route.name.as_str(), LABEL, "");
        usage.count(label, here.core.turn_time());
        let Passing { connection, received, .. } = self;
        let carried = carry(here, &connection, received, &stream).await;
        if matches!(carried, Err(Broken::AgentGone | Broken::AgentStalled)) {
            stream.reset(Cause::Cancelled);
        }
        // Nothing more is wanted of the connector, which waits for nothing more then.
        drop(stream);
        match carried {
            Ok(()) => agents::close(here, connection).await,
            Err(Broken::AgentGone) => connection.abort(),
            Err(Broken::AgentStalled) => {
                Counters::add(&here.edge.counters.passed_through_stalled);
                connection.abort();
            }
            // Its alert has gone before.
            Err(Broken::Link { begun: true, cause: Cause::SealFailed }) => connection.close_gracefully(FAREWELL).await,
            Err(Broken::Link { begun: false, .. }) => {
                // Nobody has spoken to the agent yet, so that it can still be told in the clear.
                say(here, &connection, Alert::InternalError).await;
                connection.close_gracefully(FAREWELL).await;
            }
            Err(Broken::Link { begun: true, .. }) => connection.abort(),
        }
    }

    async fn turn_away(self, here: &EdgeCore, alert: Alert) {
        say(here, &self.connection, alert).await;
        self.connection.close_gracefully(FAREWELL).await;
    }

    /// Gives the connection to a core that has a link for it, with all that was read of it.
    async fn hand_over(self, here: &EdgeCore, core: crate::base::CoreId, peer: Option<SocketAddr>) {
        let detached = match self.connection.detach(self.received).await {
            Ok(detached) => detached,
            Err(error) => return tracing::debug!(%error, "handing a connection over"),
        };
        Counters::add(&here.edge.counters.handed_over);
        if here.edge.send_to(core, CoreMessage::Passing(Box::new(detached), peer)).is_err() {
            tracing::warn!(%core, "a connection was dropped: the core that has its link takes no more");
        }
    }
}

/// How a connection ended early.
enum Broken {
    AgentGone,
    /// The agent took nothing of what was for it for longer than it may.
    AgentStalled,
    Link {
        cause: Cause,
        /// Whether the agent had been sent anything.
        begun: bool,
    },
}

/// Carries bytes both ways until the connector has said its last.
async fn carry(here: &EdgeCore, connection: &Connection, received: Vec<u8>, stream: &LinkStream) -> Result<(), Broken> {
    let pool = here.core.pool();
    let begun = std::cell::Cell::new(false);
    let broken = |error: StreamError| match error {
        // The agent's half: what is wrong with it, the way back tells.
        StreamError::ResetWith { code } => Broken::Link { cause: Cause::from_code(code), begun: begun.get() },
        StreamError::TimedOut => Broken::AgentStalled,
        _ => Broken::AgentGone,
    };
    let there = async {
        for piece in received.chunks(PIECE_LEN_MAX) {
            stream.ready().await?;
            stream.send(lease_of(pool, piece, stream.headroom()).await)?;
        }
        drop(received);
        while let Some(lease) = connection.recv().await? {
            stream.ready().await?;
            stream.send(lease)?;
        }
        stream.finish();
        future::pending::<Result<(), StreamError>>().await
    };
    let back = async {
        let to = Patient::new(connection, &here.edge.settings.write_timeout, |cx| here.course(stream, cx));
        while let Some(lease) = stream.recv().await? {
            begun.set(true);
            to.ready().await?;
            to.send(lease)?;
        }
        Ok(())
    };
    future::or(back, there).await.map_err(broken)
}

async fn say(here: &EdgeCore, connection: &Connection, alert: Alert) {
    let lease = lease_of(here.core.pool(), &alert.record(), 0).await;
    // An agent that has gone cannot be told.
    let _ = connection.send(lease);
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::task::{Context, Poll};

    use super::*;
    use crate::engine::Class;

    /// An agent whose bytes come one by one, each in a buffer of its own.
    struct Drip(Pool, RefCell<VecDeque<u8>>);

    impl Drip {
        fn next(&self) -> Option<Lease> {
            let byte = self.1.borrow_mut().pop_front()?;
            let mut lease = self.0.take(Class::Small)?;
            lease.append(&[byte]);
            Some(lease)
        }
    }

    impl ByteStream for Drip {
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
        // A first message that never ends, in a record that says it is as long as one can be.
        let record = [&[22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc][..], &[0; 4_000]].concat();
        let drip = Drip(pool.clone(), RefCell::new(record.iter().copied().collect()));
        let first = drip.next().unwrap();
        let peek = futures_lite::future::block_on(read_name(&drip, first, |_| true)).unwrap();
        assert_eq!((peek.host, peek.received.len()), (None, record.len()));
        assert_eq!(pool.usage().leased_bytes, 0);
    }
}
