//! A connection to an edge, at the connector, which is the server of HTTP/2 on it.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future;
use h2::server::{Builder, Connection as Server, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};

use crate::base::{Clock, LinkId, Time};
use crate::engine::{ByteStream, Core, Signal, Task, Timer};
use crate::http2::{ConnectionQueue, Content, Io, SendPiece, StreamQueue};
use crate::link::close_reason::CloseReason;
use crate::link::cloudflared::control::{self, ControlBytes, Http2Control};
use crate::link::cloudflared::counts::CloudflaredCounts;
use crate::link::cloudflared::ended::{CloudflaredEnded, RegisterError};
use crate::link::cloudflared::heard::Heard;
use crate::link::cloudflared::stream::CloudflaredStream;
use crate::quic::QuicStreams;
use crate::tls::Connection;
use crate::wire::cloudflared::{
    ControlClient, ControlEvent, Registration, RegistrationAnswer, RequestKind, TunnelUuid, kind_of, own_answer_head,
};
use crate::wire::http1::HEAD_LEN_MAX;
use crate::wire::quic::QuicPath;

/// The most calls that an edge may have open on one connection.
const STREAMS_MAX: u32 = 10_000;
/// How much of the body of one request is received ahead of the server, in bytes.
const STREAM_WINDOW: u32 = 64 * 1024 - 1;
/// How much of one answer is given to `h2` ahead of the connection, in bytes.
const SEND_BUFFER_LEN: usize = 64 * 1024;
/// How many calls an edge may cancel before they are accepted.
const UNSEEN_RESETS_MAX: usize = 1_000;
/// How long an edge may be silent before it is sent a PING, and how long it may then take to send anything.
const PING_AFTER: Duration = Duration::from_secs(5);
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long the edge may take to close a connection on which nothing is left.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long after the last call the edge may still send others to a connector that has left it.
const LATE_CALLS: Duration = Duration::from_millis(200);
/// The longest ingress rules that an edge may send, in bytes.
const PUSH_LEN_MAX: usize = 1024 * 1024;
/// The most pushes that wait.
const PUSHES_MAX: usize = 8;

/// A connection to an edge. Clones refer to the same one.
#[derive(Clone)]
pub struct CloudflaredLink(Rc<Shared>);

struct Shared {
    core: Core,
    id: LinkId,
    queue: Rc<ConnectionQueue>,
    heard: Rc<Heard>,
    counts: Arc<CloudflaredCounts>,
    opened: RefCell<VecDeque<CloudflaredStream>>,
    pushes: RefCell<VecDeque<CloudflaredPush>>,
    /// Raised when a call or a push has arrived, and when the connection has ended.
    arrived: Signal,
    registered: RefCell<Option<Result<RegisteredConnection, RegisterError>>>,
    /// Raised when the edge has answered the registration, or the connection has ended before.
    answered: Signal,
    calls: Cell<usize>,
    /// Raised when a call has ended.
    call_ended: Signal,
    /// Raised when the connector leaves the edge.
    leave: Signal,
    /// Raised when the edge knows that, or the control stream has ended.
    left: Signal,
    /// Raised when this side closes the connection.
    close: Signal,
    closed_for: Cell<Option<CloseReason>>,
    drain_begun: Signal,
    round_trip: Cell<Option<Duration>>,
    /// The streams of a connection over QUIC.
    quic: OnceCell<QuicStreams>,
    ended: Cell<Option<CloudflaredEnded>>,
}

/// The terms of one connection.
pub struct CloudflaredTerms {
    /// What the connector says of itself.
    pub registration: Registration,
    /// Its ingress rules, for an edge that does not send them.
    pub config: Option<String>,
    /// How much of all requests is received ahead of the servers, in bytes.
    pub window: u32,
    /// How long the edge may take to answer the registration.
    pub register_timeout: Duration,
}

/// A connection that is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredConnection {
    /// The edge's number of the connection.
    pub connection: TunnelUuid,
    /// Where the edge is.
    pub location: String,
    /// Whether the edge sends the ingress rules.
    pub is_remotely_managed: bool,
}

/// New ingress rules from the edge.
pub struct CloudflaredPush {
    /// The rules and their version, as JSON.
    pub json: Vec<u8>,
    reply: Box<dyn FnOnce(String)>,
}

