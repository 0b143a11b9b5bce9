//! How long a call may take, given how long calls of its kind took lately.

use std::time::Duration;

use crate::base::DeadlineTerms;
use crate::latency::window::UsualLatency;

/// A deadline is so many hundredths of the time that 95 % of the last calls took at the most.
const FACTOR_PERCENT: u32 = 150;
/// A call that was cut counts as if it had taken so many times its deadline. Once such calls are more than 5 % of those that are
/// known, the deadline is therefore three times as long. A server that has become slow is found so within a minute, if it takes no
/// more than half of that.
const CUT_COUNTS_AS: u32 = 2;

/// How long a call may take, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// How long it may take.
    pub limit: Duration,
    /// Why the limit is what it is.
    pub reason: DeadlineReason,
    /// What it was computed from; none if too few calls were seen.
    pub usual: Option<UsualLatency>,
}

/// Why a deadline is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadlineReason {
    /// Too few calls were seen, so that it is the longest.
    Cold,
    /// It follows from the last calls.
    Learned,
    /// The last calls were quicker than the shortest deadline.
    Floor,
    /// The last calls were slower than the longest deadline allows.
    Ceiling,
}

/// How a call ended, as far as it says how long calls of its kind take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitEnd {
    /// It was answered successfully.
    Answered,
    /// It was cut when its deadline passed.
    Cut,
    /// It was given up for another reason, so that it would have taken longer.
    GivenUp,
}

impl Deadline {
    /// The deadline of a call whose kind usually takes so long.
    #[must_use]
    pub fn of(terms: &DeadlineTerms, usual: Option<UsualLatency>) -> Deadline {
        let Some(UsualLatency { p95, .. }) = usual else {
            return Deadline { limit: terms.ceiling, reason: DeadlineReason::Cold, usual };
        };
        let learned = longest_usual(p95);
        let (limit, reason) = match learned {
            learned if learned >= terms.ceiling => (terms.ceiling, DeadlineReason::Ceiling),
            learned if learned < terms.floor => (terms.floor.min(terms.ceiling), DeadlineReason::Floor),
            learned => (learned, DeadlineReason::Learned),
        };
        Deadline { limit, reason, usual }
    }

    /// How long calls of its kind usually take at the most, whatever the limits of deadlines; none if too few were seen.
    #[must_use]
    pub fn usual_max(&self) -> Option<Duration> {
        self.usual.map(|usual| longest_usual(usual.p95))
    }

    /// Whether a call that was given up after `waited` had waited so long that this says something of its server: half as long again
    /// as half of the calls take, and longer than the shortest deadline. Unlike the deadline, the time of half of the calls does not
    /// grow while fewer than half of them are cut.
    #[must_use]
    pub fn is_long(&self, terms: &DeadlineTerms, waited: Duration) -> bool {
        let shortest = terms.floor.min(terms.ceiling);
        self.usual.is_some_and(|usual| waited > longest_usual(usual.p50).max(shortest))
    }

    /// As how long a call counts that had this deadline, and ended so after `waited`; none if it says nothing.
    #[must_use]
    pub fn counts_as(&self, end: WaitEnd, waited: Duration) -> Option<Duration> {
        match end {
            WaitEnd::Answered => Some(waited),
            WaitEnd::Cut => Some(waited.max(self.limit.saturating_mul(CUT_COUNTS_AS))),
            // Calls that are given up early would make a tool look quick.
            WaitEnd::GivenUp => self.usual.is_some_and(|usual| waited > usual.p95).then_some(waited),
        }
    }
}

