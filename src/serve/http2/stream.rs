use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Response};

use crate::engine::{Core, StreamError};
use crate::exchange::PeerProgress;
use crate::http2::{Content, SendPiece, StreamQueue};

/// An HTTP/2 stream, which carries one request and its response.
pub struct Http2Stream {
    core: Core,
    recv: RefCell<RecvStream>,
    send: RefCell<Sending>,
    queue: Rc<StreamQueue>,
    /// Whether this side reset it first.
    is_given_up: Cell<bool>,
    /// Whether the end of the response was queued.
    is_answered: Cell<bool>,
}

/// The sending half of a stream.
enum Sending {
    /// Before the head of the response.
    Head(SendResponse<SendPiece>),
    Body(SendStream<SendPiece>),
}

impl Http2Stream {
    pub(super) fn new(
        core: &Core,
        recv: RecvStream,
        send: SendResponse<SendPiece>,
        queue: Rc<StreamQueue>,
    ) -> Http2Stream {
        let send = RefCell::new(Sending::Head(send));
        Http2Stream {
            core: core.clone(),
            recv: RefCell::new(recv),
            send,
            queue,
            is_given_up: Cell::new(false),
            is_answered: Cell::new(false),
        }
    }

    /// Resets the stream, which shows the caller that the response is incomplete.
    pub fn abort(&self) {
        self.reset(Reason::INTERNAL_ERROR);
    }

    /// Resets the stream of a request that was not processed: the caller may retry it.
    pub fn refuse(&self) {
        self.reset(Reason::REFUSED_STREAM);
    }

    /// Whether the caller has reset it, or its connection has failed.
    #[must_use]
    pub fn was_given_up(&self) -> bool {
        !self.is_given_up.get() && self.poll_given_up(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// Its receiving half, if the whole response was queued and neither side has reset the stream.
    pub(super) fn into_answered(self) -> Option<RecvStream> {
        let is_whole = self.is_answered.get() && !self.is_given_up.get() && !self.was_given_up();
        is_whole.then(|| self.recv.into_inner())
    }

    /// Ready when the caller has reset the stream, or its connection has failed.
    pub(super) fn poll_given_up(&self, cx: &mut Context<'_>) -> Poll<StreamError> {
        let reset = match &mut *self.send.borrow_mut() {
            Sending::Head(send) => send.poll_reset(cx),
            Sending::Body(send) => send.poll_reset(cx),
        };
        reset.map(|_| StreamError::Reset)
    }

    /// The next bytes of the body; none after the last.
    pub(super) fn poll_data(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, StreamError>>> {
        self.recv.borrow_mut().poll_data(cx).map_err(of_h2)
    }

    /// The trailers after the body.
    pub(super) fn poll_trailers(&self, cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, StreamError>> {
        self.recv.borrow_mut().poll_trailers(cx).map_err(of_h2)
    }

    /// Opens the caller's window by `len` bytes.
    pub(super) fn release(&self, len: usize) {
        if len > 0 {
            // A stream that has ended has nothing to release.
            let _ = self.recv.borrow_mut().flow_control().release_capacity(len);
        }
    }

    /// Queues an interim response.
    pub(super) fn send_interim(&self, response: Response<()>) -> Result<(), StreamError> {
        match &mut *self.send.borrow_mut() {
            Sending::Head(send) => send.send_informational(response).map_err(of_h2),
            Sending::Body(_) => Err(StreamError::Closed),
        }
    }

    /// Queues the head of the response, which ends the response if `is_end`.
    pub(super) fn send_head(&self, response: Response<()>, is_end: bool) -> Result<(), StreamError> {
        let mut send = self.send.borrow_mut();
        let Sending::Head(head) = &mut *send else { return Err(StreamError::Closed) };
        *send = Sending::Body(head.send_response(response, is_end).map_err(of_h2)?);
        self.is_answered.set(is_end);
        Ok(())
    }

    /// Ready with how many of `len` bytes the caller's windows allow, at least one.
    pub(super) fn poll_capacity(&self, len: usize, cx: &mut Context<'_>) -> Poll<Result<usize, StreamError>> {
        let mut send = self.send.borrow_mut();
        let Sending::Body(send) = &mut *send else { return Poll::Ready(Err(StreamError::Closed)) };
        send.reserve_capacity(len);
        match send.capacity() {
            0 => {}
            capacity => return Poll::Ready(Ok(capacity.min(len))),
        }
        match send.poll_capacity(cx) {
            Poll::Ready(Some(Ok(capacity))) => Poll::Ready(Ok(capacity.min(len))),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(of_h2(error))),
            Poll::Ready(None) => Poll::Ready(Err(StreamError::Reset)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Queues a piece of the response's body.
    pub(super) fn send_data(&self, content: Content, is_end: bool) -> Result<(), StreamError> {
        let Sending::Body(send) = &mut *self.send.borrow_mut() else { return Err(StreamError::Closed) };
        send.send_data(SendPiece::new(content, &self.queue), is_end).map_err(of_h2)?;
        self.is_answered.set(is_end);
        Ok(())
    }

    /// Queues the trailers, which end the response.
    pub(super) fn send_trailers(&self, trailers: HeaderMap) -> Result<(), StreamError> {
        let Sending::Body(send) = &mut *self.send.borrow_mut() else { return Err(StreamError::Closed) };
        send.send_trailers(trailers).map_err(of_h2)?;
        self.is_answered.set(true);
        Ok(())
    }

    /// Ready when the connection has room for another piece, of `len` bytes if that is known.
    pub(super) fn poll_room(&self, len: Option<usize>, cx: &Context<'_>) -> Poll<()> {
        self.queue.poll_room(len, cx)
    }

    /// Announces that the body of the response comes in large pieces.
    pub(super) fn expect_bulk(&self) {
        self.queue.expect_bulk();
    }

    /// Ready when the whole response was given to the connection, or sending has failed.
    pub fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        if self.queue.poll_flushed(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        self.poll_given_up(cx).map(Err)
    }

    fn reset(&self, reason: Reason) {
        if self.was_given_up() {
            return;
        }
        self.is_given_up.set(true);
        match &mut *self.send.borrow_mut() {
            Sending::Head(send) => send.send_reset(reason),
            Sending::Body(send) => send.send_reset(reason),
        }
    }
}

impl PeerProgress for Http2Stream {
    fn core(&self) -> &Core {
        &self.core
    }

    fn sent_bytes(&self) -> u64 {
        self.queue.sent_bytes()
    }

    /// Bytes are given to the stream only when the caller's window has room.
    fn acked_bytes(&self) -> u64 {
        self.queue.sent_bytes()
    }

    fn has_queued(&self) -> bool {
        self.queue.has_queued()
    }
}

/// After any error the stream is unusable.
fn of_h2(error: h2::Error) -> StreamError {
    match error.get_io() {
        Some(error) => StreamError::from(error),
        None => StreamError::Reset,
    }
}
