use std::task::{Context, Poll};

use crate::engine::{ByteStream, Lease, StreamError};
use crate::link::LinkStream;
use crate::tls::TlsStream;

/// A stream as calls see it: one exchange as it is, or a sealed session on which one follows the other.
pub enum CallStream {
    /// As it is. Each side finishes when its message is whole.
    Plain(LinkStream),
    /// Under a TLS session of its own.
    Sealed(Box<TlsStream<LinkStream>>),
}

impl CallStream {
    /// The stream on the link.
    #[must_use]
    pub fn on_link(&self) -> &LinkStream {
        match self {
            CallStream::Plain(stream) => stream,
            CallStream::Sealed(session) => session.inner(),
        }
    }

    /// Whether it is sealed.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        matches!(self, CallStream::Sealed(_))
    }

    /// Says that a message is whole. On a sealed session another may follow.
    pub fn finish_message(&self) {
        if let CallStream::Plain(stream) = self {
            stream.finish();
        }
    }
}

impl ByteStream for CallStream {
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
        match self {
            CallStream::Plain(stream) => stream.poll_recv(cx),
            CallStream::Sealed(session) => session.poll_recv(cx),
        }
    }

    fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.on_link().poll_ended(cx)
    }

    fn send(&self, lease: Lease) -> Result<(), StreamError> {
        match self {
            CallStream::Plain(stream) => stream.send(lease),
            CallStream::Sealed(session) => session.send(lease),
        }
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        match self {
            CallStream::Plain(stream) => stream.poll_ready(cx),
            CallStream::Sealed(session) => session.poll_ready(cx),
        }
    }

    fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        match self {
            CallStream::Plain(stream) => stream.poll_flushed(cx),
            CallStream::Sealed(session) => session.poll_flushed(cx),
        }
    }

    fn poll_send_failed(&self, cx: &mut Context<'_>) -> Poll<StreamError> {
        self.on_link().poll_send_failed(cx)
    }

    fn finish(&self) {
        match self {
            CallStream::Plain(stream) => stream.finish(),
            CallStream::Sealed(session) => session.finish(),
        }
    }

    fn abort(&self) {
        match self {
            CallStream::Plain(stream) => stream.abort(),
            CallStream::Sealed(session) => session.abort(),
        }
    }

    fn headroom(&self) -> usize {
        match self {
            CallStream::Plain(stream) => stream.headroom(),
            CallStream::Sealed(session) => session.headroom(),
        }
    }

    fn tailroom(&self) -> usize {
        match self {
            CallStream::Plain(stream) => stream.tailroom(),
            CallStream::Sealed(session) => session.tailroom(),
        }
    }
}
