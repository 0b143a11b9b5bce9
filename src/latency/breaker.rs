//! A circuit breaker: decides whether calls of one kind are made, given how the last ones ended.

use std::time::Duration;

use crate::base::{BreakerTerms, Rng, Time};

/// How many parts the window has. One is being filled; the oldest is dropped when the next one begins.
const PARTS: usize = 10;
/// How long a part is filled, if enough calls come. All parts together cover 10 s.
const PART_TIME: Duration = Duration::from_secs(1);
/// How long a part counts, from its beginning.
const PART_AGE_MAX: Duration = Duration::from_secs(300);
/// How long calls that ended well may be counted apart, at most.
const CALM_MAX: Duration = Duration::from_millis(100);
/// How many probes must succeed before the breaker closes.
const PROBES: u32 = 3;
/// By how much the open time varies at random, so that many breakers do not probe at the same moment.
const JITTER_PERCENT: u64 = 20;
/// The time without a result after which another probe is made. Earlier probes may be waiting for a server that was
/// gone when they began.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// How many probes may be without a result. Beyond that none of them is waited for, and probing starts again.
const PROBES_MAX: u32 = u64::BITS;
/// The `Retry-After` of a call that is refused while probes are in flight.
const PROBING: Duration = Duration::from_secs(1);

/// What the end of a call says about its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallVerdict {
    /// The call was answered in time.
    Good,
    /// The call was answered after its deadline.
    Slow,
    /// The call failed, or was not answered.
    Failed,
}

/// A state that an operator has set, whatever the results of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ForcedState {
    /// All calls are refused.
    Open,
    /// All calls are made.
    Closed,
}

/// Permission for one call. It is returned when the call has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BreakerPermit {
    /// The epoch that granted it. A result counts only in the epoch of its permit.
    epoch: u64,
    /// The number of the probe, if the call is one.
    probe: u32,
    /// How often the breaker has opened since it was last closed.
    pub(super) tries: u32,
}

impl BreakerPermit {
    /// Whether the call is a probe, whose result decides whether the breaker closes.
    pub(super) fn is_probe(&self) -> bool {
        self.tries > 0
    }

    /// The permit of a closed breaker.
    pub(super) const fn of_closed(epoch: u64) -> BreakerPermit {
        BreakerPermit { epoch, probe: 0, tries: 0 }
    }

    /// The epoch that granted the permit.
    pub(super) const fn epoch(self) -> u64 {
        self.epoch
    }
}

/// A call is refused because the breaker is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerOpen {
    /// When calls may be made again; `None` if an operator has opened the breaker.
    pub retry_after: Option<Duration>,
}

/// The results that a breaker judges by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallCounts {
    /// How many calls have ended.
    pub calls: u32,
    /// How many of them failed.
    pub failed: u32,
    /// How many of them were answered after their deadline.
    pub slow: u32,
}

/// The state of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls are made; this is normal operation.
    Closed,
    /// Calls are refused until the time has passed.
    Open {
        /// The time until the first probe; zero if the next call is a probe.
        remaining: Duration,
    },
    /// A few calls are made as probes, to find out whether the server is back.
    HalfOpen,
    /// An operator has set the state.
    Forced(ForcedState),
}

/// A change of a breaker's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerChange {
    /// The state after the change.
    pub to: BreakerState,
    /// The results that it was judged by.
    pub counts: CallCounts,
    /// Whether the breaker opens again without having been closed since it last opened.
    pub is_again: bool,
}

/// The state of one breaker. It takes 344 bytes.
pub(super) struct Breaker {
    state: State,
    /// Counts the states, so that results of calls from an earlier state are ignored.
    epoch: u64,
    /// How often the breaker has opened since it was last closed.
    tries: u32,
    window: Window,
    /// The results for which it opened.
    opened_by: CallCounts,
    rng: Rng,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Time },
    HalfOpen(Probes),
    Forced(ForcedState),
}

/// The probes of a half-open breaker.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Probes {
    /// One bit for each probe whose result is pending.
    awaited: u64,
    /// How many probes were made.
    made: u32,
    /// How many probes succeeded.
    passed: u32,
    /// When the last probe was made, and the one before it.
    last: Time,
    before_last: Time,
}

impl Probes {
    const fn new(now: Time) -> Probes {
        Probes { awaited: 0, made: 0, passed: 0, last: now, before_last: now }
    }

    fn has_room(&self, now: Time) -> bool {
        self.awaited.count_ones() + self.passed < PROBES || now - self.last >= PROBE_EVERY
    }

    /// Makes another probe, and returns its number. The caller checks that there are fewer than [`PROBES_MAX`].
    fn add(&mut self, now: Time) -> u32 {
        let number = self.made;
        self.awaited |= 1 << number;
        (self.made, self.before_last, self.last) = (number + 1, self.last, now);
        number
    }

