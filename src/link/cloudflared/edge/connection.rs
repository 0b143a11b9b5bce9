//! A connection of a connector, at the edge, which is the client of HTTP/2 on it.

mod serving;

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_lite::future;
use h2::client::{Builder, Connection as Client, SendRequest};

use crate::base::{Budget, CallFailure, Clock, LinkId, Time};
use crate::engine::{ByteStream, Core, Signal};
use crate::http2::{AnswerWatch, ConnectionQueue, ExpectedAnswer, Io, SendPiece};
use crate::link::call_open_error::CallOpenError;
use crate::link::close_reason::CloseReason;
use crate::link::cloudflared::edge::connection::serving::{SILENCE_MAX, Serving};
use crate::link::cloudflared::edge::control::ControlStream;
use crate::link::cloudflared::edge::ended::{CloudflaredEdgeEnded, RegistrationFault};
use crate::link::cloudflared::edge::push::{Push, push};
use crate::link::cloudflared::edge::stream::{CloudflaredEdgeStream, Halves};
use crate::link::unproven::Liveness;
use crate::tls::Connection;
use crate::wire::cloudflared::{ControlRequest, Registration, RegistrationAnswer, RegistrationError, control_request};
use crate::wire::http1::HEAD_LEN_MAX;
use crate::wire::http2::SMALL_FRAMES_TOTAL_MAX;

/// How much of one answer is received ahead of the agent, in bytes.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The smallest window of a connection (RFC 9113, section 6.9.2), in bytes.
const WINDOW_MIN: u32 = 64 * 1024 - 1;
/// How much of one request is given to `h2` ahead of the connection, in bytes.
const SEND_BUFFER_LEN: usize = 64 * 1024;
/// How many streams that this side has reset are remembered, and for how long, because the connector may not know of the
/// reset yet.
const RESETS_REMEMBERED: usize = 1_000;
const RESET_REMEMBERED_FOR: Duration = Duration::from_secs(5);
/// How much memory bodies may need for frames with little content before `h2` ends the connection, in bytes. The streams that
/// need most are reset before that.
const SMALL_FRAMES_BUDGET: usize = SMALL_FRAMES_TOTAL_MAX + 2 * 1024 * 1024;
/// How long the connector may be silent before the next call sends a PING.
const PROBE_AFTER: Duration = Duration::from_millis(500);
/// How long the connector may take to close a connection on which nothing is left.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection of a connector. Clones refer to the same one.
#[derive(Clone)]
pub struct CloudflaredEdgeLink(Rc<Shared>);

struct Shared {
    core: Core,
    id: LinkId,
    calls_max: u32,
    queue: Rc<ConnectionQueue>,
    watch: Rc<AnswerWatch>,
    /// When the connection began.
    begun_at: Cell<Time>,
    /// Opens streams; `None` before the connection has begun, and once it takes no more calls.
    send: RefCell<Option<SendRequest<SendPiece>>>,
    /// What the connector has said of itself, or why it did not register.
    registration: RefCell<Option<Result<Registration, RegistrationFault>>>,
    /// Raised when the registration is there.
    asked: Signal,
    answer: RefCell<Option<RegistrationAnswer>>,
    /// Raised when the answer is there.
    answered: Signal,
    is_registered: Cell<bool>,
    calls: Cell<usize>,
    call_ended: Signal,
    /// The calls whose requests have begun, by stream.
    begun: RefCell<Vec<(u32, Weak<Halves>)>>,
    drain_begun: Signal,
    has_left: Cell<bool>,
    close: Signal,
    closed_for: Cell<Option<CloseReason>>,
    /// The rule that the connector should have.
    push: RefCell<Option<Push>>,
    /// Raised when that has changed.
    push_changed: Signal,
    /// Raised when a PING is to be sent.
    probe: Signal,
    pinged_at: Cell<Option<Time>>,
    round_trip: Cell<Option<Duration>>,
    ended: Cell<Option<CloudflaredEdgeEnded>>,
}

/// The terms of one connection.
pub struct CloudflaredEdgeTerms {
    /// The memory for windows of connections on this core.
    pub windows: Budget,
    /// How much of all answers is received ahead of the agents, in bytes, if there is memory for it.
    pub window: u32,
    /// How long the connector may take to register.
    pub register_timeout: Duration,
}

