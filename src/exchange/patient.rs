use std::cell::RefCell;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::base::Clock;
use crate::engine::{ByteStream, Lease, StreamError, Timer};
use crate::tls::Connection;

/// A connection whose peer may not stand still: for as long as something waits to be sent to it, or it owes more of a body,
/// bytes must move within a limit of time.
///
/// A wait for the peer ends with [`StreamError::TimedOut`] when the limit has passed without any progress, and with whatever
/// `ended` gives when the exchange has come to an end on its other side: otherwise a peer that has stopped reading would
/// keep the call, and all the buffers that it holds, after the reason for it is gone.
///
/// One serves both directions of an exchange: progress in either counts.
pub struct Patient<'a, E> {
    connection: &'a Connection,
    limit: &'a Duration,
    ended: E,
    stall: RefCell<Option<Stall>>,
}

/// Since the peer was first waited for.
struct Stall {
    timer: Timer,
    /// What the system had taken of what is sent when the timer was set; [`MOVED`] when the peer did since what it was waited for.
    sent_bytes: u64,
}

/// More than any connection sends.
const MOVED: u64 = u64::MAX;

impl<'a, E: Fn(&mut Context<'_>) -> Option<StreamError>> Patient<'a, E> {
    /// Watches `connection` with a limit of `limit` for each wait. `ended` is asked while the peer is waited for, and sees to it
    /// that the task is woken when its answer changes.
    pub fn new(connection: &'a Connection, limit: &'a Duration, ended: E) -> Patient<'a, E> {
        Patient { connection, limit, ended, stall: RefCell::new(None) }
    }

    /// What ends a wait for the peer, if something does now.
    fn poll_give_up(&self, cx: &mut Context<'_>) -> Poll<StreamError> {
        if let Some(error) = (self.ended)(cx) {
            return Poll::Ready(error);
        }
        let (core, sent_bytes) = (self.connection.core(), self.connection.sent_bytes());
        let mut stall = self.stall.borrow_mut();
        let stall = stall.get_or_insert_with(|| Stall { timer: core.sleep(*self.limit), sent_bytes });
        while stall.timer.poll_elapsed(cx).is_ready() {
            if std::mem::replace(&mut stall.sent_bytes, sent_bytes) == sent_bytes {
                return Poll::Ready(StreamError::TimedOut);
            }
            stall.timer.set(core.now() + *self.limit);
        }
        Poll::Pending
    }

    fn moved(&self) {
        if let Some(stall) = &mut *self.stall.borrow_mut() {
            stall.sent_bytes = MOVED;
        }
    }

    fn or_give_up(&self, waited: Poll<Result<(), StreamError>>, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        if waited.is_pending() {
            return self.poll_give_up(cx).map(Err);
        }
        self.moved();
        waited
    }
}

impl<E: Fn(&mut Context<'_>) -> Option<StreamError>> ByteStream for Patient<'_, E> {
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
        let received = self.connection.poll_recv(cx);
        if received.is_pending() {
            return self.poll_give_up(cx).map(Err);
        }
        self.moved();
        received
    }

    fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.connection.poll_ended(cx)
    }

    fn send(&self, lease: Lease) -> Result<(), StreamError> {
        self.connection.send(lease)
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.or_give_up(self.connection.poll_ready(cx), cx)
    }

    fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.or_give_up(self.connection.poll_flushed(cx), cx)
    }

    fn finish(&self) {
        self.connection.finish();
    }

    fn abort(&self) {
        self.connection.abort();
    }

    fn expect_more(&self) {
        self.connection.expect_more();
    }

    fn headroom(&self) -> usize {
        self.connection.headroom()
    }

    fn tailroom(&self) -> usize {
        self.connection.tailroom()
    }
}
