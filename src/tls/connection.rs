//! A connection with or without TLS, as edge and connector use it.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ServerConfig};

use super::error::TlsError;
use super::session::{self, Session};
use super::stream::{HandshakeError, TlsStream};
use crate::base::{Clock, Share, Time};
use crate::engine::driver::SocketOptions;
use crate::engine::{self, ByteStream, Core, LARGE_LEN, Lease, Socket, StreamError};

/// How long a peer may take to read the alert after a failed handshake.
const ALERT_PATIENCE: Duration = Duration::from_secs(1);
/// How often a closing connection that still has bytes to send is checked.
const FLUSH_LOOK_EVERY: Duration = Duration::from_secs(1);

/// A connection on a core, with TLS or without.
pub struct Connection(Kind);

enum Kind {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

/// A connection that belongs to no core, with its TLS session and its received bytes. It can be moved to another core.
pub struct DetachedConnection {
    socket: engine::Detached,
    session: Option<session::DetachedSession>,
    /// Bytes that were read and decrypted, and must be read again.
    unread: Vec<u8>,
}

impl From<engine::Detached> for DetachedConnection {
    /// A connection without TLS.
    fn from(socket: engine::Detached) -> DetachedConnection {
        DetachedConnection { socket, session: None, unread: Vec::new() }
    }
}

impl Connection {
    /// A connection without TLS.
    #[must_use]
    pub fn plain(socket: Socket) -> Connection {
        Connection(Kind::Plain(socket))
    }

    /// Makes the handshake as a client, until `timeout` is ready.
    ///
    /// # Errors
    ///
    /// Why it failed. The socket is closed after the peer had time to read the alert.
    pub async fn client(
        socket: Socket,
        config: &Arc<ClientConfig>,
        name: ServerName<'static>,
        timeout: impl Future<Output = ()>,
    ) -> Result<Connection, HandshakeError> {
        Connection::handshake(socket, Session::client(Arc::clone(config), name)?, timeout).await
    }

    /// Makes the handshake as a server, until `timeout` is ready. `first` are bytes that were already received;
    /// `greeting` limits what is kept of them during the handshake.
    ///
    /// # Errors
    ///
    /// Why it failed. The socket is closed after the peer had time to read the alert.
    pub async fn server(
        socket: Socket,
        config: &Arc<ServerConfig>,
        first: impl IntoIterator<Item = Lease>,
        greeting: Option<Share>,
        timeout: impl Future<Output = ()>,
    ) -> Result<Connection, HandshakeError> {
        let mut session = Session::server(Arc::clone(config))?;
        greeting.into_iter().for_each(|share| session.limit_greeting(share));
        first.into_iter().for_each(|lease| session.read(lease));
        Connection::handshake(socket, session, timeout).await
    }

    async fn handshake(
        socket: Socket,
        session: Session,
        timeout: impl Future<Output = ()>,
    ) -> Result<Connection, HandshakeError> {
        let core = socket.core().clone();
        match TlsStream::handshake(socket, session, core.pool().clone(), timeout).await {
            Ok(stream) => Ok(Connection(Kind::Tls(Box::new(stream)))),
            Err((error, socket)) => {
                if matches!(error, HandshakeError::Tls(_)) {
                    // The peer may still be sending. Closing at once would reset the connection and lose the alert.
                    core.spawn(socket.close_gracefully(ALERT_PATIENCE));
                }
                Err(error)
            }
        }
    }

    /// Passes the negotiated ALPN protocol to `choose`; `None` if there was no ALPN, or no TLS.
    pub fn with_alpn<T>(&self, choose: impl FnOnce(Option<&[u8]>) -> T) -> T {
        match &self.0 {
            Kind::Plain(_) => choose(None),
            Kind::Tls(stream) => choose(stream.session().alpn()),
        }
    }

    /// The peer's certificate, if it sent one.
    #[must_use]
    pub fn peer_certificate(&self) -> Option<CertificateDer<'static>> {
        match &self.0 {
            Kind::Plain(_) => None,
            Kind::Tls(stream) => stream.session().peer_certificates().first().cloned(),
        }
    }

