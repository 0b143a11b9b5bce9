//! A connection of the epoll driver: its readiness and its send queue.

use std::io::{self, ErrorKind, IoSlice, Read};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use socket2::SockRef;

use crate::engine::driver::{DriverEvent, SocketOptions, Token};
use crate::engine::pool::{Class, Pool};
use crate::engine::sys::outgoing::{GATHER_MAX, Outgoing};
use crate::engine::sys::poller::SocketReadiness;
use crate::engine::sys::receive_class::ReceiveClass;
use crate::engine::sys::socket;
use crate::engine::{LARGE_LEN, Lease};

/// How many bytes a socket may receive in one turn before it is the turn of others.
const TURN_BYTES_MAX: usize = 4 * LARGE_LEN;

/// The state of the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connecting,
    Open,
    /// Connecting failed; the socket waits to be closed.
    Unconnected,
}

/// Why a socket leaves the driver after its queue was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    Close,
    Detach,
}

/// The result of a round of receiving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// Nothing is left, or receiving was paused.
    Drained,
    /// The socket used up its share of the turn.
    More,
    /// The pool has no buffer left.
    Starved,
}

pub(super) struct Connection {
    fd: OwnedFd,
    options: SocketOptions,
    phase: Phase,
    readable: bool,
    writable: bool,
    /// The peer finished or the connection failed, so a short read does not mean that nothing is left to read.
    ended: bool,
    /// The connection failed, or both sides have finished.
    hung_up: bool,
    /// Whether the end was reported early, while bytes were left to receive.
    told_end: bool,
    told_failure: bool,
    /// Sending or receiving has failed.
    failed: bool,
    armed: bool,
    /// The end of receiving was reported.
    received_all: bool,
    class: ReceiveClass,
    outgoing: Outgoing,
    /// It carries a link.
    pub(super) serves_link: bool,
    pub(super) leaving: Option<Leaving>,
    /// Whether the token is in the driver's list of sockets to flush.
    pub(super) is_dirty: bool,
    /// Whether the token is in the driver's list of sockets to read from, or of those without a buffer.
    pub(super) is_listed: bool,
}

impl Connection {
    pub(super) fn connecting(fd: OwnedFd, options: SocketOptions) -> Connection {
        let mut connection = Connection::connected(fd, options);
        connection.phase = Phase::Connecting;
        connection
    }

    pub(super) fn connected(fd: OwnedFd, options: SocketOptions) -> Connection {
        Connection {
            fd,
            options,
            phase: Phase::Open,
            readable: false,
            // Assumed until the poller reports otherwise: a new socket has room.
            writable: true,
            ended: false,
            hung_up: false,
            told_end: false,
            told_failure: false,
            failed: false,
            armed: false,
            received_all: false,
            class: ReceiveClass::new(),
            outgoing: Outgoing::new(),
            serves_link: false,
            leaving: None,
            is_dirty: false,
            is_listed: false,
        }
    }

    /// Records what the poller reported.
    pub(super) fn note(&mut self, readiness: SocketReadiness) {
        self.readable |= readiness.readable();
        self.writable |= readiness.writable();
        self.ended |= readiness.ended();
        self.hung_up |= readiness.hung_up();
    }

    /// Reports the end of a peer while nothing is being received from it.
    pub(super) fn tell_end(&mut self, token: Token, events: &mut Vec<DriverEvent>) {
        let is_waiting = self.phase == Phase::Open && !self.armed && !self.received_all && self.leaving.is_none();
        if !is_waiting || !self.ended {
            return;
        }
        let has_failed = self.hung_up && !self.outgoing.is_ending();
        let is_news = !self.told_end || has_failed && !self.told_failure;
        self.told_end = true;
        self.told_failure |= has_failed;
        if is_news {
            events.push(DriverEvent::PeerEnded { socket: token, has_failed });
        }
    }

    /// Ends connecting if the poller's report says so.
    pub(super) fn note_connected(&mut self, token: Token, events: &mut Vec<DriverEvent>) {
        if self.phase == Phase::Connecting && (self.writable || self.ended) {
            let result = SockRef::from(&self.fd).take_error().and_then(|error| error.map_or(Ok(()), Err));
            self.end_connecting(token, result, events);
        }
    }

    /// Handles the end of connecting.
    pub(super) fn end_connecting(&mut self, token: Token, result: io::Result<()>, events: &mut Vec<DriverEvent>) {
        self.phase = if result.is_ok() { Phase::Open } else { Phase::Unconnected };
        if result.is_err() {
            self.outgoing.give_up();
        }
        if self.leaving.is_none() {
            events.push(DriverEvent::Connected { socket: token, result });
        }
    }

