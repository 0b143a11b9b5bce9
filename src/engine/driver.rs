//! The interface between cores and drivers: what a core requests from the kernel, and what is reported back.
//!
//! A driver is completion-based. Its methods only queue operations; [`Driver::turn`] carries them out, waits if asked
//! to, and reports events. Operations belong to the socket: an armed receive stays armed, and a buffer stays in the
//! send queue until it was sent or the socket failed.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::base::Time;
#[cfg(feature = "sim")]
use crate::engine::sim::SimSocket;
use crate::engine::{BoundDatagrams, DatagramBatch, Lease};

/// The kind of a driver: how it talks to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DriverKind {
    /// Edge-triggered readiness; works everywhere.
    Epoll,
    /// A network in memory, on virtual time.
    #[cfg(feature = "sim")]
    Sim,
    /// Completions by io_uring, where the kernel has it and permits it.
    Uring,
}

impl DriverKind {
    /// The name in settings and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            DriverKind::Epoll => "epoll",
            #[cfg(feature = "sim")]
            DriverKind::Sim => "sim",
            DriverKind::Uring => "uring",
        }
    }
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The address that a socket listens on or connects to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A TCP address; port 0 lets the system choose a port when it is listened on.
    Tcp(SocketAddr),
    /// A unix stream socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "{address}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Tcp(address)
    }
}

/// Identifies a socket or a listener of a core: the index of its slot, and how often that slot was used before.
///
/// The core chooses tokens. It reuses a slot only after the driver reported [`DriverEvent::Closed`] or [`DriverEvent::Detached`]
/// for it, so that a late completion cannot be mistaken for one of the new socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// The index of the slot; small numbers are used first.
    pub index: u32,
    /// How often the slot was used before.
    pub generation: u32,
}

/// A connected socket that belongs to no core at the moment.
#[derive(Debug)]
pub enum RawSocket {
    /// A file descriptor of the system.
    Fd(OwnedFd),
    /// A socket of the simulated network.
    #[cfg(feature = "sim")]
    Sim(SimSocket),
}

/// How a socket is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// Set if the peer may use Nagle's algorithm. [`Driver::acknowledge`] then acknowledges received bytes at once, so
    /// that the peer does not hold back the rest until a delayed acknowledgement.
    pub quick_ack: bool,
    /// How long the peer's system may be silent, sending neither data nor answers to keep-alive probes, before the
    /// connection fails; rounded up to whole seconds for the probes. `None` leaves it to the system, which waits for a
    /// quarter of an hour, or forever if nothing is sent.
    pub silence_max: Option<Duration>,
}

/// How a socket is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// Drop what is queued and reset the connection.
    Abort,
    /// Send what is queued, then close.
    Flush,
}

/// How long a turn may wait for something to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Do not wait: carry out what is queued and return.
    Poll,
    /// Wait until the given time; without end if it is [`Time::NEVER`].
    Until(Time),
}

/// What a turn of the driver reports.
#[derive(Debug)]
pub enum DriverEvent {
    /// A listener accepted a connection. The core adopts the socket or drops it, which closes it.
    Accepted {
        /// The listener that accepted.
        listener: Token,
        /// The accepted connection; dropping it closes it.
        socket: RawSocket,
        /// The peer address, if the system reported one.
        peer: Option<SocketAddr>,
    },
    /// A listener could not accept, for example because the process has too many open files, and is paused.
    AcceptFailed {
        /// The listener that is paused.
        listener: Token,
        /// The error that accept returned.
        error: io::Error,
    },
    /// A connect ended. After an error the socket must still be closed.
    Connected {
        /// The socket whose connect ended.
        socket: Token,
        /// Whether it is connected.
        result: io::Result<()>,
    },
    /// Bytes were received on a socket.
    Received {
        /// The socket that received.
        socket: Token,
        /// The received bytes; never empty.
        lease: Lease,
    },
    /// Nothing more will be received: the peer has finished (`Ok`) or the connection has failed.
    ReceiveEnded {
        /// The socket that receives no more.
        socket: Token,
        /// `Ok` when the peer finished sending; otherwise the error of the connection.
        result: io::Result<()>,
    },
    /// The peer has finished or the connection has failed while receiving is paused. Nothing will follow the bytes that
    /// the system holds. [`DriverEvent::ReceiveEnded`] comes after them.
    PeerEnded {
        /// The socket.
        socket: Token,
        /// Whether the connection has failed, so that nothing can be sent any more. May be reported after the peer has finished.
        has_failed: bool,
    },
    /// Queued bytes were given to the kernel.
    Sent {
        /// The socket whose bytes went out.
        socket: Token,
        /// The number of bytes that went out since the last report.
        bytes: usize,
    },
    /// A send failed. Queued bytes are dropped, and nothing more can be sent.
    SendFailed {
        /// The socket that can send no more.
        socket: Token,
        /// The error that the send returned.
        error: io::Error,
    },
    /// Datagrams were received from a peer.
    DatagramsReceived {
        /// The datagram socket.
        socket: Token,
        /// The datagrams; none of them is empty.
        batch: DatagramBatch,
    },
    /// The system refused datagrams, for example because they are larger than the path allows. They are dropped, and the socket
    /// continues.
    DatagramsDropped {
        /// The datagram socket.
        socket: Token,
        /// The number of bytes that were queued and are dropped.
        bytes: usize,
        /// The error that the send returned.
        error: io::Error,
    },
    /// The socket or listener is closed and its slot is free. The last event of a token.
    Closed {
        /// The socket or listener.
        token: Token,
    },
    /// The socket left the driver after [`Driver::detach`]. The last event of a token; bytes that were received before
    /// came as [`DriverEvent::Received`].
    Detached {
        /// The socket that left the driver.
        socket: Token,
        /// The socket itself, for another core to adopt.
        raw: RawSocket,
    },
}