/// The factor of deadlines, applied to a quantile.
fn longest_usual(quantile: Duration) -> Duration {
    quantile.saturating_mul(FACTOR_PERCENT) / 100
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use super::*;
    use crate::base::{GuardMode, Rng, Time};
    use crate::latency::learned::Learned;

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: f64 = 60.0;

    fn enforced() -> DeadlineTerms {
        DeadlineTerms { mode: GuardMode::Enforce, ..DeadlineTerms::default() }
    }

    fn usual(p95: Duration) -> Option<UsualLatency> {
        Some(UsualLatency { p50: p95 / 2, p95 })
    }

    #[test]
    fn a_deadline_is_half_as_long_again_as_the_95th_percentile_within_its_limits() {
        let terms = enforced();
        let of = |usual| {
            let Deadline { limit, reason, .. } = Deadline::of(&terms, usual);
            (limit, reason)
        };
        assert_eq!(of(None), (120 * SECOND, DeadlineReason::Cold));
        assert_eq!(of(usual(10 * SECOND)), (15 * SECOND, DeadlineReason::Learned));
        assert_eq!(of(usual(SECOND / 10)), (SECOND, DeadlineReason::Floor));
        assert_eq!(of(usual(100 * SECOND)), (120 * SECOND, DeadlineReason::Ceiling));
        assert_eq!(of(usual(Duration::MAX)), (120 * SECOND, DeadlineReason::Ceiling));
        let low = DeadlineTerms { ceiling: SECOND / 2, ..terms };
        assert_eq!(Deadline::of(&low, usual(SECOND / 10)).limit, SECOND / 2, "the ceiling wins");
        let open = DeadlineTerms { ceiling: Duration::MAX, ..terms };
        assert_eq!(Deadline::of(&open, None).limit, Duration::MAX);
    }

    #[test]
    fn a_call_that_was_cut_counts_as_more_than_its_deadline_and_one_that_was_given_up_early_not_at_all() {
        let deadline = Deadline::of(&enforced(), usual(2 * SECOND));
        assert_eq!(deadline.counts_as(WaitEnd::Answered, SECOND), Some(SECOND));
        assert_eq!(deadline.counts_as(WaitEnd::Cut, 3 * SECOND), Some(6 * SECOND));
        assert_eq!(deadline.counts_as(WaitEnd::GivenUp, SECOND), None);
        assert_eq!(deadline.counts_as(WaitEnd::GivenUp, 3 * SECOND), Some(3 * SECOND));
        let cold = Deadline::of(&enforced(), None);
        assert_eq!(cold.counts_as(WaitEnd::GivenUp, 60 * SECOND), None);
        assert_eq!(Deadline::of(&DeadlineTerms { ceiling: Duration::MAX, ..enforced() }, None).limit, Duration::MAX);
    }

    #[test]
    fn a_call_that_was_given_up_says_something_if_it_waited_longer_than_most_calls_take() {
        let deadline = Deadline::of(&enforced(), usual(20 * SECOND));
        assert!(!deadline.is_long(&enforced(), 15 * SECOND), "half of the calls take 10 s");
        assert!(deadline.is_long(&enforced(), 15 * SECOND + SECOND / 10));
        let quick = Deadline::of(&enforced(), usual(SECOND / 10));
        assert!(!quick.is_long(&enforced(), SECOND) && quick.is_long(&enforced(), SECOND + SECOND / 10));
        assert!(!Deadline::of(&enforced(), None).is_long(&enforced(), 100 * SECOND), "nothing is known");
    }

    /// Calls at random moments to a server whose time is drawn by `serves`, which knows when a call begins in seconds.
    struct Run<S> {
        terms: DeadlineTerms,
        per_second: f64,
        seed: u64,
        serves: S,
    }

    /// One call: when it began, its deadline, and how long the server takes for it.
    #[derive(Clone, Copy, Debug)]
    struct Call {
        began_s: f64,
        deadline: Deadline,
        takes: Duration,
    }

    impl Call {
        fn is_late(&self) -> bool {
            self.takes > self.deadline.limit
        }
    }

    impl<S: Fn(f64, &mut Rng) -> f64> Run<S> {
        /// All calls that begin within so many seconds.
        fn calls(&self, seconds: f64) -> Vec<Call> {
            let (mut rng, learned, mut calls) = (Rng::new(self.seed), Learned::new(), Vec::new());
            let mut under_way: BinaryHeap<Reverse<(Time, usize)>> = BinaryHeap::new();
            let mut now_s = 0.0;
            while now_s < seconds {
                let now = Time::ZERO + Duration::from_secs_f64(now_s);
                while let Some(Reverse((ended, nth))) = under_way.peek().copied().filter(|Reverse((at, _))| *at <= now)
                {
                    under_way.pop();
                    let Call { deadline, takes, .. } = calls[nth];
                    let is_cut = self.terms.mode == GuardMode::Enforce && takes > deadline.limit;
                    let end = if is_cut { WaitEnd::Cut } else { WaitEnd::Answered };
                    let waited = if is_cut { deadline.limit } else { takes };
                    learned.record(deadline.counts_as(end, waited).unwrap(), ended);
                }
                let deadline = Deadline::of(&self.terms, learned.usual(now));
                let takes = Duration::from_secs_f64((self.serves)(now_s, &mut rng));
                let takes = takes.max(Duration::from_micros(1));
                let waits = if self.terms.mode == GuardMode::Enforce { takes.min(deadline.limit) } else { takes };
                under_way.push(Reverse((now + waits, calls.len())));
                calls.push(Call { began_s: now_s, deadline, takes });
                now_s += rng.unit() * 2.0 / self.per_second;
            }
            calls
        }
    }

    /// Around `mean`, by a fifth at the most.
    fn around(mean: f64, rng: &mut Rng) -> f64 {
        mean * (0.8 + 0.4 * rng.unit())
    }

    fn late_share(calls: &[Call]) -> f64 {
        calls.iter().filter(|call| call.is_late()).count() as f64 / calls.len() as f64
    }

    const MODES: [GuardMode; 2] = [GuardMode::Observe, GuardMode::Enforce];
    const SEEDS: u64 = 20;

    #[test]
    fn a_step_up_is_followed_within_a_minute_although_the_calls_are_cut() {
        for mode in MODES {
            for seed in 0..SEEDS {
                let mut rng = Rng::new(seed ^ 0x57e9);
                let (before, per_second) = (0.02 + 2.0 * rng.unit(), 1.0 + 50.0 * rng.unit());
                let after = (before * (2.0 + 40.0 * rng.unit())).min(30.0);
                let serves = |now: f64, rng: &mut Rng| around(if now < 300.0 { before } else { after }, rng);
                let calls = Run { terms: DeadlineTerms { mode, ..enforced() }, per_second, seed, serves }.calls(600.0);
                let (quiet, rest): (Vec<_>, Vec<_>) = calls.into_iter().partition(|call| call.began_s < 300.0);
                let case = format!("{mode}, seed {seed}: {before} to {after} s, {per_second} per second");
                assert_eq!(late_share(&quiet), 0.0, "{case}");
                let late: Vec<_> = rest.iter().filter(|call| call.began_s > 300.0 + MINUTE && call.is_late()).collect();
                assert!(late.is_empty(), "{case}: {} late, {:?}", late.len(), late.last());
            }
        }
    }

    #[test]
    fn a_step_down_is_followed_within_a_minute() {
        for mode in MODES {
            for seed in 0..SEEDS {
                let mut rng = Rng::new(seed ^ 0xd0);
                let (after, per_second) = (0.8 + 2.0 * rng.unit(), 2.0 + 50.0 * rng.unit());
                let before = after * (2.0 + 8.0 * rng.unit());
                let serves = |now: f64, rng: &mut Rng| around(if now < 300.0 { before } else { after }, rng);
                let calls = Run { terms: DeadlineTerms { mode, ..enforced() }, per_second, seed, serves }.calls(600.0);
                let longest = Duration::from_secs_f64(after * 1.2 * 1.5 * 17.0 / 16.0);
                // The last slow call ends when it has taken its time.
                let settled = calls.iter().filter(|call| call.began_s > 300.0 + MINUTE + before * 1.2);
                for call in settled {
                    assert!(call.deadline.limit <= longest && !call.is_late(), "{mode}, seed {seed}: {call:?}");
                }
            }
        }
    }

    #[test]
    fn a_ramp_cuts_few_calls() {
        for mode in MODES {
            for seed in 0..SEEDS {
                // From 0.3 s to 30 s within ten minutes.
                let serves = |now: f64, rng: &mut Rng| around(0.3 * 100_f64.powf((now / 600.0).min(1.0)), rng);
                let calls =
                    Run { terms: DeadlineTerms { mode, ..enforced() }, per_second: 5.0, seed, serves }.calls(700.0);
                assert!(late_share(&calls) < 0.01, "{mode}, seed {seed}: {}", late_share(&calls));
            }
        }
    }

    #[test]
    fn of_two_kinds_of_calls_the_slow_ones_are_kept_if_they_are_not_rare() {
        for mode in MODES {
            for seed in 0..SEEDS {
                let serves = |_: f64, rng: &mut Rng| {
                    let mean = if rng.chance(0.15) { 20.0 } else { 0.5 };
                    around(mean, rng)
                };
                let calls =
                    Run { terms: DeadlineTerms { mode, ..enforced() }, per_second: 5.0, seed, serves }.calls(900.0);
                let settled: Vec<_> = calls.into_iter().filter(|call| call.began_s > 120.0).collect();
                assert!(late_share(&settled) < 0.005, "{mode}, seed {seed}: {}", late_share(&settled));
            }
        }
    }

    #[test]
    fn of_heavy_tailed_times_only_the_tail_is_cut() {
        for mode in MODES {
            for seed in 0..SEEDS {
                // Pareto with index 1.5: the 95th percentile is 7.4 times the least, and 2.7 % take 1.5 times that.
                let serves = |_: f64, rng: &mut Rng| 0.3 * (1.0 - rng.unit()).powf(-1.0 / 1.5);
                let calls =
                    Run { terms: DeadlineTerms { mode, ..enforced() }, per_second: 10.0, seed, serves }.calls(900.0);
                let settled: Vec<_> = calls.into_iter().filter(|call| call.began_s > 60.0).collect();
                assert!(late_share(&settled) < 0.04, "{mode}, seed {seed}: {}", late_share(&settled));
                let median = settled.len() / 2;
                let mut limits: Vec<Duration> = settled.iter().map(|call| call.deadline.limit).collect();
                limits.sort_unstable();
                let (low, high) = (Duration::from_secs_f64(2.6), Duration::from_secs_f64(4.6));
                assert!((low..high).contains(&limits[median]), "{mode}, seed {seed}: {:?}", limits[median]);
            }
        }
    }
}
