//! The planned times of calls: a pure function of start, call number and rate, which neither answers nor a late
//! generator can change.

use std::time::Duration;

use adit::base::Time;

use crate::load::Arrivals;

const NANOS_PER_S: f64 = 1e9;

/// The planned starts of an open loop's calls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ArrivalPlan {
    start: Time,
    rate: f64,
    arrivals: Arrivals,
}

impl ArrivalPlan {
    /// A plan of calls from `start` on, `rate` per second. The rate is above zero, as checked by
    /// [`crate::Load::check`].
    #[must_use]
    pub const fn new(start: Time, rate: f64, arrivals: Arrivals) -> ArrivalPlan {
        ArrivalPlan { start, rate, arrivals }
    }

    /// When call `i` is due, counted from 0. For Poisson arrivals this sums all earlier gaps; use [`ArrivalPlan::iter`]
    /// to iterate.
    #[must_use]
    pub fn at(&self, i: u64) -> Time {
        match self.arrivals {
            Arrivals::Constant => self.constant(i),
            Arrivals::Poisson { seed } => self.after((0..=i).map(|i| gap(seed, i)).sum()),
        }
    }

    /// All calls in order, with their planned times.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Time)> + use<> {
        let (plan, mut elapsed) = (*self, 0.0);
        (0..).map(move |i| {
            let at = match plan.arrivals {
                Arrivals::Constant => plan.constant(i),
                Arrivals::Poisson { seed } => {
                    elapsed += gap(seed, i);
                    plan.after(elapsed)
                }
            };
            (i, at)
        })
    }

    fn constant(&self, i: u64) -> Time {
        // Not a sum of rounded gaps, whose error would grow with each call.
        self.after(i as f64)
    }

    /// The time after this many mean gaps since the start.
    fn after(&self, gaps: f64) -> Time {
        self.start + Duration::from_nanos((gaps * NANOS_PER_S / self.rate) as u64)
    }
}

/// Gap `i` of a Poisson process of rate 1: exponential, and determined by `seed` and `i`.
fn gap(seed: u64, i: u64) -> f64 {
    let bits = mix(seed ^ mix(i));
    // In 0..1 without 1, so that the logarithm is finite.
    let unit = (bits >> 11) as f64 / (1_u64 << 53) as f64;
    -(1.0 - unit).ln()
}

/// A bijection that maps neighbours far apart (the finalizer of SplitMix64).
const fn mix(n: u64) -> u64 {
    let z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use adit::base::Rng;

    const START: Time = Time::from_nanos(5_000);

    #[test]
    fn constant_arrivals_are_start_plus_i_over_rate() {
        let plan = ArrivalPlan::new(START, 2_000.0, Arrivals::Constant);
        for i in [0, 1, 2, 1_999, 2_000, 123_456_789] {
            assert_eq!(plan.at(i) - START, Duration::from_nanos(i * 500_000), "{i}");
        }
        // A rate that does not divide a second: the sum is rounded, not every step.
        let plan = ArrivalPlan::new(START, 3.0, Arrivals::Constant);
        for i in [1_u64, 1_000_000_007] {
            let exact = u128::from(i) * 1_000_000_000 / 3;
            assert!((plan.at(i) - START).as_nanos().abs_diff(exact) <= 128, "{i}");
        }
    }

    #[test]
    fn walking_along_is_the_same_as_asking() {
        let mut rng = Rng::new(1);
        for _ in 0..50 {
            let arrivals = match rng.below(2) {
                0 => Arrivals::Constant,
                _ => Arrivals::Poisson { seed: rng.next_u64() },
            };
            let plan = ArrivalPlan::new(Time::from_nanos(rng.below(1 << 40)), 0.1 + rng.unit() * 1e6, arrivals);
            let mut before = Time::ZERO;
            for (i, at) in plan.iter().take(200) {
                assert_eq!(at, plan.at(i));
                assert!(at >= before);
                before = at;
            }
        }
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_the_spread_of_an_exponential() {
        let n = 100_000;
        let gaps: Vec<f64> = (0..n).map(|i| gap(7, i)).collect();
        let mean = gaps.iter().sum::<f64>() / n as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / n as f64;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        assert!((variance - 1.0).abs() < 0.05, "{variance}");
        let beyond_two = gaps.iter().filter(|gap| **gap > 2.0).count() as f64 / n as f64;
        assert!((beyond_two - (-2.0_f64).exp()).abs() < 0.005, "{beyond_two}");
    }

    #[test]
    fn the_seed_decides_and_the_rate_only_scales() {
        let plan = |rate, seed| ArrivalPlan::new(START, rate, Arrivals::Poisson { seed });
        assert_eq!(plan(100.0, 1).at(500), plan(100.0, 1).at(500));
        assert_ne!(plan(100.0, 1).at(500), plan(100.0, 2).at(500));
        let (slow, fast) = (plan(100.0, 1).at(500) - START, plan(200.0, 1).at(500) - START);
        assert!(slow.as_nanos().abs_diff(fast.as_nanos() * 2) <= 2);
    }
}
