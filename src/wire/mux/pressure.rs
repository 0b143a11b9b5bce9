use crate::base::{Chunk, Time};

use super::cause::Cause;
use super::event::{Event, StreamId};
use super::machine::Mux;

/// Slow readers and the link's window.
///
/// Bytes that applications have not consumed count against the window of the whole link, so that enough unread streams
/// would stop all others. When three quarters of the window are held, each stream has `slow_reader_ms` to consume as
/// much as it holds. Streams that did not are then reset, the largest first, until at most half of the window is held.
/// If there is no memory to hold more, the same happens until at most half of the held bytes are left.
impl<B: Chunk> Mux<B> {
    /// Records whether there is too little memory for more unread bytes.
    pub fn set_pressed(&mut self, pressed: bool) {
        self.pressed = pressed;
    }

    /// Starts or ends the observation of slow readers. Called after bytes were received.
    pub(super) fn watch(&mut self, now: Time) {
        if !self.is_clogged() {
            self.relief_at = None;
        } else if self.relief_at.is_none() {
            self.begin_watch(now);
        }
    }

    /// Resets the slow readers when their time is over and they still clog the link.
    pub(super) fn relieve(&mut self, now: Time) {
        if self.relief_at.is_none_or(|at| now < at) {
            return;
        }
        self.relief_at = None;
        if !self.is_clogged() {
            return;
        }
        let mut slow: Vec<(u32, u32)> = Vec::new();
        let slots: Vec<u32> = self.streams.slots_by_id().collect();
        for slot in slots {
            let stream = self.streams.at(slot);
            let held = stream.window.held();
            if stream.reset_due.is_none() && stream.taken < held {
                slow.push((held, slot));
            }
        }
        let keep = if self.pressed { self.window.held() } else { self.window.size() } / 2;
        slow.sort_unstable_by(|a, b| b.cmp(a));
        for (_, slot) in slow {
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
            self.streams.at(slot).taken = 0;
        }
    }

    /// Whether three quarters of the window are held, by more than one slow stream, or memory is short.
    fn is_clogged(&self) -> bool {
        let full = self.streams.live() > 1 && self.window.held() >= self.window.size() / 4 * 3;
        full || (self.pressed && self.window.held() > 0)
    }
}
