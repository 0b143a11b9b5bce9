use std::time::Duration;

use crate::base::Time;

/// A rate limit: `burst` events at once, and `per_s` events per second after that.
#[derive(Clone, Copy, Debug)]
pub(in crate::wire) struct Flood {
    /// When the allowance would be full again, so that no timer has to refill it (the generic cell rate algorithm).
    full_at: Time,
    each: Duration,
    depth: Duration,
}

impl Flood {
    pub(in crate::wire) fn new(burst: u32, per_s: u32) -> Flood {
        let each = Duration::from_secs(1) / per_s.max(1);
        Flood { full_at: Time::ZERO, each, depth: each.saturating_mul(burst.max(1)) }
    }

    /// Counts one event; returns false if it exceeds the limit.
    pub(in crate::wire) fn admit(&mut self, now: Time) -> bool {
        let next = self.full_at.max(now) + self.each;
        let fits = next.since(now) <= self.depth;
        if fits {
            self.full_at = next;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut flood = Flood::new(5, 10);
        let start = Time::from_nanos(1);
        assert_eq!((0..10).filter(|_| flood.admit(start)).count(), 5);
        let later = start + Duration::from_millis(200);
        assert_eq!((0..10).filter(|_| flood.admit(later)).count(), 2);
        let rested = start + Duration::from_secs(60);
        assert_eq!((0..10).filter(|_| flood.admit(rested)).count(), 5);
    }
}
