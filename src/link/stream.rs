use std::future::poll_fn;
use std::task::{Context, Poll};

use crate::base::{Time, Traffic};
use crate::engine::{ByteStream, Lease, StreamError};
use crate::link::Link;
use crate::wire::mux::{self, Cause, HEADER_LEN, Phases, StreamId, Withdrawal};

/// A stream on a link. If it is dropped before both sides have finished, it is reset; after that, queued bytes are
/// still sent.
pub struct LinkStream {
    link: Link,
    id: StreamId,
    place: u32,
    _tags: TagSpace,
}

/// A byte with one valid value. The others are left for the tags of the enums that contain a stream, so that the tasks
/// which hold these do not grow.
#[derive(Clone, Copy)]
#[repr(u8)]
enum TagSpace {
    Stream = 0,
}

impl LinkStream {
    pub(super) fn new(link: Link, id: StreamId, place: usize) -> LinkStream {
        let place = u32::try_from(place).expect("the ids of the streams of a link are 32 bits long");
        LinkStream { link, id, place, _tags: TagSpace::Stream }
    }

    fn place(&self) -> usize {
        self.place as usize
    }

    /// The link that carries the stream.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The parameters with which the edge opened the stream: host name, call number and kind of traffic.
    #[must_use]
    pub fn opening<T>(&self, look: impl FnOnce(mux::Open<'_>) -> T) -> Option<T> {
        self.link.mux().borrow().opening(self.id).map(look)
    }

    /// The number and traffic of the call; cheaper than [`LinkStream::opening`], which parses its texts.
    #[must_use]
    pub fn call(&self) -> Option<(u64, Traffic)> {
        self.link.mux().borrow().call(self.id)
    }

    /// The end of the call's time, on the clock of this side, if it is limited and the peer knows it.
    #[must_use]
    pub fn until(&self) -> Option<Time> {
        self.link.mux().borrow().until(self.id)
    }

    /// The connector's last report of the call's times. It was sent before the bytes that were received since.
    #[must_use]
    pub fn phases(&self) -> Option<Phases> {
        self.link.streams().borrow_mut().at(self.place()).phases
    }

    /// Drops the report, because the stream now carries another call.
    pub fn forget_phases(&self) {
        self.link.streams().borrow_mut().at(self.place()).phases = None;
    }

    /// At the connector: reports the call's times, after the bytes that are already queued.
    ///
    /// # Errors
    ///
    /// If the stream is gone, or this stage was reported before.
    pub fn send_phases(&self, phases: Phases) -> Result<(), mux::StreamCommandError> {
        let sent = self.link.mux().borrow_mut().phases(self.id, phases);
        self.link.wake_transmitter();
        sent
    }

    /// When the first unread byte arrived; without unread bytes, when the last ones arrived.
    #[must_use]
    pub fn received_at(&self) -> Time {
        self.link.streams().borrow_mut().at(self.place()).received_at()
    }

    /// Resets the stream with a cause, which is sent to the peer.
    pub fn reset(&self, cause: Cause) {
        self.link.mux().borrow_mut().reset(self.id, cause);
        self.link.streams().borrow_mut().at(self.place()).reset(cause);
        self.link.wake_transmitter();
    }

    /// At the edge: sets whether the stream may be [withdrawn](Link::withdraw).
    pub fn set_withdrawal(&self, withdrawal: Withdrawal) {
        self.link.mux().borrow_mut().set_withdrawal(self.id, withdrawal);
    }

    /// Whether the stream was withdrawn.
    #[must_use]
    pub fn is_withdrawn(&self) -> bool {
        self.link.streams().borrow_mut().at(self.place()).is_withdrawn()
    }

    /// Waits until the other side has reset the stream or the link has ended, even after the other side's last byte.
    #[cfg(feature = "internals")]
    pub async fn broken(&self) -> Cause {
        poll_fn(|cx| self.poll_broken(cx)).await
    }

    /// Ready when the other side has reset the stream, or it ended with its link; even after the other side's last
    /// byte.
    pub fn poll_broken(&self, cx: &mut Context<'_>) -> Poll<Cause> {
        self.link.streams().borrow_mut().at(self.place()).poll_broken(cx)
    }

    /// Why the stream was reset, by either side or with its link, if it was.
    #[must_use]
    pub fn reset_cause(&self) -> Option<Cause> {
        self.link.streams().borrow_mut().at(self.place()).reset_cause()
    }

    /// The error of a reset stream whose exchange cannot succeed: it was reset before its last byte arrived, or because
    /// received bytes were not read for too long. Otherwise wakes the task when that happens.
    #[must_use]
    pub fn failure(&self, cx: &mut Context<'_>) -> Option<StreamError> {
        match self.poll_broken(cx) {
            Poll::Ready(cause) if cause == Cause::SlowReader || !self.is_finished() => {
                Some(StreamError::ResetWith { failure: cause.into() })
            }
            _ => None,
        }
    }

    /// Reports that the reader of the received bytes has accepted `n` of the queued bytes. A stream whose reader
    /// accepts nothing is reset when it fills up the link's window.
    pub fn reader_took(&self, n: u64) {
        if n > 0 {
            self.link.mux().borrow_mut().reader_took(self.id, n);
        }
    }

    /// Whether the link is draining and waits for bytes that the other side still has to send on this stream.
    #[must_use]
    pub fn holds_up_drain(&self) -> bool {
        self.link.is_draining() && !self.is_finished()
    }

    fn is_finished(&self) -> bool {
        self.link.streams().borrow_mut().at(self.place()).is_finished()
    }
}

impl ByteStream for LinkStream {
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
        let received = self.link.streams().borrow_mut().at(self.place()).poll_recv(cx);
        if let Poll::Ready(Ok(Some(lease))) = &received {
            self.link.mux().borrow_mut().consumed(self.id, lease.len());
            self.link.wake_transmitter();
        }
        received
    }

    fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.link.streams().borrow_mut().at(self.place()).poll_ended(cx)
    }

    fn send(&self, lease: Lease) -> Result<(), StreamError> {
        if lease.is_empty() {
            return Ok(());
        }
        let sent = self.link.mux().borrow_mut().send(self.id, lease);
        self.link.wake_transmitter();
        sent.map_err(|refused| match refused.error {
            mux::StreamCommandError::Gone => self.error(),
            _ => StreamError::Closed,
        })
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        let mut streams = self.link.streams().borrow_mut();
        let state = streams.at(self.place());
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
        let state = streams.at(self.place());
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
        let state = streams.at(self.place());
        if let Some(error) = state.error() {
            return Poll::Ready(error);
        }
        state.wait_to_send(cx);
        Poll::Pending
    }

    fn finish(&self) {
        // An error means that the stream is gone or already finished.
        let _ = self.link.mux().borrow_mut().finish(self.id);
        self.link.wake_transmitter();
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
        self.link.streams().borrow_mut().at(self.place()).error().unwrap_or(StreamError::Closed)
    }
}

impl Drop for LinkStream {
    fn drop(&mut self) {
        // This also returns the credit of bytes that were received and not read.
        self.link.mux().borrow_mut().release_stream(self.id, Cause::NotNeeded);
        self.link.streams().borrow_mut().remove(self.place());
        self.link.wake_transmitter();
        self.link.stream_dropped();
    }
}
