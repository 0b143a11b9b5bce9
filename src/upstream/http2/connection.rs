//! One HTTP/2 connection to a server, and its task.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use h2::client::{Builder, Connection as Client, SendRequest};
use h2::{Ping, PingPong, Reason};

use crate::base::{Budget, Clock, Share, Time};
use crate::engine::driver::Address;
use crate::engine::{ByteStream, Core, Signal};
use crate::http2::{AnswerWatch, ConnectionQueue, ExpectedAnswer, Io, SendPiece};
use crate::tls::Connection;
use crate::upstream::UpstreamError;
use crate::upstream::dialler::{Line, PROBED_AFTER};
use crate::upstream::fault_log::FaultLog;
use crate::upstream::http1_demand::Http1Demand;
use crate::upstream::http2::exchange::{Halves, Http2Exchange};
use crate::upstream::http2::silence::{Left, Moved, Silence, Verdict};
use crate::wire::http1::HEAD_LEN_MAX;
use crate::wire::http2::SMALL_FRAMES_TOTAL_MAX;

/// The most concurrent calls on one connection, if the server allows as many.
const STREAMS_MAX: usize = 100;
/// How much of one response is received ahead of the link, in bytes.
const STREAM_WINDOW: u32 = 64 * 1024 - 1;
/// The smallest window of a stream, used when memory for windows is scarce, in bytes.
const STREAM_WINDOW_MIN: u32 = 4 * 1024;
/// How much of all responses on one connection is received ahead, in bytes. The first value is large enough that unread
/// streams never block others. The other values are used when memory for windows is scarce.
const WINDOWS: [u32; 3] = [STREAM_WINDOW * STREAMS_MAX as u32, 1024 * 1024, 256 * 1024];
/// The smallest window that a connection can have (RFC 9113, section 6.9.2), in bytes.
pub(super) const WINDOW_MIN: u32 = 64 * 1024 - 1;
/// How many streams share a small window before an unread one can block another.
const STREAMS_PER_WINDOW: u32 = 16;
/// How much of one request `h2` may buffer ahead of the connection, in bytes.
const SEND_BUFFER_LEN: usize = 64 * 1024;
/// How many streams that this side has reset are remembered, and for how long, because the server may not know of the
/// reset yet.
const RESETS_REMEMBERED: usize = STREAMS_MAX;
const RESET_REMEMBERED_FOR: Duration = Duration::from_secs(5);
/// How much memory bodies may need for frames with little content before `h2` ends the connection, in bytes. The
/// streams that need most are reset before that ([`ServerFrames::flood`]). The rest is for what arrives in one read.
const SMALL_FRAMES_BUDGET: usize = SMALL_FRAMES_TOTAL_MAX + 2 * 1024 * 1024;

/// The time limits of a connection.
#[derive(Clone, Copy)]
pub(in crate::upstream) struct Http2Terms {
    /// How long it may be without a call.
    pub(in crate::upstream) idle_timeout: Duration,
    /// How long its host may acknowledge nothing while calls wait.
    pub(in crate::upstream) acknowledged_within: Duration,
    /// How long the server may take to send its settings.
    pub(in crate::upstream) begin_timeout: Duration,
}

/// What the connections of one pool report to the pool.
pub(in crate::upstream) struct Notes {
    /// Raised when any call has ended.
    pub(in crate::upstream) freed: Rc<Signal>,
    pub(in crate::upstream) faults: Rc<FaultLog>,
    pub(in crate::upstream) http1_demand: Rc<Http1Demand>,
    pub(in crate::upstream) figures: Rc<Http2Figures>,
}

/// What is open over HTTP/2.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Http2Figures {
    /// The number of connections, including those that take no more calls.
    pub(in crate::upstream) connections: Cell<usize>,
    /// The number of streams, each of which carries a call.
    pub(in crate::upstream) streams: Cell<usize>,
}

/// A connection's place among those that its pool allows.
pub(in crate::upstream) trait Place: 'static {
    /// Called when the connection takes no more calls, although it may still have some.
    fn drain(&mut self);
}

