use std::time::Duration;

use crate::base::Time;
use crate::policy::SourceKey;

/// The maximum number of sources remembered at the same time.
pub const SOURCES_MAX: usize = 32_768;
/// The number of slots in which one source can be stored.
const WAYS: usize = 8;

/// How often something may happen: `per_minute` on average, in bursts of up to `burst`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    interval_ns: u64,
    burst: u64,
}

impl Rate {
    /// Creates a rate; `None`, which means no limit, if either number is zero.
    #[must_use]
    pub fn new(per_minute: u64, burst: u64) -> Option<Rate> {
        const MINUTE_NS: u64 = 60_000_000_000;
        let interval_ns = MINUTE_NS.checked_div(per_minute)?.max(1);
        (burst > 0).then_some(Rate { interval_ns, burst })
    }

    /// The average number per minute, rounded.
    #[must_use]
    pub fn per_minute(self) -> u64 {
        const MINUTE_NS: u64 = 60_000_000_000;
        (MINUTE_NS + self.interval_ns / 2) / self.interval_ns
    }

    /// The maximum burst size.
    #[must_use]
    pub const fn burst(self) -> u64 {
        self.burst
    }

    /// Converts the state of a bucket of another rate to this rate. The debt is capped at the burst of this rate.
    pub(super) fn taking_over(self, full_at_ns: u64, now: Time) -> u64 {
        full_at_ns.min(now.as_nanos().saturating_add(self.ahead_max_ns()))
    }

    /// Takes a token from a bucket that is full at `full_at_ns`. Returns the new time at which it is full.
    ///
    /// # Errors
    ///
    /// The time until a token is available, if there is none.
    pub fn take_from(self, full_at_ns: u64, now: Time) -> Result<u64, Duration> {
        let owed_ns = full_at_ns.saturating_sub(now.as_nanos()).saturating_add(self.interval_ns);
        match owed_ns.checked_sub(self.ahead_max_ns()) {
            None | Some(0) => Ok(now.as_nanos().saturating_add(owed_ns)),
            Some(missing_ns) => Err(Duration::from_nanos(missing_ns)),
        }
    }

    /// How far in the future `full_at_ns` may be.
    fn ahead_max_ns(self) -> u64 {
        self.interval_ns.saturating_mul(self.burst)
    }
}

/// Token buckets, one for each source, in a table of fixed size.
///
/// A bucket is stored as the time at which it will be full again (the generic cell rate algorithm), so one number is enough. Each
/// source has eight possible slots. If other sources with buckets that are not full use all of them, the slot nearest to full is
/// overwritten. An attacker with enough addresses to fill the table gains nothing: each address has a full bucket anyway.
pub struct SourceLimits {
    slots: Box<[Slot]>,
    seed: u64,
}

/// A key, and the nanosecond at which its bucket is full. Zero when unused, so that unused memory is never touched.
type Slot = [u64; 2];

impl SourceLimits {
    /// Creates an empty table. The seed must be random, so that nobody can choose which source to displace.
    #[must_use]
    pub fn new(seed: u64) -> SourceLimits {
        SourceLimits { slots: vec![[0; 2]; SOURCES_MAX].into(), seed }
    }

    /// Takes a token of this source. Returns false if there is none.
    pub fn take(&mut self, source: SourceKey, rate: Rate, now: Time) -> bool {
        let slot = self.slot(source);
        let owed_ns = owed_ns(slot, source, now);
        if owed_ns.saturating_add(rate.interval_ns) > rate.ahead_max_ns() {
            return false;
        }
        *slot = [source.get(), now.as_nanos().saturating_add(owed_ns).saturating_add(rate.interval_ns)];
        true
    }

    /// Whether this source has a token, without taking it.
    #[must_use]
    pub fn has(&self, source: SourceKey, rate: Rate, now: Time) -> bool {
        let owed_ns = self.slots[self.places(source)].iter().map(|slot| owed_ns(slot, source, now)).max();
        owed_ns.unwrap_or(0).saturating_add(rate.interval_ns) <= rate.ahead_max_ns()
    }

