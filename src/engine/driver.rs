//! What a core asks of the kernel, and what it is told: the seam between cores and the three drivers.
//!
//! A driver is completion-shaped. Verbs only queue; [`Driver::turn`] carries out what was queued, waits if told to, and
//! reports what happened. Operations belong to the socket: a receive that is armed stays armed, a buffer that was given
//! to be sent stays in the socket's queue until it went out or the socket failed.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::base::Time;
use crate::engine::Lease;
#[cfg(feature = "sim")]
use crate::engine::sim::SimSocket;

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
    /// The name, as settings and metrics spell it.
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

/// Where a socket listens or connects to.
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

/// Names a socket or a listener of one core: the index of its place, and how often that place was used before.
///
/// The core chooses tokens. A place is used again only after the driver reported [`Event::Closed`] or
/// [`Event::Detached`] for it, so that no late completion can be taken for a newcomer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// The place; small numbers are used first.
    pub index: u32,
    /// The use of the place.
    pub generation: u32,
}

/// A connected socket that belongs to no core at the moment.
#[derive(Debug)]
pub enum RawSocket {
    /// A file descriptor of the system.
    Fd(OwnedFd),
    /// Of the simulated network.
    #[cfg(feature = "sim")]
    Sim(SimSocket),
}

/// How a socket is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// The peer may leave Nagle on: [`Driver::acknowledge`] is to tell it at once what has arrived, so that it does not keep
    /// the rest back until a delayed acknowledgement.
    pub quick_ack: bool,
    /// How long the peer's system may answer nothing, neither data nor keep-alive probes, before the connection fails; rounded
    /// up to whole seconds for the probes. None leaves it to the system, which waits for a quarter of an hour, or for ever where
    /// nothing is sent.
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
    /// Until the given point; for ever when it is [`Time::NEVER`].
    Until(Time),
}

/// What a turn of the driver reports.
#[derive(Debug)]
pub enum Event {
    /// A listener accepted a connection. The core adopts it or lets it drop, which closes it.
    Accepted {
        /// The listener that accepted.
        listener: Token,
        /// The accepted connection; dropping it closes it.
        socket: RawSocket,
        /// Where it came from, when the system said so.
        peer: Option<SocketAddr>,
    },
    /// A listener could not accept (the process is out of descriptors, for one) and is paused.
    AcceptFailed {
        /// The listener that is paused.
        listener: Token,
        /// The error that accept returned.
        error: io::Error,
    },
    /// A connect ended. After an error the socket is still to be closed.
    Connected {
        /// The socket whose connect ended.
        socket: Token,
        /// Whether it is connected.
        result: io::Result<()>,
    },
    /// Bytes came in: one or more.
    Received {
        /// The socket that received.
        socket: Token,
        /// The received bytes; never empty.
        lease: Lease,
    },
    /// Nothing more will come in: the peer finished (`Ok`) or the connection failed.
    ReceiveEnded {
        /// The socket that receives no more.
        socket: Token,
        /// `Ok` when the peer finished sending; otherwise the error of the connection.
        result: io::Result<()>,
    },
    /// Queued bytes went out to the kernel.
    Sent {
        /// The socket whose bytes went out.
        socket: Token,
        /// The number of bytes that went out since the last report.
        bytes: usize,
    },
    /// A send failed; what was queued is dropped, nothing more can be sent.
    SendFailed {
        /// The socket that can send no more.
        socket: Token,
        /// The error that the send returned.
        error: io::Error,
    },
    /// The socket or listener is gone and its token's place is free. The last event of a token.
    Closed {
        /// The socket or listener.
        token: Token,
    },
    /// The socket left the driver, as [`Driver::detach`] asked. The last event of a token; bytes that were received
    /// before came as [`Event::Received`].
    Detached {
        /// The socket that left the driver.
        socket: Token,
        /// What is left of it.
        raw: RawSocket,
    },
}

/// Wakes a core that waits in [`Driver::turn`], from any thread.
pub trait Wake: Send + Sync {
    /// Makes the present or the next waiting turn return soon.
    fn wake(&self);
}

/// The verbs. Sockets are non-blocking and have TCP_NODELAY set.
///
/// A verb that names a token which the driver does not know (any more) does nothing: the core may act on a socket whose
/// [`Event::Closed`] is still on its way.
pub trait Driver {
    /// Which driver this is.
    fn kind(&self) -> DriverKind;

    /// The present time; the same clock for every core of the process.
    fn now(&self) -> Time;

    /// Starts to listen, with SO_REUSEPORT and SO_REUSEADDR, paused. Returns the address that was bound.
    ///
    /// # Errors
    ///
    /// As the system reports them for socket, bind and listen.
    fn listen(&mut self, listener: Token, address: &Address) -> io::Result<Address>;

    /// Lets the listener accept, or pauses it.
    fn accept(&mut self, listener: Token, armed: bool);

    /// Starts to connect; ends in [`Event::Connected`]. Receiving is paused at first.
    ///
    /// # Errors
    ///
    /// When no socket could be made. The token is then not in use.
    fn connect(&mut self, socket: Token, address: &Address, options: SocketOptions) -> io::Result<()>;

    /// Takes a connected socket in. Receiving is paused at first.
    ///
    /// # Errors
    ///
    /// When the socket is of another driver's kind or could not be registered.
    fn adopt(&mut self, socket: Token, raw: RawSocket, options: SocketOptions) -> io::Result<()>;

    /// Keeps a receive armed, or pauses receiving. Bytes that were already taken from the kernel still come.
    fn receive(&mut self, socket: Token, armed: bool);

    /// From here on the socket receives into the part of the pool that is kept for links.
    fn serve_link(&mut self, socket: Token);

    /// Acknowledges what has arrived, when the socket was opened with [`SocketOptions::quick_ack`]. Costs a packet: for when
    /// more is waited for and nothing is about to be sent.
    fn acknowledge(&mut self, socket: Token);

    /// Queues bytes to be sent, in order, gathered with what else is queued when the turn begins.
    fn send(&mut self, socket: Token, lease: Lease);

    /// How many of the bytes that the system was given to send the peer's system has not acknowledged; the end of sending counts
    /// as one. Costs a system call. None of a socket that is not known.
    fn unacknowledged_bytes(&self, socket: Token) -> usize;

    /// Finishes the sending direction after everything that is queued went out.
    fn shutdown(&mut self, socket: Token);

    /// Closes a socket or a listener; ends in [`Event::Closed`].
    fn close(&mut self, token: Token, how: Close);

    /// Takes the socket out of the driver, after everything that is queued went out; ends in [`Event::Detached`], or in
    /// [`Event::Closed`] when the socket failed meanwhile.
    fn detach(&mut self, socket: Token);

    /// What wakes this driver from another thread.
    fn wake(&self) -> Arc<dyn Wake>;

    /// Sends what is queued and can go out at once, and appends what came of it: so that a core whose tasks waited for no
    /// more than that can wait without another look. Drivers that learn only by a turn what has gone out do nothing.
    fn flush(&mut self, events: &mut Vec<Event>);

    /// Carries out what is queued, waits as told unless something has already happened, and appends what happened.
    ///
    /// # Errors
    ///
    /// Only when the driver itself is broken; the core then ends.
    fn turn(&mut self, wait: Wait, events: &mut Vec<Event>) -> io::Result<()>;
}
