use crate::base::{Chunk, HostSet, Time, Traffic};
use crate::wire::RegistrationRefusal;
use crate::wire::field::Fields;

use super::cause::Cause;
use super::event::{Event, OpenError, SendError, Side, StreamCommandError, StreamId};
use super::fault::Fault;
use super::flow::{CREDIT_MAX, Credit, Window};
use super::hello::{EdgeIdentity, VERSION_WITH_BUDGET, Welcome};
use super::machine::{Greeting, LinkRole, LinkState, Mux};
use super::open::{Open, decode_call};
use super::phases::Phases;
use super::settings::Settings;
use super::stream::{Item, QUEUE_ITEMS_MAX, SendState, Withdrawal};

/// How far an application may exceed the backlog of a stream if it checks for room and then sends several chunks: the
/// size of two of the largest buffers, with their framing.
pub const OVERSHOOT_MAX: usize = 256 * 1024;

/// Commands of the application.
impl<B: Chunk> Mux<B> {
    /// The next event, if there is one.
    pub fn poll_event(&mut self) -> Option<Event<B>> {
        self.events.pop_front()
    }

    /// At the edge, before [`welcome`](Mux::welcome): sets the initial window of the link in both directions, in bytes,
    /// instead of the one in the settings. Ignored afterwards.
    pub fn set_link_window(&mut self, size: u32) {
        if self.progress == LinkState::AnswerAwaited {
            self.settings = Settings { link_window: size, ..self.settings }.bounded();
            self.credit = Credit::new(self.settings.link_window);
            self.window = Window::new(self.settings.link_window);
        }
    }

