//! One HTTP/2 connection.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_lite::future;
use h2::Reason;
use h2::server::{Builder, Connection};

use crate::base::{Clock, Time};
use crate::engine::{ByteStream, Core, Lease, Signal, Timer};
use crate::http2::{ConnectionQueue, Io, SendPiece};
use crate::serve::http2::call::Http2Call;
use crate::serve::http2::reading::Reading;
use crate::wire::http1::HEAD_LEN_MAX;

/// The most requests that are served at the same time on one connection.
pub const STREAMS_MAX: u32 = 128;
/// How much of the body of one request is received ahead of the next hop, in bytes.
const STREAM_WINDOW: u32 = 64 * 1024 - 1;
/// How much of one response is given to `h2` ahead of the connection, in bytes.
const SEND_BUFFER_LEN: usize = 64 * 1024;
/// How many streams that this side reset are remembered, and for how long, because the caller may not know of the reset
/// yet.
const RESETS_REMEMBERED: usize = 32;
const RESET_REMEMBERED_FOR: Duration = Duration::from_secs(1);
/// How many streams the caller may reset before they are accepted (CVE-2023-44487).
const UNSEEN_RESETS_MAX: usize = 20;
/// How many faulty requests a connection may have in its life.
const FAULTS_MAX: usize = 256;
/// The budget in bytes for small frames of a body whose payload is not taken yet.
const SMALL_FRAMES_BUDGET: usize = 256 * 1024;
/// How many more requests a caller may reset than it lets end, and how many of those are forgotten per second.
const RESETS_MAX: f64 = 256.0;
const RESETS_FORGOTTEN_PER_S: f64 = 10.0;
/// When the role shuts down, which takes less than a second, how long a caller may take to acknowledge the end.
const ROLE_END_TIMEOUT_MAX: Duration = Duration::from_millis(400);

/// The limits of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Http2Limits {
    /// How long the first request may take.
    pub first_timeout: Duration,
    /// How long the connection may be without a request.
    pub idle_timeout: Duration,
    /// How long a head may take from its first byte.
    pub header_timeout: Duration,
    /// How long a caller may take to close a connection after GOAWAY.
    pub close_timeout: Duration,
    /// The window of the connection in bytes: how much of all bodies is received ahead of the next hops.
    pub window: u32,
}

/// Handles the requests of a connection.
pub trait Http2Service {
    /// The limits of the connection.
    fn limits(&self) -> Http2Limits;

    /// Ready when the connection must end after its open requests.
    fn ends(&self) -> impl Future<Output = ()>;

    /// Whether an incomplete head of this many bytes may be held; zero when none is held any more.
    fn may_keep(&mut self, len: usize) -> bool;

    /// Serves a request, in a task of its own.
    fn call(&mut self, call: Http2Call);
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http2End {
    /// It ended in order and can be closed.
    Done,
    /// Its caller sent too many resets, empty frames or faulty requests.
    Flood,
    /// A head took too long.
    SlowHead,
    /// Incomplete heads took too much memory.
    Crowded,
    /// The caller violated the protocol.
    Protocol,
    /// The connection failed, or its peer closed it.
    Failed,
}

/// The state that a connection and its requests share.
#[derive(Default)]
pub(super) struct Shared {
    queue: Rc<ConnectionQueue>,
    open: Cell<usize>,
    /// Answered requests whose remaining body is still received.
    rests: Cell<usize>,
    /// Raised when a request ends.
    ended: Signal,
    /// Requests that the caller reset and that are not forgotten yet, as of the last count.
    resets: Cell<f64>,
    counted_at: Cell<Time>,
}

impl Shared {
    pub(super) fn queue(&self) -> &Rc<ConnectionQueue> {
        &self.queue
    }

    pub(super) fn begin_call(&self) {
        self.open.set(self.open.get() + 1);
    }

    pub(super) fn end_call(&self) {
        self.open.set(self.open.get() - 1);
        self.ended.raise();
    }