type H2 = Server<Io<Connection, Heard>, SendPiece>;

impl CloudflaredLink {
    /// A connection that does not run yet.
    #[must_use]
    pub fn new(core: &Core, id: LinkId, counts: &Arc<CloudflaredCounts>) -> CloudflaredLink {
        CloudflaredLink(Rc::new(Shared {
            core: core.clone(),
            id,
            queue: Rc::default(),
            heard: Rc::default(),
            counts: Arc::clone(counts),
            opened: RefCell::default(),
            pushes: RefCell::default(),
            arrived: Signal::default(),
            registered: RefCell::default(),
            answered: Signal::default(),
            calls: Cell::new(0),
            call_ended: Signal::default(),
            leave: Signal::default(),
            left: Signal::default(),
            close: Signal::default(),
            closed_for: Cell::new(None),
            drain_begun: Signal::default(),
            round_trip: Cell::new(None),
            quic: OnceCell::new(),
            ended: Cell::new(None),
        }))
    }

    /// Serves the connection until it has ended.
    pub async fn run(&self, connection: Rc<Connection>, terms: CloudflaredTerms) -> CloudflaredEnded {
        connection.serve_link();
        self.0.heard.set(self.core().now());
        let ended = self.serve(&connection, terms).await;
        self.end(ended);
        if let CloudflaredEnded::Closed(_) | CloudflaredEnded::ByEdge = ended {
            connection.finish();
            let _ = self.core().timeout(CLOSE_TIMEOUT, connection.flushed()).await;
        }
        ended
    }

    /// Notes that the connection has ended, and how.
    pub(super) fn end(&self, ended: CloudflaredEnded) {
        self.0.ended.set(Some(ended));
        self.0.registered.borrow_mut().get_or_insert(Err(RegisterError::Closed));
        self.0.opened.borrow_mut().clear();
        self.0.pushes.borrow_mut().clear();
        let Shared { arrived, answered, left, drain_begun, .. } = &*self.0;
        [arrived, answered, left, drain_begun].into_iter().for_each(Signal::raise);
    }

    /// Waits until the edge has answered the registration.
    ///
    /// # Errors
    ///
    /// Why the connection is not registered.
    pub async fn registered(&self) -> Result<RegisteredConnection, RegisterError> {
        loop {
            let seen = self.0.answered.count();
            if let Some(answer) = &*self.0.registered.borrow() {
                return answer.clone();
            }
            self.0.answered.after(seen).await;
        }
    }

    /// Its number, unique in this role.
    #[must_use]
    pub fn id(&self) -> LinkId {
        self.0.id
    }

    /// Waits for the next call that the edge opens; `None` when the connection has ended.
    pub async fn accept(&self) -> Option<CloudflaredStream> {
        self.next(|shared| shared.opened.borrow_mut().pop_front()).await
    }

    /// Waits for the next ingress rules that the edge sends; `None` when the connection has ended.
    pub async fn accept_push(&self) -> Option<CloudflaredPush> {
        self.next(|shared| shared.pushes.borrow_mut().pop_front()).await
    }

    async fn next<T>(&self, take: impl Fn(&Shared) -> Option<T>) -> Option<T> {
        loop {
            let seen = self.0.arrived.count();
            if let Some(next) = take(&self.0) {
                return Some(next);
            }
            if self.0.ended.get().is_some() {
                return None;
            }
            self.0.arrived.after(seen).await;
        }
    }

