use std::time::Duration;

/// The first retry is made at once. The pause before the second is random, up to this long; the bound doubles with each
/// further retry.
const PAUSE_MAX_FIRST: Duration = Duration::from_millis(25);
/// The upper bound of the random pause.
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// Each call pays for 1/10 of a retry.
const CALLS_PER_RETRY: u32 = 10;
/// How many retries can be saved up. A new budget starts with this many.
const SAVED_MAX: u32 = 10;

/// How far a failed request got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// Nothing reached the upstream.
    Never,
    /// The request may have reached the upstream, and no byte of a response came back.
    Silent {
        /// Whether the connection had carried earlier requests, so that it may have been closed just as this one was
        /// sent.
        was_used: bool,
    },
    /// A response had begun.
    Answered,
}

/// Why a call is not sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRetry {
    /// The request may have run, and is not known to be safe to run twice.
    MayHaveRun,
    /// It was retried as often as allowed.
    Spent,
    /// The route has used up its retry budget.
    Budget,
    /// There is no time left.
    Deadline,
}

/// Limits the retries of one route: a token bucket to which each call adds 1/10 of a token.
#[derive(Clone, Debug)]
pub struct RetryBudget {
    /// In units of 1/`CALLS_PER_RETRY` of a retry.
    saved: u32,
}

/// The retries of one call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Retries {
    made: u32,
}

impl Default for RetryBudget {
    fn default() -> RetryBudget {
        RetryBudget { saved: SAVED_MAX * CALLS_PER_RETRY }
    }
}

impl RetryBudget {
    /// Counts a new call, which pays for a part of a retry.
    pub fn on_call(&mut self) {
        self.saved = (self.saved + 1).min(SAVED_MAX * CALLS_PER_RETRY);
    }

    fn take(&mut self) -> bool {
        let left = self.saved.checked_sub(CALLS_PER_RETRY);
        self.saved = left.unwrap_or(self.saved);
        left.is_some()
    }
}

impl Retries {
    /// How many retries were made.
    #[must_use]
    pub fn made(self) -> u32 {
        self.made
    }

