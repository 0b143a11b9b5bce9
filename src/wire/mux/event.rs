use std::fmt;
use std::time::Duration;

use super::cause::Cause;
use super::fault::Fault;
use super::hello::{Hello, Refused, Welcome};
use super::phases::Phases;

/// A stream on a link. It stays valid until the stream has ended; after that every command on it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    pub(super) id: u32,
    pub(super) slot: u32,
}

impl StreamId {
    /// The number that stands for it on the wire.
    #[must_use]
    #[cfg(test)]
    pub const fn wire(self) -> u32 {
        self.id
    }

    /// A small number, given again to another stream once this one has ended: for tables beside the mux's own.
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

/// Which side of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// This side of the link.
    Local,
    /// The other side of the link.
    Peer,
}

/// What has happened on a link, in order.
#[derive(Debug)]
pub enum Event<B> {
    /// At the edge: a connector has said who it is. Answer with [`welcome`](super::Mux::welcome) or
    /// [`refuse`](super::Mux::refuse).
    Hello(Box<Hello>),
    /// At the connector: the edge has let us in.
    Welcomed(Welcome),
    /// At the connector: the edge has not let us in. [`Event::Closed`] follows.
    Refused(Refused),
    /// At the connector: a stream has been opened. [`opening`](super::Mux::opening) tells for what.
    Opened {
        /// The id of the new stream.
        stream: StreamId,
    },
    /// Bytes on a stream. Say [`consumed`](super::Mux::consumed) when they have been taken.
    Data {
        /// The stream on which the bytes came.
        stream: StreamId,
        /// The bytes; never empty.
        chunk: B,
    },
    /// The peer has sent its last byte on the stream.
    Finished {
        /// The stream on which the peer has finished.
        stream: StreamId,
    },
    /// The peer has broken the stream off, or it ended with the link. The stream is gone.
    Reset {
        /// The id of the stream that is gone.
        stream: StreamId,
        /// Why the stream was reset.
        cause: Cause,
    },
    /// A stream that was told to wait may queue again.
    Writable {
        /// The stream that may queue again.
        stream: StreamId,
    },
    /// At the edge: how long the connector's side of the call took, in its place between the data.
    Phases {
        /// The stream of the call.
        stream: StreamId,
        /// The durations that the connector measured.
        phases: Phases,
    },
    /// The peer wants no new streams on this link.
    Draining,
    /// The link is over; nothing follows. Each stream that was still open has had its [`Event::Reset`].
    Closed {
        /// The reason why the link ended; [`Fault::Ended`] when it was closed on purpose.
        fault: Fault,
        /// Who ended it: with `Peer` and a protocol fault, the peer says that we broke the protocol.
        by: Side,
    },
    /// How long a PING took to come back.
    RoundTrip(Duration),
}

impl<B> Event<B> {
    /// The stream that it is about.
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
    /// The greeting is not over yet.
    #[error("the link is not ready")]
    NotReady,
    /// Only the edge opens streams.
    #[error("only the edge opens streams")]
    WrongSide,
    /// The link is draining, perhaps because its stream ids are used up: use another link.
    #[error("the link takes no new streams")]
    Draining,
    /// As many streams are open as was agreed: use another link or wait.
    #[error("the link has as many streams as it may")]
    StreamLimit,
    /// Route or peer text are empty, too long, or have control characters.
    #[error("the route or the peer's address cannot be sent")]
    Unsendable,
    /// The link is over.
    #[error("the link is closed")]
    Closed,
}

/// Why a command on a stream was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The stream has ended, or was never there.
    #[error("the stream is gone")]
    Gone,
    /// We have said FIN on it.
    #[error("the stream is finished")]
    Finished,
    /// Too much is queued on it already: wait for [`Event::Writable`].
    #[error("the stream's backlog is full")]
    Backlogged,
    /// Only the connector reports phases.
    #[error("only the connector reports phases")]
    WrongSide,
    /// This stage has been reported.
    #[error("each stage is reported once between DATA, the head before the end")]
    Repeated,
}

/// Bytes that were not queued, and why.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct SendError<B> {
    /// Why the bytes were not queued.
    pub error: StreamError,
    /// The bytes, unchanged, so that the caller can queue them later.
    pub chunk: B,
}
