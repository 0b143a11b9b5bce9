use std::cell::RefCell;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::base::{Clock, Time};
use crate::engine::{ByteStream, Core, Lease, StreamError, Timer};
use crate::tls::Connection;

/// The most time that a peer may make no progress while a process that is shutting down waits for its exchange.
pub const DRAIN_STALL_MAX: Duration = Duration::from_secs(5);

/// The state of an exchange, independent of the peer that it waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExchangeState {
    /// The exchange may go on as long as its peers make progress.
    Running,
    /// The process is shutting down and waits for the exchange, so a peer that makes no progress has less time.
    Draining,
    /// The exchange has ended on its other side.
    Ended(StreamError),
}

/// How often a peer's progress is checked: at least twice within [`DRAIN_STALL_MAX`], and within the time that readers
/// have when a link is clogged (`slow_reader_ms` of `wire::mux`).
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A connection that shows whether its peer makes progress.
pub trait PeerProgress {
    /// The core that serves the connection.
    fn core(&self) -> &Core;

    /// How many of the bytes that were sent the system has accepted.
    fn sent_bytes(&self) -> u64;

    /// How many of those bytes the peer's system has acknowledged, as far as this is known.
    fn acked_bytes(&self) -> u64;

    /// Whether bytes are queued that the system has not accepted yet.
    fn has_queued(&self) -> bool;
}

impl PeerProgress for Connection {
    fn core(&self) -> &Core {
        self.core()
    }

    fn sent_bytes(&self) -> u64 {
        self.sent_bytes()
    }

    fn acked_bytes(&self) -> u64 {
        self.acked_bytes()
    }

    fn has_queued(&self) -> bool {
        self.has_queued()
    }
}

/// Stands for an unknown number of acknowledged bytes.
const UNKNOWN: u64 = u64::MAX;

/// A connection with a limit on how long its peer makes no progress. While bytes wait to be sent to the peer, or the
/// peer owes more of a body, some bytes must move within the limit.
///
/// A wait ends with [`StreamError::TimedOut`] when the limit has passed without progress, and with the error of
/// [`ExchangeState::Ended`] when the exchange has ended on its other side. Without this, a peer that stopped reading
/// would hold the call and all its buffers for no purpose.
///
/// One `TimeoutStream` serves both directions of an exchange; progress in either direction counts.
pub struct TimeoutStream<'a, S, C> {
    connection: &'a S,
    limit: &'a Duration,
    state: C,
    /// How many bytes the system had accepted before the exchange.
    sent_before: u64,
    watch: RefCell<Watch>,
}

/// What the timer of an exchange checks.
enum Watch {
    /// The peer has not been waited for yet.
    Nothing,
    /// Whether the peer's system acknowledges any of the bytes that were sent.
    Acknowledgement(Timer),
    /// The peer's system has acknowledged some bytes, so no check is needed.
    Acknowledged,
    /// Whether the peer makes progress.
    Stall(Stall),
}

/// The progress of a peer, from the first wait for it.
struct Stall {
    timer: Timer,
    /// When progress was last seen.
    since: Time,
    /// Whether a wait for the peer has completed since the last check.
    moved: bool,
    /// How many bytes the system had accepted at the last check.
    sent_bytes: u64,
    /// How many of them the peer's system had acknowledged; [`UNKNOWN`] before the first check. With a slow reader,
    /// acknowledgements show progress long before the local system accepts more bytes.
    acked_bytes: u64,
}

/// What an exchange waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum WaitsFor {
    /// The peer: it has to send, or to accept what was sent.
    Peer,
    /// A free buffer. The peer is not at fault.
    Buffer,
}

impl Stall {
    /// Checks the peer. Returns how many bytes it has accepted since the last check.
    fn look(&mut self, connection: &impl PeerProgress, waits_for: WaitsFor) -> u64 {
        let (sent_bytes, acked_bytes) = (connection.sent_bytes(), connection.acked_bytes());
        let sent = sent_bytes.saturating_sub(std::mem::replace(&mut self.sent_bytes, sent_bytes));
        // At the first check the old value is `UNKNOWN`, and the difference saturates to zero.
        let taken = acked_bytes.saturating_sub(std::mem::replace(&mut self.acked_bytes, acked_bytes));
        let is_idle = waits_for == WaitsFor::Buffer;
        if std::mem::take(&mut self.moved) || sent.max(taken) > 0 || is_idle {
            self.since = connection.core().now();
        }
        if is_idle { u64::MAX } else { sent.max(taken) }
    }
}

