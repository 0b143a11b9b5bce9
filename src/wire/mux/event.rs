use std::fmt;
use std::time::Duration;

use super::cause::Cause;
use super::fault::Fault;
use super::hello::{Hello, Refused, Welcome};
use super::hosts::Hosts;
use super::phases::Phases;

/// Identifies a stream of a link. It is valid until the stream has ended; after that, calls with it fail or do nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    pub(super) id: u32,
    pub(super) slot: u32,
}

impl StreamId {
    /// The stream id on the wire.
    #[must_use]
    #[cfg(test)]
    pub const fn wire(self) -> u32 {
        self.id
    }

    /// A stream of no link, for tests of tables.
    #[cfg(test)]
    pub(crate) const fn for_tests(id: u32, slot: u32) -> StreamId {
        StreamId { id, slot }
    }

    /// A small index for the application's tables. It is reused after this stream has ended.
    #[must_use]
    pub const fn index(self) -> usize {
        self.slot as usize
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id)
    }
}

/// A side of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// This side of the link.
    Local,
    /// The other side of the link.
    Peer,
}

/// An event on a link. Events are reported in order.
#[derive(Debug)]
pub enum Event<B> {
    /// At the edge: a connector has sent HELLO. Answer with [`welcome`](super::Mux::welcome) or
    /// [`refuse`](super::Mux::refuse).
    Hello(Box<Hello>),
    /// At the connector: the edge has admitted it.
    Welcomed(Welcome),
    /// At the connector: the edge has refused it. [`Event::Closed`] follows.
    Refused(Refused),
    /// At the connector: the edge has opened a stream. See [`opening`](super::Mux::opening) for its purpose.
    Opened {
        /// The id of the new stream.
        stream: StreamId,
    },
    /// Bytes were received on a stream. Call [`consumed`](super::Mux::consumed) once they are consumed.
    Data {
        /// The stream on which the bytes came.
        stream: StreamId,
        /// The bytes; never empty.
        chunk: B,
    },
    /// The peer has finished sending on the stream.
    Finished {
        /// The stream on which the peer has finished.
        stream: StreamId,
    },
    /// The peer has reset the stream, or it ended with the link. The stream is gone.
    Reset {
        /// The id of the stream that is gone.
        stream: StreamId,
        /// Why the stream was reset.
        cause: Cause,
    },
    /// More bytes can be queued on a stream that was full.
    Writable {
        /// The stream that may queue again.
        stream: StreamId,
    },
    /// At the edge: a report of the connector's times of the call, in order with the data.
    Phases {
        /// The stream of the call.
        stream: StreamId,
        /// The durations that the connector measured.
        phases: Phases,
    },
    /// The hosts of the peer: at the edge those for which the connector has routes, at the connector those of the tunnel.
    Hosts(Hosts),
    /// The peer accepts no new streams on this link.
    Draining,
    /// The link has ended; nothing follows. Each stream that was still open was reset with an [`Event::Reset`] before.
    Closed {
        /// The reason why the link ended; [`Fault::Ended`] when it was closed on purpose.
        fault: Fault,
        /// The side that ended it. With `Peer` and a protocol fault, the peer reports that this side violated the
        /// protocol.
        by: Side,
    },
    /// A measured round-trip time.
    RoundTrip(Duration),
}

impl<B> Event<B> {
    /// The stream that the event concerns.
    pub fn stream(&self) -> Option<StreamId> {
        match self {
            Event::Opened { stream }
            | Event::Data { stream, .. }
            | Event::Finished { stream }
            | Event::Reset { stream, .. }
            | Event::Writable { stream }
            | Event::Phases { stream, .. } => Some(*stream),
            _ => None,
        }
    }
}

/// Why no stream was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The handshake is not done yet.
    #[error("the link is not ready")]
    NotReady,
    /// Only the edge opens streams.
    #[error("only the edge opens streams")]
    WrongSide,
    /// The link is draining, perhaps because its stream ids are used up. Use another link.
    #[error("the link takes no new streams")]
    Draining,
    /// The agreed number of streams is open. Use another link or wait.
    #[error("the link has its maximum number of streams")]
    StreamLimit,
    /// The host name or the agent's address is empty, too long, or has control characters.
    #[error("the route or the peer's address cannot be sent")]
    Unsendable,
    /// The link has ended.
    #[error("the link is closed")]
    Closed,
}

/// Why a call for a stream failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamCommandError {
    /// The stream has ended or never existed.
    #[error("the stream is gone")]
    Gone,
    /// The sending direction of the stream is finished.
    #[error("the stream is finished")]
    Finished,
    /// Too many bytes are queued. Wait for [`Event::Writable`].
    #[error("the stream's backlog is full")]
    Backlogged,
    /// Only the connector reports phases.
    #[error("only the connector reports phases")]
    WrongSide,
    /// This stage was reported before.
    #[error("each stage is reported once between DATA, the head before the end")]
    Repeated,
}

/// The error of [`send`](super::Mux::send), with the bytes that were not queued.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct SendError<B> {
    /// Why the bytes were not queued.
    pub error: StreamCommandError,
    /// The bytes, unchanged, so that the caller can queue them later.
    pub chunk: B,
}
