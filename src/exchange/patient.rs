use std::cell::RefCell;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::base::{Clock, Time};
use crate::engine::{ByteStream, Lease, StreamError, Timer};
use crate::tls::Connection;

/// How long a peer may stand still once its exchange holds up the end of a process, if it may for longer otherwise.
pub const DRAIN_STALL_MAX: Duration = Duration::from_secs(5);

/// How an exchange stands, apart from the peer that is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Course {
    /// It goes on for as long as it takes.
    Open,
    /// A process that is to end waits for it: a peer that stands still has less time.
    Draining,
    /// It has come to an end on its other side.
    Over(StreamError),
}

/// A connection whose peer may not stand still: for as long as something waits to be sent to it, or it owes more of a body,
/// bytes must move within a limit of time.
///
/// A wait for the peer ends with [`StreamError::TimedOut`] when the limit has passed without any progress, and with the error
/// of [`Course::Over`] when the exchange has come to an end on its other side: otherwise a peer that has stopped reading would
/// keep the call, and all the buffers that it holds, after the reason for it is gone.
///
/// One serves both directions of an exchange: progress in either counts.
pub struct Patient<'a, C> {
    connection: &'a Connection,
    limit: &'a Duration,
    course: C,
    stall: RefCell<Option<Stall>>,
}

/// Since the peer was first waited for.
struct Stall {
    timer: Timer,
    /// When the peer was last found to have moved.
    since: Time,
    /// What the system had taken of what is sent at that time; [`MOVED`] when the peer did since what it was waited for.
    sent_bytes: u64,
    /// What the peer's system had acknowledged of it, when that was last asked: a slow reader takes from the system long before the
    /// system takes more from us.
    taken_bytes: Option<u64>,
}

/// More than any connection sends.
const MOVED: u64 = u64::MAX;

impl<'a, C: Fn(&mut Context<'_>) -> Course> Patient<'a, C> {
    /// Watches `connection` with a limit of `limit` for each wait. `course` is asked while the peer is waited for, and sees to
    /// it that the task is woken when the exchange is over.
    pub fn new(connection: &'a Connection, limit: &'a Duration, course: C) -> Patient<'a, C> {
        Patient { connection, limit, course, stall: RefCell::new(None) }
    }

    /// What ends a wait for the peer, if something does now.
    fn poll_give_up(&self, cx: &mut Context<'_>) -> Poll<StreamError> {
        let draining = match (self.course)(cx) {
            Course::Over(error) => return Poll::Ready(error),
            course => course == Course::Draining,
        };
        let hurried = (*self.limit).min(DRAIN_STALL_MAX);
        let (core, sent_bytes) = (self.connection.core(), self.connection.sent_bytes());
        let mut stall = self.stall.borrow_mut();
        let stall = stall.get_or_insert_with(|| Stall {
            timer: core.sleep(hurried),
            since: core.now(),
            sent_bytes,
            taken_bytes: None,
        });
        while stall.timer.poll_elapsed(cx).is_ready() {
            let now = core.now();
            let taken_bytes = self.connection.taken_bytes();
            let took = stall.taken_bytes.replace(taken_bytes).is_some_and(|before| before != taken_bytes);
            if std::mem::replace(&mut stall.sent_bytes, sent_bytes) != sent_bytes || took {
                stall.since = now;
            }
            if now >= stall.since + if draining { hurried } else { *self.limit } {
                return Poll::Ready(StreamError::TimedOut);
            }
            // Looks often enough to see that a drain has begun.
            stall.timer.set((stall.since + *self.limit).min(now + hurried));
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

impl<C: Fn(&mut Context<'_>) -> Course> ByteStream for Patient<'_, C> {
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

    /// A wait for a buffer is none for the peer, unless something is queued that it does not take.
    fn poll_send_failed(&self, cx: &mut Context<'_>) -> Poll<StreamError> {
        if let Poll::Ready(error) = self.connection.poll_send_failed(cx) {
            return Poll::Ready(error);
        }
        if self.connection.has_queued() {
            return self.poll_give_up(cx);
        }
        self.moved();
        match (self.course)(cx) {
            Course::Over(error) => Poll::Ready(error),
            Course::Open | Course::Draining => Poll::Pending,
        }
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
