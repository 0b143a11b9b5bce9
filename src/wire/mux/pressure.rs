use crate::base::{Chunk, Time};

use super::cause::Cause;
use super::event::{Event, StreamId};
use super::machine::Mux;

/// A reader that accepts this many bytes within `slow_reader_ms`, or all that its stream holds, counts as alive. In a
/// window that is nearly full a stream holds no more.
const ALIVE_LEN_MIN: u32 = 512;

/// Resets streams whose readers have stopped, when they fill up the link's window.
///
/// Bytes that applications have not consumed count against the window of the whole link, so that enough unread streams
/// would stop all others. A peer that divides the window into shares reserves a quarter of it for small messages, so
/// that bulk data of unread streams does not block the link. When thousands of unread streams hold half of that quarter
/// as well, the reader of each stream has `slow_reader_ms` to accept `ALIVE_LEN_MIN` bytes. Streams whose reader did
/// not are then reset, the largest first, until at most half of the window is held. If memory is short, the same
/// happens until at most half of the held bytes are left.
///
/// The application puts consumed bytes into its own queues, which accept more only when much has left them. It
/// therefore reports what has left them ([`Mux::reader_took`]); otherwise a slow reader would look like a stopped one.
impl<B: Chunk> Mux<B> {
    /// Sets whether memory is too short for more unread bytes.
    pub fn set_pressed(&mut self, pressed: bool) {
        self.pressed = pressed;
    }

    /// Reports that the reader to which the application forwards a stream's bytes has accepted `n` of them. Ignored if
    /// the stream is gone.
    pub fn reader_took(&mut self, stream: StreamId, n: u64) {
        if self.streams.get(stream).is_some() {
            let found = self.streams.at(stream.slot);
            found.read_bytes = found.read_bytes.saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
        }
    }

    /// Starts or ends the observation of readers. Called after bytes were received.
    pub(super) fn watch(&mut self, now: Time) {
        if !self.is_clogged() {
            self.relief_at = None;
        } else if self.relief_at.is_none() {
            self.begin_watch(now);
        }
    }

    /// Resets the streams of stopped readers when their time is over and they still block the link.
    pub(super) fn relieve(&mut self, now: Time) {
        if self.relief_at.is_none_or(|at| now < at) {
            return;
        }
        self.relief_at = None;
        if !self.is_clogged() {
            return;
        }
        let mut dead: Vec<(u32, u32)> = Vec::new();
        let slots: Vec<u32> = self.streams.slots_by_id().collect();
        for slot in slots {
            let stream = self.streams.at(slot);
            let held = stream.window.held();
            if stream.reset_due.is_none() && stream.read_bytes < held.min(ALIVE_LEN_MIN) {
                dead.push((held, slot));
            }
        }
        let keep = if self.pressed { self.window.held() } else { self.window.size() } / 2;
        dead.sort_unstable_by(|a, b| b.cmp(a));
        for (_, slot) in dead {
            if self.window.held() <= keep {
                break;
            }
            let stream = StreamId { id: self.streams.at(slot).id, slot };
            self.reset(stream, Cause::SlowReader);
            self.events.push_back(Event::Reset { stream, cause: Cause::SlowReader });
        }
        if self.is_clogged() {
            self.begin_watch(now);
        }
    }

    fn begin_watch(&mut self, now: Time) {
        self.relief_at = Some(now + self.settings.slow_reader());
        let slots: Vec<u32> = self.streams.slots_by_id().collect();
        for slot in slots {
            self.streams.at(slot).read_bytes = 0;
        }
    }

    /// Whether more than one stream holds half of the reserve for small messages, or memory is short.
    fn is_clogged(&self) -> bool {
        let full = self.window.size() - self.share_received().reserve() / 2;
        (self.streams.live() > 1 && self.window.held() >= full) || (self.pressed && self.window.held() > 0)
    }
}
