//! One call on a connection, at the connector.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use h2::RecvStream;
use h2::server::SendResponse;
use http::StatusCode;
use http::request::Parts;

use crate::base::{CallFailure, Time};
use crate::engine::{ByteStream, Lease, StreamError};
use crate::http2::{ConnectionQueue, SendPiece};
use crate::link::cloudflared::connection::CloudflaredLink;
use crate::link::cloudflared::http2_call::{CallSendError, Http2Call};
use crate::link::cloudflared::quic_call::QuicCall;

/// How much of one answer may wait before its source has to wait, in bytes.
const QUEUED_MAX: usize = 64 * 1024;

/// A call that the edge has opened. The request is read from it as HTTP/1.1, and the answer is written as HTTP/1.1.
pub struct CloudflaredStream {
    link: CloudflaredLink,
    call: CallOnWire,
    received_at: Cell<Time>,
    /// Why it was reset, by either side.
    broken: Cell<Option<CallFailure>>,
}

/// A call on the transport of its connection.
enum CallOnWire {
    Http2(Http2Call),
    Quic(QuicCall),
}

impl CloudflaredStream {
    pub(super) fn over_http2(
        link: &CloudflaredLink,
        queue: &Rc<ConnectionQueue>,
        parts: Parts,
        recv: RecvStream,
        respond: SendResponse<SendPiece>,
    ) -> CloudflaredStream {
        CloudflaredStream::new(link, CallOnWire::Http2(Http2Call::new(queue, parts, recv, respond)))
    }

    pub(super) fn over_quic(link: &CloudflaredLink, call: QuicCall) -> CloudflaredStream {
        CloudflaredStream::new(link, CallOnWire::Quic(call))
    }

    fn new(link: &CloudflaredLink, call: CallOnWire) -> CloudflaredStream {
        link.begin_call();
        let (received_at, broken) = (Cell::new(link.core().turn_time()), Cell::new(None));
        CloudflaredStream { link: link.clone(), call, received_at, broken }
    }

    /// The connection that carries it.
    #[must_use]
    pub fn link(&self) -> &CloudflaredLink {
        &self.link
    }

    /// When the last bytes of the request were received.
    #[must_use]
    pub fn received_at(&self) -> Time {
        self.received_at.get()
    }

    /// Ends the call without an answer of the server. If no answer has begun, the edge is told that the connector failed;
    /// otherwise the stream is reset.
    pub fn reset(&self, failure: CallFailure) {
        let status = match failure {
            CallFailure::Cancelled => None,
            CallFailure::NoRoute | CallFailure::Overloaded => Some(StatusCode::SERVICE_UNAVAILABLE),
            _ => Some(StatusCode::BAD_GATEWAY),
        };
        let (had_answered, has_failed) = match &self.call {
            CallOnWire::Http2(call) => (call.has_answered(), call.reset(status)),
            CallOnWire::Quic(call) => (call.has_answered(), call.reset(status)),
        };
        if has_failed {
            self.link.counts().on_failed();
            if let Some(status) = status.filter(|_| !had_answered) {
                self.link.counts().on_answer(status);
            }
        }
        if self.broken.get().is_none() {
            self.broken.set(Some(failure));
        }
    }

    /// Ready when the edge has reset the call, or the connection has ended; even after the last byte of the request.
    pub fn poll_broken(&self, cx: &mut Context<'_>) -> Poll<CallFailure> {
        if let Some(failure) = self.broken.get() {
            return Poll::Ready(failure);
        }
        let failure = ready!(match &self.call {
            CallOnWire::Http2(call) => call.poll_reset(cx),
            CallOnWire::Quic(call) => call.poll_reset(cx),
        });
        self.broken.set(Some(failure));
        Poll::Ready(failure)
    }

    /// Why it was reset, by either side or with its connection, if it was.
    #[must_use]
    pub fn broken_for(&self) -> Option<CallFailure> {
        self.broken.get()
    }

    /// The error, if it was reset before the last byte of the request arrived. Otherwise wakes the task when that happens.
    #[must_use]
    pub fn failure(&self, cx: &mut Context<'_>) -> Option<StreamError> {
        match self.poll_broken(cx) {
            Poll::Ready(failure) if !self.is_received() => Some(StreamError::ResetWith { failure }),
            _ => None,
        }
    }

    /// Whether its connection drains and waits for bytes that the edge still has to send on it.
    #[must_use]
    pub fn holds_up_drain(&self) -> bool {
        self.link.is_draining() && !self.is_received()
    }

    fn is_received(&self) -> bool {
        match &self.call {
            CallOnWire::Http2(call) => call.is_received(),
            CallOnWire::Quic(call) => call.is_received(),
        }
    }

    fn failed(&self, failure: CallFailure) -> StreamError {
        let failure = self.broken.get().unwrap_or(failure);
        self.broken.set(Some(failure));
        StreamError::ResetWith { failure }
    }
}

impl ByteStream for CloudflaredStream {
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
        let pool = self.link.core().pool();
        let (received, at) = match &self.call {
            CallOnWire::Http2(call) => (call.poll_recv(pool, cx), self.link.heard_at()),
            CallOnWire::Quic(call) => (call.poll_recv(pool, cx), self.link.core().turn_time()),
        };
        if received.is_ready() {
            self.received_at.set(at);
        }
        received.map_err(|failure| self.failed(failure))
    }

    fn send(&self, lease: Lease) -> Result<(), StreamError> {
        if let Some(failure) = self.broken.get() {
            return Err(StreamError::ResetWith { failure });
        }
        let sent = match &self.call {
            CallOnWire::Http2(call) => call.send(lease, self.link.counts()),
            CallOnWire::Quic(call) => call.send(lease, self.link.counts()),
        };
        sent.map_err(|error| match error {
            CallSendError::Stream(error) => error,
            CallSendError::Reset(failure) => self.failed(failure),
        })
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        if let Poll::Ready(failure) = self.poll_broken(cx) {
            return Poll::Ready(Err(StreamError::ResetWith { failure }));
        }
        let max = QUEUED_MAX.min(self.link.core().pool().allowance());
        match &self.call {
            CallOnWire::Http2(call) => call.poll_own_room(max, cx),
            CallOnWire::Quic(call) => call.poll_own_room(max, cx),
        }
        .map(Ok)
    }

    fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        let flushed = match &self.call {
            CallOnWire::Http2(call) => call.poll_flushed(cx),
            CallOnWire::Quic(call) => call.poll_flushed(cx),
        };
        if flushed.is_ready() {
            return Poll::Ready(Ok(()));
        }
        self.poll_send_failed(cx).map(Err)
    }

    fn poll_send_failed(&self, cx: &mut Context<'_>) -> Poll<StreamError> {
        self.poll_broken(cx).map(|failure| StreamError::ResetWith { failure })
    }

    /// The framing of the answer tells where it ends.
    fn finish(&self) {}

    fn abort(&self) {
        self.reset(CallFailure::Cancelled);
    }
}

impl Drop for CloudflaredStream {
    fn drop(&mut self) {
        if self.poll_broken(&mut Context::from_waker(Waker::noop())).is_pending() {
            self.reset(CallFailure::Internal);
        }
        self.link.end_call();
    }
}
