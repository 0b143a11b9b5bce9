//! When a call is tried a second time because its first try is slow, how many are, and which try answers it.

use std::time::Duration;

use crate::latency::window::UsualLatency;

/// The shortest time after which a call is tried again: what is quicker is not worth a second call.
const AFTER_MIN: Duration = Duration::from_millis(5);
/// A second try costs what so many calls earn, so that 2 % of the calls are tried twice at the most.
const CALLS_PER_HEDGE: u32 = 50;
/// So many second tries can be saved up. A new budget has none.
const SAVED_MAX: u32 = 5;

/// How long a call is waited for before it is tried again: as long as 95 % of the last calls took at the most. None if that is not
/// known, or if no time would be left: `left` is what its caller still waits, if that is known, and `limit` how long the answer may
/// take to begin.
#[must_use]
pub fn hedge_after(usual: Option<UsualLatency>, left: Option<Duration>, limit: Duration) -> Option<Duration> {
    let after = usual?.p95.max(AFTER_MIN);
    (after < limit && left.is_none_or(|left| after < left)).then_some(after)
}

/// For how long after the second try the start of an answer is held back that says nothing yet: twice as long, as it may take the
/// second try more than most calls, but no longer than half of the time that is left then.
#[must_use]
pub fn hold_for(after: Duration, left: Option<Duration>, limit: Duration) -> Duration {
    let left = left.unwrap_or(Duration::MAX).min(limit).saturating_sub(after);
    (2 * after).min(left / 2)
}

/// How many calls of a route may be tried twice: a token bucket that each call fills by a fiftieth of a try. It is empty at first, so
/// that at every moment 2 % of the calls that were counted were tried twice at the most.
#[derive(Clone, Debug, Default)]
pub struct HedgeBudget {
    /// In parts of [`CALLS_PER_HEDGE`] of a try.
    saved: u32,
}

impl HedgeBudget {
    /// Counts a call of the route.
    pub fn on_call(&mut self) {
        self.saved = (self.saved + 1).min(SAVED_MAX * CALLS_PER_HEDGE);
    }

    /// Whether what a second try costs is there.
    #[must_use]
    pub fn has_one(&self) -> bool {
        self.saved >= CALLS_PER_HEDGE
    }

    /// Takes what a second try costs; false if it is not there.
    pub fn take(&mut self) -> bool {
        let left = self.saved.checked_sub(CALLS_PER_HEDGE);
        self.saved = left.unwrap_or(self.saved);
        left.is_some()
    }
}

/// What has come of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryState {
    /// Nothing that says what the answer is.
    Waits,
    /// It has begun, and does not say yet what it is. The head of an event stream is sent at once by servers, and of the second try a
    /// success says what it is with its last byte.
    Begun,
    /// An answer of the second try that is no success: it serves if the first fails.
    Refused,
    /// An answer that can be passed on.
    Answered,
    /// No answer will come.
    Failed,
}

/// One of the two tries of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Try {
    /// The one that each call has.
    First,
    /// The one that was added because the first was slow.
    Second,
}

