use std::time::Duration;

use crate::base::Time;

/// How often a connection with open calls is checked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a server with open calls may be silent before it is sent a PING, which its system must acknowledge.
const PING_AFTER: Duration = Duration::from_secs(3);

/// Detects that the host of a server is gone while calls wait for it.
///
/// A busy server may not answer a PING in time. Its system acknowledges the bytes all the same, and that is sufficient.
pub(super) struct Silence {
    /// How long the peer's system may acknowledge nothing. A system that is up does so within a round trip.
    acknowledged_within: Duration,
    seen: Moved,
    looked_at: Time,
    /// When progress was last seen, or a PING was last requested.
    moved_at: Time,
    /// Since when an acknowledgement has been outstanding without any progress.
    owed_since: Option<Time>,
}

/// How many bytes have moved on a connection so far, and what is left to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) received: u64,
    pub(super) acked: u64,
    pub(super) left: Left,
}

/// What is left to be sent or acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    /// Bytes that are not sent, because the server does not read. Its system is there, although it acknowledges no
    /// more.
    Unsent,
    /// Bytes in flight, which the server's system must acknowledge.
    InFlight,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The connection is sound.
    Sound,
    /// A PING must be sent.
    Ping,
    /// The host may be gone, or the server does not read.
    Doubtful,
    /// The host is gone.
    Gone,
}

impl Silence {
    /// Begins to track progress, when a first call waits.
    pub(super) fn begin(acknowledged_within: Duration, seen: Moved, now: Time) -> Silence {
        Silence { acknowledged_within, seen, looked_at: now, moved_at: now, owed_since: None }
    }

    /// When to check next.
    pub(super) fn look_at(&self) -> Time {
        self.looked_at + LOOK_EVERY
    }

    /// Checks what has moved since the last time.
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
                // A PING would wait behind these bytes. Their sender limits how long they may wait.
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
                    // The PING is not acknowledged either.
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
    fn any_progress_ends_the_suspicion() {
        let mut silence = Silence::begin(WITHIN, moved(10, 10, true), Time::ZERO);
        assert_eq!(silence.look(moved(10, 10, true), at_ms(1_000)), Verdict::Doubtful);
        assert_eq!(silence.look(moved(11, 10, true), at_ms(7_000)), Verdict::Sound);
        assert_eq!(silence.look(moved(11, 10, true), at_ms(8_000)), Verdict::Doubtful, "it begins again");
        assert_eq!(silence.look(moved(11, 10, true), at_ms(11_000)), Verdict::Doubtful);
        assert_eq!(silence.look(moved(11, 11, false), at_ms(16_000)), Verdict::Sound);
    }
}