    /// Whether the edge may open calls.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(&*self.0.registered.borrow(), Some(Ok(_))) && !self.is_draining()
    }

    /// How many calls are open on it.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.0.calls.get()
    }

    /// The last measured round-trip time, if there is one.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.quic_path().map(|path| path.round_trip).or_else(|| self.0.round_trip.get())
    }

    /// What is known of the path of a connection over QUIC; `None` over HTTP/2, and when it has ended.
    #[must_use]
    pub fn quic_path(&self) -> Option<QuicPath> {
        self.0.quic.get()?.path()
    }

    pub(super) fn use_quic(&self, streams: &QuicStreams) {
        // A connection runs once.
        let _ = self.0.quic.set(streams.clone());
    }

    /// Leaves the edge: it should open no more calls. Those that it has opened may finish.
    pub fn drain(&self) {
        self.0.leave.raise();
        self.0.drain_begun.raise();
    }

    /// Whether the connector leaves the edge, or the connection has ended.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.drain_begun.count() > 0
    }

    /// Waits until it [drains](CloudflaredLink::is_draining).
    pub async fn draining(&self) {
        self.0.drain_begun.after(0).await;
    }

    /// Waits until the edge knows that the connector has left it, and the last call has ended; or the connection has.
    pub async fn drained(&self) {
        self.0.left.after(0).await;
        while self.0.ended.get().is_none() {
            let seen = self.0.call_ended.count();
            if self.0.calls.get() > 0 {
                self.0.call_ended.after(seen).await;
            } else {
                self.core().sleep(LATE_CALLS).await;
                if self.0.calls.get() == 0 && self.0.call_ended.count() == seen {
                    return;
                }
            }
        }
    }

    /// Closes the connection. Open calls are reset.
    pub fn close(&self, reason: CloseReason) {
        if self.0.closed_for.get().is_none() {
            self.0.closed_for.set(Some(reason));
        }
        self.0.close.raise();
    }

    /// How it ended, if it has ended.
    #[must_use]
    pub fn ended(&self) -> Option<CloudflaredEnded> {
        self.0.ended.get()
    }

    /// Waits until this side closes the connection, and returns the reason.
    pub(super) async fn closed_for(&self) -> CloseReason {
        self.0.close.after(0).await;
        self.closes_for().unwrap_or(CloseReason::Ended)
    }

    /// Why this side closes the connection, if it does.
    pub(super) fn closes_for(&self) -> Option<CloseReason> {
        self.0.closed_for.get()
    }

    /// Queues a call that the edge has opened.
    pub(super) fn take_call(&self, stream: CloudflaredStream) {
        if self.0.ended.get().is_none() {
            self.0.opened.borrow_mut().push_back(stream);
            self.0.arrived.raise();
        }
    }

    /// Queues ingress rules that the edge has sent. They are dropped if too many wait.
    pub(super) fn take_push(&self, push: CloudflaredPush) {
        if self.0.ended.get().is_none() && self.0.pushes.borrow().len() < PUSHES_MAX {
            self.0.pushes.borrow_mut().push_back(push);
            self.0.arrived.raise();
        }
    }

    pub(super) fn core(&self) -> &Core {
        &self.0.core
    }

    pub(super) fn heard_at(&self) -> Time {
        self.0.heard.at()
    }

    pub(super) fn counts(&self) -> &CloudflaredCounts {
        &self.0.counts
    }

    pub(super) fn begin_call(&self) {
        self.0.counts.on_request();
        self.0.calls.set(self.0.calls.get() + 1);
    }

    pub(super) fn end_call(&self) {
        self.0.calls.set(self.0.calls.get() - 1);
        self.0.call_ended.raise();
    }

    async fn serve(&self, connection: &Rc<Connection>, terms: CloudflaredTerms) -> CloudflaredEnded {
        let limit = terms.register_timeout;
        let io = Io::of_client(self.core(), Rc::clone(connection), None, Rc::clone(&self.0.heard));
        let handshake = self.core().timeout(limit, builder(terms.window).handshake::<_, SendPiece>(io));
        let h2 = match handshake.await {
            Ok(Ok(h2)) => h2,
            Ok(Err(error)) => {
                self.answer(Err(RegisterError::Http2(error.to_string())));
                return CloudflaredEnded::of(&error);
            }
            Err(_) => {
                self.answer(Err(RegisterError::Timeout(limit)));
                return CloudflaredEnded::Silent;
            }
        };
        Serving { link: self, h2, terms: Some(terms), control: None, pinged_at: None, closes_at: Time::NEVER }
            .run()
            .await
    }

    /// Notes how the registration went.
    pub(super) fn answer(&self, answer: Result<RegisteredConnection, RegisterError>) {
        self.0.registered.borrow_mut().get_or_insert(answer);
        self.0.answered.raise();
    }

    fn on_control_event(&self, event: ControlEvent) {
        match event {
            ControlEvent::Registered(RegistrationAnswer::Accepted { connection, location, is_remotely_managed }) => {
                self.answer(Ok(RegisteredConnection { connection, location, is_remotely_managed }));
            }
            ControlEvent::Registered(RegistrationAnswer::Refused(error)) => {
                self.answer(Err(RegisterError::Refused(error)));
            }
            ControlEvent::Unregistered => self.0.left.raise(),
        }
    }

    /// Runs the control stream to its end. Without it the edge opens no more calls.
    pub(super) async fn run_control(self, stream: Result<impl ControlBytes, RegisterError>, client: ControlClient) {
        let ended = match stream {
            Ok(stream) => control::run(stream, client, &self.0.leave, |event| self.on_control_event(event)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &ended {
            tracing::debug!(%error, "the control stream has ended");
        }
        self.answer(Err(ended.err().unwrap_or(RegisterError::Closed)));
        self.0.left.raise();
        self.0.drain_begun.raise();
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
        .max_pending_accept_reset_streams(UNSEEN_RESETS_MAX);
    builder
}

/// A connection whose preface has been received.
struct Serving<'a> {
    link: &'a CloudflaredLink,
    h2: H2,
    /// Until the control stream begins.
    terms: Option<CloudflaredTerms>,
    control: Option<Task<()>>,
    /// When the PING was sent that is not answered.
    pinged_at: Option<Time>,
    /// When the connection is dropped even if the edge keeps it open.
    closes_at: Time,
}

enum Event {
    Request(Box<(Request<RecvStream>, SendResponse<SendPiece>)>),
    Ended(Result<(), h2::Error>),
    Pong,
    ToClose,
    Look,
}

impl Serving<'_> {
    async fn run(mut self) -> CloudflaredEnded {
        let core = self.link.core().clone();
        let mut pings = self.h2.ping_pong();
        let register_by = core.now() + self.terms.as_ref().map_or(Duration::ZERO, |terms| terms.register_timeout);
        let limit = self.terms.as_ref().map_or(Duration::ZERO, |terms| terms.register_timeout);
        let mut timer = core.timer();
        loop {
            let is_registering = self.link.0.registered.borrow().is_none();
            let look_at =
                (self.link.heard_at() + PING_AFTER).max(self.pinged_at.map_or(Time::ZERO, |at| at + PING_AFTER));
            timer.set(look_at.min(self.closes_at).min(if is_registering { register_by } else { Time::NEVER }));
            match self.next(&mut timer, pings.as_mut()).await {
                Event::Request(request) => self.begin(*request),
                Event::Ended(ended) => {
                    let reason = self.link.0.closed_for.get();
                    let ended = ended.map_or_else(|error| CloudflaredEnded::of(&error), |()| CloudflaredEnded::ByEdge);
                    return reason.map_or(ended, CloudflaredEnded::Closed);
                }
                Event::Pong => {
                    if let Some(sent) = self.pinged_at.take() {
                        self.link.0.round_trip.set(Some(core.now() - sent));
                    }
                }
                Event::ToClose => match self.link.0.closed_for.get() {
                    Some(CloseReason::Ended) | None => {
                        self.h2.graceful_shutdown();
                        self.closes_at = core.now() + CLOSE_TIMEOUT;
                    }
                    Some(reason) => {
                        self.h2.abrupt_shutdown(Reason::NO_ERROR);
                        // The last frames are written by one more poll.
                        let _ = poll_fn(|cx| Poll::Ready(self.h2.poll_accept(cx))).await;
                        return CloudflaredEnded::Closed(reason);
                    }
                },
                Event::Look => {
                    let (now, silent) = (core.now(), core.now() - self.link.heard_at());
                    if self.closes_at <= now {
                        return CloudflaredEnded::Closed(CloseReason::Ended);
                    }
                    // The edge may have answered while this task waited, which does not wake it.
                    if self.link.0.registered.borrow().is_none() && register_by <= now {
                        self.link.answer(Err(RegisterError::Timeout(limit)));
                        return CloudflaredEnded::Silent;
                    }
                    if self.pinged_at.is_some() && silent >= SILENCE_MAX {
                        return CloudflaredEnded::Silent;
                    }
                    if self.pinged_at.is_none() && silent >= PING_AFTER {
                        // A PING that cannot be sent is one that is not answered.
                        let _ = pings.as_mut().map(|pings| pings.send_ping(Ping::opaque()));
                        self.pinged_at = Some(now);
                    }
                }
            }
        }
    }

    async fn next(&mut self, timer: &mut Timer, mut pings: Option<&mut PingPong>) -> Event {
        let link = self.link;
        let is_closing = self.closes_at != Time::NEVER;
        let mut to_close = pin!(link.0.close.after(0));
        poll_fn(|cx| {
            match self.h2.poll_accept(cx) {
                Poll::Ready(Some(Ok(request))) => return Poll::Ready(Event::Request(Box::new(request))),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Event::Ended(Err(error))),
                Poll::Ready(None) => return Poll::Ready(Event::Ended(Ok(()))),
                Poll::Pending => {}
            }
            if let Some(pings) = pings.as_mut()
                && pings.poll_pong(cx).is_ready()
            {
                return Poll::Ready(Event::Pong);
            }
            if !is_closing && to_close.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::ToClose);
            }
            timer.poll_elapsed(cx).map(|()| Event::Look)
        })
        .await
    }

    /// Takes a request, by its kind.
    fn begin(&mut self, (request, mut respond): (Request<RecvStream>, SendResponse<SendPiece>)) {
        let shared = &self.link.0;
        let (parts, recv) = request.into_parts();
        match kind_of(&parts.headers) {
            // One may arrive together with the answer to the registration, and waits until that was read.
            RequestKind::Http => {
                self.link.take_call(CloudflaredStream::over_http2(self.link, &shared.queue, parts, recv, respond));
            }
            RequestKind::Control => match self.terms.take() {
                Some(terms) => {
                    let client = ControlClient::new(&terms.registration, terms.config);
                    let stream = Http2Control::begin((recv, respond), &shared.queue);
                    let running = self.link.clone().run_control(stream, client);
                    self.control = Some(shared.core.spawn_held(running));
                }
                // A second control stream has no meaning.
                None => respond.send_reset(Reason::PROTOCOL_ERROR),
            },
            RequestKind::Configuration => {
                let link = self.link.clone();
                shared.core.spawn(async move { link.receive_push(recv, respond).await });
            }
            kind @ (RequestKind::WebSocket | RequestKind::Tcp) => {
                tracing::debug!(?kind, "the edge asked for a connection that this connector does not carry");
                // The stream may be gone already.
                let _ = respond.send_response(own_answer_head(StatusCode::NOT_IMPLEMENTED), true);
            }
        }
    }
}