    /// Decides whether the call is sent again, at most `retries_max` times, and after which pause. `may_run_twice` says
    /// whether its request is safe to repeat, `left` is the time that remains, if limited, and `random` is a number
    /// from 0 to 1.
    ///
    /// The first retry of a request that did not reach an upstream costs nothing, because it replaces a send that did
    /// not happen. Upstreams therefore never receive more requests than there were calls, plus the budget.
    ///
    /// # Errors
    ///
    /// The reason why it is not sent again.
    pub fn again(
        &mut self,
        retries_max: u32,
        reached: Reached,
        may_run_twice: bool,
        budget: &mut RetryBudget,
        left: Option<Duration>,
        random: f64,
    ) -> Result<Duration, NoRetry> {
        match reached {
            Reached::Never => {}
            Reached::Silent { was_used: true } if may_run_twice => {}
            Reached::Silent { .. } | Reached::Answered => return Err(NoRetry::MayHaveRun),
        }
        if self.made >= retries_max {
            return Err(NoRetry::Spent);
        }
        let pause_max = match self.made.checked_sub(1) {
            None => Duration::ZERO,
            Some(before) => PAUSE_MAX_FIRST.saturating_mul(1 << before.min(16)).min(PAUSE_MAX),
        };
        let pause = pause_max.mul_f64(random.clamp(0.0, 1.0));
        if left.is_some_and(|left| pause >= left) {
            return Err(NoRetry::Deadline);
        }
        let is_free = reached == Reached::Never && self.made == 0;
        if !is_free && !budget.take() {
            return Err(NoRetry::Budget);
        }
        self.made += 1;
        Ok(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    const NONE: Option<Duration> = None;
    const RETRIES_MAX: u32 = 2;

    #[test]
    fn a_call_is_sent_again_as_often_as_is_set() {
        for retries_max in [0, 1, 5] {
            let (mut retries, mut budget) = (Retries::default(), RetryBudget::default());
            let mut again = || retries.again(retries_max, Reached::Never, false, &mut budget, NONE, 0.5);
            assert!((0..retries_max).all(|_| again().is_ok()));
            assert_eq!(again(), Err(NoRetry::Spent));
        }
    }

    fn any_reached(rng: &mut Rng) -> Reached {
        match rng.below(4) {
            0 => Reached::Never,
            1 => Reached::Silent { was_used: false },
            2 => Reached::Silent { was_used: true },
            _ => Reached::Answered,
        }
    }

    #[test]
    fn a_call_that_may_have_run_is_resent_only_if_it_may_run_twice() {
        let mut rng = Rng::new(5);
        for _ in 0..100_000 {
            let (mut retries, mut budget) = (Retries::default(), RetryBudget::default());
            let may_run_twice = rng.chance(0.5);
            // For any sequence of failures.
            for _ in 0..5 {
                let reached = any_reached(&mut rng);
                let again = retries.again(RETRIES_MAX, reached, may_run_twice, &mut budget, NONE, rng.unit());
                let is_safe = match reached {
                    Reached::Never => true,
                    Reached::Silent { was_used } => was_used && may_run_twice,
                    Reached::Answered => false,
                };
                assert!(is_safe || again == Err(NoRetry::MayHaveRun), "{reached:?} {may_run_twice} {again:?}");
                if again.is_err() {
                    break;
                }
            }
            assert!(retries.made() <= RETRIES_MAX);
        }
    }

    #[test]
    fn upstreams_get_at_most_the_calls_and_the_retry_budget() {
        for seed in 0..200 {
            let (mut rng, mut budget) = (Rng::new(seed), RetryBudget::default());
            let (mut calls, mut reaching) = (0_u32, 0_u32);
            for _ in 0..2_000 {
                calls += 1;
                budget.on_call();
                let mut retries = Retries::default();
                loop {
                    let reached = any_reached(&mut rng);
                    reaching += u32::from(reached != Reached::Never);
                    if retries.again(RETRIES_MAX, reached, rng.chance(0.9), &mut budget, NONE, rng.unit()).is_err() {
                        break;
                    }
                }
                assert!(reaching <= calls + calls / CALLS_PER_RETRY + SAVED_MAX, "seed {seed}: {reaching} of {calls}");
            }
        }
    }

    #[test]
    fn retries_in_a_storm_are_a_tenth_of_the_calls() {
        let mut budget = RetryBudget::default();
        let silent = Reached::Silent { was_used: true };
        let made = (0..1_000).filter(|_| {
            budget.on_call();
            Retries::default().again(RETRIES_MAX, silent, true, &mut budget, NONE, 0.5).is_ok()
        });
        let made = made.count();
        assert!((100..=110).contains(&made), "{made}");
    }

    #[test]
    fn the_first_is_at_once_and_the_next_waits_for_a_random_time_within_its_deadline() {
        let second = |left, random| {
            let (mut retries, mut budget) = (Retries::default(), RetryBudget::default());
            let mut again = || retries.again(RETRIES_MAX, Reached::Never, false, &mut budget, left, random);
            assert_eq!(again(), Ok(Duration::ZERO));
            again()
        };
        assert_eq!(
            [0.0, 0.5, 1.0].map(|random| second(NONE, random)),
            [0, 12_500, 25_000].map(|us| Ok(Duration::from_micros(us)))
        );
        let ms = Duration::from_millis;
        assert_eq!(second(Some(ms(10)), 0.5), Err(NoRetry::Deadline));
        assert_eq!(
            Retries::default().again(RETRIES_MAX, Reached::Never, false, &mut RetryBudget::default(), Some(ms(0)), 0.0),
            Err(NoRetry::Deadline)
        );
    }
}
