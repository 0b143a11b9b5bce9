use std::cell::Cell;
use std::time::Duration;

use crate::base::Time;

/// How often the progress of a sending link is checked.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long bytes may be in flight without an acknowledgement while data arrives from the peer. Including two checks
/// this is less than 5 s.
const STUCK_MAX: Duration = Duration::from_secs(4);
/// Data must arrive this long after bytes were seen in flight, to show that the path works. Data that was already in
/// transit would arrive earlier.
const HEARD_AFTER: Duration = Duration::from_millis(250);

/// Detects that the peer's system does not acknowledge sent data.
///
/// A path whose MTU is smaller than either side knows loses only large packets. The first one blocks everything after
/// it, while data still arrives from the peer. A path that loses everything is detected by its silence.
pub(super) struct Progress {
    /// When to check next; never while nothing is in flight.
    due_at: Cell<Time>,
    /// Since when the number of acknowledged bytes has not changed while others were in flight, and that number.
    since: Cell<Option<(Time, u64)>>,
}

impl Default for Progress {
    fn default() -> Progress {
        Progress { due_at: Cell::new(Time::NEVER), since: Cell::new(None) }
    }
}

impl Progress {
    /// Notes that bytes were sent. Returns whether [`Progress::due_at`] is earlier now.
    pub(super) fn on_sent(&self, now: Time) -> bool {
        let is_first = self.due_at.get() == Time::NEVER;
        if is_first {
            self.due_at.set(now + LOOK_EVERY);
        }
        is_first
    }

    /// When [`Progress::look`] must be called.
    pub(super) fn due_at(&self) -> Time {
        self.due_at.get()
    }

    /// Whether the link makes no progress. `acked` is the number of acknowledged bytes; `None` if no others are in
    /// flight. Data last arrived from the peer at `heard_at`; its answers take `round_trip`.
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

    /// When the link is found to be stuck, if every due check is made.
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
        // Counted from the last acknowledgement.
        assert_eq!(stuck_at(|now| Some(now.min(5_000)), |now| now), Some(9_100));
        assert_eq!(stuck_at(|now| (now > 5_000).then_some(7), |now| now), Some(9_100));
        // Data arrived late from the peer.
        assert_eq!(stuck_at(|_| Some(7), |now| if now > 6_000 { 6_000 } else { 0 }), Some(6_100));
    }

    #[test]
    fn a_link_is_not_stuck_while_bytes_move_or_nothing_is_on_the_way_or_nothing_is_heard() {
        assert_eq!(stuck_at(|now| Some(now / 3_000), |now| now), None);
        assert_eq!(stuck_at(|_| None, |now| now), None);
        assert_eq!(stuck_at(|_| Some(7), |_| 100), None);
        // These bytes were in flight when the whole path was lost.
        assert_eq!(stuck_at(|_| Some(7), |_| 700), None);
    }
}