impl<'a, S: PeerProgress, C: Fn(u64, &mut Context<'_>) -> ExchangeState> TimeoutStream<'a, S, C> {
    /// Limits each wait on `connection` to `limit` without progress. `state` is called during a wait. It must arrange
    /// that the task is woken when the exchange ends. Its argument is the number of bytes that the peer has accepted
    /// since the last check, or `u64::MAX` if the exchange does not wait for the peer.
    pub fn new(connection: &'a S, limit: &'a Duration, state: C) -> TimeoutStream<'a, S, C> {
        let sent_before = connection.sent_bytes();
        TimeoutStream { connection, limit, state, sent_before, watch: RefCell::new(Watch::Nothing) }
    }

    /// The error that ends the wait, if the limit has passed or the exchange has ended.
    pub fn poll_give_up(&self, waits_for: WaitsFor, cx: &mut Context<'_>) -> Poll<StreamError> {
        let (core, look_every) = (self.connection.core(), LOOK_EVERY.min(*self.limit / 2));
        let mut watch = self.watch.borrow_mut();
        if !matches!(*watch, Watch::Stall(_)) {
            *watch = Watch::Stall(Stall {
                timer: core.sleep(look_every),
                since: core.now(),
                moved: false,
                sent_bytes: self.connection.sent_bytes(),
                acked_bytes: UNKNOWN,
            });
        }
        let Watch::Stall(stall) = &mut *watch else { return Poll::Pending };
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
        if let Watch::Stall(stall) = &mut *self.watch.borrow_mut() {
            stall.moved = true;
        }
    }

    /// Passes on the result of a wait for the peer; while it is pending, checks whether the wait must end.
    pub fn or_give_up<T>(
        &self,
        waited: Poll<Result<T, StreamError>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<T, StreamError>> {
        if waited.is_pending() {
            return self.poll_give_up(WaitsFor::Peer, cx).map(Err);
        }
        self.moved();
        waited
    }
}

impl<S: ByteStream + PeerProgress, C: Fn(u64, &mut Context<'_>) -> ExchangeState> TimeoutStream<'_, S, C> {
    /// Receives the next bytes of the peer's response, which may take any time. Fails with [`StreamError::TimedOut`] if
    /// the peer's system has acknowledged none of the sent bytes within `within`, because the peer is then most likely
    /// gone.
    fn poll_answer(&self, within: Duration, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
        let received = self.connection.poll_recv(cx);
        if received.is_ready() {
            return received;
        }
        let mut watch = self.watch.borrow_mut();
        if matches!(*watch, Watch::Nothing) {
            let core = self.connection.core();
            // Every call passes here. The time of the turn is good enough, and costs no clock read.
            *watch = Watch::Acknowledgement(core.sleep_until(core.turn_time() + within));
        }
        // Once a send had to wait for the peer, `poll_give_up` does the checks.
        let Watch::Acknowledgement(timer) = &mut *watch else { return Poll::Pending };
        if timer.poll_elapsed(cx).is_pending() {
            return Poll::Pending;
        }
        let is_sent = self.connection.sent_bytes() > self.sent_before;
        if is_sent && self.connection.acked_bytes() <= self.sent_before {
            return Poll::Ready(Err(StreamError::TimedOut));
        }
        *watch = Watch::Acknowledged;
        Poll::Pending
    }
}

/// A connection to a peer that responds to a request. Sending is limited as in [`TimeoutStream`]. The response may take
/// any time, as long as the peer's system is alive.
pub struct AnsweringStream<'a, S, C> {
    patient: TimeoutStream<'a, S, C>,
    acknowledged_within: Duration,
}

impl<'a, S, C: Fn(u64, &mut Context<'_>) -> ExchangeState> AnsweringStream<'a, S, C> {
    /// Requires the peer's system to acknowledge some of the sent bytes within `acknowledged_within`. A system that is
    /// up does so within a round trip, however long the peer takes to respond.
    ///
    /// `None` skips this check. It is for Unix sockets, where only the peer itself takes the bytes, and for connections
    /// that several calls share, which are checked as a whole.
    pub fn new(patient: TimeoutStream<'a, S, C>, acknowledged_within: Option<Duration>) -> AnsweringStream<'a, S, C> {
        if acknowledged_within.is_none() {
            patient.watch.replace(Watch::Acknowledged);
        }
        AnsweringStream { patient, acknowledged_within: acknowledged_within.unwrap_or_default() }
    }

    /// How many bytes the system had accepted before the exchange.
    pub fn sent_before(&self) -> u64 {
        self.patient.sent_before
    }
}

impl<S: ByteStream + PeerProgress, C: Fn(u64, &mut Context<'_>) -> ExchangeState> ByteStream
    for AnsweringStream<'_, S, C>
{
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
        self.patient.poll_answer(self.acknowledged_within, cx)
    }

    fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.patient.poll_ended(cx)
    }

    fn send(&self, lease: Lease) -> Result<(), StreamError> {
        self.patient.send(lease)
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.patient.poll_ready(cx)
    }

    fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.patient.poll_flushed(cx)
    }

    fn poll_send_failed(&self, cx: &mut Context<'_>) -> Poll<StreamError> {
        self.patient.poll_send_failed(cx)
    }

    fn finish(&self) {
        self.patient.finish();
    }

    fn abort(&self) {
        self.patient.abort();
    }

    fn has_partial(&self) -> bool {
        self.patient.connection.has_partial()
    }

    fn expect_more(&self) {
        self.patient.expect_more();
    }

    fn headroom(&self) -> usize {
        self.patient.headroom()
    }

    fn tailroom(&self) -> usize {
        self.patient.tailroom()
    }
}

impl<S: ByteStream + PeerProgress, C: Fn(u64, &mut Context<'_>) -> ExchangeState> ByteStream
    for TimeoutStream<'_, S, C>
{
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
        self.or_give_up(self.connection.poll_recv(cx), cx)
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

    /// During a wait for a buffer the peer is at fault only if bytes are queued that it does not accept.
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
