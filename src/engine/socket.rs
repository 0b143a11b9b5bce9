//! Sockets and listeners, as the tasks of a core hold them.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::base::{Clock, Time};
use crate::engine::core::Core;
use crate::engine::driver::{Address, Close, Driver, RawSocket, SocketOptions, Token};
use crate::engine::sockets::SocketState;
use crate::engine::{ByteStream, Class, Lease, StreamError};

/// How long a dropped socket may take to send what is queued before it is aborted.
pub const LINGER_MAX: Duration = Duration::from_secs(5);
/// How long accepting pauses after an error of the system.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Core {
    /// Listens for connections at `address`.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub fn listen(&self, address: &Address) -> io::Result<Listener> {
        let shared = self.shared();
        let token = shared.sockets.borrow_mut().open_listener();
        let mut driver = shared.driver.borrow_mut();
        match driver.listen(token, address) {
            Ok(_local) => {
                driver.accept(token, true);
                Ok(Listener {
                    core: self.clone(),
                    token,
                    #[cfg(feature = "internals")]
                    local: _local,
                })
            }
            Err(error) => {
                shared.sockets.borrow_mut().never_opened(token);
                Err(error)
            }
        }
    }

    /// Connects to `address`. The caller limits the time; dropping the future cancels the attempt.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub async fn connect(&self, address: &Address, options: SocketOptions) -> io::Result<Socket> {
        let socket = self.open(|core, token| core.shared().driver.borrow_mut().connect(token, address, options))?;
        poll_fn(|cx| socket.with(|state| state.poll_connected(cx))).await?;
        socket.arm();
        Ok(socket)
    }

    /// Adds a connection that no core holds.
    ///
    /// # Errors
    ///
    /// If the driver cannot add it.
    pub async fn adopt(&self, detached: Detached, options: SocketOptions) -> io::Result<Socket> {
        let Detached { raw, received } = detached;
        let socket = self.open(|core, token| core.shared().driver.borrow_mut().adopt(token, raw, options))?;
        for piece in received.chunks(Class::Large.bytes()) {
            let mut lease = self.pool().lease_for(piece.len()).await;
            lease.append(piece);
            socket.with(|state| state.put_back(lease, self.now()));
        }
        socket.arm();
        Ok(socket)
    }

    /// The two ends of a new connection within this core, which the driver does not know.
    pub(super) fn pair(&self) -> [Socket; 2] {
        let tokens = self.shared().sockets.borrow_mut().open_pair();
        tokens.map(|token| Socket { core: self.clone(), token })
    }

    /// The number of open sockets and listeners.
    #[must_use]
    pub fn open_sockets(&self) -> usize {
        self.shared().sockets.borrow().open_count()
    }

    fn open(&self, start: impl FnOnce(&Core, Token) -> io::Result<()>) -> io::Result<Socket> {
        let token = self.shared().sockets.borrow_mut().open_socket();
        match start(self, token) {
            Ok(()) => Ok(Socket { core: self.clone(), token }),
            Err(error) => {
                self.shared().sockets.borrow_mut().never_opened(token);
                Err(error)
            }
        }
    }
}

/// A connection that belongs to no core, with the bytes that were already read from it. It can be sent to another core.
#[derive(Debug)]
pub struct Detached {
    /// The socket, which no driver holds.
    pub raw: RawSocket,
    /// Bytes that were received and not read yet.
    pub received: Vec<u8>,
}

impl Detached {
    /// The two ends of a new connection within this process.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub fn pair() -> io::Result<[Detached; 2]> {
        let (near, far) = UnixStream::pair()?;
        Ok([near, far].map(|end| RawSocket::Fd(end.into()).into()))
    }
}

impl From<RawSocket> for Detached {
    fn from(raw: RawSocket) -> Detached {
        Detached { raw, received: Vec::new() }
    }
}

/// Accepts connections. Dropping it stops listening; accepted connections stay open.
pub struct Listener {
    core: Core,
    token: Token,
    #[cfg(feature = "internals")]
    local: Address,
}

impl Listener {
    /// The address that was bound.
    #[must_use]
    #[cfg(feature = "internals")]
    pub fn local(&self) -> &Address {
        &self.local
    }

    /// The next connection, and its peer address.
    ///
    /// # Errors
    ///
    /// The error of the system (for example, too many open files), after a short pause. The caller may continue.
    pub async fn accept(&self) -> io::Result<(Detached, Option<SocketAddr>)> {
        let accepted = poll_fn(|cx| {
            let shared = self.core.shared();
            shared.sockets.borrow_mut().listener(self.token).poll_accept(
                self.token,
                &mut **shared.driver.borrow_mut(),
                cx,
            )
        })
        .await;
        if accepted.is_err() {
            self.core.sleep(ACCEPT_PAUSE).await;
        }
        accepted.map(|(raw, peer)| (raw.into(), peer))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let shared = self.core.shared();
        shared.sockets.borrow_mut().drop_handle(self.token);
        shared.driver.borrow_mut().close(self.token, Close::Abort);
    }
}

/// A connection on a core: TCP, a Unix stream socket, or one to a [`LocalServer`](crate::engine::LocalServer) of the same core,
/// for which the other end takes the place of the system.
///
/// Dropping it sends queued bytes, for up to [`LINGER_MAX`], and closes it.
pub struct Socket {
    core: Core,
    token: Token,
}

impl Socket {
    /// The core of the socket.
    #[must_use]
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// When the bytes that [`ByteStream::recv`] returns next arrived, or if none are unread, those that it returned
    /// last.
    #[must_use]
    pub fn received_at(&self) -> Time {
        self.with(|state| state.received_at())
    }

