//! One exchange on an HTTP/2 stream.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use h2::Reason;
use h2::client::SendRequest;

use crate::base::{CallFailure, Time};
use crate::engine::{ByteStream, Core, Lease, StreamError};
use crate::http2::{ConnectionQueue, MessageSendError, SendPiece, SentRequest, StreamQueue};
use crate::upstream::http2::connection::{OpenCall, demands_http1};
use crate::upstream::http2::incoming::Incoming;

/// How much of one request may wait in `h2` before its source has to wait, in bytes.
const QUEUED_MAX: usize = 64 * 1024;

/// One exchange with a server, as an HTTP/1.1 byte stream. The request that is written to it is sent on an HTTP/2
/// stream, and the response is read from it as HTTP/1.1.
///
/// If it is dropped before the response is complete, the stream is reset (CANCEL).
pub struct Http2Exchange {
    call: OpenCall,
    queue: Rc<StreamQueue>,
    halves: Rc<Halves>,
    /// The task that waits for a response to a request that was not sent yet.
    waiting: RefCell<Option<Waker>>,
    /// The bytes that had been sent on the connection before the exchange.
    sent_before: u64,
    received_at: Cell<Time>,
    is_refused: Cell<bool>,
}

/// The request and the response of an exchange.
pub(super) struct Halves {
    outgoing: RefCell<SentRequest>,
    incoming: RefCell<Incoming>,
    /// Whether it was reset because its response was not read and needed too much memory.
    is_cut: Cell<bool>,
}

impl Halves {
    /// Resets the stream, and drops what was received.
    pub(super) fn cut(&self) {
        self.is_cut.set(true);
        self.outgoing.borrow_mut().cancel(Reason::ENHANCE_YOUR_CALM);
        self.incoming.borrow_mut().clear();
    }

    /// Fails if the exchange was cut.
    fn check(&self) -> Result<(), StreamError> {
        if self.is_cut.get() { Err(StreamError::ResetWith { failure: CallFailure::SlowReader }) } else { Ok(()) }
    }
}

impl Http2Exchange {
    pub(super) fn new(call: OpenCall, send: SendRequest<SendPiece>, queue: &Rc<ConnectionQueue>) -> Http2Exchange {
        let connection = call.connection().connection();
        Http2Exchange {
            sent_before: connection.sent_bytes(),
            received_at: Cell::new(connection.received_at()),
            queue: StreamQueue::new(queue),
            halves: Rc::new(Halves {
                outgoing: RefCell::new(SentRequest::new(send)),
                incoming: RefCell::default(),
                is_cut: Cell::new(false),
            }),
            waiting: RefCell::default(),
            is_refused: Cell::new(false),
            call,
        }
    }

    /// The core of the exchange.
    #[must_use]
    pub fn core(&self) -> &Core {
        self.call.connection().core()
    }

    /// When the last bytes of the response were received.
    #[must_use]
    pub fn received_at(&self) -> Time {
        self.received_at.get()
    }

    /// How many bytes of the request's body were given to the connection.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.queue.sent_bytes()
    }

    /// Whether bytes of the request's body wait for flow control or for the connection.
    #[must_use]
    pub fn has_queued(&self) -> bool {
        self.queue.has_queued()
    }

    /// Whether the server has certainly not processed the request, to which no response has begun: the server has
    /// declared so (RFC 9113, section 8.7), or nothing was sent.
    #[must_use]
    pub fn is_unprocessed(&self) -> bool {
        if self.halves.is_cut.get() {
            // The server had begun to respond.
            return false;
        }
        let connection = self.call.connection();
        let stream = self.halves.outgoing.borrow().stream_id();
        if self.is_refused.get() {
            // The server has no room for calls, whatever its settings say.
            connection.retire();
            return true;
        }
        let Some(stream) = stream else { return true };
        if connection.excludes(stream) {
            return true;
        }
        connection.has_ended() && connection.has_sent_nothing_since(self.sent_before)
    }

    /// Logs what is wrong with a response.
    pub fn log_fault(&self, why: &str) {
        self.call.connection().log_fault(why);
    }

    /// Records why the stream failed.
    fn failed(&self, error: h2::Error) -> StreamError {
        if error.is_reset() && error.is_remote() {
            self.note_refusal(error.reason());
        } else if demands_http1(&error) {
            self.call.connection().on_http1_demanded();
        }
        if self.call.connection().is_gone() {
            return StreamError::TimedOut;
        }
        match (error.get_io(), error.reason()) {
            (Some(error), _) => StreamError::from(error),
            (None, _) if error.is_library() => StreamError::Protocol(error.to_string().into()),
            (None, Some(reason)) if error.is_reset() && !self.is_refused.get() => {
                StreamError::Protocol(format!("it reset the call ({reason:?})").into())
            }
            _ => StreamError::Reset,
        }
    }

    /// Records whether a reset by the server means that it did not process the request. A server that demands HTTP/1.1
    /// for the request has not acted on it either.
    fn note_refusal(&self, reason: Option<Reason>) {
        match reason {
            Some(Reason::REFUSED_STREAM) => self.is_refused.set(true),
            Some(Reason::HTTP_1_1_REQUIRED) => {
                self.is_refused.set(true);
                self.call.connection().on_http1_demanded();
            }
            _ => {}
        }
    }

    fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<StreamError> {
        let reset = ready!(self.halves.outgoing.borrow_mut().poll_reset(cx));
        Poll::Ready(match reset {
            Ok(reason) => {
                self.note_refusal(Some(reason));
                StreamError::Reset
            }
            Err(error) => self.failed(error),
        })
    }
}

impl ByteStream for Http2Exchange {
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
        self.halves.check()?;
        let received = self.halves.incoming.borrow_mut().poll_recv(self.core().pool(), cx);
        if received.is_pending() {
            if self.halves.outgoing.borrow().stream_id().is_none() {
                self.waiting.replace(Some(cx.waker().clone()));
            }
            return Poll::Pending;
        }
        self.received_at.set(self.call.connection().connection().received_at());
        received.map_err(|error| self.failed(error))
    }

    fn send(&self, lease: Lease) -> Result<(), StreamError> {
        self.halves.check()?;
        let is_tls = self.call.connection().connection().is_tls();
        let sent = self.halves.outgoing.borrow_mut().send(lease, is_tls, &self.queue, |_| {});
        match sent {
            Ok(None) => Ok(()),
            Ok(Some(begun)) => {
                let stream = begun.response.stream_id().as_u32();
                self.call.connection().note_exchange(stream, &self.halves);
                self.halves.incoming.borrow_mut().begin(begun, self.call.connection().expect_answer(stream));
                self.waiting.take().into_iter().for_each(Waker::wake);
                Ok(())
            }
            Err(MessageSendError::Stream(error)) => Err(error),
            Err(MessageSendError::H2(error)) => Err(self.failed(error)),
        }
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.halves.check()?;
        if let Poll::Ready(error) = self.poll_reset(cx) {
            return Poll::Ready(Err(error));
        }
        self.queue.poll_own_room(QUEUED_MAX.min(self.core().pool().allowance()), cx).map(Ok)
    }

    fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        if self.queue.poll_flushed(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        self.poll_reset(cx).map(Err)
    }

    /// The framing of the request tells where it ends.
    fn finish(&self) {}

    fn abort(&self) {
        self.halves.outgoing.borrow_mut().cancel(Reason::CANCEL);
        self.halves.incoming.borrow_mut().clear();
    }
}