    /// The slot of a source, or the slot that it replaces.
    fn slot(&mut self, source: SourceKey) -> &mut Slot {
        let places = self.places(source);
        let slots = &mut self.slots[places];
        let own = slots.iter().position(|[key, _]| *key == source.get());
        let least = || (0..WAYS).min_by_key(|at| slots[*at][1]).unwrap_or(0);
        let at = own.unwrap_or_else(least);
        &mut slots[at]
    }

    fn places(&self, source: SourceKey) -> std::ops::Range<usize> {
        const SETS: u64 = (SOURCES_MAX / WAYS) as u64;
        // The finaliser of SplitMix64: every bit of the key affects every bit of the slot number.
        let mut mixed = source.get() ^ self.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let first = ((mixed ^ (mixed >> 31)) % SETS) as usize * WAYS;
        first..first + WAYS
    }
}

/// How far in the future the bucket of this source is full; zero if the slot belongs to another source.
fn owed_ns([key, full_at_ns]: &Slot, source: SourceKey, now: Time) -> u64 {
    if *key == source.get() { full_at_ns.saturating_sub(now.as_nanos()) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;
    use std::net::{IpAddr, Ipv6Addr};

    fn key(n: u128) -> SourceKey {
        SourceKey::of(IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8 << 96) | (n << 64))))
    }

    fn at_ms(ms: u64) -> Time {
        Time::ZERO + Duration::from_secs(1) + Duration::from_millis(ms)
    }

    #[test]
    fn a_burst_goes_through_and_then_as_much_as_the_rate_gives() {
        // A rate of ten per second, with bursts of five.
        let rate = Rate::new(600, 5).unwrap();
        let mut limits = SourceLimits::new(1);
        let taken =
            |limits: &mut SourceLimits, ms, tries| (0..tries).filter(|_| limits.take(key(1), rate, at_ms(ms))).count();
        assert_eq!(taken(&mut limits, 0, 20), 5);
        assert!(!limits.has(key(1), rate, at_ms(99)) && limits.has(key(1), rate, at_ms(100)));
        assert_eq!(taken(&mut limits, 99, 5), 0);
        assert_eq!(taken(&mut limits, 100, 5), 1);
        assert_eq!(taken(&mut limits, 350, 5), 2);
        assert_eq!(taken(&mut limits, 60_000, 50), 5);
        assert!(limits.has(key(2), rate, at_ms(0)), "another source has its own");
        assert!((0..5).all(|_| limits.has(key(2), rate, at_ms(0))), "looking takes nothing");
    }

    #[test]
    fn no_limit_is_no_rate() {
        assert_eq!((Rate::new(0, 5), Rate::new(5, 0)), (None, None));
        let fastest = Rate::new(u64::MAX, u64::MAX).unwrap();
        assert!(SourceLimits::new(1).take(key(1), fastest, Time::NEVER));
    }

    #[test]
    fn no_caller_exceeds_the_rate_on_average() {
        let rate = Rate::new(60, 3).unwrap();
        let mut limits = SourceLimits::new(7);
        let (mut rng, mut now_ms, mut taken) = (Rng::new(9), 0, 0);
        while now_ms < 600_000 {
            now_ms += rng.below(700);
            taken += u64::from(limits.take(key(1), rate, at_ms(now_ms)));
        }
        assert!((600..=604).contains(&taken), "{taken}");
    }

    #[test]
    fn a_flood_of_sources_does_not_grow_it_and_one_that_owes_much_is_remembered() {
        let rate = Rate::new(60, 10).unwrap();
        let mut limits = SourceLimits::new(3);
        (0..10).for_each(|_| assert!(limits.take(key(1), rate, at_ms(0))));
        for n in 2..4 * SOURCES_MAX as u128 {
            assert!(limits.take(key(n), rate, at_ms(0)), "a newcomer has a whole burst");
        }
        assert_eq!(limits.slots.len(), SOURCES_MAX);
        assert!(!limits.take(key(1), rate, at_ms(1)));
    }
}