type H2 = Client<Io<Connection, AnswerWatch>, SendPiece>;

impl CloudflaredEdgeLink {
    /// A connection that does not run yet, with at most `calls_max` calls at a time.
    #[must_use]
    pub fn new(core: &Core, id: LinkId, calls_max: u32) -> CloudflaredEdgeLink {
        CloudflaredEdgeLink(Rc::new(Shared {
            core: core.clone(),
            id,
            calls_max,
            queue: Rc::default(),
            watch: Rc::default(),
            begun_at: Cell::new(core.now()),
            send: RefCell::default(),
            registration: RefCell::default(),
            asked: Signal::default(),
            answer: RefCell::default(),
            answered: Signal::default(),
            is_registered: Cell::new(false),
            calls: Cell::new(0),
            call_ended: Signal::default(),
            begun: RefCell::default(),
            drain_begun: Signal::default(),
            has_left: Cell::new(false),
            close: Signal::default(),
            closed_for: Cell::new(None),
            push: RefCell::default(),
            push_changed: Signal::default(),
            probe: Signal::default(),
            pinged_at: Cell::new(None),
            round_trip: Cell::new(None),
            ended: Cell::new(None),
        }))
    }

    /// Runs the connection to its end.
    pub async fn run(&self, connection: Connection, terms: CloudflaredEdgeTerms) -> CloudflaredEdgeEnded {
        let connection = Rc::new(connection);
        connection.serve_link();
        self.0.begun_at.set(self.core().now());
        let ended = self.serve(&connection, terms).await;
        self.0.ended.set(Some(ended));
        self.0.send.take();
        self.0.registration.borrow_mut().get_or_insert(Err(RegistrationFault::Closed));
        let Shared { asked, drain_begun, call_ended, .. } = &*self.0;
        [asked, drain_begun, call_ended].into_iter().for_each(Signal::raise);
        // The connector reads what was sent before it sees the end.
        if let Some(connection) = Rc::into_inner(connection) {
            self.core().spawn(connection.close_gracefully(CLOSE_TIMEOUT));
        }
        ended
    }

    /// Waits until the connector has asked to be registered.
    ///
    /// # Errors
    ///
    /// Why it did not.
    pub async fn registration(&self) -> Result<Registration, RegistrationFault> {
        loop {
            let seen = self.0.asked.count();
            if let Some(registration) = &*self.0.registration.borrow() {
                return registration.clone();
            }
            self.0.asked.after(seen).await;
        }
    }

    /// Answers the registration. From then on the connection takes calls, or closes if the connector was refused.
    pub fn answer(&self, answer: RegistrationAnswer) {
        self.0.is_registered.set(matches!(answer, RegistrationAnswer::Accepted { .. }));
        self.0.answer.replace(Some(answer));
        self.0.answered.raise();
    }

    /// Answers the registration with a refusal.
    pub fn refuse(&self, error: RegistrationError) {
        self.answer(RegistrationAnswer::Refused(error));
    }

    /// Its number, unique in this role.
    #[must_use]
    pub fn id(&self) -> LinkId {
        self.0.id
    }

