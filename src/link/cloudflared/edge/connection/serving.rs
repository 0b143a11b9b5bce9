//! What happens on a connection on which HTTP/2 has begun: its frames, its PINGs, and its end.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use h2::{Ping, PingPong};

use super::{CLOSE_TIMEOUT, CloudflaredEdgeLink, H2};
use crate::base::{Clock, Time};
use crate::engine::{Task, Timer};
use crate::link::close_reason::CloseReason;
use crate::link::cloudflared::edge::ended::CloudflaredEdgeEnded;

/// How long the connector may be silent before it is sent a PING, and how long it may then take to send anything.
const PING_AFTER: Duration = Duration::from_secs(5);
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A connection on which HTTP/2 has begun.
pub(super) struct Serving<'a> {
    pub(super) link: &'a CloudflaredEdgeLink,
    pub(super) h2: H2,
    pub(super) pings: Option<PingPong>,
    /// The control stream and the pushes, until the connection closes.
    pub(super) tasks: Option<[Task<()>; 2]>,
    pub(super) register_by: Time,
    /// When the connection is dropped even if the connector keeps it open.
    pub(super) closes_at: Time,
}

enum Event {
    Ended(Result<(), h2::Error>),
    Pong,
    Probe,
    /// The last call of a draining connection has ended.
    Drained,
    ToClose,
    /// The small frames of one answer need too much memory.
    Flood(u32),
    Look,
}

impl Serving<'_> {
    pub(super) async fn run(mut self) -> CloudflaredEdgeEnded {
        let core = self.link.core().clone();
        let shared = &self.link.0;
        let mut timer = core.timer();
        loop {
            let heard_at = self.link.heard_at();
            let pinged_at = shared.pinged_at.get();
            let silent_at = match pinged_at {
                Some(at) => at.max(heard_at) + (SILENCE_MAX - PING_AFTER),
                None => heard_at + PING_AFTER,
            };
            let is_registering = shared.registration.borrow().is_none();
            let register_by = if is_registering { self.register_by } else { Time::NEVER };
            timer.set(silent_at.min(self.closes_at).min(register_by));
            match self.next(&mut timer).await {
                Event::Ended(ended) => {
                    let ended = match ended {
                        Ok(()) => CloudflaredEdgeEnded::ByConnector,
                        Err(error) => self.link.fail(&error),
                    };
                    return self.closed().unwrap_or(ended);
                }
                Event::Pong => {
                    if let Some(sent) = shared.pinged_at.take() {
                        shared.round_trip.set(Some(core.now() - sent));
                    }
                }
                Event::Probe => self.ping(core.now()),
                Event::Drained => self.begin_close(core.now()),
                // Nothing is left, so that the end can be a graceful one.
                Event::ToClose if self.link.calls() == 0 => self.begin_close(core.now()),
                Event::ToClose => return self.closed().unwrap_or(CloudflaredEdgeEnded::Left),
                Event::Flood(stream) => {
                    if !self.is_being_read(stream).await {
                        self.cut(stream);
                    }
                }
                Event::Look => {
                    let now = core.now();
                    if self.closes_at <= now {
                        return self.closed().unwrap_or(CloudflaredEdgeEnded::Left);
                    }
                    if shared.registration.borrow().is_none() && self.register_by <= now {
                        return self.link.be_late();
                    }
                    match shared.pinged_at.get() {
                        None if now - self.link.heard_at() >= PING_AFTER => self.ping(now),
                        Some(at) if now - at.max(self.link.heard_at()) >= SILENCE_MAX - PING_AFTER => {
                            return CloudflaredEdgeEnded::Silent;
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    async fn next(&mut self, timer: &mut Timer) -> Event {
        let link = self.link;
        let is_closing = self.closes_at != Time::NEVER;
        let probes = link.0.probe.count();
        let mut probe = pin!(link.0.probe.after(probes));
        let mut to_close = pin!(link.0.close.after(0));
        let mut drained = pin!(link.drained());
        let (h2, pings) = (&mut self.h2, &mut self.pings);
        poll_fn(|cx| {
            if let Poll::Ready(ended) = Pin::new(&mut *h2).poll(cx) {
                return Poll::Ready(Event::Ended(ended));
            }
            if let Some(stream) = link.0.watch.frames().flood() {
                return Poll::Ready(Event::Flood(stream));
            }
            if let Some(pings) = pings.as_mut()
                && pings.poll_pong(cx).is_ready()
            {
                return Poll::Ready(Event::Pong);
            }
            if !is_closing && to_close.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::ToClose);
            }
            // The answer to a registration has to leave first.
            let has_said_all = link.0.answer.borrow().is_none();
            if !is_closing && has_said_all && drained.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::Drained);
            }
            if probe.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::Probe);
            }
            timer.poll_elapsed(cx).map(|()| Event::Look)
        })
        .await
    }

    fn ping(&mut self, now: Time) {
        if self.link.0.pinged_at.get().is_none() {
            // A PING that cannot be sent is one that is not answered.
            let _ = self.pings.as_mut().map(|pings| pings.send_ping(Ping::opaque()));
            self.link.0.pinged_at.set(Some(now));
        }
    }

    /// Ends the connection, on which no call is left: the control stream is dropped, and GOAWAY is sent.
    fn begin_close(&mut self, now: Time) {
        self.closes_at = now + CLOSE_TIMEOUT;
        self.tasks = None;
        self.link.0.send.take();
    }

    /// How the connection ended, if this side closed it.
    fn closed(&self) -> Option<CloudflaredEdgeEnded> {
        let shared = &self.link.0;
        match shared.closed_for.get() {
            Some(reason) => Some(CloudflaredEdgeEnded::Closed(reason)),
            None if self.closes_at == Time::NEVER => None,
            None if shared.has_left.get() => Some(CloudflaredEdgeEnded::Left),
            None => Some(CloudflaredEdgeEnded::Closed(CloseReason::Ended)),
        }
    }

    /// Whether the reader of an answer takes any of it within a turn. One read may deliver too much before the reader has had
    /// a chance.
    async fn is_being_read(&self, stream: u32) -> bool {
        let cost = || self.link.0.watch.frames().small_cost(stream);
        let before = cost();
        self.link.core().turn_end().await;
        cost() < before
    }

    /// Resets a stream whose answer needs too much memory, so that the others can continue.
    fn cut(&self, stream: u32) {
        let shared = &self.link.0;
        let begun = shared.begun.borrow().iter().find(|(of, _)| *of == stream).and_then(|(_, halves)| halves.upgrade());
        begun.into_iter().for_each(|halves| halves.cut());
        shared.watch.frames_mut().forget_answer(stream);
    }
}
