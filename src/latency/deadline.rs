//! How long a call may take, learned from the last calls of its kind.

use std::time::Duration;

use crate::base::DeadlineTerms;
use crate::latency::window::UsualLatency;

/// The deadline, in percent of the 95th percentile of the last calls.
const FACTOR_PERCENT: u32 = 150;
/// A call that was ended by its deadline counts as if it had taken this multiple of the deadline. Once more than 5 % of
/// the known calls were ended, the deadline therefore becomes three times as long. If a server becomes slow, and takes
/// at most half of that, the deadline has adapted within a minute.
const CUT_COUNTS_AS: u32 = 2;

/// The deadline of a call, and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// The longest time that the call may take.
    pub limit: Duration,
    /// Why the limit is what it is.
    pub reason: DeadlineReason,
    /// What it was computed from; `None` if too few calls were seen.
    pub usual: Option<UsualLatency>,
}

/// Why a deadline is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadlineReason {
    /// Too few calls were seen, so the longest deadline applies.
    Cold,
    /// It was computed from the last calls.
    Learned,
    /// The last calls would give less than the shortest deadline.
    Floor,
    /// The last calls would give more than the longest deadline.
    Ceiling,
}

/// How the wait for a response ended, as far as it says how long calls take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitEnd {
    /// The response was a success.
    Answered,
    /// The deadline passed before the response.
    Cut,
    /// The call was given up for another reason, and would have taken longer.
    GivenUp,
}

impl Deadline {
    /// Computes the deadline of a call from the usual latency of its kind.
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

    /// The deadline before its upper and lower bounds are applied; `None` if too few calls were seen.
    #[must_use]
    pub fn usual_max(&self) -> Option<Duration> {
        self.usual.map(|usual| longest_usual(usual.p95))
    }

    /// Whether a call that was given up after `waited` is evidence against its server: it had waited 1.5 times the
    /// median, and longer than the shortest deadline. The median, unlike the deadline, does not grow while fewer than
    /// half of the calls are ended by their deadline.
    #[must_use]
    pub fn is_long(&self, terms: &DeadlineTerms, waited: Duration) -> bool {
        let shortest = terms.floor.min(terms.ceiling);
        self.usual.is_some_and(|usual| waited > longest_usual(usual.p50).max(shortest))
    }

    /// The duration to learn from a call with this deadline that ended after `waited`; `None` if it says nothing.
    #[must_use]
    pub fn counts_as(&self, end: WaitEnd, waited: Duration) -> Option<Duration> {
        match end {
            WaitEnd::Answered => Some(waited),
            WaitEnd::Cut => Some(waited.max(self.limit.saturating_mul(CUT_COUNTS_AS))),
            // Learning from calls that are given up early would make a tool look fast.
            WaitEnd::GivenUp => self.usual.is_some_and(|usual| waited > usual.p95).then_some(waited),
        }
    }
}

/// Applies the factor of deadlines to a quantile.
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

    /// Calls at random moments to a server. `serves` draws the duration of a call from the moment in seconds at which
    /// it begins.
    struct Run<S> {
        terms: DeadlineTerms,
        per_second: f64,
        seed: u64,
        serves: S,
    }

    /// One call: when it began, its deadline, and its duration.
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
        /// All calls that begin within this many seconds.
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

    /// A random value within a fifth of `mean`.
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
                // Waits until the last slow call has ended.
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
                // The duration grows from 0.3 s to 30 s within ten minutes.
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
