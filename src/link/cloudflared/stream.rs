//! One call on a connection, at the connector.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::StatusCode;
use http::request::Parts;

use crate::base::{CallFailure, Time};
use crate::engine::{ByteStream, Lease, StreamError};
use crate::http2::{HeadText, MessageSendError, ReceivedHead, ReceivedText, SendPiece, StreamQueue, send_body};
use crate::link::cloudflared::connection::CloudflaredLink;
use crate::link::cloudflared::counts::CloudflaredCounts;
use crate::wire::cloudflared::{answer_head, own_answer_head, strip_request};
use crate::wire::http1::{BodyDecoder, Framing, Method};
use crate::wire::http2::write_request_head;

/// How much of one answer may wait in `h2` before its source has to wait, in bytes.
const QUEUED_MAX: usize = 64 * 1024;

/// A call that the edge has opened. The request is read from it as HTTP/1.1, and the answer is written as HTTP/1.1.
pub struct CloudflaredStream {
    link: CloudflaredLink,
    queue: Rc<StreamQueue>,
    incoming: RefCell<ReceivedText>,
    outgoing: RefCell<Outgoing>,
    received_at: Cell<Time>,
    /// Why it was reset, by either side.
    broken: Cell<Option<CallFailure>>,
}

/// The answer: read as HTTP/1.1, as this process wrote it, and sent as HTTP/2.
struct Outgoing {
    stage: Stage,
    method: Method,
    head: HeadText,
    decoder: BodyDecoder,
}

enum Stage {
    /// The head was not sent yet.
    Head(SendResponse<SendPiece>),
    Body(SendStream<SendPiece>),
    /// The whole answer was given to the connection.
    Sent(SendStream<SendPiece>),
    /// The stream was reset.
    Failed,
}

/// The head of a request is complete when its stream exists.
struct Complete;

impl ReceivedHead for Complete {
    fn poll_head(&mut self, _: &mut ReceivedText, _: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        Poll::Pending
    }
}

impl CloudflaredStream {
    pub(super) fn new(
        link: &CloudflaredLink,
        mut parts: Parts,
        recv: RecvStream,
        respond: SendResponse<SendPiece>,
    ) -> CloudflaredStream {
        strip_request(&mut parts.headers);
        let mut incoming = ReceivedText::default();
        let is_chunked = write_request_head(&parts, !recv.is_end_stream(), incoming.text());
        incoming.begin_body(recv, is_chunked);
        let method = Method::of(parts.method.as_str().as_bytes());
        link.begin_call();
        CloudflaredStream {
            queue: StreamQueue::new(link.queue()),
            incoming: RefCell::new(incoming),
            outgoing: RefCell::new(Outgoing {
                stage: Stage::Head(respond),
                method,
                head: HeadText::default(),
                decoder: BodyDecoder::default(),
            }),
            received_at: Cell::new(link.core().turn_time()),
            broken: Cell::new(None),
            link: link.clone(),
        }
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
        let mut outgoing = self.outgoing.borrow_mut();
        match std::mem::replace(&mut outgoing.stage, Stage::Failed) {
            Stage::Head(mut respond) if failure != CallFailure::Cancelled => {
                let status = match failure {
                    CallFailure::NoRoute | CallFailure::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
                    _ => StatusCode::BAD_GATEWAY,
                };
                self.link.counts().on_failed();
                self.link.counts().on_answer(status);
                // A stream that has failed needs no answer.
                let _ = respond.send_response(own_answer_head(status), true);
            }
            Stage::Head(mut respond) => respond.send_reset(Reason::CANCEL),
            Stage::Body(mut stream) => {
                self.link.counts().on_failed();
                stream.send_reset(Reason::INTERNAL_ERROR);
            }
            sent @ Stage::Sent(_) => outgoing.stage = sent,
            Stage::Failed => {}
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
        let reset = match &mut self.outgoing.borrow_mut().stage {
            Stage::Head(respond) => ready!(respond.poll_reset(cx)),
            Stage::Body(stream) | Stage::Sent(stream) => ready!(stream.poll_reset(cx)),
            Stage::Failed => return Poll::Pending,
        };
        let failure = reset.map_or_else(|error| self.failure_of(&error), |_| CallFailure::Cancelled);
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
        self.incoming.borrow().has_ended()
    }

    fn failure_of(&self, error: &h2::Error) -> CallFailure {
        if error.is_reset() && error.is_remote() { CallFailure::Cancelled } else { CallFailure::LinkLost }
    }

    fn failed(&self, error: &h2::Error) -> StreamError {
        let failure = self.broken.get().unwrap_or_else(|| self.failure_of(error));
        self.broken.set(Some(failure));
        StreamError::ResetWith { failure }
    }
}

impl Outgoing {
    fn send(
        &mut self,
        mut lease: Lease,
        queue: &Rc<StreamQueue>,
        counts: &CloudflaredCounts,
    ) -> Result<(), MessageSendError> {
        // An interim answer may stand before the final one.
        while let Stage::Head(respond) = &mut self.stage {
            let method = self.method;
            let taken = self.head.take(&mut lease, |text| answer_head(text, method))?;
            let Some(head) = taken else { return Ok(()) };
            let Some((response, framing)) = head else { continue };
            counts.on_answer(response.status());
            let is_end = matches!(framing, Framing::None | Framing::Length(0));
            let stream = respond.send_response(response, is_end)?;
            self.decoder.restart(framing);
            self.stage = if is_end { Stage::Sent(stream) } else { Stage::Body(stream) };
        }
        if let Stage::Body(stream) = &mut self.stage
            && send_body(stream, &mut self.decoder, lease, queue)?
            && let Stage::Body(stream) = std::mem::replace(&mut self.stage, Stage::Failed)
        {
            self.stage = Stage::Sent(stream);
        }
        Ok(())
    }
}

impl ByteStream for CloudflaredStream {
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
        let received = self.incoming.borrow_mut().poll_recv(&mut Complete, self.link.core().pool(), cx);
        if received.is_ready() {
            self.received_at.set(self.link.heard_at());
        }
        received.map_err(|error| self.failed(&error))
    }

    fn send(&self, lease: Lease) -> Result<(), StreamError> {
        if let Some(failure) = self.broken.get() {
            return Err(StreamError::ResetWith { failure });
        }
        let sent = self.outgoing.borrow_mut().send(lease, &self.queue, self.link.counts());
        sent.map_err(|error| match error {
            MessageSendError::Stream(error) => error,
            MessageSendError::H2(error) => self.failed(&error),
        })
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        if let Poll::Ready(failure) = self.poll_broken(cx) {
            return Poll::Ready(Err(StreamError::ResetWith { failure }));
        }
        self.queue.poll_own_room(QUEUED_MAX.min(self.link.core().pool().allowance()), cx).map(Ok)
    }

    fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        if self.queue.poll_flushed(cx).is_ready() {
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