    /// Waits until the poller reports that the connection is established.
    pub(super) fn expect_writable(&mut self) {
        self.writable = false;
    }

    pub(super) fn arm(&mut self, armed: bool) {
        self.armed = armed;
    }

    /// Whether there is something to receive, and receiving is armed.
    pub(super) fn wants_to_receive(&self) -> bool {
        self.phase == Phase::Open && self.armed && self.readable && !self.received_all && self.leaving.is_none()
    }

    pub(super) fn queue(&mut self, lease: Lease) {
        if self.leaving.is_none() {
            self.outgoing.push(lease);
        }
    }

    pub(super) fn finish(&mut self) {
        self.outgoing.finish();
    }

    /// Whether a socket that leaves the driver can leave now.
    pub(super) fn is_out(&self) -> bool {
        let settled = self.phase != Phase::Connecting || self.leaving == Some(Leaving::Close);
        self.outgoing.is_empty() && settled
    }

    /// Whether the socket can no longer be used.
    pub(super) fn is_broken(&self) -> bool {
        self.phase == Phase::Unconnected || self.failed
    }

    pub(super) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Sends as much of the queue as the kernel accepts, and then the end if it was requested.
    pub(super) fn flush(&mut self, token: Token, events: &mut Vec<DriverEvent>) {
        if self.phase != Phase::Open {
            return;
        }
        let mut sent = 0;
        let mut failed = None;
        while self.writable && !self.outgoing.is_empty() {
            match self.send_some() {
                Ok(bytes) => sent += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        if sent > 0 {
            events.push(DriverEvent::Sent { socket: token, bytes: sent });
        }
        if let Some(error) = failed {
            self.fail_sending(token, error, events);
        } else if self.outgoing.take_end() {
            // Fails if the peer has reset the connection; receiving reports that.
            let _ = SockRef::from(&self.fd).shutdown(Shutdown::Write);
        }
    }

    fn send_some(&mut self) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); GATHER_MAX];
        let mut gathered = 0;
        for (slice, lease) in slices.iter_mut().zip(self.outgoing.front()) {
            *slice = IoSlice::new(lease);
            gathered += 1;
        }
        let sent = SockRef::from(&self.fd).send_vectored_with_flags(&slices[..gathered], libc::MSG_NOSIGNAL)?;
        if sent == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
        self.outgoing.sent(sent);
        Ok(sent)
    }

    fn fail_sending(&mut self, token: Token, error: io::Error, events: &mut Vec<DriverEvent>) {
        self.outgoing.give_up();
        self.failed = true;
        if self.leaving.is_none() {
            events.push(DriverEvent::SendFailed { socket: token, error });
        }
    }

    /// Receives until nothing is left, the socket has used up its share, or the pool is empty.
    pub(super) fn receive(&mut self, token: Token, pool: &Pool, events: &mut Vec<DriverEvent>) -> Received {
        let mut taken = 0;
        let mut outcome = Received::Drained;
        while self.wants_to_receive() {
            // Checked each time, because the buffers taken here already count.
            let allowance = if self.serves_link { TURN_BYTES_MAX } else { pool.allowance() };
            if taken >= TURN_BYTES_MAX.min(allowance) {
                outcome = Received::More;
                break;
            }
            let Some((class, mut lease)) = take_buffer(pool, pool.class_to_receive(self.class.get())) else {
                outcome = Received::Starved;
                break;
            };
            match (&*SockRef::from(&self.fd)).read(lease.spare_mut()) {
                Ok(0) => self.end_receiving(token, Ok(()), events),
                Ok(n) => {
                    self.readable = self.ended || n == lease.tailroom();
                    self.class.note(class, n);
                    taken += n;
                    lease.filled(n);
                    events.push(DriverEvent::Received { socket: token, lease });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.end_receiving(token, Err(error), events),
            }
        }
        outcome
    }

    pub(super) fn acknowledge(&self) {
        socket::acknowledge(&self.fd, self.options);
    }

    fn end_receiving(&mut self, token: Token, result: io::Result<()>, events: &mut Vec<DriverEvent>) {
        self.received_all = true;
        self.failed |= result.is_err();
        events.push(DriverEvent::ReceiveEnded { socket: token, result });
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A buffer of the wanted class, or of the other one if that class is exhausted.
fn take_buffer(pool: &Pool, wanted: Class) -> Option<(Class, Lease)> {
    let other = match wanted {
        Class::Small => Class::Large,
        Class::Large => Class::Small,
    };
    [wanted, other].into_iter().find_map(|class| pool.take_for_receive(class).map(|lease| (class, lease)))
}