    /// Opens a call, which becomes a request of HTTP/2.
    ///
    /// # Errors
    ///
    /// If the connection cannot take it.
    pub fn open(&self) -> Result<CloudflaredEdgeStream, CallOpenError> {
        if !self.0.is_registered.get() || self.0.ended.get().is_some() {
            return Err(CallOpenError::Unusable);
        }
        if self.is_draining() {
            return Err(CallOpenError::Draining);
        }
        let send = self.0.send.borrow().clone();
        let mut send = send.ok_or(CallOpenError::Unusable)?;
        if self.calls() >= (self.0.calls_max as usize).min(send.current_max_send_streams()) {
            return Err(CallOpenError::Full);
        }
        match send.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => Ok(CloudflaredEdgeStream::new(self, send)),
            Poll::Ready(Err(_)) => Err(CallOpenError::Unusable),
            Poll::Pending => Err(CallOpenError::Full),
        }
    }

    /// Whether calls may be opened.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.is_registered.get() && !self.is_draining()
    }

    /// How many calls are open on it.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.0.calls.get()
    }

    /// The last measured round-trip time, if there is one.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.0.round_trip.get()
    }

    /// Whether the connector has recently shown that it is alive.
    #[must_use]
    pub fn liveness(&self) -> Liveness {
        let (now, heard_at) = (self.core().turn_time(), self.heard_at());
        let owing = self.0.pinged_at.get().map_or(Duration::ZERO, |at| owing(at, heard_at, now));
        Liveness { silent: now - heard_at, owing, unproven: 0 }
    }

    /// Notes that a call begins. If the connector has been silent, it is sent a PING.
    pub fn on_call(&self) {
        if self.0.pinged_at.get().is_none() && self.core().turn_time() - self.heard_at() >= PROBE_AFTER {
            self.0.probe.raise();
        }
    }

    /// Sets the service to which the connector should send all calls. It gets it as ingress rules of this version, unless it has
    /// them already.
    pub fn set_service(&self, service: &str, version: i32) {
        let mut push = self.0.push.borrow_mut();
        if push.as_ref().is_none_or(|push| *push.service != *service) {
            *push = Some(Push { version, service: service.into() });
            self.0.push_changed.raise();
        }
    }

    /// Takes no new calls. Once the last one has ended, the connection is closed.
    pub fn drain(&self) {
        self.0.drain_begun.raise();
    }

    /// Whether it takes no new calls.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.drain_begun.count() > 0
    }

    /// Waits until it [drains](CloudflaredEdgeLink::is_draining).
    pub async fn draining(&self) {
        self.0.drain_begun.after(0).await;
    }

    /// Waits until the last call of a draining connection has ended, or the connection has.
    pub async fn drained(&self) {
        self.draining().await;
        loop {
            let seen = self.0.call_ended.count();
            if self.calls() == 0 || self.0.ended.get().is_some() {
                return;
            }
            self.0.call_ended.after(seen).await;
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
    pub fn ended(&self) -> Option<CloudflaredEdgeEnded> {
        self.0.ended.get()
    }

    pub(super) fn core(&self) -> &Core {
        &self.0.core
    }

    pub(super) fn queue(&self) -> &Rc<ConnectionQueue> {
        &self.0.queue
    }

    pub(super) fn heard_at(&self) -> Time {
        self.0.watch.received_at().max(self.0.begun_at.get())
    }

    /// Watches for the end of the answer on this stream, and for floods on it.
    pub(super) fn expect_answer(&self, stream: u32, halves: &Rc<Halves>) -> ExpectedAnswer {
        let mut begun = self.0.begun.borrow_mut();
        begun.retain(|(_, halves)| halves.strong_count() > 0);
        begun.push((stream, Rc::downgrade(halves)));
        self.0.watch.expect(stream)
    }

    /// The failure of calls that end with the connection.
    pub(super) fn failure_of_end(&self) -> CallFailure {
        match self.0.closed_for.get() {
            Some(CloseReason::Revoked) => CallFailure::Revoked,
            _ => CallFailure::LinkLost,
        }
    }

    pub(super) fn begin_call(&self) {
        self.0.calls.set(self.calls() + 1);
    }

    pub(super) fn end_call(&self) {
        self.0.calls.set(self.calls() - 1);
        self.0.call_ended.raise();
    }

    async fn serve(&self, connection: &Rc<Connection>, terms: CloudflaredEdgeTerms) -> CloudflaredEdgeEnded {
        let mut share = terms.windows.share();
        let windows = [terms.window.max(WINDOW_MIN), 1024 * 1024, 256 * 1024];
        let window = windows.into_iter().find(|window| share.set(*window as usize)).unwrap_or(WINDOW_MIN);
        let io = Io::of_server(self.core(), Rc::clone(connection), Rc::clone(&self.0.watch));
        let limit = terms.register_timeout;
        let begun = self.core().timeout(limit, builder(window).handshake::<_, SendPiece>(io)).await;
        let (send, mut h2) = match begun {
            Ok(Ok(begun)) => begun,
            Ok(Err(error)) => return self.fail(&error),
            Err(_) => return self.be_late(),
        };
        let control = match send.clone().send_request(control_request(), false) {
            Ok(opened) => ControlStream::new(opened, &self.0.queue),
            Err(error) => return self.fail(&error),
        };
        self.0.send.replace(Some(send));
        let control = self.core().spawn_held(self.clone().run_control(control));
        let pushes = self.core().spawn_held(self.clone().send_pushes());
        let pings = h2.ping_pong();
        let register_by = self.core().now() + limit;
        Serving { link: self, h2, pings, tasks: Some([control, pushes]), register_by, closes_at: Time::NEVER }
            .run()
            .await
    }

    fn fail(&self, error: &h2::Error) -> CloudflaredEdgeEnded {
        let fault = Err(RegistrationFault::Http2(error.to_string()));
        self.0.registration.borrow_mut().get_or_insert(fault);
        CloudflaredEdgeEnded::of(error)
    }

    /// The connector did not register in time.
    fn be_late(&self) -> CloudflaredEdgeEnded {
        self.0.registration.borrow_mut().get_or_insert(Err(RegistrationFault::Timeout));
        CloudflaredEdgeEnded::Silent
    }

    /// Sends the connector its rules, and again when they change.
    async fn send_pushes(self) {
        let mut seen = 0;
        loop {
            self.0.push_changed.after(seen).await;
            seen = self.0.push_changed.count();
            let (push_now, send) = (self.0.push.borrow().clone(), self.0.send.borrow().clone());
            let Some((push_now, send)) = push_now.zip(send) else { continue };
            let pushed = self.core().timeout(SILENCE_MAX, push(send, &self.0.queue, &push_now)).await;
            let (link, version) = (self.id(), push_now.version);
            match pushed {
                Ok(Ok(())) => {
                    tracing::info!(%link, version, "a connector of cloudflared has applied its ingress rules")
                }
                Ok(Err(error)) => {
                    tracing::warn!(%link, version, %error, "a connector of cloudflared did not apply its ingress rules");
                }
                Err(_) => {
                    tracing::warn!(%link, version, "a connector of cloudflared did not answer to its ingress rules")
                }
            }
        }
    }

    /// Runs the control stream to its end. Without it the connector takes no more calls.
    async fn run_control(self, control: ControlStream) {
        let on_request = |request| match request {
            ControlRequest::Register(registration) => {
                self.0.registration.borrow_mut().get_or_insert(Ok(*registration));
                self.0.asked.raise();
            }
            ControlRequest::Unregister => {
                self.0.has_left.set(true);
                self.drain();
            }
        };
        let running = control.run(&self.0.answered, || self.0.answer.take(), on_request);
        // A connector that was refused may wait until the edge closes.
        let refused = async {
            self.0.answered.after(0).await;
            if self.0.is_registered.get() {
                pending::<()>().await;
            }
            self.core().sleep(CLOSE_TIMEOUT).await;
            Ok(())
        };
        let ended = future::or(running, refused).await;
        if let Err(fault) = &ended {
            tracing::debug!(%fault, "the control stream of a connector of cloudflared has ended");
        }
        let fault = ended.err().unwrap_or(RegistrationFault::Closed);
        self.0.registration.borrow_mut().get_or_insert(Err(fault));
        self.0.asked.raise();
        self.0.has_left.set(true);
        self.drain();
    }
}

/// How long a PING that was sent at `pinged_at` has been unanswered while nothing arrived. What arrives before its answer only
/// shows that the connector was alive then.
fn owing(pinged_at: Time, heard_at: Time, now: Time) -> Duration {
    now - pinged_at.max(heard_at)
}

fn builder(window: u32) -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW.min(window))
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
    fn a_connector_owes_an_answer_to_a_ping_also_after_other_data_has_arrived() {
        let at = |ms| Time::ZERO + Duration::from_millis(ms);
        assert_eq!(owing(at(5_000), at(1_000), at(6_000)), Duration::from_secs(1));
        assert_eq!(owing(at(5_000), at(5_500), at(6_500)), Duration::from_secs(1));
    }
}