/// Wakes a core that waits in [`Driver::turn`]. Can be called from any thread.
pub trait Wake: Send + Sync {
    /// Makes the current or next waiting turn return soon.
    fn wake(&self);
}

/// A driver: sockets and listeners of one core. Sockets are non-blocking and have TCP_NODELAY set.
///
/// A method does nothing if the driver does not, or no longer, know its token. The core may act on a socket whose
/// [`DriverEvent::Closed`] it has not seen yet.
pub trait Driver {
    /// The kind of this driver.
    fn kind(&self) -> DriverKind;

    /// The current time, from the same clock for all cores of the process.
    fn now(&self) -> Time;

    /// Frees memory for receiving that was not used since the last call.
    fn trim(&mut self) {}

    /// Starts to listen, with SO_REUSEPORT and SO_REUSEADDR, paused. Returns the address that was bound.
    ///
    /// # Errors
    ///
    /// The errors of socket, bind and listen.
    fn listen(&mut self, listener: Token, address: &Address) -> io::Result<Address>;

    /// Arms the listener, or pauses it.
    fn accept(&mut self, listener: Token, armed: bool);

    /// Starts to connect; ends with [`DriverEvent::Connected`]. Receiving is paused at first.
    ///
    /// # Errors
    ///
    /// If no socket could be created. The token is then not in use.
    fn connect(&mut self, socket: Token, address: &Address, options: SocketOptions) -> io::Result<()>;

    /// Adds a connected socket. Receiving is paused at first.
    ///
    /// # Errors
    ///
    /// If the socket belongs to another kind of driver or could not be registered.
    fn adopt(&mut self, socket: Token, raw: RawSocket, options: SocketOptions) -> io::Result<()>;

    /// Arms receiving, or pauses it. Bytes that were already taken from the kernel are still reported.
    fn receive(&mut self, socket: Token, armed: bool);

    /// From now on the socket receives into the part of the pool that is reserved for links.
    fn serve_link(&mut self, socket: Token);

    /// Opens a datagram socket at `address`, with SO_REUSEPORT, so that each core can have one at the same port. Its datagrams are
    /// never fragmented, and may be as large as the path allows. Receiving is paused at first.
    ///
    /// # Errors
    ///
    /// The errors of socket and bind. The token is then not in use.
    fn bind(&mut self, socket: Token, address: SocketAddr) -> io::Result<BoundDatagrams>;

    /// Queues datagrams to be sent, in order. They are reported as [`DriverEvent::Sent`] or [`DriverEvent::DatagramsDropped`]. They
    /// wait while the socket's buffer in the system is full.
    fn send_datagrams(&mut self, socket: Token, batch: DatagramBatch);

    /// Acknowledges received bytes at once, if the socket was opened with [`SocketOptions::quick_ack`]. It costs a
    /// packet, so call it only if more is expected and nothing is about to be sent.
    fn acknowledge(&mut self, socket: Token);

    /// Queues bytes to be sent, in order. They are sent together with everything else that is queued when the turn
    /// begins.
    fn send(&mut self, socket: Token, lease: Lease);

    /// How many of the sent bytes the peer's system has not acknowledged; the end of sending counts as one byte. Costs
    /// a system call. Zero for an unknown socket.
    fn unacknowledged_bytes(&self, socket: Token) -> usize;

    /// How many bytes are in flight: sent to the peer's system and not acknowledged. Bytes that the system holds back
    /// until the peer reads do not count. Costs two system calls. Zero for an unknown socket.
    fn in_flight_bytes(&self, socket: Token) -> usize;

    /// Whether the connection is over, so that nothing more will be acknowledged. There is no other report of a reset
    /// that comes after the peer has finished. Costs a system call. False for an unknown socket.
    fn is_over(&self, socket: Token) -> bool;

    /// Whether the system holds bytes, the end or an error of the connection that were not received. A turn would
    /// report them if receiving is armed. An error may be consumed by this check. Costs a system call. False for an
    /// unknown socket.
    fn has_pending_input(&self, socket: Token) -> bool;

    /// Finishes the sending direction after everything that is queued went out.
    fn shutdown(&mut self, socket: Token);

    /// Closes a socket or a listener; ends with [`DriverEvent::Closed`].
    fn close(&mut self, token: Token, how: Close);

    /// Removes the socket from the driver after everything that is queued was sent; ends with [`DriverEvent::Detached`], or
    /// with [`DriverEvent::Closed`] if the socket failed meanwhile.
    fn detach(&mut self, socket: Token);

    /// A handle that wakes this driver from another thread.
    fn wake(&self) -> Arc<dyn Wake>;

    /// Sends at once what is queued and can be sent, and appends the resulting events. A core whose tasks wait only for
    /// that can then park without another turn. Drivers that learn only in a turn what was sent do nothing, and return false.
    fn flush(&mut self, events: &mut Vec<DriverEvent>) -> bool;

    /// Carries out queued operations, waits as asked unless something has already happened, and appends the events.
    ///
    /// # Errors
    ///
    /// Only if the driver itself fails; the core then ends.
    fn turn(&mut self, wait: Wait, events: &mut Vec<DriverEvent>) -> io::Result<()>;
}
