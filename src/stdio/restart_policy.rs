//! When a child that has failed is started again: pauses that grow, and a breaker.

use std::time::Duration;

use crate::base::Time;
use crate::stdio::settings::RestartTerms;

/// The largest power of two by which the first pause is multiplied.
const DOUBLINGS_MAX: u32 = 30;

/// Decides when children are started. It reads no clock.
#[derive(Debug)]
pub(super) struct RestartPolicy {
    terms: RestartTerms,
    /// Failures since a child was last good.
    failures: u32,
    /// No child is started before this time.
    until: Time,
}

impl RestartPolicy {
    pub(super) fn new(terms: RestartTerms) -> RestartPolicy {
        RestartPolicy { terms, failures: 0, until: Time::ZERO }
    }

    /// Takes note that a child could not be started or has failed. Returns the pause before the next one.
    pub(super) fn on_failed(&mut self, now: Time) -> Duration {
        let RestartTerms { pause_min, pause_max, failures_max, open_for } = self.terms;
        let pause = match self.failures + 1 >= failures_max {
            true => open_for,
            false => pause_min.saturating_mul(1 << self.failures.min(DOUBLINGS_MAX)).min(pause_max),
        };
        self.failures = self.failures.saturating_add(1);
        self.until = now + pause;
        pause
    }

    /// Takes note that a child is good. The next pause is the shortest again.
    pub(super) fn on_good(&mut self) {
        self.failures = 0;
    }

    /// How long no child is started from now on.
    pub(super) fn pause(&self, now: Time) -> Duration {
        self.until - now
    }

    /// Whether so many children have failed in a row that the pause is that of the breaker.
    pub(super) fn is_open(&self) -> bool {
        self.failures >= self.terms.failures_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_the_breaker_opens_and_one_trial_follows() {
        let second = Duration::from_secs(1);
        let terms = RestartTerms { pause_min: second, pause_max: 5 * second, failures_max: 5, open_for: 60 * second };
        let mut policy = RestartPolicy::new(terms);
        assert_eq!(policy.pause(Time::ZERO), Duration::ZERO);
        let mut now = Time::ZERO;
        for seconds in [1, 2, 4, 5] {
            assert_eq!((policy.on_failed(now), policy.is_open()), (seconds * second, false));
            assert_eq!(policy.pause(now), seconds * second);
            now += policy.pause(now);
            assert_eq!(policy.pause(now), Duration::ZERO);
        }
        for _ in 0..2 {
            assert_eq!((policy.on_failed(now), policy.is_open()), (60 * second, true));
            now += 60 * second;
        }
        policy.on_good();
        assert_eq!((policy.on_failed(now), policy.is_open()), (second, false));
    }
}
