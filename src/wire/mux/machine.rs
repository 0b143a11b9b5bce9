use std::collections::VecDeque;
use std::time::Duration;

use crate::base::{Chunk, Time};

use super::cause::Cause;
use super::event::{Event, OpenError, SendError, Side, StreamError, StreamId};
use super::fault::{Fault, Refusal};
use super::flood::Flood;
use super::flow::{Credit, Window};
use super::hello::{EdgeIdentity, Hello, HelloError, Refused, VERSION, Welcome};
use super::open::Open;
use super::phases::Phases;
use super::receive::Inbound;
use super::schedule::Schedule;
use super::settings::Settings;
use super::stream::{Item, QUEUE_ITEMS_MAX, Sending, Stream, Streams};

/// How many frames that carry no data a peer may have had on their way for each stream that has ended.
pub(super) const STALE_FRAMES_EACH: u32 = 16;
/// The most such frames for all ended streams together.
pub(super) const STALE_FRAMES_MAX: u32 = 65_536;
/// How many streams can wait at once to be turned away for want of a slot.
pub(super) const TURNED_AWAY_MAX: usize = 1_024;
/// How many PINGs can wait at once for their answer.
pub(super) const PONGS_MAX: usize = 32;
/// After how many ping intervals a busy link is measured again.
const ROUND_TRIP_INTERVALS: u32 = 4;

const PINGS_BURST: u32 = 64;
const PINGS_PER_S: u32 = 20;
const EMPTY_DATA_BURST: u32 = 256;
const EMPTY_DATA_PER_S: u32 = 100;
/// The ids that the edge gives are odd; even ones are kept for a later version in which the connector opens streams.
const FIRST_STREAM: u32 = 1;

/// Which role this side of the link has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Edge,
    Connector,
}

/// How far the link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The edge waits for HELLO.
    HelloAwaited,
    /// The edge's application has not answered yet.
    AnswerAwaited,
    /// The connector waits for WELCOME or REFUSED.
    WelcomeAwaited,
    /// Streams may run.
    Ready,
    /// Nothing is read any more; a last frame may be left to send.
    Over,
}

/// The greeting that is still to be sent.
#[derive(Debug)]
pub(super) enum Greeting {
    Hello(Box<Hello>),
    Welcome(Welcome),
    Refused(Refused),
}

/// One side of an adit link: bytes and the time in, bytes and events out (`docs/PROTOCOL.md`).
///
/// The transport feeds [`receive`](Mux::receive) and [`handle_timeout`](Mux::handle_timeout), then takes every
/// [`poll_event`](Mux::poll_event), and sends what [`poll_transmit`](Mux::poll_transmit) hands out, which may bring events
/// again. What is queued between two such turns is bounded by the windows and by the bytes that were fed.
#[derive(Debug)]
pub struct Mux<B> {
    pub(super) role: Role,
    pub(super) settings: Settings,
    pub(super) progress: Progress,
    pub(super) inbound: Inbound,
    pub(super) events: VecDeque<Event<B>>,
    pub(super) streams: Streams<B>,
    pub(super) schedule: Schedule,
    /// How many streams can send now, as far as their own credit goes.
    pub(super) ready: usize,
    /// How many streams are over on the wire and only wait for the application.
    pub(super) lingering: usize,

    pub(super) greeting: Option<Greeting>,
    /// Slots with a control frame to send.
    pub(super) control: VecDeque<u32>,
    /// Streams that were turned away without ever having a slot.
    pub(super) turned_away: VecDeque<(u32, Cause)>,
    pub(super) pongs: VecDeque<u64>,
    pub(super) ping_due: bool,
    /// The time stamp of the PING that is not answered yet.
    pub(super) ping_out: Option<u64>,
    pub(super) link_credit_due: bool,
    pub(super) drain_due: bool,
    pub(super) drain_sent: bool,
    pub(super) drain_received: bool,
    pub(super) close_due: Option<Fault>,
    pub(super) scratch: Vec<u8>,

    pub(super) credit: Credit,
    pub(super) window: Window,
    /// The id of the next stream; `None` when they are used up.
    pub(super) next_id: Option<u32>,
    /// The highest id opened so far.
    pub(super) last_id: u32,
    /// How many bytes and frames can still be on their way for streams that have ended.
    pub(super) stale_bytes: u32,
    pub(super) stale_frames: u32,
    pub(super) resets: Flood,
    pub(super) pings: Flood,
    pub(super) empties: Flood,