/// A connection that carries many calls.
pub(in crate::upstream) struct Http2Connection {
    core: Core,
    connection: Rc<Connection>,
    address: Rc<Address>,
    watch: Rc<AnswerWatch>,
    queue: Rc<ConnectionQueue>,
    /// Opens streams; `None` once the connection takes no more calls.
    send: RefCell<Option<SendRequest<SendPiece>>>,
    idle_timeout: Duration,
    acknowledged_within: Duration,
    calls: Cell<usize>,
    /// Whether it has had a call.
    has_served: Cell<bool>,
    /// Since when it has had no call.
    idle_since: Cell<Time>,
    /// The exchanges whose requests have begun, by stream.
    exchanges: RefCell<Vec<(u32, Weak<Halves>)>>,
    /// Raised when the first call begins, when the last one has ended, and when the connection takes no more calls.
    changed: Signal,
    notes: Notes,
    is_doubtful: Cell<bool>,
    has_ended: Cell<bool>,
    /// Whether it was given up because the server's host is gone.
    is_gone: Cell<bool>,
}

/// Counts a call until it is dropped.
pub(super) struct OpenCall(Rc<Http2Connection>);

/// What the task of a connection waits for.
enum Event {
    Ended(Result<(), h2::Error>),
    Changed,
    /// The connection takes no more calls.
    Drains,
    Look,
    /// The small frames of one response need too much memory.
    Flood(u32),
}

type H2 = Client<Io<Connection, AnswerWatch>, SendPiece>;

impl Http2Connection {
    /// Begins HTTP/2 on a new connection, and waits for the server's settings. Before that it is not known how many
    /// calls the server allows, nor whether it speaks HTTP/2 at all. `place` is dropped when the connection has ended.
    pub(in crate::upstream) async fn begin(
        core: &Core,
        line: Line,
        terms: Http2Terms,
        windows: &Budget,
        notes: Notes,
        place: impl Place,
    ) -> Result<Rc<Http2Connection>, UpstreamError> {
        let (connection, watch) = (Rc::new(line.connection), Rc::<AnswerWatch>::default());
        let (share, window) = take_window(windows);
        let io = Io::of_server(core, Rc::clone(&connection), Rc::clone(&watch));
        let beginning = async {
            let (send, mut h2) = builder(window).handshake::<_, SendPiece>(io).await?;
            poll_fn(|cx| match Pin::new(&mut h2).poll(cx) {
                Poll::Ready(ended) => Poll::Ready(ended.map(|()| false)),
                Poll::Pending if watch.frames().has_settings() => Poll::Ready(Ok(true)),
                Poll::Pending => Poll::Pending,
            })
            .await
            .map(|has_begun| has_begun.then_some((send, h2)))
        };
        let reason: Box<str> = match core.timeout(terms.begin_timeout, beginning).await {
            Ok(Ok(Some((send, h2)))) => {
                let begun = Rc::new(Http2Connection {
                    core: core.clone(),
                    connection,
                    address: line.address,
                    watch,
                    queue: Rc::default(),
                    send: RefCell::new(Some(send)),
                    idle_timeout: terms.idle_timeout,
                    acknowledged_within: terms.acknowledged_within,
                    calls: Cell::new(0),
                    has_served: Cell::new(false),
                    idle_since: Cell::new(core.turn_time()),
                    exchanges: RefCell::default(),
                    changed: Signal::default(),
                    notes,
                    is_doubtful: Cell::new(false),
                    has_ended: Cell::new(false),
                    is_gone: Cell::new(false),
                });
                add(&begun.notes.figures.connections, 1);
                core.spawn(Rc::clone(&begun).run(h2, share, place));
                return Ok(begun);
            }
            Ok(Ok(None)) => "it closed the connection".into(),
            Ok(Err(error)) => {
                if demands_http1(&error) {
                    notes.http1_demand.note(&line.address);
                }
                error.to_string().into()
            }
            Err(_) => format!("no answer within {} ms", terms.begin_timeout.as_millis()).into(),
        };
        Err(UpstreamError::Http2 { address: line.address.to_string().into(), reason })
    }

    /// The error that this connection cannot carry calls.
    pub(super) fn unusable(&self, reason: &str) -> UpstreamError {
        UpstreamError::Http2 { address: self.address.to_string().into(), reason: reason.into() }
    }

    pub(super) fn core(&self) -> &Core {
        &self.core
    }

