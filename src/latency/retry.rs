use std::time::Duration;

/// The first retry is made at once. The pause before the second one is random, up to this long; before each further one it may be
/// twice as long as before the one before it.
const PAUSE_MAX_FIRST: Duration = Duration::from_millis(25);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// A retry costs what so many calls earn.
const CALLS_PER_RETRY: u32 = 10;
/// So many retries can be saved up. A new budget has them.
const SAVED_MAX: u32 = 10;

/// How far a request came that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// Nothing of it reached the upstream.
    Never,
    /// It may have reached the upstream, and not one byte of an answer came back. `was_used` says that others had used the
    /// connection, so that it may have been closed as the request came.
    Silent {
        /// Whether others had used the connection.
        was_used: bool,
    },
    /// An answer had begun.
    Answered,
}

/// Why a call is not sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRetry {
    /// It may have run, and nothing says that it may run twice.
    MayHaveRun,
    /// It was sent again as often as is allowed.
    Spent,
    /// The retries of the route have used up its budget.
    Budget,
    /// Its time would be over.
    Deadline,
}

/// What the retries of one route may add to its calls: a token bucket that each call fills by a tenth of a retry.
#[derive(Clone, Debug)]
pub struct RetryBudget {
    /// In parts of `CALLS_PER_RETRY` of a retry.
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
    /// Books a new call, which pays for a part of a retry.
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
    /// How many there were.
    #[must_use]
    pub fn made(self) -> u32 {
        self.made
    }

    /// Whether the call is sent once more, `retries_max` times at the most, and after which pause. `may_run_twice` says so of its
    /// request, `left` is the time that it still has, if that is limited, and `random` a number from 0 to 1.
    ///
    /// The first retry of a call of which nothing reached an upstream costs nothing: it takes the place of a send that did not happen.
    /// So the requests that reach upstreams are never more than the calls and the budget.
    ///
    /// # Errors
    ///
    /// Why not.
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
    fn what_may_have_run_is_never_sent_again_unless_it_may_run_twice() {
        let mut rng = Rng::new(5);
        for _ in 0..100_000 {
            let (mut retries, mut budget) = (Retries::default(), RetryBudget::default());
            let may_run_twice = rng.chance(0.5);
            // However a call fails one time after another.
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
    fn what_reaches_upstreams_is_never_more_than_the_calls_and_the_budget() {
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
