use std::time::Duration;

use crate::base::Rng;

/// An outage of up to this length counts as a restart of the edge. Waits then stay below [`RESTART_WAIT_MAX`].
const RESTART_WINDOW: Duration = Duration::from_secs(30);
/// The longest wait within [`RESTART_WINDOW`]. It is shorter than the time for which an edge holds a call while it has
/// no link, so the first call after a restart succeeds.
const RESTART_WAIT_MAX: Duration = Duration::from_secs(1);

/// The wait before the next connection attempt. It uses full jitter, so that many connectors that lost one edge do not
/// reconnect at the same time.
///
/// Most outages are restarts that are over within seconds, and agents' calls fail for as long as connectors wait. The
/// waits therefore grow further only after an outage has lasted for 30 s.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    tries: u32,
    waited: Duration,
}

impl Backoff {
    /// Begins with waits between zero and `min`, which grow up to `max` in a long outage.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Backoff {
        Backoff { min, max: max.max(min), tries: 0, waited: Duration::ZERO }
    }

    /// The wait before the next attempt.
    pub fn next(&mut self, rng: &mut Rng) -> Duration {
        let max = if self.waited < RESTART_WINDOW { self.max.min(RESTART_WAIT_MAX.max(self.min)) } else { self.max };
        let ceiling = self.min.saturating_mul(1 << self.tries.min(20)).min(max);
        self.tries = self.tries.saturating_add(1);
        let wait = Duration::from_nanos(rng.between(0, u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX)));
        self.waited = self.waited.saturating_add(wait);
        wait
    }

    /// Resets the waits after a successful attempt, so that the next outage begins with short ones.
    pub fn reset(&mut self) {
        self.tries = 0;
        self.waited = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(5);

    #[test]
    fn waits_grow_are_spread_and_begin_anew() {
        let (mut backoff, mut rng) = (Backoff::new(MIN, MAX), Rng::new(1));
        let waits: Vec<Duration> = (0..400).map(|_| backoff.next(&mut rng)).collect();
        assert!(waits[0] <= MIN);
        assert!(waits[1] <= 2 * MIN);
        assert!(waits.iter().all(|wait| *wait <= MAX));
        assert!(waits[200..].iter().any(|wait| *wait > Duration::from_secs(4)));
        assert!(waits[200..].iter().any(|wait| *wait < RESTART_WAIT_MAX));
        backoff.reset();
        assert!(backoff.next(&mut rng) <= MIN);
    }

    #[test]
    fn while_the_edge_may_just_be_restarting_no_wait_is_long() {
        for seed in 0..100 {
            let (mut backoff, mut rng) = (Backoff::new(MIN, MAX), Rng::new(seed));
            let mut waited = Duration::ZERO;
            while waited < RESTART_WINDOW {
                let wait = backoff.next(&mut rng);
                assert!(wait <= RESTART_WAIT_MAX, "{wait:?} after {waited:?}");
                waited += wait;
            }
        }
    }

    #[test]
    fn bounds_that_are_set_hold() {
        let mut rng = Rng::new(1);
        let (mut short, mut long) = (Backoff::new(MIN, 2 * MIN), Backoff::new(4 * RESTART_WAIT_MAX, MAX));
        assert!((0..100).all(|_| short.next(&mut rng) <= 2 * MIN));
        assert!((0..100).any(|_| long.next(&mut rng) > 2 * RESTART_WAIT_MAX));
    }
}
