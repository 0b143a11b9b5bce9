use crate::base::Chunk;

use super::machine::Mux;

/// The smallest share of a stream, in bytes, even if the link's window is nearly used up.
const SHARE_MIN: u32 = 512;
/// The smallest share while more than a quarter of the link's window is left, and while more than half is. These are
/// larger, so that many streams take turns with pieces of a useful size instead of tiny ones.
const SHARE_MIN_QUARTER: u32 = 4 * 1024;
const SHARE_MIN_HALF: u32 = 16 * 1024;
/// A stream that has used up all but one part in this many of its smallest share waits for credit.
const PIECE_PART: u32 = 4;
/// One part in this many of the link's window is reserved for streams with less than [`SHARE_MIN`] in flight.
const SMALL_PART: u32 = 4;
/// On an idle link a stream's share is this factor (numerator, denominator) times its window times the square of the
/// free part of the link's window, so that the share does not limit a single stream.
const SCALE: (u64, u64) = (12, 5);

/// How much of the link's window one stream may use.
///
/// All streams of a link share its window, and bytes that the peer's application does not read stay in it. If each
/// stream used its full window, a few unread ones would stop all others. A sender therefore limits the bytes in flight
/// of each stream to a share, which shrinks with the square of what is left of the link's window. With `n` streams that
/// are never read, about `1 / n` of three quarters of the window stays free, and the last quarter is reserved for small
/// messages.
///
/// The sender counts only bytes that CREDIT has returned. A receiver with little window left (`is_tight`) must
/// therefore return credit as soon as a stream holds nothing, instead of accumulating it.
#[derive(Clone, Copy, Debug)]
pub(super) struct WindowShare {
    /// The window of a stream, in bytes.
    stream: u64,
    /// The window of the link, in bytes.
    link: u32,
}

impl WindowShare {
    pub(super) fn new(stream_window: u32, link_window: u32) -> WindowShare {
        WindowShare { stream: u64::from(stream_window), link: link_window.max(1) }
    }

    /// How many bytes a stream may have in flight while `left` bytes of the link's window are left.
    pub(super) fn of(self, left: u32) -> u32 {
        let least = self.least(left);
        let size = u64::from(self.link);
        let left = u64::from(left.min(self.link).saturating_sub(self.reserve()));
        // At most 2^31 * 2^31 * 12: a stream's window is divided by the link's first.
        let scaled = left * left / size * SCALE.0 / SCALE.1;
        let share = scaled.saturating_mul(self.stream) / size;
        u32::try_from(share).unwrap_or(u32::MAX).max(least)
    }

    /// The smallest share while `left` bytes of the link's window are left.
    fn least(self, left: u32) -> u32 {
        match left {
            left if left > self.link / 2 => SHARE_MIN_HALF,
            left if left > self.reserve() => SHARE_MIN_QUARTER,
            _ => SHARE_MIN,
        }
    }

    /// The bytes of the link's window that are reserved for small messages.
    pub(super) fn reserve(self) -> u32 {
        self.link / SMALL_PART
    }

    /// If less than this is left, the receiver returns credit early.
    fn tight_below(self) -> u32 {
        self.link - self.link / 8
    }

    /// If more than this is left, it may accumulate credit again.
    fn loose_above(self) -> u32 {
        self.link - self.link / 16
    }
}

#[cfg(test)]
impl<B: Chunk> Mux<B> {
    /// Lets each stream use its whole window, as a peer may do.
    pub(super) fn ignore_shares(&mut self) {
        self.ignores_shares = true;
    }
}

/// The rule at the sender and at the receiver.
impl<B: Chunk> Mux<B> {
    /// The share in this side's own window, as the peer computes it.
    pub(super) fn share_received(&self) -> WindowShare {
        WindowShare::new(self.settings.stream_window, self.window.size())
    }

    /// The share in the peer's window.
    fn share_sent(&self) -> WindowShare {
        #[cfg(test)]
        if self.ignores_shares {
            return WindowShare { stream: u64::from(u32::MAX), link: 1 };
        }
        WindowShare::new(self.settings.stream_window, self.credit.size())
    }

    /// At the receiver: called after bytes were received, or credit was returned.
    pub(super) fn watch_window(&mut self) {
        let (left, share) = (self.window.left(), self.share_received());
        if !self.is_tight && left < share.tight_below() {
            self.is_tight = true;
            // Return the accumulated credit.
            let slots: Vec<u32> = self.streams.slots_by_id().collect();
            for slot in slots {
                let stream = self.streams.at(slot);
                if stream.window.owed() > 0 && !stream.peer_finished && !stream.credit_due {
                    stream.credit_due = true;
                    self.list(slot);
                }
            }
        } else if self.is_tight && left > share.loose_above() {
            self.is_tight = false;
        }
    }

    /// At the sender: how many more bytes a stream may have in flight, of the `wanted` bytes that it sends next. If
    /// that is zero, the stream leaves the schedule until credit arrives.
    pub(super) fn share_left(&mut self, slot: u32, wanted: usize) -> usize {
        let credit = u32::try_from(self.credit.left()).unwrap_or(u32::MAX);
        let share = self.share_sent();
        let (share, least) = (share.of(credit), share.least(credit));
        let stream = self.streams.at(slot);
        let left = share.saturating_sub(stream.under_way);
        if left >= least / PIECE_PART || left as usize >= wanted {
            return left as usize;
        }
        if !stream.capped {
            stream.capped = true;
            if !std::mem::replace(&mut stream.cap_listed, true) {
                self.capped.push_back(slot);
            }
            self.touch(slot);
        }
        0
    }

    /// Called when link credit arrived: streams that used up their share may have more now.
    pub(super) fn uncap(&mut self) {
        let credit = u32::try_from(self.credit.left()).unwrap_or(u32::MAX);
        let share = self.share_sent();
        let enough = share.of(credit) - share.least(credit) / PIECE_PART;
        for _ in 0..self.capped.len() {
            let Some(slot) = self.capped.pop_front() else { break };
            let stream = self.streams.at(slot);
            stream.cap_listed = stream.capped && stream.under_way > enough;
            if stream.cap_listed {
                self.capped.push_back(slot);
            } else if std::mem::take(&mut stream.capped) {
                self.resume(slot);
            }
        }
    }

    /// Lets a stream send again. It does not count as fresh in the schedule.
    pub(super) fn resume(&mut self, slot: u32) {
        if self.streams.at(slot).can_send() {
            self.schedule.resume(slot);
        }
        self.touch(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::mux::Settings;

    #[test]
    fn a_stream_alone_has_its_whole_window_and_many_that_are_not_read_leave_room() {
        let settings = Settings::default();
        let share = WindowShare::new(settings.stream_window, settings.link_window);
        let mut left = settings.link_window;
        let first = share.of(left - settings.stream_window / 2);
        assert!(first >= settings.stream_window, "{first}");
        for _ in 0..1_000 {
            let taken = share.of(left).min(settings.stream_window);
            assert!(taken <= left, "the window is used up");
            left -= taken;
        }
        assert!(left >= settings.link_window / 10, "{left} of {}", settings.link_window);
        assert!(share.of(left) >= SHARE_MIN);
    }

    #[test]
    fn it_does_not_overflow_and_never_falls_below_the_least() {
        for (stream_window, link_window) in [(1, 1), (u32::MAX, 1), (1, u32::MAX), (u32::MAX, u32::MAX)] {
            let share = WindowShare::new(stream_window, link_window);
            for left in [0, 1, link_window / 2, link_window, u32::MAX] {
                assert!(share.of(left) >= SHARE_MIN);
            }
        }
    }
}