    /// Passes the peer's certificates, its own first, to `read`; none if it sent none.
    pub fn with_peer_certificates<T>(&self, read: impl FnOnce(&[CertificateDer<'static>]) -> T) -> T {
        match &self.0 {
            Kind::Plain(_) => read(&[]),
            Kind::Tls(stream) => read(stream.session().peer_certificates()),
        }
    }

    /// The TLS error, if TLS has failed.
    #[must_use]
    pub fn tls_failure(&self) -> Option<TlsError> {
        match &self.0 {
            Kind::Plain(_) => None,
            Kind::Tls(stream) => stream.session().failure(),
        }
    }

    /// Whether the connection uses TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self.0, Kind::Tls(_))
    }

    /// When the bytes that are read next arrived, or if none are unread, those that were read last.
    #[must_use]
    pub fn received_at(&self) -> Time {
        self.socket().received_at()
    }

    /// The core of the connection.
    #[must_use]
    pub fn core(&self) -> &Core {
        self.socket().core()
    }

    /// How many bytes were given to the system to send, as they are on the wire; see [`Socket::sent_bytes`].
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.socket().sent_bytes()
    }

    /// Whether bytes wait to be given to the system; see [`Socket::has_queued`].
    #[must_use]
    pub fn has_queued(&self) -> bool {
        self.socket().has_queued()
    }

    /// How many bytes the peer's system has acknowledged, as they are on the wire; see [`Socket::acked_bytes`].
    #[must_use]
    pub fn acked_bytes(&self) -> u64 {
        self.socket().acked_bytes()
    }

    /// How many bytes are in flight to the peer's system, as they are on the wire; see [`Socket::in_flight_bytes`].
    #[must_use]
    pub fn in_flight_bytes(&self) -> usize {
        self.socket().in_flight_bytes()
    }

    /// Whether the system holds input of the connection that the core has not received; see [`Socket::has_pending_input`].
    #[must_use]
    pub fn has_pending_input(&self) -> bool {
        self.socket().has_pending_input()
    }

    /// Removes the connection from its core after queued bytes were sent. `unread` is put in front of the bytes that
    /// are read next.
    ///
    /// # Errors
    ///
    /// If the connection failed first.
    pub async fn detach(self, unread: Vec<u8>) -> Result<DetachedConnection, StreamError> {
        self.flushed().await?;
        let (socket, session) = match self.0 {
            Kind::Plain(socket) => (socket, None),
            Kind::Tls(stream) => {
                let (socket, session) = stream.into_parts();
                (socket, Some(session.detach()))
            }
        };
        Ok(DetachedConnection { socket: socket.detach().await?, session, unread })
    }

    /// Adds a connection that another core detached, with the bytes that were read from it.
    ///
    /// # Errors
    ///
    /// If the driver cannot add it.
    pub async fn adopt(
        core: &Core,
        detached: DetachedConnection,
        options: SocketOptions,
    ) -> io::Result<(Connection, Option<Lease>)> {
        let DetachedConnection { mut socket, session, mut unread } = detached;
        if session.is_none() && unread.len() > LARGE_LEN {
            // Without TLS the bytes are plaintext either way, so the rest can wait in the socket's receive queue.
            socket.received.splice(..0, unread.drain(LARGE_LEN..));
        }
        let socket = core.adopt(socket, options).await?;
        let kind = match session {
            None => Kind::Plain(socket),
            Some(session) => {
                let session = attach(core, session).await;
                Kind::Tls(Box::new(TlsStream::new(socket, session, core.pool().clone())))
            }
        };
        let mut first = None;
        if !unread.is_empty() {
            let mut lease = core.pool().lease_for(unread.len()).await;
            if lease.append_some(&unread) < unread.len() {
                return Err(io::Error::other("more was read of a connection than it may hand over"));
            }
            first = Some(lease);
        }
        Ok((Connection(kind), first))
    }

    /// Finishes sending, and waits until the peer's system has acknowledged everything, as long as it acknowledges some
    /// bytes within each `limit`, which is asked again each time. What the peer sends meanwhile is discarded.
    ///
    /// # Errors
    ///
    /// [`StreamError::TimedOut`] if the peer acknowledged nothing for too long; otherwise the error of the connection.
    pub async fn finish_acknowledged(&self, limit: impl Fn() -> Duration) -> Result<(), StreamError> {
        self.finish();
        let core = self.core();
        let (mut acked_bytes, mut moved_at) = (self.acked_bytes(), core.now());
        // The TLS session may still have a part of the bytes until the stream is flushed.
        while core.timeout(limit().min(FLUSH_LOOK_EVERY), self.flushed()).await.is_err() {
            if std::mem::replace(&mut acked_bytes, self.acked_bytes()) != self.acked_bytes() {
                moved_at = core.now();
            } else if core.now() - moved_at >= limit() {
                return Err(StreamError::TimedOut);
            }
        }
        self.socket().finish_acknowledged(limit).await
    }