    pub(super) fn rests(&self) -> &Cell<usize> {
        &self.rests
    }

    /// Counts a request that the caller reset.
    pub(super) fn count_reset(&self, now: Time) {
        let forgotten = (now - self.counted_at.replace(now)).as_secs_f64() * RESETS_FORGOTTEN_PER_S;
        self.resets.set((self.resets.get() - forgotten).max(0.0) + 1.0);
    }

    fn is_flooded(&self) -> bool {
        self.resets.get() > RESETS_MAX
    }
}

/// Serves the requests of a connection, whose first bytes are `first`, until it has ended or has to be closed. All of
/// its requests have ended when this returns.
pub async fn serve_http2<S: ByteStream>(
    core: &Core,
    stream: &Rc<S>,
    first: Option<Lease>,
    service: &mut impl Http2Service,
) -> Http2End {
    let limits = service.limits();
    let shared = Rc::<Shared>::default();
    let reading = Rc::<Reading>::default();
    let io = Io::of_client(core, Rc::clone(stream), first, Rc::clone(&reading));
    let handshake = core.timeout(limits.first_timeout, builder(limits.window).handshake::<_, SendPiece>(io));
    let to_end = async {
        service.ends().await;
        None
    };
    let end = match future::or(async { Some(handshake.await) }, to_end).await {
        Some(Ok(Ok(connection))) => {
            let (is_ending, ends_by, why, head_len) = (false, Time::NEVER, None, 0);
            let serving = Serving { core, shared: &shared, limits, connection, is_ending, ends_by, why, head_len };
            serving.run(service, &reading).await
        }
        Some(Ok(Err(error))) => end_of(&error),
        Some(Err(_)) => Http2End::SlowHead,
        None => Http2End::Done,
    };
    let _ = service.may_keep(0);
    // The connection is gone, so the requests end without help.
    loop {
        let seen = shared.ended.count();
        if shared.open.get() == 0 {
            return end;
        }
        shared.ended.after(seen).await;
    }
}

fn builder(window: u32) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(window)
        .max_header_list_size(HEAD_LEN_MAX as u32)
        .max_send_buffer_size(SEND_BUFFER_LEN)
        .max_concurrent_reset_streams(RESETS_REMEMBERED)
        .reset_stream_duration(RESET_REMEMBERED_FOR)
        .max_pending_accept_reset_streams(UNSEEN_RESETS_MAX)
        .max_local_error_reset_streams(Some(FAULTS_MAX))
        .data_frame_budget(SMALL_FRAMES_BUDGET);
    builder
}

/// A connection whose preface has been received.
struct Serving<'a, S> {
    core: &'a Core,
    shared: &'a Rc<Shared>,
    limits: Http2Limits,
    connection: Connection<Io<S, Reading>, SendPiece>,
    /// Whether the caller was sent GOAWAY.
    is_ending: bool,
    /// When the connection is closed even if the caller keeps it open.
    ends_by: Time,
    /// Why the connection is ended, if its caller is the cause.
    why: Option<Http2End>,
    /// Bytes received of an incomplete head.
    head_len: usize,
}

/// An event that a connection waits for.
enum Event {
    /// A request, or the end of the connection.
    Received(Option<Result<Box<Received>, h2::Error>>),
    CallEnded,
    /// A part of an incomplete head, or its rest.
    HeadPart,
    ToEnd,
    Late,
}

type Received = (http::Request<h2::RecvStream>, h2::server::SendResponse<SendPiece>);

