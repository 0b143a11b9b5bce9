//! One call on a connection, at the edge.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use h2::Reason;
use h2::client::{ResponseFuture, SendRequest};

use crate::base::{CallFailure, Time};
use crate::engine::{ByteStream, Lease, StreamError};
use crate::http2::{
    BegunRequest, ExpectedAnswer, MessageSendError, ReceivedHead, ReceivedText, SendPiece, SentRequest, StreamQueue,
};
use crate::link::cloudflared::edge::connection::CloudflaredEdgeLink;
use crate::wire::cloudflared::{AnswerSource, read_answer, strip_for_connector};
use crate::wire::http1::Method;
use crate::wire::http2::write_response_head;

/// How much of one request may wait in `h2` before its source has to wait, in bytes.
const QUEUED_MAX: usize = 64 * 1024;

/// A call that the edge opens. The request is written to it as HTTP/1.1, and the answer is read as HTTP/1.1. If it is
/// dropped before both are complete, the connector is told that the call is cancelled.
pub struct CloudflaredEdgeStream {
    link: CloudflaredEdgeLink,
    queue: Rc<StreamQueue>,
    halves: Rc<Halves>,
    /// The task that waits for an answer to a request that was not sent yet.
    waiting: RefCell<Option<Waker>>,
    received_at: Cell<Time>,
    /// Why it was reset, by either side.
    broken: Cell<Option<CallFailure>>,
}

/// The request and the answer of a call.
pub(super) struct Halves {
    outgoing: RefCell<SentRequest>,
    incoming: RefCell<Incoming>,
    /// Whether it was reset because its answer was not read and needed too much memory.
    is_cut: Cell<bool>,
}

impl Halves {
    /// Resets the stream, and drops what was received.
    pub(super) fn cut(&self) {
        self.is_cut.set(true);
        self.outgoing.borrow_mut().cancel(Reason::ENHANCE_YOUR_CALM);
        self.incoming.borrow_mut().text.clear();
    }
}

/// The answer: received as HTTP/2, and read as HTTP/1.1.
#[derive(Default)]
struct Incoming {
    head: AnswerHead,
    text: ReceivedText,
}

/// The head of an answer, and where the connector has ended it.
struct AnswerHead {
    /// None while the request is not sent, and after the head.
    response: Option<ResponseFuture>,
    /// None while the request is not sent.
    answer: Option<ExpectedAnswer>,
    method: Method,
    /// The failure that the head tells, if no server has answered.
    failure: Option<CallFailure>,
}

impl Default for AnswerHead {
    fn default() -> AnswerHead {
        AnswerHead { response: None, answer: None, method: Method::Other, failure: None }
    }
}

impl AnswerHead {
    fn is_whole(&self) -> bool {
        self.answer.as_ref().is_some_and(ExpectedAnswer::is_whole)
    }
}

impl ReceivedHead for AnswerHead {
    fn poll_head(&mut self, to: &mut ReceivedText, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        let Some(response) = &mut self.response else { return Poll::Pending };
        // Connectors send no interim answers. One that does has no more to say in them.
        while let Poll::Ready(Some(interim)) = response.poll_informational(cx) {
            interim?;
        }
        let (head, recv) = ready!(Pin::new(response).poll(cx))?.into_parts();
        self.response = None;
        let fields = match read_answer(&head) {
            Ok(AnswerSource::Server(fields)) => fields,
            Ok(AnswerSource::Connector { is_limited }) => {
                // The connector may have sent the request, and says only that it has no answer.
                let failure = if is_limited { CallFailure::Overloaded } else { CallFailure::NoUpstreamAnswer };
                self.failure = Some(failure);
                return Poll::Ready(Err(Reason::CANCEL.into()));
            }
            Err(fault) => {
                tracing::debug!(%fault, "a connector of cloudflared sent an answer that cannot be used");
                self.failure = Some(CallFailure::UpstreamProtocol);
                return Poll::Ready(Err(Reason::PROTOCOL_ERROR.into()));
            }
        };
        let has_body = !recv.is_end_stream() && self.method != Method::Head;
        let is_chunked = write_response_head(head.status, &fields, self.method, has_body, to.text());
        to.begin_body(recv, is_chunked);
        Poll::Ready(Ok(()))
    }

    fn on_read(&self, len: usize) {
        self.answer.iter().for_each(|answer| answer.on_read(len));
    }

    /// A server that has sent its whole answer may need no more of the request (RFC 9113, section 8.1).
    fn is_end(&self, error: &h2::Error) -> bool {
        error.is_reset() && error.is_remote() && error.reason() == Some(Reason::NO_ERROR) && self.is_whole()
    }
}

impl CloudflaredEdgeStream {
    pub(super) fn new(link: &CloudflaredEdgeLink, send: SendRequest<SendPiece>) -> CloudflaredEdgeStream {
        link.begin_call();
        CloudflaredEdgeStream {
            queue: StreamQueue::new(link.queue()),
            halves: Rc::new(Halves {
                outgoing: RefCell::new(SentRequest::new(send)),
                incoming: RefCell::default(),
                is_cut: Cell::new(false),
            }),
            waiting: RefCell::default(),
            received_at: Cell::new(link.core().turn_time()),
            broken: Cell::new(None),
            link: link.clone(),
        }
    }

    /// The connection that carries it.
    #[must_use]
    pub fn link(&self) -> &CloudflaredEdgeLink {
        &self.link
    }