    /// How many bytes were given to the system to send. Exact once the socket is flushed or sending has failed: all
    /// other bytes have not left this process.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.with(|state| state.sent_bytes())
    }

    /// Whether bytes wait to be given to the system.
    #[must_use]
    pub fn has_queued(&self) -> bool {
        self.with(|state| state.has_queued())
    }

    /// How many sent or queued bytes the peer's system has not acknowledged; the end of sending counts as one byte.
    /// Costs a system call.
    #[must_use]
    pub fn outstanding_bytes(&self) -> usize {
        self.with(|state| state.queued_bytes()) + self.unacknowledged_bytes()
    }

    /// How many bytes the peer's system has acknowledged. Costs a system call.
    #[must_use]
    pub fn acked_bytes(&self) -> u64 {
        self.sent_bytes().saturating_sub(self.unacknowledged_bytes() as u64)
    }

    /// How many bytes are in flight to the peer's system. Bytes that wait because the peer does not read do not count.
    /// Costs two system calls.
    #[must_use]
    pub fn in_flight_bytes(&self) -> usize {
        self.in_driver(0, |driver, token| driver.in_flight_bytes(token))
    }

    /// Whether the system holds bytes, the end or an error of the connection that the core has not received yet. Costs a system
    /// call.
    #[must_use]
    pub fn has_pending_input(&self) -> bool {
        self.in_driver(false, |driver, token| driver.has_pending_input(token))
    }

    /// Removes the connection from its core after queued bytes were sent.
    ///
    /// # Errors
    ///
    /// If the connection failed first, or both its ends are on this core.
    pub async fn detach(self) -> Result<Detached, StreamError> {
        if self.peer().is_some() {
            return Err(StreamError::Closed);
        }
        self.core.shared().driver.borrow_mut().detach(self.token);
        let raw = poll_fn(|cx| self.with(|state| state.poll_left(cx))).await?;
        let received = self.with(SocketState::take_received);
        Ok(Detached { raw, received })
    }

    fn unacknowledged_bytes(&self) -> usize {
        self.in_driver(0, |driver, token| driver.unacknowledged_bytes(token))
    }

    /// Whether the connection has ended, on either side. Costs a system call.
    pub(super) fn is_over(&self) -> bool {
        self.in_driver(self.with(|state| state.is_over()), |driver, token| driver.is_over(token))
    }

    /// What the driver knows of the connection, or `without` if it does not know it.
    fn in_driver<T>(&self, without: T, ask: impl FnOnce(&dyn Driver, Token) -> T) -> T {
        match self.peer() {
            None => ask(&**self.core.shared().driver.borrow(), self.token),
            Some(_) => without,
        }
    }

    /// The other end, if it is on this core and the driver knows neither.
    fn peer(&self) -> Option<Token> {
        self.with(|state| state.peer())
    }

    fn arm(&self) {
        self.core.shared().driver.borrow_mut().receive(self.token, true);
    }

    fn with<T>(&self, act: impl FnOnce(&mut SocketState) -> T) -> T {
        act(self.core.shared().sockets.borrow_mut().socket(self.token))
    }
}

impl ByteStream for Socket {
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
        let shared = self.core.shared();
        shared.sockets.borrow_mut().poll_recv(self.token, &mut **shared.driver.borrow_mut(), cx)
    }

    fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.with(|state| state.poll_ended(cx))
    }

    fn send(&self, lease: Lease) -> Result<(), StreamError> {
        if lease.is_empty() {
            return Ok(());
        }
        let shared = self.core.shared();
        let mut sockets = shared.sockets.borrow_mut();
        let state = sockets.socket(self.token);
        state.queue(lease.len())?;
        match state.peer() {
            None => shared.driver.borrow_mut().send(self.token, lease),
            Some(peer) => sockets.pass(self.token, peer, lease, self.core.turn_time()),
        }
        Ok(())
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        let allowance = self.core.pool().allowance();
        self.with(|state| state.poll_queued_below(state.allowance(allowance), cx))
    }

    fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.with(|state| state.poll_queued_below(0, cx))
    }

    fn poll_send_failed(&self, cx: &mut Context<'_>) -> Poll<StreamError> {
        self.with(|state| state.poll_send_failed(cx))
    }

    fn acked_before_others(&self) -> Option<u64> {
        (self.in_flight_bytes() > 0).then(|| self.acked_bytes())
    }

    fn expect_more(&self) {
        if self.with(SocketState::take_ack_due) && self.peer().is_none() {
            self.core.shared().driver.borrow_mut().acknowledge(self.token);
        }
    }

    fn serve_link(&self) {
        self.with(SocketState::serve_link);
        if self.peer().is_none() {
            self.core.shared().driver.borrow_mut().serve_link(self.token);
        }
    }

    fn finish(&self) {
        if self.with(SocketState::finish) {
            match self.peer() {
                None => self.core.shared().driver.borrow_mut().shutdown(self.token),
                Some(peer) => self.core.shared().sockets.borrow_mut().finish_pair(peer),
            }
        }
    }

    fn abort(&self) {
        self.with(SocketState::abort);
        match self.peer() {
            None => self.core.shared().driver.borrow_mut().close(self.token, Close::Abort),
            Some(peer) => self.core.shared().sockets.borrow_mut().abort_pair(peer),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let shared = self.core.shared();
        if let Some(peer) = self.peer() {
            return shared.sockets.borrow_mut().drop_pair(self.token, peer);
        }
        let queued = self.has_queued();
        shared.sockets.borrow_mut().drop_handle(self.token);
        shared.driver.borrow_mut().close(self.token, Close::Flush);
        if queued {
            let (core, token) = (self.core.clone(), self.token);
            self.core.spawn(async move {
                core.sleep(LINGER_MAX).await;
                core.shared().driver.borrow_mut().close(token, Close::Abort);
            });
        }
    }
}