impl<S: ByteStream> Serving<'_, S> {
    async fn run(mut self, service: &mut impl Http2Service, reading: &Reading) -> Http2End {
        let mut idle_since = self.core.turn_time();
        let mut patience = self.limits.first_timeout;
        let mut timer = self.core.timer();
        loop {
            let seen = self.shared.ended.count();
            timer.set(self.late_at(idle_since + patience, reading.open_since()));
            match self.next(service, seen, &mut timer, reading).await {
                Event::Received(Some(Ok(received))) => {
                    patience = self.limits.idle_timeout;
                    self.begin(service, *received);
                }
                Event::Received(None) => return self.why.unwrap_or(Http2End::Done),
                Event::Received(Some(Err(error))) => return self.why.unwrap_or(end_of(&error)),
                Event::CallEnded => idle_since = self.core.turn_time(),
                Event::HeadPart => {
                    if !service.may_keep(self.head_len) {
                        self.why = Some(Http2End::Crowded);
                    }
                }
                Event::ToEnd => {
                    self.limits.close_timeout = self.limits.close_timeout.min(ROLE_END_TIMEOUT_MAX);
                    self.begin_end();
                }
                Event::Late => {
                    // The clock of the timers: the time of the turn may be behind it.
                    let (now, open_since) = (self.core.now(), reading.open_since());
                    if self.ends_by <= now {
                        return self.why.unwrap_or(Http2End::Done);
                    }
                    if open_since.is_some_and(|since| since + self.limits.header_timeout <= now) {
                        self.why = Some(Http2End::SlowHead);
                    } else if self.shared.open.get() == 0 && idle_since + patience <= now {
                        self.begin_end();
                    }
                }
            }
            if self.shared.is_flooded() {
                self.why = Some(Http2End::Flood);
            }
            if self.why.is_some() && self.ends_by == Time::NEVER {
                self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                self.ends_by = self.core.turn_time() + self.limits.close_timeout;
            }
        }
    }

    /// Serves a request. `h2` counts streams, and a reset stream no longer counts, although its request may still run.
    fn begin(&self, service: &mut impl Http2Service, (request, mut respond): Received) {
        if self.shared.open.get() < STREAMS_MAX as usize {
            service.call(Http2Call::new(self.core, request, respond, self.shared));
        } else {
            respond.send_reset(Reason::REFUSED_STREAM);
            self.shared.count_reset(self.core.turn_time());
        }
    }

    async fn next(&mut self, service: &impl Http2Service, seen: u64, timer: &mut Timer, reading: &Reading) -> Event {
        let mut ended = pin!(self.shared.ended.after(seen));
        let mut to_end = pin!(service.ends());
        poll_fn(|cx| {
            if let Poll::Ready(received) = self.connection.poll_accept(cx) {
                return Poll::Ready(Event::Received(received.map(|received| received.map(Box::new))));
            }
            if std::mem::replace(&mut self.head_len, reading.open_len()) != self.head_len {
                return Poll::Ready(Event::HeadPart);
            }
            if ended.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::CallEnded);
            }
            if !self.is_ending && to_end.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::ToEnd);
            }
            timer.poll_elapsed(cx).map(|()| Event::Late)
        })
        .await
    }

    /// Announces that the connection takes no more requests.
    fn begin_end(&mut self) {
        if !std::mem::replace(&mut self.is_ending, true) {
            self.connection.graceful_shutdown();
        }
    }

    /// When the wait for more input times out.
    fn late_at(&mut self, idle_until: Time, open_since: Option<Time>) -> Time {
        if self.why.is_some() {
            return self.ends_by;
        }
        let is_idle = self.shared.open.get() == 0;
        // A request may arrive until the caller has acknowledged the end.
        self.ends_by = match self.ends_by {
            _ if !self.is_ending || !is_idle => Time::NEVER,
            Time::NEVER => self.core.turn_time() + self.limits.close_timeout,
            set => set,
        };
        let idle_until = if is_idle && !self.is_ending { idle_until } else { Time::NEVER };
        let head_until = open_since.map_or(Time::NEVER, |since| since + self.limits.header_timeout);
        idle_until.min(head_until).min(self.ends_by)
    }
}

fn end_of(error: &h2::Error) -> Http2End {
    match error.reason() {
        Some(Reason::ENHANCE_YOUR_CALM) if error.is_library() => Http2End::Flood,
        _ if error.is_io() => Http2End::Failed,
        // The caller ended the connection.
        _ if error.is_remote() => Http2End::Done,
        _ => Http2End::Protocol,
    }
}