    /// At the edge: admits the connector. Ignored unless [`Event::Hello`] is unanswered.
    pub fn welcome(&mut self, now: Time, edge: EdgeIdentity) {
        if self.progress != LinkState::AnswerAwaited {
            return;
        }
        self.greeting = Some(Greeting::Welcome(Welcome {
            version: self.version,
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

    /// At the edge: refuses the connector and ends the link. Ignored unless [`Event::Hello`] is unanswered.
    pub fn refuse(&mut self, refusal: RegistrationRefusal, reason: &str) {
        if self.progress == LinkState::AnswerAwaited {
            self.turn_down(refusal, reason, Fault::Refused);
        }
    }

    /// Sets the hosts of this side: at the connector those for which it has routes, at the edge those of the tunnel.
    /// They are sent to the peer after the greeting and after each change; of changes in quick succession only the last
    /// is sent.
    pub fn set_hosts(&mut self, now: Time, hosts: &HostSet) {
        if self.progress != LinkState::Over {
            self.hosts.set(hosts);
        }
        if self.progress == LinkState::Ready {
            self.hosts.release(now);
        }
    }

    /// At the edge: opens a stream.
    ///
    /// # Errors
    ///
    /// If the link cannot take a stream now, or never can; see [`OpenError`].
    pub fn open(&mut self, open: &Open<'_>) -> Result<StreamId, OpenError> {
        match self.progress {
            LinkState::Ready => {}
            LinkState::Over => return Err(OpenError::Closed),
            _ => return Err(OpenError::NotReady),
        }
        if self.role != LinkRole::Edge {
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
        stream.until = open.until.filter(|_| self.version >= VERSION_WITH_BUDGET);
        stream.open_due = true;
        self.list(slot);
        if self.next_id.is_none() {
            self.drain();
        }
        Ok(StreamId { id, slot })
    }

    /// The parameters with which the edge opened the stream; `None` if the stream is gone.
    #[must_use]
    pub fn opening(&self, stream: StreamId) -> Option<Open<'_>> {
        let found = self.streams.get(stream)?;
        // The kept payload does not contain the caller's time.
        let open = Open::decode(&found.opening, self.version, Time::ZERO).ok()?;
        Some(Open { until: found.until, ..open })
    }

    /// The number and the traffic of the call of a stream; `None` if the stream is gone.
    #[must_use]
    pub fn call(&self, stream: StreamId) -> Option<(u64, Traffic)> {
        decode_call(&mut Fields::new(&self.streams.get(stream)?.opening)).ok()
    }

    /// When the caller's time of a stream's call ends, if it is limited and both sides know it.
    #[must_use]
    pub fn until(&self, stream: StreamId) -> Option<Time> {
        self.streams.get(stream)?.until
    }

    /// How many more bytes may be queued on the stream; 0 if it is gone, finished or full. It is full at the backlog of
    /// the settings, or at `allowance` bytes if that is less.
    ///
    /// Chunks that belong together may exceed it by up to [`OVERSHOOT_MAX`] bytes. After a result of 0,
    /// [`Event::Writable`] is reported once half of the limit has been sent.
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
    /// If the stream is gone or finished, or far more than its [`capacity`](Mux::capacity) is queued. The error returns
    /// the chunk.
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
            return Err(SendError { error: StreamCommandError::Backlogged, chunk });
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

    /// At the connector: queues a report of the call's times after the bytes that are already queued.
    ///
    /// # Errors
    ///
    /// If the stream is gone or finished, this stage was reported before, or this side is the edge.
    pub fn phases(&mut self, stream: StreamId, phases: Phases) -> Result<(), StreamCommandError> {
        if self.role != LinkRole::Connector {
            return Err(StreamCommandError::WrongSide);
        }
        let slot = self.sendable(stream)?;
        let found = self.streams.at(slot);
        if !found.book_stage(phases.stage) {
            return Err(StreamCommandError::Repeated);
        }
        found.queue.push_back(Item::Phases(phases));
        self.touch(slot);
        Ok(())
    }

    /// Finishes the sending direction of the stream after the bytes that are queued.
    ///
    /// # Errors
    ///
    /// If the stream is gone, or was finished before.
    pub fn finish(&mut self, stream: StreamId) -> Result<(), StreamCommandError> {
        let slot = self.sendable(stream)?;
        self.streams.at(slot).sending = SendState::Finishing;
        self.touch(slot);
        Ok(())
    }

    /// Resets a stream: queued bytes are dropped, and no event of it follows. Ignored if it is gone.
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
        found.withdrawal = Withdrawal::Forbidden;
        found.reset_due = Some(cause);
        let held = found.window.held();
        found.window.consume(held);
        self.give_back(held);
        self.touch(slot);
        self.list(slot);
    }

    /// Releases a stream that the application no longer uses. If both sides have finished, queued bytes are still sent;
    /// otherwise the stream is reset with `cause`, as by [`reset`](Mux::reset). Ignored if it is gone.
    pub fn release_stream(&mut self, stream: StreamId, cause: Cause) {
        let Ok(slot) = self.slot_of(stream) else { return };
        let found = self.streams.at(slot);
        if found.peer_finished && found.sending != SendState::Open {
            self.events.retain(|event| event.stream() != Some(stream));
            self.consumed(stream, usize::MAX);
        } else {
            self.reset(stream, cause);
        }
    }

    /// At the edge: sets whether [`withdraw`](Mux::withdraw) withdraws the stream.
    pub fn set_withdrawal(&mut self, stream: StreamId, withdrawal: Withdrawal) {
        if let Ok(slot) = self.slot_of(stream) {
            self.streams.at(slot).withdrawal = withdrawal;
        }
    }

    /// At the edge: resets the streams that may be withdrawn, on which the connector cannot have acted. Returns them.
    pub fn withdraw(&mut self) -> Vec<StreamId> {
        let slots: Vec<u32> = self.streams.slots_by_id().collect();
        let unsent = slots.into_iter().filter_map(|slot| {
            let stream = self.streams.at(slot);
            (stream.withdrawal != Withdrawal::Forbidden).then_some(StreamId { id: stream.id, slot })
        });
        let unsent: Vec<StreamId> = unsent.collect();
        unsent.iter().for_each(|stream| self.reset(*stream, Cause::NotNeeded));
        unsent
    }

    /// Whether everything that was queued on a stream has been handed out, including its end if it was finished. True
    /// if the stream is gone.
    #[must_use]
    pub fn is_sent(&self, stream: StreamId) -> bool {
        let Ok(_) = self.slot_of(stream) else { return true };
        self.streams.get(stream).is_none_or(|found| found.queue.is_empty() && found.sending != SendState::Finishing)
    }

    /// Reports that the application has consumed `n` bytes from [`Event::Data`] of this stream, so that the peer gets
    /// credit for them. A larger `n` counts as all bytes. Ignored if the stream is gone.
    pub fn consumed(&mut self, stream: StreamId, n: usize) {
        let Ok(slot) = self.slot_of(stream) else { return };
        // Only needed if little of the window is left.
        let share = self.is_tight.then(|| self.share_received().of(self.window.left()));
        let found = self.streams.at(slot);
        let consumed = found.window.consume(u32::try_from(n).unwrap_or(u32::MAX));
        found.read_bytes = found.read_bytes.saturating_add(consumed);
        if !found.peer_finished && !found.credit_due && found.window.is_due_beside(share) {
            found.credit_due = true;
            self.list(slot);
        }
        self.give_back(consumed);
        self.release_if_done(slot);
    }

    /// The size in bytes of the link's window for the peer's data.
    #[cfg(test)]
    pub(super) fn window_size(&self) -> u32 {
        self.window.size()
    }

    /// Whether link credit is about to be sent to the peer: the moment to [resize the window](Mux::resize_window).
    #[must_use]
    pub fn is_window_due(&self) -> bool {
        self.link_credit_due && self.progress == LinkState::Ready
    }

    /// Whether the size of the window delays the peer, and not the applications that consume its data: less than half
    /// of the window was left, and at most a quarter waits to be consumed.
    #[must_use]
    pub fn is_window_short(&self) -> bool {
        self.window.left() < self.window.size() / 2 && self.window.held() <= self.window.size() / 4
    }

    /// Enlarges the window of the link, or shrinks it by credit that the peer does not have yet. Returns the new size
    /// in bytes.
    pub fn resize_window(&mut self, size: u32) -> u32 {
        self.window.resize(size.min(CREDIT_MAX));
        // Sent to the peer at once, because the peer divides the window by the size that it knows.
        self.link_credit_due = self.window.owed() > 0 && self.progress == LinkState::Ready;
        self.watch_window();
        self.window.size()
    }

    /// Stops new streams in both directions, and asks the peer to do the same. Open streams can finish.
    pub fn drain(&mut self) {
        self.drain_due |= self.progress == LinkState::Ready && !self.drain_sent;
    }

    /// Whether either side has asked to drain.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drain_due || self.drain_sent || self.drain_received
    }

    /// Whether both sides have agreed to drain and the last stream has ended, so that closing the link loses nothing.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.drain_sent && self.drain_received && self.streams.live() == 0 && !self.wants_transmit()
    }

    /// Whether the handshake is done and the link has not ended.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.progress == LinkState::Ready
    }

