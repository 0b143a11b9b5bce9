use std::time::Duration;

use crate::base::Time;

/// How often a connection with open calls is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After how much silence a server with open calls is sent a PING, so that its system has something to acknowledge.
const PING_AFTER: Duration = Duration::from_secs(3);

/// Finds out whether the host of a server is still there, while calls wait for it.
///
/// A server may be too busy to answer a PING. Its system acknowledges it all the same, and that is enough.
pub(super) struct Silence {
    /// How long its system may acknowledge nothing of what it was sent. One that is up does so within its round-trip time.
    acknowledged_within: Duration,
    seen: Moved,
    looked_at: Time,
    /// When something was last found to have moved, or a PING was asked for.
    moved_at: Time,
    /// Since when nothing has moved although something is to be acknowledged.
    owed_since: Option<Time>,
}

/// What has moved on a connection so far, in bytes, and what is left to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) received: u64,
    pub(super) acked: u64,
    pub(super) left: Left,
}

/// What is left of what is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    /// Bytes that were not sent, because the server does not read. Its system acknowledges no more of them, but is there.
    Unsent,
    /// Bytes that were sent, which the server's system is to acknowledge.
    InFlight,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The connection is sound, and nothing is to be done.
    Sound,
    /// A PING is to be sent.
    Ping,
    /// The host may be gone, or the server does not read.
    Doubtful,
    /// The host is gone.
    Gone,
}

impl Silence {
    /// Begins to look when a first call waits.
    pub(super) fn begin(acknowledged_within: Duration, seen: Moved, now: Time) -> Silence {
        Silence { acknowledged_within, seen, looked_at: now, moved_at: now, owed_since: None }
    }

    /// When to look next.
    pub(super) fn look_at(&self) -> Time {
        self.looked_at + LOOK_EVERY
    }

    /// Looks at what has moved since the last time.
    pub(super) fn look(&mut self, moved: Moved, now: Time) -> Verdict {
        let before = std::mem::replace(&mut self.seen, moved);
        let looked_before = std::mem::replace(&mut self.looked_at, now);
        if (before.received, before.acked) != (moved.received, moved.acked) {
            (self.moved_at, self.owed_since) = (now, None);
            return Verdict::Sound;
        }
        if moved.left != Left::InFlight {
            self.owed_since = None;
            if moved.left == Left::Unsent {
                // A PING would wait behind them. Whoever sends them limits how long they may wait.
                return Verdict::Doubtful;
            }
            if now < self.moved_at + PING_AFTER {
                return Verdict::Sound;
            }
            self.moved_at = now;
            return Verdict::Ping;
        }
        let since = *self.owed_since.get_or_insert(looked_before);
        if now >= since + self.acknowledged_within { Verdict::Gone } else { Verdict::Doubtful }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(5);

    fn at_ms(ms: u64) -> Time {
        Time::ZERO + Duration::from_millis(ms)
    }

    fn moved(received: u64, acked: u64, is_outstanding: bool) -> Moved {
        Moved { received, acked, left: if is_outstanding { Left::InFlight } else { Left::Nothing } }
    }

    #[test]
    fn a_host_that_acknowledges_nothing_is_gone_within_ten_seconds() {
        let begun = at_ms(1_000);
        for (was_outstanding, gone_after_ms) in [(true, 5_000), (false, 8_000)] {
            let mut silence = Silence::begin(WITHIN, moved(10, 10, was_outstanding), begun);
            let mut is_outstanding = was_outstanding;
            loop {
                let now = silence.look_at();
                match silence.look(moved(10, 10, is_outstanding), now) {
                    // Nothing of that is acknowledged either.
                    Verdict::Ping => is_outstanding = true,
                    Verdict::Gone => break assert_eq!(now - begun, Duration::from_millis(gone_after_ms)),
                    verdict => assert_eq!(verdict == Verdict::Doubtful, is_outstanding),
                }
            }
        }
    }

    #[test]
    fn a_busy_server_whose_system_acknowledges_is_not_gone() {
        let mut silence = Silence::begin(WITHIN, moved(10, 10, false), Time::ZERO);
        let (mut acked, mut pings) = (10, 0);
        for _ in 0..600 {
            let now = silence.look_at();
            match silence.look(moved(10, acked, false), now) {
                Verdict::Ping => {
                    pings += 1;
                    acked += 17;
                }
                verdict => assert_eq!(verdict, Verdict::Sound),
            }
        }
        assert_eq!(pings, 150, "one in four seconds");
    }

    #[test]
    fn a_server_that_does_not_read_is_avoided_and_never_gone() {
        let unsent = Moved { left: Left::Unsent, ..moved(10, 10, false) };
        let mut silence = Silence::begin(WITHIN, unsent, Time::ZERO);
        for _ in 0..600 {
            let now = silence.look_at();
            assert_eq!(silence.look(unsent, now), Verdict::Doubtful);
        }
    }

    #[test]
    fn whatever_moves_ends_the_doubt() {
        let mut silence = Silence::begin(WITHIN, moved(10, 10, true), Time::ZERO);
        assert_eq!(silence.look(moved(10, 10, true), at_ms(1_000)), Verdict::Doubtful);
        assert_eq!(silence.look(moved(11, 10, true), at_ms(7_000)), Verdict::Sound);
        assert_eq!(silence.look(moved(11, 10, true), at_ms(8_000)), Verdict::Doubtful, "it begins again");
        assert_eq!(silence.look(moved(11, 10, true), at_ms(11_000)), Verdict::Doubtful);
        assert_eq!(silence.look(moved(11, 11, false), at_ms(16_000)), Verdict::Sound);
    }
}
