//! A connection of the io_uring driver: its operations in the kernel, and what is requested of it.

use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};

use io_uring::opcode;
use io_uring::squeue::Flags;
use io_uring::types::Fd;
use socket2::{SockAddr, SockRef};

use super::buffers::{Buffers, RingKind};
use super::message::MessageHeader;
use super::operation::{InKernel, Verb, name};
use super::ring::{Completion, Ring};
use super::sending::SendQueue;
use crate::engine::Lease;
use crate::engine::driver::{Close, DriverEvent, SocketOptions, Token};
use crate::engine::pool::Class;
use crate::engine::sys::receive_class::ReceiveClass;
use crate::engine::sys::socket;

/// The state of the socket.
enum Phase {
    /// Connecting is requested or in progress. The address stays where the kernel can read it.
    Connecting(Box<SockAddr>),
    Open,
    /// Connecting failed; the socket waits to be closed.
    Unconnected,
}

/// Why a socket leaves the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    Close(Close),
    Detach,
}

/// What to do with a socket after it was advanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advance {
    Stays,
    /// It stays and must be advanced again in the next turn, after others.
    More,
    /// It must receive and there is no buffer.
    Starves,
    /// It leaves the driver, and the kernel has no operation of it any more.
    Goes,
}

/// What all connections of a driver share.
pub(super) struct DriverShared {
    pub(super) ring: Ring,
    pub(super) buffers: Buffers,
    /// Message headers for gathered sends that are not in use.
    pub(super) messages: Vec<MessageHeader>,
}

pub(super) struct Connection {
    fd: OwnedFd,
    options: SocketOptions,
    phase: Phase,
    connect: InKernel,
    receive: InKernel,
    armed: bool,
    /// A poll for the end of a peer from which nothing is being received.
    watch: InKernel,
    was_paused: bool,
    /// Whether the end was reported early, while bytes were left to receive.
    told_end: bool,
    told_failure: bool,
    /// The end of receiving was reported.
    received_all: bool,
    /// Sending or receiving has failed.
    failed: bool,
    class: ReceiveClass,
    /// The class of the receive that is in the kernel.
    receives_into: Class,
    /// The kind of its buffers, for the next receive and for the receive that is in the kernel.
    kind: RingKind,
    receives_as: RingKind,
    /// The receive in the kernel ends after one buffer.
    receives_once: bool,
    /// The class has changed since that receive was started.
    is_misplaced: bool,
    sending: SendQueue,
    pub(super) leaving: Option<Leaving>,
    /// Whether the token is in the driver's list of sockets to advance.
    pub(super) is_dirty: bool,
    /// Whether the token is in the driver's list of sockets without a buffer.
    pub(super) is_starved: bool,
}

impl Connection {
    pub(super) fn connecting(fd: OwnedFd, target: SockAddr, options: SocketOptions) -> Connection {
        let mut connection = Connection::connected(fd, options);
        connection.phase = Phase::Connecting(Box::new(target));
        connection
    }

    pub(super) fn connected(fd: OwnedFd, options: SocketOptions) -> Connection {
        Connection {
            fd,
            options,
            phase: Phase::Open,
            connect: InKernel::default(),
            receive: InKernel::default(),
            armed: false,
            watch: InKernel::default(),
            was_paused: false,
            told_end: false,
            told_failure: false,
            received_all: false,
            failed: false,
            class: ReceiveClass::new(),
            receives_into: Class::Small,
            kind: RingKind::Ordinary,
            receives_as: RingKind::Ordinary,
            receives_once: false,
            is_misplaced: false,
            sending: SendQueue::new(),
            leaving: None,
            is_dirty: false,
            is_starved: false,
        }
    }

    pub(super) fn arm(&mut self, armed: bool) {
        self.armed = armed;
        self.was_paused |= !armed;
    }

    /// From now on it receives into buffers reserved for links.
    pub(super) fn serve_link(&mut self) {
        self.kind = RingKind::Link;
        socket::set_up_link(&self.fd);
        self.is_misplaced |= self.receive.is_there;
    }

    pub(super) fn serves_link(&self) -> bool {
        self.kind == RingKind::Link
    }

    pub(super) fn queue(&mut self, lease: Lease) {
        if self.leaving.is_none() {
            self.sending.outgoing.push(lease);
        }
    }

    pub(super) fn finish(&mut self) {
        self.sending.outgoing.finish();
    }