    /// Whether the link has ended and its last frame has been handed out.
    #[must_use]
    #[cfg(test)]
    pub fn is_closed(&self) -> bool {
        self.progress == LinkState::Over && !self.wants_transmit()
    }

    /// The number of streams on the link, including those that the application has not read to the end.
    #[must_use]
    pub fn streams_live(&self) -> usize {
        self.streams.live()
    }

    /// Ends the link at once and sends the reason to the peer. Open streams are reset. Ignored if the link has ended.
    pub fn close(&mut self, fault: Fault) {
        self.end(fault, Side::Local, true, u32::MAX);
    }

    /// Ends the link because the connection under it was lost. Ignored if the link has ended.
    pub fn lost(&mut self) {
        self.end(Fault::TransportLost, Side::Local, false, u32::MAX);
    }

    /// The slot of a stream that the application may still use.
    fn slot_of(&self, stream: StreamId) -> Result<u32, StreamCommandError> {
        self.streams
            .get(stream)
            .filter(|found| found.reset_due.is_none())
            .map(|_| stream.slot)
            .ok_or(StreamCommandError::Gone)
    }

    /// The slot of a stream on which the application may still send.
    fn sendable(&self, stream: StreamId) -> Result<u32, StreamCommandError> {
        let slot = self.slot_of(stream)?;
        let open = self.streams.get(stream).is_some_and(|found| found.sending == SendState::Open);
        if open { Ok(slot) } else { Err(StreamCommandError::Finished) }
    }
}