    /// When the last bytes of the answer were received.
    #[must_use]
    pub fn received_at(&self) -> Time {
        self.received_at.get()
    }

    /// Ends the call. The connector is told that it is cancelled, because the protocol has no other reasons.
    pub fn reset(&self, failure: CallFailure) {
        if self.broken.get().is_none() {
            self.broken.set(Some(failure));
        }
        self.halves.outgoing.borrow_mut().cancel(Reason::CANCEL);
        self.halves.incoming.borrow_mut().text.clear();
    }

    /// Ready when the connector has reset the call, or the connection has ended; even after the last byte of the answer.
    pub fn poll_broken(&self, cx: &mut Context<'_>) -> Poll<CallFailure> {
        if let Some(failure) = self.broken_for() {
            return Poll::Ready(failure);
        }
        let reset = ready!(self.halves.outgoing.borrow_mut().poll_reset(cx));
        let failure = match reset {
            // The server needs no more of the request, and the rest of its answer can be read.
            Ok(Reason::NO_ERROR) if self.halves.incoming.borrow().head.is_whole() => return Poll::Pending,
            Ok(reason) => failure_of_reset(reason),
            Err(error) => self.failure_of(&error),
        };
        self.broken.set(Some(failure));
        Poll::Ready(failure)
    }

    /// Why it was reset, by either side or with its connection, if it was.
    #[must_use]
    pub fn broken_for(&self) -> Option<CallFailure> {
        let is_cut = self.halves.is_cut.get();
        self.broken.get().or(is_cut.then_some(CallFailure::SlowReader))
    }

    /// The error, if it was reset before the last byte of the answer arrived. Otherwise wakes the task when that happens.
    #[must_use]
    pub fn failure(&self, cx: &mut Context<'_>) -> Option<StreamError> {
        match self.poll_broken(cx) {
            Poll::Ready(failure) if !self.is_received() => Some(StreamError::ResetWith { failure }),
            _ => None,
        }
    }

    /// Whether its connection drains and waits for bytes that the connector still has to send on it.
    #[must_use]
    pub fn holds_up_drain(&self) -> bool {
        self.link.is_draining() && !self.is_received()
    }

    fn is_received(&self) -> bool {
        self.halves.incoming.borrow().text.has_ended()
    }

    fn failure_of(&self, error: &h2::Error) -> CallFailure {
        match error.reason() {
            Some(reason) if error.is_reset() && error.is_remote() => failure_of_reset(reason),
            // The answer violates HTTP/2.
            Some(_) if error.is_reset() && error.is_library() => CallFailure::UpstreamProtocol,
            _ => self.link.failure_of_end(),
        }
    }

    fn failed(&self, error: &h2::Error) -> StreamError {
        let told = self.halves.incoming.borrow().head.failure;
        let failure = self.broken_for().or(told).unwrap_or_else(|| self.failure_of(error));
        self.broken.set(Some(failure));
        StreamError::ResetWith { failure }
    }

    fn check(&self) -> Result<(), StreamError> {
        self.broken_for().map_or(Ok(()), |failure| Err(StreamError::ResetWith { failure }))
    }
}

/// What a reset by the connector means.
fn failure_of_reset(reason: Reason) -> CallFailure {
    match reason {
        Reason::REFUSED_STREAM => CallFailure::NotPassedOn,
        _ => CallFailure::UpstreamBroken,
    }
}

impl ByteStream for CloudflaredEdgeStream {
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
        self.check()?;
        let received = {
            let Incoming { head, text } = &mut *self.halves.incoming.borrow_mut();
            text.poll_recv(head, self.link.core().pool(), cx)
        };
        if received.is_pending() {
            if self.halves.outgoing.borrow().stream_id().is_none() {
                self.waiting.replace(Some(cx.waker().clone()));
            }
            return Poll::Pending;
        }
        self.received_at.set(self.link.heard_at());
        received.map_err(|error| self.failed(&error))
    }

    fn send(&self, lease: Lease) -> Result<(), StreamError> {
        self.check()?;
        let strip = |request: &mut http::Request<()>| strip_for_connector(request.headers_mut());
        let sent = self.halves.outgoing.borrow_mut().send(lease, true, &self.queue, strip);
        match sent {
            Ok(None) => Ok(()),
            Ok(Some(BegunRequest { method, response })) => {
                let stream = response.stream_id().as_u32();
                let answer = Some(self.link.expect_answer(stream, &self.halves));
                self.halves.incoming.borrow_mut().head =
                    AnswerHead { response: Some(response), answer, method, failure: None };
                self.waiting.take().into_iter().for_each(Waker::wake);
                Ok(())
            }
            // The head or the body cannot be expressed in HTTP/2.
            Err(MessageSendError::Stream(_)) => {
                self.reset(CallFailure::RequestRefused);
                self.waiting.take().into_iter().for_each(Waker::wake);
                self.check()
            }
            Err(MessageSendError::H2(error)) => Err(self.failed(&error)),
        }
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

    /// The framing of the request tells where it ends.
    fn finish(&self) {}

    fn abort(&self) {
        self.reset(CallFailure::Cancelled);
    }
}

impl Drop for CloudflaredEdgeStream {
    fn drop(&mut self) {
        if !self.is_received() {
            self.halves.outgoing.borrow_mut().cancel(Reason::CANCEL);
        }
        self.link.end_call();
    }
}
