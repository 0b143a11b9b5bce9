use std::cell::Cell;
use std::time::Duration;

use crate::base::Time;

/// How often a link that sends is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long bytes may be on the way to the other side's system without any of them being acknowledged, while the other side is
/// heard. With two looks it is less than 5 s.
const STUCK_MAX: Duration = Duration::from_secs(4);
/// How long after bytes were seen on the way something must be received that shows that the path is there: longer than what had
/// been on its way.
const HEARD_AFTER: Duration = Duration::from_millis(250);

/// Whether the other side's system acknowledges what a link sends.
///
/// A path that loses large packets alone, because its MTU is smaller than either side knows, holds up everything that is sent
/// behind the first one, though the other side is still heard. A path that loses everything is found by its silence.
pub(super) struct Progress {
    /// When to look next; never while nothing is on the way.
    due_at: Cell<Time>,
    /// Since when so many bytes were acknowledged and others were on the way.
    since: Cell<Option<(Time, u64)>>,
}

impl Default for Progress {
    fn default() -> Progress {
        Progress { due_at: Cell::new(Time::NEVER), since: Cell::new(None) }
    }
}

impl Progress {
    /// Bytes were sent; whether [`Progress::due_at`] is earlier now.
    pub(super) fn on_sent(&self, now: Time) -> bool {
        let is_first = self.due_at.get() == Time::NEVER;
        if is_first {
            self.due_at.set(now + LOOK_EVERY);
        }
        is_first
    }

    /// When [`Progress::look`] is to be called.
    pub(super) fn due_at(&self) -> Time {
        self.due_at.get()
    }

    /// Whether the link makes no progress. `acked` is how many bytes were acknowledged; none if no others are on the way. The
    /// other side was last heard at `heard_at`, and its answers take `round_trip`.
    pub(super) fn look(&self, now: Time, acked: Option<u64>, heard_at: Time, round_trip: Duration) -> bool {
        let Some(acked) = acked else {
            self.due_at.set(Time::NEVER);
            self.since.set(None);
            return false;
        };
        self.due_at.set(now + LOOK_EVERY);
        match self.since.get() {
            Some((since, before)) if before == acked => {
                now - since >= STUCK_MAX && heard_at >= since + HEARD_AFTER.max(round_trip)
            }
            _ => {
                self.since.set(Some((now, acked)));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(40);

    fn at(ms: u64) -> Time {
        Time::ZERO + Duration::from_millis(ms)
    }

    /// When it is found to be stuck, if it is looked at when that is due.
    fn stuck_at(acked: impl Fn(u64) -> Option<u64>, heard_at: impl Fn(u64) -> u64) -> Option<u64> {
        let progress = Progress::default();
        assert_eq!(progress.due_at(), Time::NEVER);
        assert!(progress.on_sent(at(100)) && !progress.on_sent(at(101)));
        (600..20_000).step_by(500).find(|&ms| {
            assert_eq!(progress.due_at(), at(ms));
            let is_stuck = progress.look(at(ms), acked(ms), at(heard_at(ms)), RTT);
            if acked(ms).is_none() {
                assert!(progress.due_at() == Time::NEVER && progress.on_sent(at(ms)));
            }
            is_stuck
        })
    }

    #[test]
    fn a_link_is_stuck_when_nothing_is_acknowledged_though_the_other_side_is_heard() {
        assert_eq!(stuck_at(|_| Some(7), |now| now), Some(4_600));
        // From when it stood still.
        assert_eq!(stuck_at(|now| Some(now.min(5_000)), |now| now), Some(9_100));
        assert_eq!(stuck_at(|now| (now > 5_000).then_some(7), |now| now), Some(9_100));
        // Heard late.
        assert_eq!(stuck_at(|_| Some(7), |now| if now > 6_000 { 6_000 } else { 0 }), Some(6_100));
    }

    #[test]
    fn a_link_is_not_stuck_while_bytes_move_or_nothing_is_on_the_way_or_nothing_is_heard() {
        assert_eq!(stuck_at(|now| Some(now / 3_000), |now| now), None);
        assert_eq!(stuck_at(|_| None, |now| now), None);
        assert_eq!(stuck_at(|_| Some(7), |_| 100), None);
        // What was on its way when all of the path was lost.
        assert_eq!(stuck_at(|_| Some(7), |_| 700), None);
    }
}