    /// The connection that carries its bytes.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Opens a stream, if there is room for another call.
    pub(super) fn open(self: &Rc<Self>) -> Option<Http2Exchange> {
        let mut send = self.send.borrow().clone()?;
        let idle_for = self.core.turn_time() - self.idle_since.get();
        let is_old = self.is_idle() && self.has_served.get() && idle_for >= self.idle_timeout;
        if is_old || self.watch.frames().is_ending() {
            self.retire();
            return None;
        }
        // The pending input may be the connection's end, which the core has not received yet.
        if self.is_idle() && idle_for >= PROBED_AFTER && self.connection.has_pending_input() {
            return None;
        }
        if self.calls.get() >= STREAMS_MAX.min(send.current_max_send_streams()) {
            return None;
        }
        match send.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => {
                self.retire();
                return None;
            }
            Poll::Pending => return None,
        }
        self.calls.set(self.calls.get() + 1);
        add(&self.notes.figures.streams, 1);
        self.has_served.set(true);
        if self.calls.get() == 1 {
            self.changed.raise();
        }
        Some(Http2Exchange::new(OpenCall(Rc::clone(self)), send, &self.queue))
    }

    /// Takes no more calls, and ends when the last one has ended.
    pub(super) fn retire(&self) {
        drop(self.send.take());
        self.changed.raise();
    }

    pub(super) fn is_retired(&self) -> bool {
        self.send.borrow().is_none()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.calls.get() == 0
    }

    /// Whether the server's host owes an acknowledgement, or the server does not read.
    pub(super) fn is_doubtful(&self) -> bool {
        self.is_doubtful.get()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.get()
    }

    /// Whether nothing was given to the system, or is about to be, since it had taken this many bytes.
    pub(super) fn has_sent_nothing_since(&self, sent_bytes: u64) -> bool {
        self.connection.sent_bytes() == sent_bytes && !self.connection.has_queued()
    }

    /// Whether it was given up because the server's host is gone.
    pub(super) fn is_gone(&self) -> bool {
        self.is_gone.get()
    }

    /// Whether the server has declared that it did not process the request on this stream.
    pub(super) fn excludes(&self, stream: u32) -> bool {
        self.watch.frames().excludes(stream)
    }

    /// Watches for the end of the response on this stream. Nothing of it was received yet.
    pub(super) fn expect_answer(&self, stream: u32) -> ExpectedAnswer {
        self.watch.expect(stream)
    }

    /// Registers the exchange on a stream, for as long as it lasts.
    pub(super) fn note_exchange(&self, stream: u32, halves: &Rc<Halves>) {
        let mut exchanges = self.exchanges.borrow_mut();
        exchanges.retain(|(_, halves)| halves.strong_count() > 0);
        exchanges.push((stream, Rc::downgrade(halves)));
    }

    /// Whether the reader of a response takes any of it within a turn. One read may deliver too much before the reader
    /// has had a chance. Nothing is received during that turn, so the check repeats only a bounded number of times.
    async fn is_being_read(&self, stream: u32) -> bool {
        let cost = || self.watch.frames().small_cost(stream);
        let before = cost();
        self.core.turn_end().await;
        cost() < before
    }

    /// Resets a stream whose response needs too much memory, so that the others can continue.
    fn cut(&self, stream: u32) {
        let exchange =
            self.exchanges.borrow().iter().find(|(of, _)| *of == stream).and_then(|(_, halves)| halves.upgrade());
        if let Some(halves) = exchange {
            halves.cut();
        }
        self.watch.frames_mut().forget_answer(stream);
    }

    pub(super) fn log_fault(&self, why: &str) {
        self.notes.faults.log(&self.address, why);
    }

    /// The server has demanded HTTP/1.1 (RFC 9113, section 7), so this connection takes no more calls.
    pub(super) fn on_http1_demanded(&self) {
        self.notes.http1_demand.note(&self.address);
        self.retire();
    }

    /// Runs the connection to its end. Then the memory of its window and its place are returned.
    async fn run(self: Rc<Self>, mut h2: H2, share: Share, mut place: impl Place) {
        let mut ping = h2.ping_pong();
        let mut timer = self.core.timer();
        let (mut silence, mut drains) = (None, false);
        loop {
            let seen = self.changed.count();
            timer.set(self.next_look(&mut silence));
            let mut changed = pin!(self.changed.after(seen));
            let event = poll_fn(|cx| {
                if let Poll::Ready(ended) = Pin::new(&mut h2).poll(cx) {
                    return Poll::Ready(Event::Ended(ended));
                }
                if let Some(stream) = self.watch.frames().flood() {
                    return Poll::Ready(Event::Flood(stream));
                }
                if !drains && (self.is_retired() || self.watch.frames().is_ending()) {
                    return Poll::Ready(Event::Drains);
                }
                if let Some(ping) = &mut ping {
                    // The answer to a PING counts through its bytes, so its content is ignored.
                    let _ = ping.poll_pong(cx);
                }
                if changed.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Event::Changed);
                }
                timer.poll_elapsed(cx).map(|()| Event::Look)
            })
            .await;
            match event {
                Event::Changed => {}
                Event::Drains => {
                    drains = true;
                    self.retire();
                    place.drain();
                }
                Event::Look => self.look(&mut silence, ping.as_mut()),
                Event::Flood(stream) => {
                    if !self.is_being_read(stream).await {
                        self.cut(stream);
                    }
                }
                Event::Ended(Ok(())) => break,
                Event::Ended(Err(error)) => {
                    tracing::debug!(address = %self.address, %error, "a connection of HTTP/2 to an upstream has failed");
                    break;
                }
            }
        }
        self.has_ended.set(true);
        add(&self.notes.figures.connections, -1);
        self.retire();
        drop((share, place));
    }

    /// When the connection must be checked next. For a connection with calls, this begins to track its progress.
    fn next_look(&self, silence: &mut Option<Silence>) -> Time {
        if self.is_idle() {
            *silence = None;
            return if self.is_retired() { Time::NEVER } else { self.idle_since.get() + self.idle_timeout };
        }
        // On a Unix socket only the server itself takes what is sent, so acknowledgements say nothing.
        if !matches!(*self.address, Address::Tcp(_)) {
            return Time::NEVER;
        }
        silence.get_or_insert_with(|| Silence::begin(self.acknowledged_within, self.moved(), self.core.now())).look_at()
    }

    fn look(&self, silence: &mut Option<Silence>, ping: Option<&mut PingPong>) {
        if self.is_idle() {
            return self.retire();
        }
        let Some(silence) = silence else { return };
        let verdict = silence.look(self.moved(), self.core.now());
        self.is_doubtful.set(matches!(verdict, Verdict::Doubtful | Verdict::Gone));
        match verdict {
            Verdict::Sound | Verdict::Doubtful => {}
            Verdict::Ping => {
                if let Some(ping) = ping {
                    // This fails if an earlier PING is unanswered, which serves the same purpose.
                    let _ = ping.send_ping(Ping::opaque());
                }
            }
            Verdict::Gone => {
                self.is_gone.set(true);
                self.retire();
                self.connection.abort();
            }
        }
    }

    fn moved(&self) -> Moved {
        let (acked, sent) = (self.connection.acked_bytes(), self.connection.sent_bytes());
        let left = if self.connection.in_flight_bytes() > 0 {
            Left::InFlight
        } else if acked < sent || self.connection.has_queued() {
            Left::Unsent
        } else {
            Left::Nothing
        };
        Moved { received: self.watch.received_bytes(), acked, left }
    }
}

