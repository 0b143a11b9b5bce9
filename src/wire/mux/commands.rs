use crate::base::{Chunk, Time};
use crate::wire::Refusal;

use super::cause::Cause;
use super::event::{Event, OpenError, SendError, Side, StreamError, StreamId};
use super::fault::Fault;
use super::flow::{CREDIT_MAX, Credit, Window};
use super::hello::{EdgeIdentity, VERSION, Welcome};
use super::machine::{Greeting, Mux, Progress, Role};
use super::open::Open;
use super::phases::Phases;
use super::settings::Settings;
use super::stream::{Item, QUEUE_ITEMS_MAX, Sending};

/// How far a stream's backlog may be exceeded by one who asked whether there is room and then sent several chunks: two of
/// the largest buffers, with what frames them.
pub const OVERSHOOT_MAX: usize = 256 * 1024;

/// What the application says and asks.
impl<B: Chunk> Mux<B> {
    /// What has happened next, if anything.
    pub fn poll_event(&mut self) -> Option<Event<B>> {
        self.events.pop_front()
    }

    /// At the edge, before [`welcome`](Mux::welcome): the size in bytes with which the window of the link begins in both
    /// directions, instead of that in the settings. Ignored afterwards.
    pub fn set_link_window(&mut self, size: u32) {
        if self.progress == Progress::AnswerAwaited {
            self.settings = Settings { link_window: size, ..self.settings }.bounded();
            self.credit = Credit::new(self.settings.link_window);
            self.window = Window::new(self.settings.link_window);
        }
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

    /// How many bytes more the stream should be given; 0 when it is gone, finished, or full. It is full with the backlog of
    /// the settings, or with `allowance` bytes where that is less.
    ///
    /// What belongs together may overshoot it, by up to [`OVERSHOOT_MAX`] bytes. Once it was 0, [`Event::Writable`] tells
    /// when half of that has gone out.
    pub fn capacity(&mut self, stream: StreamId, allowance: usize) -> usize {
        let backlog = allowance.min(self.settings.backlog as usize);
        let Ok(slot) = self.sendable(stream) else { return 0 };
        let found = self.streams.at(slot);
        let room = if found.queue.len() >= QUEUE_ITEMS_MAX { 0 } else { backlog.saturating_sub(found.queued) };
        if room == 0 {
            found.wants_room = true;
            found.room_below = backlog / 2;
        }
        room
    }

    /// Queues bytes on a stream. Empty chunks are dropped.
    ///
    /// # Errors
    ///
    /// Gives the chunk back when the stream is gone, finished, or was given far more than its
    /// [`capacity`](Mux::capacity).
    pub fn send(&mut self, stream: StreamId, chunk: B) -> Result<(), SendError<B>> {
        let slot = match self.sendable(stream) {
            Ok(slot) => slot,
            Err(error) => return Err(SendError { error, chunk }),
        };
        let queued_max = self.settings.backlog as usize + OVERSHOOT_MAX;
        let found = self.streams.at(slot);
        if found.queued >= queued_max || found.queue.len() >= 2 * QUEUE_ITEMS_MAX {
            found.wants_room = true;
            found.room_below = self.settings.backlog as usize / 2;
            return Err(SendError { error: StreamError::Backlogged, chunk });
        }
        if !chunk.is_empty() {
            found.queued += chunk.len();
            found.stages = 0;
            let chunk = match found.queue.back_mut() {
                Some(Item::Bytes(last)) => last.absorb(chunk),
                _ => Some(chunk),
            };
            found.queue.extend(chunk.map(Item::Bytes));
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

    /// Says that the application has no more use for a stream. When both sides have finished, what is queued still goes
    /// out; otherwise the stream is reset with `cause`, as by [`reset`](Mux::reset). Ignored when it is gone.
    pub fn let_go(&mut self, stream: StreamId, cause: Cause) {
        let Ok(slot) = self.slot_of(stream) else { return };
        let found = self.streams.at(slot);
        if found.peer_finished && found.sending != Sending::Open {
            self.events.retain(|event| event.stream() != Some(stream));
            self.consumed(stream, usize::MAX);
        } else {
            self.reset(stream, cause);
        }
    }

    /// Whether everything that was queued on a stream has been handed out, its end included once it was finished. So it
    /// is when the stream is gone.
    #[must_use]
    pub fn is_sent(&self, stream: StreamId) -> bool {
        let Ok(_) = self.slot_of(stream) else { return true };
        self.streams.get(stream).is_none_or(|found| found.queue.is_empty() && found.sending != Sending::Finishing)
    }

    /// Says that the application has taken `n` bytes of what [`Event::Data`] gave it on this stream: the peer gets
    /// credit for them. More than was given counts as all of it; on a stream that is gone nothing is left to say.
    pub fn consumed(&mut self, stream: StreamId, n: usize) {
        let Ok(slot) = self.slot_of(stream) else { return };
        // Only a link that is tight asks for it.
        let share = self.is_tight.then(|| self.share_received().of(self.window.left()));
        let found = self.streams.at(slot);
        let taken = found.window.consume(u32::try_from(n).unwrap_or(u32::MAX));
        found.taken = found.taken.saturating_add(taken);
        if !found.peer_finished && !found.credit_due && found.window.is_due_beside(share) {
            found.credit_due = true;
            self.list(slot);
        }
        self.give_back(taken);
        self.settle(slot);
    }

    /// The size of the window of the link in which the peer sends, in bytes.
    #[cfg(test)]
    pub(super) fn window_size(&self) -> u32 {
        self.window.size()
    }

    /// Whether the peer is told next how much it may send on the link: the moment to ask for
    /// [another size](Mux::resize_window).
    #[must_use]
    pub fn is_window_due(&self) -> bool {
        self.link_credit_due && self.progress == Progress::Ready
    }

    /// Whether the size of the window holds the peer up, and not those who take what it sends: it had less than half of the
    /// window left, and a quarter at most waits to be taken.
    #[must_use]
    pub fn is_window_short(&self) -> bool {
        self.window.left() < self.window.size() / 2 && self.window.held() <= self.window.size() / 4
    }

    /// Makes the window of the link larger, or smaller as far as the peer has not been told already that it may send; says
    /// what its size is now, in bytes.
    pub fn resize_window(&mut self, size: u32) -> u32 {
        self.window.resize(size.min(CREDIT_MAX));
        // The peer hears of it at once: it shares the window out by the size that it knows.
        self.link_credit_due = self.window.owed() > 0 && self.progress == Progress::Ready;
        self.watch_window();
        self.window.size()
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
    #[cfg(test)]
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
}