impl CloudflaredLink {
    /// Receives ingress rules, and queues them.
    async fn receive_push(self, mut recv: RecvStream, mut respond: SendResponse<SendPiece>) {
        let mut json = Vec::new();
        let receiving = async {
            while let Some(Ok(data)) = poll_fn(|cx| recv.poll_data(cx)).await {
                // A stream that has ended has nothing to release.
                let _ = recv.flow_control().release_capacity(data.len());
                json.extend_from_slice(&data);
                if json.len() > PUSH_LEN_MAX {
                    return false;
                }
            }
            true
        };
        let is_whole = future::or(receiving, async {
            self.core().sleep(SILENCE_MAX).await;
            false
        });
        if !is_whole.await || self.0.pushes.borrow().len() >= PUSHES_MAX {
            return respond.send_reset(Reason::ENHANCE_YOUR_CALM);
        }
        let queue = Rc::clone(&self.0.queue);
        self.take_push(CloudflaredPush::new(json, move |answer| {
            let mut response = Response::new(());
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            // The edge may have given up the stream.
            if let Ok(mut stream) = respond.send_response(response, false) {
                let piece = SendPiece::new(Content::Bytes(Bytes::from(answer)), &StreamQueue::new(&queue));
                let _ = stream.send_data(piece, true);
            }
        }));
    }
}

impl CloudflaredPush {
    pub(super) fn new(json: Vec<u8>, reply: impl FnOnce(String) + 'static) -> CloudflaredPush {
        CloudflaredPush { json, reply: Box::new(reply) }
    }

    /// Answers the edge with this JSON.
    pub fn answer(self, json: String) {
        (self.reply)(json);
    }
}
