//! Hedging: when a slow call gets a second try, how many calls may, and which try answers the call.

use std::time::Duration;

use crate::latency::window::UsualLatency;

/// The shortest time before a second try. Faster calls are not worth a second one.
const AFTER_MIN: Duration = Duration::from_millis(5);
/// Each call pays for 1/50 of a second try, so at most 2 % of the calls get one.
const CALLS_PER_HEDGE: u32 = 50;
/// How many second tries can be saved up. A new budget has none.
const SAVED_MAX: u32 = 5;

/// How long to wait before the second try: the 95th percentile of the last calls. `None` if that is not known, or no
/// time would be left. `left` is the rest of the caller's time limit, if known, and `limit` is the time within which
/// the response must begin.
#[must_use]
pub fn hedge_after(usual: Option<UsualLatency>, left: Option<Duration>, limit: Duration) -> Option<Duration> {
    let after = usual?.p95.max(AFTER_MIN);
    (after < limit && left.is_none_or(|left| after < left)).then_some(after)
}

/// How long after the second try a response of the first that says nothing yet is held back. It is twice the time
/// before the second try, because that try may take longer than most calls, but at most half of the time that is left.
#[must_use]
pub fn hold_for(after: Duration, left: Option<Duration>, limit: Duration) -> Duration {
    let left = left.unwrap_or(Duration::MAX).min(limit).saturating_sub(after);
    (2 * after).min(left / 2)
}

/// Limits how many calls of a route get a second try: a token bucket to which each call adds 1/50 of a token. It starts
/// empty, so at most 2 % of the calls counted so far were hedged at any moment.
#[derive(Clone, Debug, Default)]
pub struct HedgeBudget {
    /// In units of 1/[`CALLS_PER_HEDGE`] of a second try.
    saved: u32,
}

impl HedgeBudget {
    /// Counts a call of the route.
    pub fn on_call(&mut self) {
        self.saved = (self.saved + 1).min(SAVED_MAX * CALLS_PER_HEDGE);
    }

    /// Whether the budget has enough for a second try.
    #[must_use]
    pub fn has_one(&self) -> bool {
        self.saved >= CALLS_PER_HEDGE
    }

    /// Takes the cost of a second try; false if the budget has not enough.
    pub fn take(&mut self) -> bool {
        let left = self.saved.checked_sub(CALLS_PER_HEDGE);
        self.saved = left.unwrap_or(self.saved);
        left.is_some()
    }
}

/// How far one try of a call has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryState {
    /// Nothing has arrived that tells what the response is.
    Waits,
    /// The response has begun but does not yet tell whether it is a success. Servers send the head of an event stream
    /// at once. A success of the second try is known only at its last byte.
    Begun,
    /// The second try was answered with an error. It is used if the first try fails.
    Refused,
    /// The response can be passed on.
    Answered,
    /// No response will come.
    Failed,
}

/// One of the two tries of a hedged call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Try {
    /// The try that every call has.
    First,
    /// The try that was added because the first was slow.
    Second,
}

/// Decides which try answers the call, if that is certain yet. The second try answers only with a success, unless the
/// first try failed, or the hold on a response that has begun `is_over`.
#[must_use]
pub fn decide(first: TryState, second: TryState, is_over: bool) -> Option<Try> {
    match (first, second) {
        // Without a second try, any response of the first would have been passed on.
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
    fn held_hedges_are_released_before_a_limit_passes() {
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
    fn the_saved_budget_is_bounded() {
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
            // Once both have ended in some way, the call is decided.
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