impl OpenCall {
    pub(super) fn connection(&self) -> &Rc<Http2Connection> {
        &self.0
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        let connection = &self.0;
        connection.calls.set(connection.calls.get() - 1);
        add(&connection.notes.figures.streams, -1);
        if connection.is_idle() {
            connection.idle_since.set(connection.core.turn_time());
            connection.changed.raise();
        }
        connection.notes.freed.raise();
    }
}

fn add(figure: &Cell<usize>, n: isize) {
    figure.set(figure.get().saturating_add_signed(n));
}

/// Takes the window of a new connection, as large as the memory for windows allows.
fn take_window(windows: &Budget) -> (Share, u32) {
    let mut share = windows.share();
    let window = WINDOWS.into_iter().find(|window| share.set(*window as usize));
    (share, window.unwrap_or(WINDOW_MIN))
}

/// Whether the error demands HTTP/1.1, for one call or for all.
pub(super) fn demands_http1(error: &h2::Error) -> bool {
    error.is_remote() && error.reason() == Some(Reason::HTTP_1_1_REQUIRED)
}

fn builder(window: u32) -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(STREAMS_MAX)
        .initial_window_size((window / STREAMS_PER_WINDOW).clamp(STREAM_WINDOW_MIN, STREAM_WINDOW))
        .initial_connection_window_size(window)
        .max_header_list_size(HEAD_LEN_MAX as u32)
        .max_send_buffer_size(SEND_BUFFER_LEN)
        .max_concurrent_reset_streams(RESETS_REMEMBERED)
        .reset_stream_duration(RESET_REMEMBERED_FOR)
        .data_frame_budget(SMALL_FRAMES_BUDGET);
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_shrink_where_memory_for_them_is_scarce() {
        let windows = Budget::new(8 * 1024 * 1024, WINDOW_MIN as usize);
        let taken: Vec<_> = (0..8).map(|_| take_window(&windows)).collect();
        assert_eq!([0, 1, 7].map(|nth| taken[nth].1), [WINDOWS[0], WINDOWS[1], WINDOW_MIN]);
        assert!(windows.used() <= 8 * 1024 * 1024);
        drop(taken);
        assert_eq!(take_window(&windows).1, WINDOWS[0]);
    }
}
