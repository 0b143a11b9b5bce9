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

/// How often a peer that is waited for is looked at: at least twice within [`DRAIN_STALL_MAX`], and within the time that readers
/// have when a link is clogged (`slow_reader_ms` of `wire::mux`).
const LOOK_EVERY: Duration = Duration::from_secs(2);

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
    /// Whether it did since it was last looked at, by what it was waited for.
    moved: bool,
    /// What the system had taken of what is sent, when the peer was last looked at.
    sent_bytes: u64,
    /// What the peer's system had acknowledged of it; unknown before the first look. A slow reader takes from the system long
    /// before the system takes more from us.
    acked_bytes: Option<u64>,
}

/// What an exchange waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WaitsFor {
    Peer,
    /// A buffer: it is not the peer that stands still.
    Buffer,
}

impl Stall {
    /// Looks at the peer; returns how many bytes it has taken since the last look.
    fn look(&mut self, connection: &Connection, waits_for: WaitsFor) -> u64 {
        let (sent_bytes, acked_bytes) = (connection.sent_bytes(), connection.acked_bytes());
        let sent = sent_bytes.saturating_sub(std::mem::replace(&mut self.sent_bytes, sent_bytes));
        let taken = self.acked_bytes.replace(acked_bytes).map_or(0, |before| acked_bytes.saturating_sub(before));
        let is_idle = waits_for == WaitsFor::Buffer;
        if std::mem::take(&mut self.moved) || sent.max(taken) > 0 || is_idle {
            self.since = connection.core().now();
        }
        if is_idle { u64::MAX } else { sent.max(taken) }
    }
}

impl<'a, C: Fn(u64, &mut Context<'_>) -> Course> Patient<'a, C> {
    /// Watches `connection` with a limit of `limit` for each wait. `course` is asked while the peer is waited for, and sees to
    /// it that the task is woken when the exchange is over. It is told how many bytes the peer has taken since it was asked
    /// before, as far as that was looked at; all that there are, if it is not the peer that keeps the exchange from going on.
    pub fn new(connection: &'a Connection, limit: &'a Duration, course: C) -> Patient<'a, C> {
        Patient { connection, limit, course, stall: RefCell::new(None) }
    }

    /// What ends a wait, if something does now.
    fn poll_give_up(&self, waits_for: WaitsFor, cx: &mut Context<'_>) -> Poll<StreamError> {
        let (core, look_every) = (self.connection.core(), LOOK_EVERY.min(*self.limit / 2));
        let mut stall = self.stall.borrow_mut();
        let stall = stall.get_or_insert_with(|| Stall {
            timer: core.sleep(look_every),
            since: core.now(),
            moved: false,
            sent_bytes: self.connection.sent_bytes(),
            acked_bytes: None,
        });
        loop {
            let looks = stall.timer.poll_elapsed(cx).is_ready();
            let taken = if looks { stall.look(self.connection, waits_for) } else { 0 };
            let limit = match (self.course)(taken, cx) {
                Course::Over(error) => return Poll::Ready(error),
                Course::Draining => DRAIN_STALL_MAX.min(*self.limit),
                Course::Open => *self.limit,
            };
            if !looks {
                return Poll::Pending;
            }
            let now = core.now();
            if now >= stall.since + limit {
                return Poll::Ready(StreamError::TimedOut);
            }
            stall.timer.set((stall.since + limit).min(now + look_every));
        }
    }

    fn moved(&self) {
        if let Some(stall) = &mut *self.stall.borrow_mut() {
            stall.moved = true;
        }
    }

    fn or_give_up(&self, waited: Poll<Result<(), StreamError>>, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        if waited.is_pending() {
            return self.poll_give_up(WaitsFor::Peer, cx).map(Err);
        }
        self.moved();
        waited
    }
}

impl<C: Fn(u64, &mut Context<'_>) -> Course> ByteStream for Patient<'_, C> {
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
        let received = self.connection.poll_recv(cx);
        if received.is_pending() {
            return self.poll_give_up(WaitsFor::Peer, cx).map(Err);
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
        self.poll_give_up(if self.connection.has_queued() { WaitsFor::Peer } else { WaitsFor::Buffer }, cx)
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
