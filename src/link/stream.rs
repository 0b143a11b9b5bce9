use std::future::poll_fn;
use std::task::{Context, Poll};

use crate::base::Time;
use crate::engine::{ByteStream, Lease, StreamError};
use crate::link::Link;
use crate::wire::mux::{self, Cause, HEADER_LEN, Phases, StreamId};

/// One stream on a link. Dropped before both sides have finished, it is reset; after that, what is queued still goes out.
pub struct LinkStream {
    link: Link,
    id: StreamId,
    place: usize,
}

impl LinkStream {
    pub(super) fn new(link: Link, id: StreamId, place: usize) -> LinkStream {
        LinkStream { link, id, place }
    }

    /// The link that it is on.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// For which hostname the edge opened it, and the edge's number for the call.
    #[must_use]
    pub fn opening<T>(&self, look: impl FnOnce(mux::Open<'_>) -> T) -> Option<T> {
        self.link.mux().borrow().opening(self.id).map(look)
    }

    /// What the connector last reported of the call's time, ahead of the bytes that were received since.
    #[must_use]
    pub fn phases(&self) -> Option<Phases> {
        self.link.streams().borrow_mut().at(self.place).phases
    }

    /// Forgets what was reported: the stream carries another call.
    pub fn forget_phases(&self) {
        self.link.streams().borrow_mut().at(self.place).phases = None;
    }

    /// At the connector: reports the call's time, behind the bytes that are queued so far.
    ///
    /// # Errors
    ///
    /// When the stream is gone, or the stage was reported before.
    pub fn send_phases(&self, phases: Phases) -> Result<(), mux::StreamError> {
        let sent = self.link.mux().borrow_mut().phases(self.id, phases);
        self.link.kick();
        sent
    }

    /// When the first of the bytes that wait to be read came in, or the last that were read.
    #[must_use]
    pub fn received_at(&self) -> Time {
        self.link.streams().borrow_mut().at(self.place).received_at()
    }

    /// Breaks the stream off with a cause that the other side sees.
    pub fn reset(&self, cause: Cause) {
        self.link.mux().borrow_mut().reset(self.id, cause);
        self.link.streams().borrow_mut().at(self.place).reset(cause);
        self.link.kick();
    }

    /// Waits until the other side has reset the stream, or it ended with its link; also after the other side's last byte.
    #[cfg(feature = "internals")]
    pub async fn broken(&self) -> Cause {
        poll_fn(|cx| self.poll_broken(cx)).await
    }

    /// Ready with the cause once the other side has reset the stream, or the link has ended.
    pub fn poll_broken(&self, cx: &mut Context<'_>) -> Poll<Cause> {
        self.link.streams().borrow_mut().at(self.place).poll_broken(cx)
    }

    /// The error of a stream that has been broken off in a way that nothing can come of the exchange any more: before its last
    /// byte came, or because what has come is not read. Wakes the task when that happens.
    #[must_use]
    pub fn failure(&self, cx: &mut Context<'_>) -> Option<StreamError> {
        match self.poll_broken(cx) {
            Poll::Ready(cause) if cause == Cause::SlowReader || !self.is_finished() => {
                Some(StreamError::ResetWith { code: cause.code() })
            }
            _ => None,
        }
    }

    /// Whether its link is to end and waits for what the other side has still to say on it.
    #[must_use]
    pub fn holds_up_drain(&self) -> bool {
        self.link.is_draining() && !self.is_finished()
    }

    fn is_finished(&self) -> bool {
        self.link.streams().borrow_mut().at(self.place).is_finished()
    }
}

impl ByteStream for LinkStream {
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
        let received = self.link.streams().borrow_mut().at(self.place).poll_recv(cx);
        if let Poll::Ready(Ok(Some(lease))) = &received {
            self.link.mux().borrow_mut().consumed(self.id, lease.len());
            self.link.kick();
        }
        received
    }

    fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.link.streams().borrow_mut().at(self.place).poll_ended(cx)
    }

    fn send(&self, lease: Lease) -> Result<(), StreamError> {
        if lease.is_empty() {
            return Ok(());
        }
        let sent = self.link.mux().borrow_mut().send(self.id, lease);
        self.link.kick();
        sent.map_err(|refused| match refused.error {
            mux::StreamError::Gone => self.error(),
            _ => StreamError::Closed,
        })
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        let mut streams = self.link.streams().borrow_mut();
        let state = streams.at(self.place);
        if let Some(error) = state.error() {
            return Poll::Ready(Err(error));
        }
        if self.link.mux().borrow_mut().capacity(self.id, self.link.allowance()) > 0 {
            return Poll::Ready(Ok(()));
        }
        state.wait_to_send(cx);
        Poll::Pending
    }

    fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        let mut streams = self.link.streams().borrow_mut();
        let state = streams.at(self.place);
        if let Some(error) = state.error() {
            return Poll::Ready(Err(error));
        }
        if self.link.mux().borrow().is_sent(self.id) {
            return Poll::Ready(Ok(()));
        }
        state.wait_to_send(cx);
        self.link.wake_when_sent(cx);
        Poll::Pending
    }

    fn poll_send_failed(&self, cx: &mut Context<'_>) -> Poll<StreamError> {
        let mut streams = self.link.streams().borrow_mut();
        let state = streams.at(self.place);
        if let Some(error) = state.error() {
            return Poll::Ready(error);
        }
        state.wait_to_send(cx);
        Poll::Pending
    }

    fn finish(&self) {
        // A stream that is gone, or was finished before, needs no end.
        let _ = self.link.mux().borrow_mut().finish(self.id);
        self.link.kick();
    }

    fn abort(&self) {
        self.reset(Cause::NotNeeded);
    }

    fn headroom(&self) -> usize {
        self.link.headroom() + HEADER_LEN
    }

    fn tailroom(&self) -> usize {
        self.link.tailroom()
    }
}

impl LinkStream {
    fn error(&self) -> StreamError {
        self.link.streams().borrow_mut().at(self.place).error().unwrap_or(StreamError::Closed)
    }
}

impl Drop for LinkStream {
    fn drop(&mut self) {
        // What was received and not read is given back with it.
        self.link.mux().borrow_mut().let_go(self.id, Cause::NotNeeded);
        self.link.streams().borrow_mut().remove(self.place);
        self.link.kick();
        self.link.stream_dropped();
    }
}
