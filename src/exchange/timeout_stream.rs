use std::cell::RefCell;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::base::{Clock, Time};
use crate::engine::{ByteStream, Lease, StreamError, Timer};
use crate::tls::Connection;

/// How long a peer may make no progress once its exchange delays the end of a process, if its limit is longer.
pub const DRAIN_STALL_MAX: Duration = Duration::from_secs(5);

/// The state of an exchange, apart from the peer that is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExchangeState {
    /// It may take as long as its peers make progress.
    Running,
    /// A process that is to end waits for it: a peer that makes no progress has less time.
    Draining,
    /// It has ended on its other side.
    Ended(StreamError),
}

/// How often the progress of a peer is checked: at least twice within [`DRAIN_STALL_MAX`], and within the time that readers have
/// when a link is clogged (`slow_reader_ms` of `wire::mux`).
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A connection with a limit for the progress of its peer: while something waits to be sent to the peer, or the peer owes more of
/// a body, some bytes must move within the limit.
///
/// A wait for the peer ends with [`StreamError::TimedOut`] when the limit has passed without any progress, and with the error of
/// [`ExchangeState::Ended`] when the exchange has ended on its other side. Otherwise a peer that has stopped reading would keep
/// the call, and all the buffers that it holds, after the reason for it is gone.
///
/// One serves both directions of an exchange: progress in either counts.
pub struct TimeoutStream<'a, C> {
    connection: &'a Connection,
    limit: &'a Duration,
    state: C,
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

impl<'a, C: Fn(u64, &mut Context<'_>) -> ExchangeState> TimeoutStream<'a, C> {
    /// Limits each wait on `connection` to `limit` without progress. `state` is called while the peer is waited for, and wakes the
    /// task when the exchange has ended. Its argument is the number of bytes that the peer has accepted since the last check;
    /// `u64::MAX` if the exchange does not wait for the peer.
    pub fn new(connection: &'a Connection, limit: &'a Duration, state: C) -> TimeoutStream<'a, C> {
        TimeoutStream { connection, limit, state, stall: RefCell::new(None) }
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
            let limit = match (self.state)(taken, cx) {
                ExchangeState::Ended(error) => return Poll::Ready(error),
                ExchangeState::Draining => DRAIN_STALL_MAX.min(*self.limit),
                ExchangeState::Running => *self.limit,
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

impl<C: Fn(u64, &mut Context<'_>) -> ExchangeState> ByteStream for TimeoutStream<'_, C> {
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