    /// Closes the connection once the peer has received everything and has also finished. It then has `patience` to
    /// finish. A peer that acknowledges nothing for `limit` is reset.
    ///
    /// # Errors
    ///
    /// As for [`Connection::finish_acknowledged`]. The connection is closed in any case.
    pub async fn close_when_taken(self, limit: impl Fn() -> Duration, patience: Duration) -> Result<(), StreamError> {
        let acknowledged = self.finish_acknowledged(limit).await;
        if acknowledged == Err(StreamError::TimedOut) {
            self.abort();
        } else {
            self.close_gracefully(patience).await;
        }
        acknowledged
    }

    /// Finishes sending and waits up to `patience` for the peer to finish. What the peer still sends is discarded.
    pub async fn close_gracefully(self, patience: Duration) {
        self.finish();
        match self.0 {
            Kind::Plain(socket) => socket.close_gracefully(patience).await,
            Kind::Tls(stream) => {
                let core = stream.inner().core().clone();
                // The result does not matter: the connection is closed after `patience` in any case.
                let _ = core.timeout(patience, stream.flushed()).await;
                stream.into_parts().0.close_gracefully(patience).await;
            }
        }
    }

    fn socket(&self) -> &Socket {
        match &self.0 {
            Kind::Plain(socket) => socket,
            Kind::Tls(stream) => stream.inner(),
        }
    }
}

/// Attaches a session; waits for buffers for its received bytes.
async fn attach(core: &Core, mut session: session::DetachedSession) -> Session {
    loop {
        match Session::attach(session, core.pool()) {
            Ok(session) => return session,
            Err(back) => session = back,
        }
        drop(core.pool().lease(engine::Class::Large).await);
        core.turn_end().await;
    }
}

impl ByteStream for Connection {
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
        match &self.0 {
            Kind::Plain(socket) => socket.poll_recv(cx),
            Kind::Tls(stream) => stream.poll_recv(cx),
        }
    }

    fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.socket().poll_ended(cx)
    }

    fn send(&self, lease: Lease) -> Result<(), StreamError> {
        match &self.0 {
            Kind::Plain(socket) => socket.send(lease),
            Kind::Tls(stream) => stream.send(lease),
        }
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        match &self.0 {
            Kind::Plain(socket) => socket.poll_ready(cx),
            Kind::Tls(stream) => stream.poll_ready(cx),
        }
    }

    fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        match &self.0 {
            Kind::Plain(socket) => socket.poll_flushed(cx),
            Kind::Tls(stream) => stream.poll_flushed(cx),
        }
    }

    fn acked_before_others(&self) -> Option<u64> {
        self.socket().acked_before_others()
    }

    fn poll_send_failed(&self, cx: &mut Context<'_>) -> Poll<StreamError> {
        self.socket().poll_send_failed(cx)
    }

    fn finish(&self) {
        match &self.0 {
            Kind::Plain(socket) => socket.finish(),
            Kind::Tls(stream) => stream.finish(),
        }
    }

    fn abort(&self) {
        match &self.0 {
            Kind::Plain(socket) => socket.abort(),
            Kind::Tls(stream) => stream.abort(),
        }
    }

    fn serve_link(&self) {
        match &self.0 {
            Kind::Plain(socket) => socket.serve_link(),
            Kind::Tls(stream) => stream.serve_link(),
        }
    }

    fn has_partial(&self) -> bool {
        match &self.0 {
            Kind::Plain(_) => false,
            Kind::Tls(stream) => stream.has_partial(),
        }
    }

    fn expect_more(&self) {
        match &self.0 {
            Kind::Plain(socket) => socket.expect_more(),
            Kind::Tls(stream) => stream.expect_more(),
        }
    }

    fn headroom(&self) -> usize {
        match &self.0 {
            Kind::Plain(_) => 0,
            Kind::Tls(stream) => stream.headroom(),
        }
    }

    fn tailroom(&self) -> usize {
        match &self.0 {
            Kind::Plain(_) => 0,
            Kind::Tls(stream) => stream.tailroom(),
        }
    }
}