    fn is_awaited(&self, number: u32) -> bool {
        self.awaited >> number & 1 == 1
    }

    /// A probe succeeded. Results of earlier probes no longer count, because the server may have been gone when they
    /// began.
    fn pass(&mut self, number: u32) {
        self.passed += 1;
        self.awaited &= (!1_u64).checked_shl(number).unwrap_or(0);
    }

    /// A probe ended without a verdict. If it was the last one, it is treated as not made.
    fn release(&mut self, number: u32) {
        self.awaited &= !(1 << number);
        if number + 1 == self.made {
            (self.made, self.last) = (number, self.before_last);
        }
    }
}

impl Breaker {
    /// A closed breaker. `seed` varies its times.
    pub(super) fn new(seed: u64) -> Breaker {
        Breaker {
            state: State::Closed,
            epoch: 0,
            tries: 0,
            window: Window::default(),
            opened_by: CallCounts::default(),
            rng: Rng::new(seed),
        }
    }

    /// Asks for permission to make a call. Also returns the change if probing begins.
    pub(super) fn admit(&mut self, now: Time) -> (Result<BreakerPermit, BreakerOpen>, Option<BreakerChange>) {
        let mut change = None;
        if let State::Open { until } = self.state
            && now >= until
        {
            change = Some(self.enter(State::HalfOpen(Probes::new(now)), now));
        }
        if let State::HalfOpen(probes) = &self.state
            && probes.made == PROBES_MAX
            && probes.has_room(now)
        {
            // Probing starts again, which is not reported as a change. Pending probes belong to the previous epoch from
            // here on.
            self.enter(State::HalfOpen(Probes::new(now)), now);
        }
        let permit = BreakerPermit { epoch: self.epoch, probe: 0, tries: self.tries };
        let admitted = match &mut self.state {
            State::Closed | State::Forced(ForcedState::Closed) => Ok(permit),
            State::HalfOpen(probes) if probes.has_room(now) => Ok(BreakerPermit { probe: probes.add(now), ..permit }),
            State::HalfOpen(_) => Err(BreakerOpen { retry_after: Some(PROBING) }),
            State::Open { until } => Err(BreakerOpen { retry_after: Some(*until - now) }),
            State::Forced(ForcedState::Open) => Err(BreakerOpen { retry_after: None }),
        };
        (admitted, change)
    }

    /// A permitted call has ended with this verdict. `None` does not count.
    pub(super) fn end(
        &mut self,
        permit: BreakerPermit,
        verdict: Option<CallVerdict>,
        terms: &BreakerTerms,
        now: Time,
    ) -> Option<BreakerChange> {
        if permit.epoch != self.epoch {
            return None;
        }
        match (&mut self.state, verdict) {
            (State::Closed, Some(verdict)) => {
                self.window.record(verdict, terms, now);
                let counts = self.window.counts(now);
                is_too_many(counts, terms).then(|| self.open(counts, terms, now))
            }
            (State::HalfOpen(probes), Some(CallVerdict::Good)) => {
                probes.pass(permit.probe);
                (probes.passed == PROBES).then(|| self.enter(State::Closed, now))
            }
            (State::HalfOpen(probes), Some(CallVerdict::Slow | CallVerdict::Failed)) => {
                probes.is_awaited(permit.probe).then(|| self.open(self.opened_by, terms, now))
            }
            (_, None) => {
                self.release(permit);
                None
            }
            (State::Open { .. } | State::Forced(_), _) => None,
        }
    }

    /// Returns a permit whose call does not count.
    pub(super) fn release(&mut self, permit: BreakerPermit) {
        if let State::HalfOpen(probes) = &mut self.state
            && permit.epoch == self.epoch
        {
            probes.release(permit.probe);
        }
    }

    /// An operator sets the state, or with `None` hands the decision back to the results.
    pub(super) fn force(&mut self, forced: Option<ForcedState>, now: Time) -> Option<BreakerChange> {
        let state = match (forced, self.state) {
            (None, State::Forced(_)) => State::Closed,
            (None, _) => return None,
            (Some(forced), state) if state == State::Forced(forced) => return None,
            (Some(forced), _) => State::Forced(forced),
        };
        self.tries = 0;
        Some(self.enter(state, now))
    }

    /// Whether an operator has opened it.
    pub(super) fn is_forced_open(&self) -> bool {
        self.state == State::Forced(ForcedState::Open)
    }

    /// How often the state has changed.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether it is closed, so that calls need not take the lock.
    pub(super) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Until when calls that end well may be counted apart and [added](Breaker::add_good) later. While the breaker is
    /// closed and its window has no bad call, such calls change nothing but the count of one part of the window.
    pub(super) fn calm_until(&self, now: Time) -> Time {
        match self.state {
            State::Closed if self.window.is_calm() => self.window.part_ends().min(now + CALM_MAX),
            _ => Time::ZERO,
        }
    }

