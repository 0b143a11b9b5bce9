use std::cell::RefCell;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::base::{Clock, Time};
use crate::engine::{ByteStream, Core, Lease, StreamError, Timer};
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

/// What carries an exchange, as far as it tells whether its peer moves.
pub trait PeerProgress {
    /// The core that serves it.
    fn core(&self) -> &Core;

    /// How many bytes of what is sent the system has taken.
    fn sent_bytes(&self) -> u64;

    /// How many bytes of it the peer's system has acknowledged, as far as that is known.
    fn acked_bytes(&self) -> u64;

    /// Whether bytes wait to be given to the system.
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

/// Stands for a number of acknowledged bytes that is not known.
const UNKNOWN: u64 = u64::MAX;

/// A connection with a limit for the progress of its peer: while something waits to be sent to the peer, or the peer owes more of
/// a body, some bytes must move within the limit.
///
/// A wait for the peer ends with [`StreamError::TimedOut`] when the limit has passed without any progress, and with the error of
/// [`ExchangeState::Ended`] when the exchange has ended on its other side. Otherwise a peer that has stopped reading would keep
/// the call, and all the buffers that it holds, after the reason for it is gone.
///
/// One serves both directions of an exchange: progress in either counts.
pub struct TimeoutStream<'a, S, C> {
    connection: &'a S,
    limit: &'a Duration,
    state: C,
    /// What the system had taken before the exchange.
    sent_before: u64,
    watch: RefCell<Watch>,
}

/// What is looked for at intervals.
enum Watch {
    /// The peer has not been waited for yet.
    Nothing,
    /// Whether the peer's system acknowledges any of what is sent.
    Acknowledgement(Timer),
    /// The peer's system has acknowledged a part of what was sent.
    Acknowledged,
    /// Whether the peer stands still.
    Stall(Stall),
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
    /// What the peer's system had acknowledged of it; [`UNKNOWN`] before the first look. A slow reader takes from the system
    /// long before the system takes more from us.
    acked_bytes: u64,
}

/// What an exchange waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum WaitsFor {
    /// The peer, which sends or takes nothing.
    Peer,
    /// A buffer: it is not the peer that stands still.
    Buffer,
}

impl Stall {
    /// Looks at the peer; returns how many bytes it has taken since the last look.
    fn look(&mut self, connection: &impl PeerProgress, waits_for: WaitsFor) -> u64 {
        let (sent_bytes, acked_bytes) = (connection.sent_bytes(), connection.acked_bytes());
        let sent = sent_bytes.saturating_sub(std::mem::replace(&mut self.sent_bytes, sent_bytes));
        // Of what was unknown, the difference is none.
        let taken = acked_bytes.saturating_sub(std::mem::replace(&mut self.acked_bytes, acked_bytes));
        let is_idle = waits_for == WaitsFor::Buffer;
        if std::mem::take(&mut self.moved) || sent.max(taken) > 0 || is_idle {
            self.since = connection.core().now();
        }
        if is_idle { u64::MAX } else { sent.max(taken) }
    }
}

impl<'a, S: PeerProgress, C: Fn(u64, &mut Context<'_>) -> ExchangeState> TimeoutStream<'a, S, C> {
    /// Limits each wait on `connection` to `limit` without progress. `state` is called while the peer is waited for, and wakes the
    /// task when the exchange has ended. Its argument is the number of bytes that the peer has accepted since the last check;
    /// `u64::MAX` if the exchange does not wait for the peer.
    pub fn new(connection: &'a S, limit: &'a Duration, state: C) -> TimeoutStream<'a, S, C> {
        let sent_before = connection.sent_bytes();
        TimeoutStream { connection, limit, state, sent_before, watch: RefCell::new(Watch::Nothing) }
    }

    /// What ends a wait, if something does now.
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

    /// The result of a wait for the peer, or what ends it.
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
    /// The next bytes of the peer's answer, for which it may take any time. [`StreamError::TimedOut`] if its system has
    /// acknowledged nothing of what was sent within this time, so that it is most likely gone.
    fn poll_answer(&self, within: Duration, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
        let received = self.connection.poll_recv(cx);
        if received.is_ready() {
            return received;
        }
        let mut watch = self.watch.borrow_mut();
        if matches!(*watch, Watch::Nothing) {
            let core = self.connection.core();
            // Every call comes here: the time of the turn saves a look at the clock.
            *watch = Watch::Acknowledgement(core.sleep_until(core.turn_time() + within));
        }
        // A peer that is waited for in sending is looked at there.
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

/// A connection to a peer that is asked, and answers. What waits to be sent is limited as by [`TimeoutStream`]; for an answer it may
/// take any time, as long as its system is there.
pub struct AnsweringStream<'a, S, C> {
    patient: TimeoutStream<'a, S, C>,
    acknowledged_within: Duration,
}

impl<'a, S, C: Fn(u64, &mut Context<'_>) -> ExchangeState> AnsweringStream<'a, S, C> {
    /// The peer behind `patient`, whose system is to acknowledge some of what it is sent within a time, before a wait for the
    /// peer's answer ends. One that is up does so within its round-trip time, however long the peer takes. With no time its
    /// system is not waited for: on a Unix socket, nobody but the peer itself takes what is sent, and a connection that others
    /// share is looked after as a whole.
    pub fn new(patient: TimeoutStream<'a, S, C>, acknowledged_within: Option<Duration>) -> AnsweringStream<'a, S, C> {
        if acknowledged_within.is_none() {
            patient.watch.replace(Watch::Acknowledged);
        }
        AnsweringStream { patient, acknowledged_within: acknowledged_within.unwrap_or_default() }
    }

    /// How many bytes the system had taken before the exchange.
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