    /// Whether the socket can no longer be used.
    pub(super) fn is_broken(&self) -> bool {
        self.failed || matches!(self.phase, Phase::Unconnected)
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// The descriptor of a connection without operations in the kernel.
    pub(super) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Starts and cancels operations in the kernel as requested.
    pub(super) fn advance(&mut self, token: Token, shared: &mut DriverShared) -> io::Result<Advance> {
        let gives_up = self.gives_up();
        self.advance_connect(token, gives_up, shared)?;
        self.advance_send(token, gives_up, shared)?;
        let starves = self.advance_receive(token, shared)?;
        self.advance_watch(token, shared)?;
        let receives = self.receive.is_there || self.watch.is_there;
        let in_kernel = self.connect.is_there || receives || self.sending.is_in_kernel();
        let out = gives_up || (self.sending.outgoing.is_empty() && !matches!(self.phase, Phase::Connecting(_)));
        if self.leaving.is_some() && !in_kernel && out {
            return Ok(Advance::Goes);
        }
        Ok(if starves { Advance::Starves } else { Advance::Stays })
    }

    /// Whether it leaves without waiting for queued bytes or operations.
    fn gives_up(&self) -> bool {
        match self.leaving {
            Some(Leaving::Close(Close::Abort)) => true,
            Some(Leaving::Close(Close::Flush)) => {
                matches!(self.phase, Phase::Connecting(_)) && self.sending.outgoing.is_empty()
            }
            Some(Leaving::Detach) | None => false,
        }
    }

    fn advance_connect(&mut self, token: Token, gives_up: bool, shared: &mut DriverShared) -> io::Result<()> {
        let Phase::Connecting(target) = &self.phase else { return Ok(()) };
        if gives_up {
            if self.connect.take_cancel() {
                shared.ring.cancel(Verb::Connect, token)?;
            }
        } else if !self.connect.is_there {
            let entry = opcode::Connect::new(Fd(self.fd.as_raw_fd()), target.as_ptr().cast(), target.len()).build();
            // SAFETY: the address is in a box that `phase` keeps until the completion of this operation changes it; the
            // descriptor is kept until `advance` says that the connection goes, when no operation is left.
            unsafe { shared.ring.push(&entry.user_data(name(Verb::Connect, token))) }?;
            self.connect.started();
        }
        Ok(())
    }

    fn advance_send(&mut self, token: Token, gives_up: bool, shared: &mut DriverShared) -> io::Result<()> {
        if gives_up {
            return self.sending.cancel(token, &mut shared.ring);
        }
        if !matches!(self.phase, Phase::Open) {
            return Ok(());
        }
        let idle = self.sending.start(token, &self.fd, &mut shared.ring, &mut shared.messages)?;
        if idle && self.sending.outgoing.take_end() {
            // Fails if the peer has reset the connection; receiving reports that.
            let _ = SockRef::from(&self.fd).shutdown(Shutdown::Write);
        }
        Ok(())
    }

    /// Returns true if it must receive and there is no buffer.
    fn advance_receive(&mut self, token: Token, shared: &mut DriverShared) -> io::Result<bool> {
        let wanted = self.armed && self.may_receive();
        if self.receive.is_there {
            if (!wanted || self.is_misplaced) && self.receive.take_cancel() {
                shared.ring.cancel(Verb::Receive, token)?;
            }
            return Ok(false);
        }
        if !wanted {
            return Ok(false);
        }
        let Some(class) = shared.buffers.pick(self.kind, self.class.get()) else { return Ok(true) };
        let (fd, group) = (Fd(self.fd.as_raw_fd()), Buffers::name(self.kind, class));
        // A multishot receive fills every buffer that the kernel has, however little this socket may hold.
        let once = shared.buffers.are_scarce(self.kind);
        let entry = if once {
            let len = class.bytes() as u32;
            opcode::Recv::new(fd, std::ptr::null_mut(), len).buf_group(group).build().flags(Flags::BUFFER_SELECT)
        } else {
            opcode::RecvMulti::new(fd, group).build()
        };
        // SAFETY: the operation points to nothing but the ring of buffers; the descriptor is kept as above.
        unsafe { shared.ring.push(&entry.user_data(name(Verb::Receive, token))) }?;
        self.receive.started();
        self.receives_into = class;
        self.receives_as = self.kind;
        self.receives_once = once;
        self.is_misplaced = false;
        Ok(false)
    }

    /// Whether anything may still be received.
    fn may_receive(&self) -> bool {
        matches!(self.phase, Phase::Open) && !self.received_all && self.leaving.is_none()
    }

    /// Arms a poll for the end of the connection if no receive is in the kernel, which would see it. The poll may stay
    /// when receiving continues.
    fn advance_watch(&mut self, token: Token, shared: &mut DriverShared) -> io::Result<()> {
        if self.watch.is_there {
            if !self.may_receive() && self.watch.take_cancel() {
                shared.ring.cancel(Verb::Watch, token)?;
            }
            return Ok(());
        }
        if self.armed || !self.was_paused || self.told_failure || !self.may_receive() {
            return Ok(());
        }
        // POLLERR and POLLHUP are always reported, so they need not be requested.
        let asked = if self.told_end { 0 } else { libc::POLLRDHUP as u32 };
        let entry = opcode::PollAdd::new(Fd(self.fd.as_raw_fd()), asked).build();
        // SAFETY: the operation points to nothing; the descriptor is kept until `advance` says that the connection goes, when no
        // operation is left.
        unsafe { shared.ring.push(&entry.user_data(name(Verb::Watch, token))) }?;
        self.watch.started();
        Ok(())
    }

    /// Handles the end of a watch.
    pub(super) fn watched(&mut self, token: Token, completion: Completion, events: &mut Vec<DriverEvent>) {
        self.watch.ended();
        let seen = match outcome(completion.result) {
            Ok(seen) => seen as i16,
            Err(error) if is_passing(&error) => return,
            // The poll failed, and is not armed again.
            Err(_) => libc::POLLERR,
        };
        // While it receives, the receive reports the end.
        if self.armed || !self.may_receive() {
            return;
        }
        let has_failed = seen & libc::POLLHUP != 0 && !self.sending.outgoing.is_ending();
        let is_news = !self.told_end || has_failed;
        self.told_end = true;
        self.told_failure |= seen & (libc::POLLHUP | libc::POLLERR) != 0;
        if is_news {
            events.push(DriverEvent::PeerEnded { socket: token, has_failed });
        }
    }

    /// Handles the end of connecting.
    pub(super) fn connect_ended(&mut self, token: Token, completion: Completion, events: &mut Vec<DriverEvent>) {
        self.connect.ended();
        let result = outcome(completion.result).map(drop);
        self.phase = if result.is_ok() { Phase::Open } else { Phase::Unconnected };
        if result.is_err() {
            self.sending.outgoing.give_up();
        }
        if self.leaving.is_none() {
            events.push(DriverEvent::Connected { socket: token, result });
        }
    }

    /// Handles the end of a send.
    pub(super) fn send_ended(
        &mut self,
        token: Token,
        completion: Completion,
        shared: &mut DriverShared,
        events: &mut Vec<DriverEvent>,
    ) {
        self.sending.ended(&mut shared.messages);
        let sent =
            outcome(completion.result).and_then(|n| if n == 0 { Err(ErrorKind::WriteZero.into()) } else { Ok(n) });
        match sent {
            Ok(bytes) => {
                self.sending.outgoing.sent(bytes);
                events.push(DriverEvent::Sent { socket: token, bytes });
            }
            Err(error) if is_passing(&error) => {}
            Err(error) => {
                self.sending.outgoing.give_up();
                self.failed = true;
                if self.leaving.is_none() {
                    events.push(DriverEvent::SendFailed { socket: token, error });
                }
            }
        }
    }

    /// Handles received bytes, or the end of receiving.
    pub(super) fn received(
        &mut self,
        token: Token,
        completion: Completion,
        shared: &mut DriverShared,
        events: &mut Vec<DriverEvent>,
    ) {
        if !completion.more {
            self.receive.ended();
        }
        let (kind, class) = (self.receives_as, self.receives_into);
        let lease = completion.buffer.and_then(|id| shared.buffers.take(kind, class, id));
        match (outcome(completion.result), lease) {
            (Ok(0), _) => self.receive_ended(token, Ok(()), events),
            (Ok(n), Some(mut lease)) => {
                lease.written(n);
                self.is_misplaced |= self.class.note(class, n);
                self.is_misplaced |= class != shared.buffers.suits(kind, class);
                self.is_misplaced |= !self.receives_once && shared.buffers.are_scarce(kind);
                if !matches!(self.leaving, Some(Leaving::Close(_))) {
                    events.push(DriverEvent::Received { socket: token, lease });
                }
            }
            (Ok(_), None) => self.receive_ended(token, Err(ErrorKind::InvalidData.into()), events),
            (Err(error), _) if error.raw_os_error() == Some(libc::ENOBUFS) => shared.buffers.ran_dry(kind, class),
            (Err(error), _) if is_passing(&error) => {}
            (Err(error), _) => self.receive_ended(token, Err(error), events),
        }
    }

    pub(super) fn acknowledge(&self) {
        socket::acknowledge(&self.fd, self.options);
    }

    fn receive_ended(&mut self, token: Token, result: io::Result<()>, events: &mut Vec<DriverEvent>) {
        self.received_all = true;
        self.failed |= result.is_err();
        if self.leaving.is_none() {
            events.push(DriverEvent::ReceiveEnded { socket: token, result });
        }
    }
}

/// The result as the system call would have returned it.
pub(super) fn outcome(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

/// Whether an operation ended only because it was cancelled or interrupted.
pub(super) fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ECANCELED | libc::EINTR | libc::EAGAIN))
}
