//! The limits of a call's time: a deadline as the record of a call keeps it, and what a caller's time means for the answer.

use std::time::Duration;

use super::deadline::{Deadline, DeadlineReason};

/// A caller is answered this part of its time before that is over, in any case between these limits, but not before half of it:
/// the answer has still to reach it.
const CALLER_MARGIN_PART: u32 = 20;
const CALLER_MARGIN_MIN: Duration = Duration::from_millis(50);
const CALLER_MARGIN_MAX: Duration = Duration::from_secs(1);

/// Within how long a caller is answered that waits so long.
#[must_use]
pub fn answer_within(waits: Duration) -> Duration {
    let margin = (waits / CALLER_MARGIN_PART).clamp(CALLER_MARGIN_MIN, CALLER_MARGIN_MAX).min(waits / 2);
    waits - margin
}

/// Who said how long a caller waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerTimeSource {
    /// A field of its request.
    Field,
    /// A setting of the route.
    Setting,
    /// The edge, which knows it from one of these.
    Edge,
}

/// How long a call might take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimit {
    /// Why the limit is what it is.
    pub reason: DeadlineReason,
    /// Whether the call was to be cut.
    pub is_enforced: bool,
    limit_ms: u32,
    p95_ms: u32,
}

impl CallLimit {
    /// The limit that a deadline sets.
    #[must_use]
    pub fn of(deadline: &Deadline, is_enforced: bool) -> CallLimit {
        CallLimit {
            reason: deadline.reason,
            is_enforced,
            limit_ms: millis(deadline.limit),
            p95_ms: deadline.usual.map_or(0, |usual| millis(usual.p95)),
        }
    }

    /// How long it is, to the millisecond; none if it is longer than 49 days, as one that was switched off.
    #[must_use]
    pub fn limit(&self) -> Option<Duration> {
        Some(self.limit_ms).filter(|ms| *ms < u32::MAX).map(|ms| Duration::from_millis(ms.into()))
    }

    /// How long 95 % of the calls before took at the most, to the millisecond; none if too few were seen.
    #[must_use]
    pub fn p95(&self) -> Option<Duration> {
        Some(self.p95_ms).filter(|ms| *ms > 0).map(|ms| Duration::from_millis(ms.into()))
    }
}

/// Whole milliseconds.
fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::UsualLatency;

    #[test]
    fn a_limit_that_was_switched_off_is_none() {
        let usual = Some(UsualLatency { p50: Duration::from_millis(2), p95: Duration::from_millis(4) });
        let deadline = Deadline { limit: Duration::MAX, reason: DeadlineReason::Cold, usual: None };
        assert_eq!((CallLimit::of(&deadline, false).limit(), CallLimit::of(&deadline, false).p95()), (None, None));
        let learned = Deadline { limit: Duration::from_millis(6), reason: DeadlineReason::Learned, usual };
        let limit = CallLimit::of(&learned, true);
        assert_eq!((limit.limit(), limit.p95()), (Some(Duration::from_millis(6)), Some(Duration::from_millis(4))));
    }
}