    started_at: Time,
    pub(super) heard_at: Time,
    pinged_at: Time,
}

impl<B: Chunk> Mux<B> {
    /// The edge's side of a new connection: it waits for HELLO.
    #[must_use]
    pub fn edge(now: Time, settings: Settings) -> Mux<B> {
        Mux::new(now, settings, Role::Edge, Progress::HelloAwaited, None)
    }

    /// The connector's side of a new connection: it says HELLO.
    ///
    /// # Errors
    ///
    /// When the secret has no length that can be sent.
    pub fn connector(now: Time, settings: Settings, hello: Hello) -> Result<Mux<B>, HelloError> {
        hello.check()?;
        let greeting = Some(Greeting::Hello(Box::new(hello)));
        Ok(Mux::new(now, settings, Role::Connector, Progress::WelcomeAwaited, greeting))
    }

    fn new(now: Time, settings: Settings, role: Role, progress: Progress, greeting: Option<Greeting>) -> Mux<B> {
        let settings = settings.bounded();
        Mux {
            role,
            settings,
            progress,
            inbound: Inbound::new(),
            events: VecDeque::new(),
            streams: Streams::new(),
            schedule: Schedule::default(),
            ready: 0,
            lingering: 0,
            greeting,
            control: VecDeque::new(),
            turned_away: VecDeque::new(),
            pongs: VecDeque::new(),
            ping_due: false,
            ping_out: None,
            link_credit_due: false,
            drain_due: false,
            drain_sent: false,
            drain_received: false,
            close_due: None,
            scratch: Vec::new(),
            credit: Credit::new(settings.link_window),
            window: Window::new(settings.link_window),
            next_id: Some(FIRST_STREAM),
            last_id: 0,
            stale_bytes: 0,
            stale_frames: STALE_FRAMES_EACH,
            resets: Flood::new(settings.resets_burst, settings.resets_per_s),
            pings: Flood::new(PINGS_BURST, PINGS_PER_S),
            empties: Flood::new(EMPTY_DATA_BURST, EMPTY_DATA_PER_S),
            started_at: now,
            heard_at: now,
            pinged_at: now,
        }
    }

    /// What has happened next, if anything.
    pub fn poll_event(&mut self) -> Option<Event<B>> {
        self.events.pop_front()
    }

    /// At the edge: lets the connector in. Ignored unless [`Event::Hello`] awaits its answer.
    pub fn welcome(&mut self, now: Time, edge: EdgeIdentity) {
        if self.progress != Progress::AnswerAwaited {
            return;
        }
        self.greeting = Some(Greeting::Welcome(Welcome {
            version: VERSION,
            instance: edge.instance,
            core: edge.core,
            cores: edge.cores,
            streams_max: self.settings.streams_max,
            stream_window: self.settings.stream_window,
            link_window: self.settings.link_window,
            ping_interval_ms: self.settings.ping_interval_ms,
        }));
        self.become_ready(now);
    }

    /// At the edge: does not let the connector in, and ends the link. Ignored unless [`Event::Hello`] awaits its answer.
    pub fn refuse(&mut self, refusal: Refusal, reason: &str) {
        if self.progress == Progress::AnswerAwaited {
            self.turn_down(refusal, reason, Fault::Refused);
        }
    }

    /// At the edge: opens a stream.
    ///
    /// # Errors
    ///
    /// When the link cannot take it now, or never; see [`OpenError`].
    pub fn open(&mut self, open: &Open<'_>) -> Result<StreamId, OpenError> {
        match self.progress {
            Progress::Ready => {}
            Progress::Over => return Err(OpenError::Closed),
            _ => return Err(OpenError::NotReady),
        }
        if self.role != Role::Edge {
            return Err(OpenError::WrongSide);
        }
        if !open.is_sendable() {
            return Err(OpenError::Unsendable);
        }
        if self.drain_due || self.drain_sent {
            return Err(OpenError::Draining);
        }
        if self.streams.live() >= self.settings.streams_max as usize {
            return Err(OpenError::StreamLimit);
        }
        let id = self.next_id.ok_or(OpenError::Draining)?;
        self.next_id = id.checked_add(2);
        self.last_id = id;
        let slot = self.streams.insert(id, self.settings.stream_window);
        let stream = self.streams.at(slot);
        open.encode(&mut stream.opening);
        stream.open_due = true;
        self.list(slot);
        if self.next_id.is_none() {
            self.drain();
        }
        Ok(StreamId { id, slot })
    }

