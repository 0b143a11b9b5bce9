use std::time::Duration;

use crate::base::Rng;

/// How long to wait before the next try: full jitter, so that many connectors that lost one edge do not come back at once.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    tries: u32,
}

impl Backoff {
    /// Waits between zero and `min` at first, and up to `max` after many tries.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Backoff {
        Backoff { min, max: max.max(min), tries: 0 }
    }

    /// The wait before the next try.
    pub fn next(&mut self, rng: &mut Rng) -> Duration {
        let ceiling = self.min.saturating_mul(1 << self.tries.min(20)).min(self.max);
        self.tries = self.tries.saturating_add(1);
        Duration::from_nanos(rng.between(0, u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// A try went well: the next series starts anew.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_bound_and_are_spread() {
        let (mut backoff, mut rng) = (Backoff::new(Duration::from_millis(100), Duration::from_secs(5)), Rng::new(1));
        let waits: Vec<Duration> = (0..200).map(|_| backoff.next(&mut rng)).collect();
        assert!(waits[0] <= Duration::from_millis(100));
        assert!(waits[1] <= Duration::from_millis(200));
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(5)));
        assert!(waits[10..].iter().any(|wait| *wait > Duration::from_secs(4)));
        assert!(waits[10..].iter().any(|wait| *wait < Duration::from_secs(1)));
        backoff.reset();
        assert!(backoff.next(&mut rng) <= Duration::from_millis(100));
    }
}