/// Which try answers the call, if that is decided. The second one only ever answers with a success, unless the first has failed or what
/// it began was held back for long: `is_over` says that what has begun is held back no longer.
#[must_use]
pub fn decide(first: TryState, second: TryState, is_over: bool) -> Option<Try> {
    match (first, second) {
        // What the first was answered would have been passed on without a second try.
        (TryState::Answered | TryState::Refused, _) => Some(Try::First),
        (_, TryState::Answered) => Some(Try::Second),
        (_, TryState::Failed) => Some(Try::First),
        (TryState::Failed, TryState::Begun | TryState::Refused) => Some(Try::Second),
        (TryState::Failed, TryState::Waits) => None,
        (TryState::Begun, _) if is_over => Some(Try::First),
        (TryState::Waits, TryState::Begun) if is_over => Some(Try::Second),
        (TryState::Waits | TryState::Begun, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    const STATES: [TryState; 5] =
        [TryState::Waits, TryState::Begun, TryState::Refused, TryState::Answered, TryState::Failed];

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn usual(p95: Duration) -> Option<UsualLatency> {
        Some(UsualLatency { p50: p95 / 2, p95 })
    }

    #[test]
    fn a_call_is_tried_again_once_it_takes_longer_than_most_and_only_with_time_left() {
        let limit = ms(1_000);
        assert_eq!(hedge_after(usual(ms(400)), None, limit), Some(ms(400)));
        assert_eq!(hedge_after(usual(ms(400)), Some(ms(401)), limit), Some(ms(400)));
        assert_eq!(hedge_after(usual(ms(400)), Some(ms(400)), limit), None);
        assert_eq!(hedge_after(usual(ms(1_000)), None, limit), None);
        assert_eq!(hedge_after(usual(ms(1)), None, limit), Some(AFTER_MIN));
        assert_eq!(hedge_after(None, None, Duration::MAX), None);
        assert_eq!(hedge_after(usual(ms(400)), None, Duration::MAX), Some(ms(400)));
    }

    #[test]
    fn what_is_held_back_is_let_go_before_a_limit_passes() {
        let mut rng = Rng::new(12);
        for _ in 0..10_000 {
            let mut time = |max| Duration::from_micros(1 + rng.below(max));
            let (p95, limit, left) = (time(5_000_000), time(10_000_000), time(10_000_000));
            for left in [None, Some(left)] {
                let Some(after) = hedge_after(usual(p95), left, limit) else { continue };
                let until = after + hold_for(after, left, limit);
                assert!(until < limit && left.is_none_or(|left| until < left), "{p95:?} {limit:?} {left:?}");
                assert!(until <= 3 * after);
            }
        }
        assert_eq!(hold_for(ms(400), None, Duration::MAX), ms(800));
    }

    #[test]
    fn at_every_moment_no_more_than_one_call_in_fifty_was_tried_twice() {
        for seed in 0..200 {
            let (mut rng, mut budget) = (Rng::new(seed), HedgeBudget::default());
            let (mut calls, mut taken) = (0, 0);
            let eager = rng.unit();
            for _ in 0..5_000 {
                calls += 1;
                budget.on_call();
                while rng.chance(eager) {
                    let has_one = budget.has_one();
                    assert_eq!(budget.take(), has_one);
                    taken += u32::from(has_one);
                    assert!(taken * CALLS_PER_HEDGE <= calls, "seed {seed}: {taken} of {calls}");
                }
            }
            assert!(taken > 0, "seed {seed}");
        }
    }

    #[test]
    fn what_is_saved_up_is_bounded() {
        let mut budget = HedgeBudget::default();
        assert!(!budget.take(), "a new one has nothing");
        (0..100_000).for_each(|_| budget.on_call());
        assert_eq!((0..1_000).filter(|_| budget.take()).count(), SAVED_MAX as usize);
    }

    #[test]
    fn the_second_try_never_makes_an_answer_worse() {
        for (first, second, is_over) in STATES
            .iter()
            .flat_map(|first| STATES.iter().flat_map(|second| [false, true].map(|over| (*first, *second, over))))
        {
            let decided = decide(first, second, is_over);
            let case = format!("{first:?} {second:?} {is_over}");
            match first {
                TryState::Answered | TryState::Refused => assert_eq!(decided, Some(Try::First), "{case}"),
                TryState::Failed if second == TryState::Failed => assert_eq!(decided, Some(Try::First), "{case}"),
                TryState::Failed => assert_ne!(decided, Some(Try::First), "{case}"),
                TryState::Waits | TryState::Begun => {
                    assert!(decided != Some(Try::Second) || second != TryState::Refused, "{case}");
                }
            }
            // Once both have ended in some way, it is decided.
            let has_ended = |state| !matches!(state, TryState::Waits | TryState::Begun);
            assert!(decided.is_some() || !has_ended(first) || !has_ended(second), "{case}");
            if decided == Some(Try::Second) {
                assert_ne!(second, TryState::Failed, "{case}");
            }
        }
        let begun = TryState::Begun;
        assert_eq!(decide(begun, TryState::Waits, false), None);
        assert_eq!(decide(begun, begun, true), Some(Try::First));
        assert_eq!(decide(TryState::Waits, begun, true), Some(Try::Second));
    }
}