    /// For what a stream was opened; `None` when it is gone.
    #[must_use]
    pub fn opening(&self, stream: StreamId) -> Option<Open<'_>> {
        Open::decode(&self.streams.get(stream)?.opening).ok()
    }

    /// How many bytes more the stream should be given; 0 when it is gone, finished, or full.
    ///
    /// One chunk may overshoot it. Once it was 0, [`Event::Writable`] tells when half of the backlog has gone out.
    pub fn capacity(&mut self, stream: StreamId) -> usize {
        let backlog = self.settings.backlog as usize;
        let Ok(slot) = self.sendable(stream) else { return 0 };
        let found = self.streams.at(slot);
        let room = if found.queue.len() >= QUEUE_ITEMS_MAX { 0 } else { backlog.saturating_sub(found.queued) };
        found.wants_room |= room == 0;
        room
    }

    /// Queues bytes on a stream. Empty chunks are dropped.
    ///
    /// # Errors
    ///
    /// Gives the chunk back when the stream is gone, finished, or has no [`capacity`](Mux::capacity).
    pub fn send(&mut self, stream: StreamId, chunk: B) -> Result<(), SendError<B>> {
        let slot = match self.sendable(stream) {
            Ok(slot) => slot,
            Err(error) => return Err(SendError { error, chunk }),
        };
        if self.capacity(stream) == 0 {
            return Err(SendError { error: StreamError::Backlogged, chunk });
        }
        if !chunk.is_empty() {
            let found = self.streams.at(slot);
            found.queued += chunk.len();
            found.queue.push_back(Item::Bytes(chunk));
            self.touch(slot);
        }
        Ok(())
    }

    /// At the connector: queues a report of the call's time behind the bytes queued so far.
    ///
    /// # Errors
    ///
    /// When the stream is gone or finished, this stage has been reported, or this is the edge.
    pub fn phases(&mut self, stream: StreamId, phases: Phases) -> Result<(), StreamError> {
        if self.role != Role::Connector {
            return Err(StreamError::WrongSide);
        }
        let slot = self.sendable(stream)?;
        let found = self.streams.at(slot);
        if !found.book_stage(phases.stage) {
            return Err(StreamError::Repeated);
        }
        found.queue.push_back(Item::Phases(phases));
        self.touch(slot);
        Ok(())
    }

    /// Says that nothing more is sent on the stream than what is queued.
    ///
    /// # Errors
    ///
    /// When the stream is gone, or this has been said before.
    pub fn finish(&mut self, stream: StreamId) -> Result<(), StreamError> {
        let slot = self.sendable(stream)?;
        self.streams.at(slot).sending = Sending::Finishing;
        self.touch(slot);
        Ok(())
    }

    /// Breaks a stream off: what is queued on it is dropped, no event of it follows. Ignored when it is gone.
    pub fn reset(&mut self, stream: StreamId, cause: Cause) {
        let Ok(slot) = self.slot_of(stream) else { return };
        self.events.retain(|event| event.stream() != Some(stream));
        let found = self.streams.at(slot);
        let (unsent, lingers) = (found.open_due, found.lingers);
        found.drop_output();
        if unsent || lingers {
            self.release(slot);
            return;
        }
        found.reset_due = Some(cause);
        let held = found.window.held();
        found.window.consume(held);
        self.give_back(held);
        self.touch(slot);
        self.list(slot);
    }

    /// Says that the application has taken `n` bytes of what [`Event::Data`] gave it on this stream: the peer gets
    /// credit for them. More than was given counts as all of it; on a stream that is gone nothing is left to say.
    pub fn consumed(&mut self, stream: StreamId, n: usize) {
        let Ok(slot) = self.slot_of(stream) else { return };
        let found = self.streams.at(slot);
        let taken = found.window.consume(u32::try_from(n).unwrap_or(u32::MAX));
        if !found.peer_finished && !found.credit_due && found.window.is_due() {
            found.credit_due = true;
            self.list(slot);
        }
        self.give_back(taken);
        self.settle(slot);
    }

    /// Takes no new streams from here on, and asks the peer to do the same. What runs may finish.
    pub fn drain(&mut self) {
        self.drain_due |= self.progress == Progress::Ready && !self.drain_sent;
    }

    /// Whether a drain was asked for, by either side.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drain_due || self.drain_sent || self.drain_received
    }

    /// Whether both sides have agreed to drain and the last stream has ended: the link can be closed without loss.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.drain_sent && self.drain_received && self.streams.live() == 0 && !self.wants_transmit()
    }

    /// Whether the greeting is over and the link has not ended.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.progress == Progress::Ready
    }

    /// Whether the link is over and its last frame has been handed out.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.progress == Progress::Over && !self.wants_transmit()
    }

    /// How many streams are on the link, with those that the application has not finished reading.
    #[must_use]
    pub fn streams_live(&self) -> usize {
        self.streams.live()
    }

    /// Ends the link at once and tells the peer why. Open streams are reset. Ignored when the link is over.
    pub fn close(&mut self, fault: Fault) {
        self.end(fault, Side::Local, true, u32::MAX);
    }

    /// Ends the link because the connection under it is gone. Ignored when the link is over.
    pub fn lost(&mut self) {
        self.end(Fault::TransportLost, Side::Local, false, u32::MAX);
    }

    /// How long nothing has come from the peer.
    #[must_use]
    pub fn silent_for(&self, now: Time) -> Duration {
        now.since(self.heard_at)
    }

    /// Measures the round trip now, unless a PING is under way.
    pub fn ping(&mut self, now: Time) {
        if self.progress == Progress::Ready && self.ping_out.is_none() && !self.ping_due {
            self.ping_due = true;
            self.pinged_at = now;
        }
    }

    /// When [`handle_timeout`](Mux::handle_timeout) wants to be called; it may change with every other call.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        match self.progress {
            Progress::Over => None,
            Progress::Ready if self.is_pinging() => Some(self.dead_at()),
            Progress::Ready => Some(self.ping_at()),
            _ => Some(self.started_at + self.settings.hello_timeout()),
        }
    }

    /// Does what the time asks for. Feed what has been received before, so that a process that slept does not take its
    /// own silence for the peer's.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        if self.progress != Progress::Ready {
            self.end(Fault::HelloTimeout, Side::Local, true, u32::MAX);
        } else if self.is_pinging() {
            self.end(Fault::PeerSilent, Side::Local, true, u32::MAX);
        } else {
            self.ping(now);
        }
    }

    /// Whether a PING is under way or about to be.
    fn is_pinging(&self) -> bool {
        self.ping_due || self.ping_out.is_some()
    }

    fn ping_at(&self) -> Time {
        let interval = self.settings.ping_interval();
        let quiet = self.heard_at.max(self.pinged_at) + interval;
        quiet.min(self.pinged_at + interval * ROUND_TRIP_INTERVALS)
    }

    fn dead_at(&self) -> Time {
        let silent = self.heard_at + self.settings.silence_max();
        silent.max(self.pinged_at + self.settings.ping_interval())
    }

    /// The greeting is over.
    pub(super) fn become_ready(&mut self, now: Time) {
        self.progress = Progress::Ready;
        self.heard_at = now;
        self.ping(now);
    }

    /// Ends the link with REFUSED instead of CLOSE.
    pub(super) fn turn_down(&mut self, refusal: Refusal, reason: &str, fault: Fault) {
        self.end(fault, Side::Local, false, u32::MAX);
        self.greeting = Some(Greeting::Refused(Refused::new(refusal, reason)));
    }

    /// Ends the link. Streams above `last_taken` were never taken up by the peer.
    pub(super) fn end(&mut self, fault: Fault, by: Side, tell: bool, last_taken: u32) {
        if self.progress == Progress::Over {
            return;
        }
        self.progress = Progress::Over;
        self.control.clear();
        let slots: Vec<u32> = self.streams.slots_by_id().collect();
        for slot in slots {
            let Stream { id, open_due, reset_due, .. } = *self.streams.at(slot);
            if reset_due.is_none() {
                let cause = if open_due || id > last_taken { Cause::NotSent } else { Cause::LinkLost };
                self.events.push_back(Event::Reset { stream: StreamId { id, slot }, cause });
            }
            self.release(slot);
        }
        self.turned_away.clear();
        self.pongs.clear();
        self.link_credit_due = false;
        self.ping_due = false;
        self.drain_due = false;
        self.greeting = None;
        self.close_due = tell.then_some(fault);
        self.events.push_back(Event::Closed { fault, by });
    }

    /// Books bytes that are no longer held for anybody.
    pub(super) fn give_back(&mut self, n: u32) {
        self.window.consume(n);
        self.link_credit_due |= self.window.is_due();
    }

    /// Puts a slot into the queue of control frames.
    pub(super) fn list(&mut self, slot: u32) {
        let stream = self.streams.at(slot);
        if !stream.listed {
            stream.listed = true;
            self.control.push_back(slot);
        }
    }

    /// Takes a slot out of the queue of control frames. It must not stay: the next stream in the slot would have the place of
    /// this one, and its OPEN would go before that of an older stream.
    fn unlist(&mut self, slot: u32) {
        if self.control.front() == Some(&slot) {
            self.control.pop_front();
        } else {
            self.control.retain(|listed| *listed != slot);
        }
    }

    /// Keeps the schedule and the count of ready streams true after anything that may change whether one can send.
    pub(super) fn touch(&mut self, slot: u32) {
        let stream = self.streams.at(slot);
        let can = stream.id != 0 && stream.can_send();
        if can == stream.ready {
            return;
        }
        stream.ready = can;
        if can {
            self.ready += 1;
            self.schedule.wake(slot);
        } else {
            self.ready -= 1;
        }
    }

    /// Lets go of a stream that is over on the wire, unless the application still holds bytes of it.
    pub(super) fn settle(&mut self, slot: u32) {
        let stream = self.streams.at(slot);
        if stream.id == 0 || stream.sending != Sending::Finished || !stream.peer_finished {
            return;
        }
        if stream.window.held() == 0 {
            self.release(slot);
        } else if !stream.lingers {
            stream.lingers = true;
            self.lingering += 1;
        }
    }

    /// Empties a slot.
    pub(super) fn release(&mut self, slot: u32) {
        let stream = self.streams.at(slot);
        let (held, left) = (stream.window.held(), stream.window.left());
        let (lingers, ready, ended) = (stream.lingers, stream.ready, stream.peer_finished);
        stream.ready = false;
        if std::mem::take(&mut stream.listed) {
            self.unlist(slot);
        }
        self.lingering -= usize::from(lingers);
        self.ready -= usize::from(ready);
        self.schedule.leave(slot);
        self.streams.remove(slot);
        self.give_back(held);
        self.expect_stale(if ended { 0 } else { left });
    }

    /// Books what can still be on its way for a stream that has ended. What is on its way for all of them together can
    /// be no more than the link's window.
    pub(super) fn expect_stale(&mut self, bytes: u32) {
        self.stale_bytes = self.stale_bytes.saturating_add(bytes).min(self.settings.link_window);
        self.stale_frames = (self.stale_frames + STALE_FRAMES_EACH).min(STALE_FRAMES_MAX);
    }

    /// The slot of a stream that the application may still speak of.
    fn slot_of(&self, stream: StreamId) -> Result<u32, StreamError> {
        self.streams.get(stream).filter(|found| found.reset_due.is_none()).map(|_| stream.slot).ok_or(StreamError::Gone)
    }

    /// The slot of a stream on which the application may still send.
    fn sendable(&self, stream: StreamId) -> Result<u32, StreamError> {
        let slot = self.slot_of(stream)?;
        let open = self.streams.get(stream).is_some_and(|found| found.sending == Sending::Open);
        if open { Ok(slot) } else { Err(StreamError::Finished) }
    }

    /// Makes the next stream of both sides start at `id`, so that a test need not open two thousand million.
    #[cfg(test)]
    pub(super) fn skip_to(&mut self, id: u32) {
        self.next_id = Some(id);
        self.last_id = id - 2;
    }
}
