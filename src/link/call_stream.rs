use std::task::{Context, Poll};

use crate::engine::{ByteStream, Lease, StreamError};
use crate::link::CarrierStream;
use crate::tls::TlsStream;

/// How calls use a stream of a carrier.
pub enum CallStream {
    /// One call as HTTP/1.1 without inner TLS. Each side finishes the stream when its message is complete.
    Plain(CarrierStream),
    /// HTTP/1.1 inside an inner TLS session, one call after another.
    Sealed(Box<TlsStream<CarrierStream>>),
}

impl CallStream {
    /// The carrier's stream that this stream uses.
    #[must_use]
    pub fn on_link(&self) -> &CarrierStream {
        match self {
            CallStream::Plain(stream) => stream,
            CallStream::Sealed(session) => session.inner(),
        }
    }

    /// Whether it has an inner TLS session.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        matches!(self, CallStream::Sealed(_))
    }

    /// Marks the end of a message. In a TLS session another one may follow.
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

    fn has_partial(&self) -> bool {
        match self {
            CallStream::Plain(stream) => stream.has_partial(),
            CallStream::Sealed(session) => session.has_partial(),
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