    /// Adds calls that ended well and were counted apart. `epoch` is the low half of the epoch in which they were
    /// permitted.
    pub(super) fn add_good(&mut self, epoch: u32, calls: u32) {
        if self.state == State::Closed && epoch == self.epoch as u32 {
            let part = &mut self.window.parts[self.window.at].counts;
            part.calls = part.calls.saturating_add(calls);
        }
    }

    /// The state, and the results that it is judged by or that it opened for.
    pub(super) fn reading(&self, now: Time) -> (BreakerState, CallCounts) {
        let counts = match self.state {
            State::Open { .. } | State::HalfOpen(_) => self.opened_by,
            State::Closed | State::Forced(_) => self.window.counts(now),
        };
        (self.state.at(now), counts)
    }

    fn open(&mut self, counts: CallCounts, terms: &BreakerTerms, now: Time) -> BreakerChange {
        let permille = self.rng.between(1_000 - 10 * JITTER_PERCENT, 1_000 + 10 * JITTER_PERCENT);
        let until = now + terms.open_for.mul_f64(permille as f64 / 1e3);
        self.tries = self.tries.saturating_add(1);
        self.opened_by = counts;
        BreakerChange { is_again: self.tries > 1, ..self.enter(State::Open { until }, now) }
    }

    /// Enters another state, with no results yet.
    fn enter(&mut self, state: State, now: Time) -> BreakerChange {
        self.state = state;
        self.epoch += 1;
        self.window = Window::default();
        let counts = self.opened_by;
        if state == State::Closed {
            (self.tries, self.opened_by) = (0, CallCounts::default());
        }
        BreakerChange { to: state.at(now), counts, is_again: false }
    }
}

impl State {
    fn at(self, now: Time) -> BreakerState {
        match self {
            State::Closed => BreakerState::Closed,
            State::Open { until } => BreakerState::Open { remaining: until - now },
            State::HalfOpen(_) => BreakerState::HalfOpen,
            State::Forced(forced) => BreakerState::Forced(forced),
        }
    }
}

/// Whether enough calls failed or were slow for the breaker to open.
fn is_too_many(counts: CallCounts, terms: &BreakerTerms) -> bool {
    let CallCounts { calls, failed, slow } = counts;
    let reaches = |part: u32, percent: u32| part > 0 && u64::from(part) * 100 >= u64::from(percent) * u64::from(calls);
    let is_known = calls >= terms.calls_min;
    is_known && (reaches(failed, terms.failed_percent) || reaches(failed.saturating_add(slow), terms.slow_percent))
}

/// The results of the calls of the last 10 s, or of the breaker's minimum number of calls if those took longer. None is
/// much older than 5 minutes.
#[derive(Clone, Copy, Default)]
struct Window {
    parts: [Part; PARTS],
    /// The part that is being filled.
    at: usize,
}

#[derive(Clone, Copy, Default)]
struct Part {
    began: Time,
    counts: CallCounts,
}

impl Window {
    fn record(&mut self, verdict: CallVerdict, terms: &BreakerTerms, now: Time) {
        let calls_min = terms.calls_min.div_ceil(PARTS as u32);
        let part = &self.parts[self.at];
        let is_over = part.counts.calls >= calls_min && now - part.began >= PART_TIME;
        if part.counts.calls == 0 || is_over || part.counts.calls == u32::MAX || part.is_old(now) {
            self.at = (self.at + usize::from(part.counts.calls > 0)) % PARTS;
            self.parts[self.at] = Part { began: now, counts: CallCounts::default() };
        }
        let counts = &mut self.parts[self.at].counts;
        counts.calls += 1;
        counts.failed += u32::from(verdict == CallVerdict::Failed);
        counts.slow += u32::from(verdict == CallVerdict::Slow);
    }

    /// Whether it has no bad call.
    fn is_calm(&self) -> bool {
        self.parts.iter().all(|part| part.counts.failed == 0 && part.counts.slow == 0)
    }

    /// Until when calls are added to the current part, however many there are.
    fn part_ends(&self) -> Time {
        let part = &self.parts[self.at];
        if part.counts.calls == 0 { Time::ZERO } else { part.began + PART_TIME }
    }

    fn counts(&self, now: Time) -> CallCounts {
        let young = self.parts.iter().filter(|part| !part.is_old(now));
        young.fold(CallCounts::default(), |sum, Part { counts, .. }| CallCounts {
            calls: sum.calls.saturating_add(counts.calls),
            failed: sum.failed.saturating_add(counts.failed),
            slow: sum.slow.saturating_add(counts.slow),
        })
    }
}

impl Part {
    fn is_old(&self, now: Time) -> bool {
        now - self.began >= PART_AGE_MAX
    }
}

#[cfg(test)]
mod tests;
