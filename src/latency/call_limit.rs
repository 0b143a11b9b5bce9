//! The time limits of a call: a deadline as the record of a call keeps it, and when a caller with a time limit is
//! answered.

use std::time::Duration;

use super::deadline::{Deadline, DeadlineReason};

/// A caller is answered before its own time limit, by one twentieth of that limit, so that the answer can still reach
/// it. The margin stays between these two bounds, and is at most half of the limit.
const CALLER_MARGIN_PART: u32 = 20;
const CALLER_MARGIN_MIN: Duration = Duration::from_millis(50);
const CALLER_MARGIN_MAX: Duration = Duration::from_secs(1);

/// The time after which a caller that waits for `waits` is answered.
#[must_use]
pub fn answer_within(waits: Duration) -> Duration {
    let margin = (waits / CALLER_MARGIN_PART).clamp(CALLER_MARGIN_MIN, CALLER_MARGIN_MAX).min(waits / 2);
    waits - margin
}

/// Where a caller's time limit comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerTimeSource {
    /// A header field of the request.
    Field,
    /// A setting of the route.
    Setting,
    /// The edge, which had it from the request or a setting.
    Edge,
}

/// The time limit that a call had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimit {
    /// Why the limit is what it is.
    pub reason: DeadlineReason,
    /// Whether the limit was enforced.
    pub is_enforced: bool,
    limit_ms: u32,
    p95_ms: u32,
}

impl CallLimit {
    /// The limit of this deadline.
    #[must_use]
    pub fn of(deadline: &Deadline, is_enforced: bool) -> CallLimit {
        CallLimit {
            reason: deadline.reason,
            is_enforced,
            limit_ms: millis(deadline.limit),
            p95_ms: deadline.usual.map_or(0, |usual| millis(usual.p95)),
        }
    }

    /// The limit, to the millisecond; `None` above 49 days, which stands for a limit that is switched off.
    #[must_use]
    pub fn limit(&self) -> Option<Duration> {
        Some(self.limit_ms).filter(|ms| *ms < u32::MAX).map(|ms| Duration::from_millis(ms.into()))
    }

    /// The 95th percentile of earlier calls, to the millisecond; `None` if too few were seen.
    #[must_use]
    pub fn p95(&self) -> Option<Duration> {
        Some(self.p95_ms).filter(|ms| *ms > 0).map(|ms| Duration::from_millis(ms.into()))
    }
}

/// Converts to whole milliseconds.
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
