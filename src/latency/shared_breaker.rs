//! A breaker that all cores share. While no call is bad, each core counts calls that end well by itself.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam::utils::CachePadded;

use crate::base::{BreakerTerms, GuardMode, Time};
use crate::latency::breaker::{
    Breaker, BreakerChange, BreakerOpen, BreakerPermit, BreakerState, CallCounts, CallVerdict, ForcedState,
};
use crate::latency::breaker_table::{BreakerReading, BreakerScope, CallResult};
use crate::latency::label::Label;

/// A breaker that all cores share.
pub(super) struct SharedBreaker {
    /// The epoch, and whether the breaker is closed.
    gate: AtomicU64,
    /// Until when calls that end well may be counted apart, in nanoseconds.
    calm_until: AtomicU64,
    /// The mode of the last call that was judged, or another number before the first call.
    mode: AtomicU8,
    opened: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) would_refuse: AtomicU64,
    judge: Mutex<Judge>,
}

/// The part of a breaker that the lock protects.
struct Judge {
    breaker: Breaker,
    /// Only for the breaker of a route: distinguishes faults of a tool from faults of the upstream.
    evidence: FailureEvidence,
    /// The counts of the cores that count apart.
    apart: Vec<Arc<CalmCount>>,
}

/// The failures since the upstream last answered a call.
#[derive(Default)]
pub(super) struct FailureEvidence {
    /// When the upstream last answered.
    answered: Time,
    /// The number of the label whose call was the first to fail since then, and when it did.
    first: Option<(u32, Time)>,
    /// Whether calls of other labels have failed as well.
    is_of_several: bool,
}

/// The calls that one core has counted apart.
#[derive(Default)]
pub(super) struct CalmCount(CachePadded<CalmCalls>);

#[derive(Default)]
struct CalmCalls {
    /// Low half: how many calls ended well. High half: the low half of the epoch that permitted them.
    good: AtomicU64,
    /// When the last of them ended, in nanoseconds.
    last: AtomicU64,
}

impl SharedBreaker {
    pub(super) fn new(seed: u64) -> SharedBreaker {
        let breaker = Breaker::new(seed);
        SharedBreaker {
            gate: AtomicU64::new(gate_of(&breaker)),
            calm_until: AtomicU64::new(0),
            mode: AtomicU8::new(u8::MAX),
            opened: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            would_refuse: AtomicU64::new(0),
            judge: Mutex::new(Judge { breaker, evidence: FailureEvidence::default(), apart: Vec::new() }),
        }
    }

    /// A new count, for one more core.
    pub(super) fn count_apart(&self) -> Arc<CalmCount> {
        let count = Arc::<CalmCount>::default();
        let mut judge = self.lock();
        // Counts of cores that have ended are dropped.
        judge.apart.retain(|count| Arc::strong_count(count) > 1);
        judge.apart.push(Arc::clone(&count));
        count
    }

    /// The epoch of a breaker for which calls with these terms that end well are counted apart now; `None` if they are
    /// not.
    pub(super) fn calm_epoch(&self, terms: &BreakerTerms, now: Time) -> Option<u64> {
        let gate = self.gate.load(Ordering::Acquire);
        let is_calm = now.as_nanos() < self.calm_until.load(Ordering::Acquire);
        (gate & 1 == 1 && is_calm && self.mode.load(Ordering::Relaxed) == terms.mode as u8).then_some(gate >> 1)
    }

    /// Takes the lock, and adds what was counted apart.
    fn lock(&self) -> MutexGuard<'_, Judge> {
        let mut judge = self.judge.lock().unwrap_or_else(PoisonError::into_inner);
        judge.add_counted();
        judge
    }

    /// Publishes the state to the atomics. The caller holds the lock.
    fn publish(&self, breaker: &Breaker, change: Option<&BreakerChange>) {
        if let Some(change) = change {
            self.calm_until.store(0, Ordering::Release);
            self.gate.store(gate_of(breaker), Ordering::Release);
            let has_opened = matches!(change.to, BreakerState::Open { .. });
            self.opened.fetch_add(u64::from(has_opened), Ordering::Relaxed);
        }
    }

    pub(super) fn admit(&self, now: Time) -> (Result<BreakerPermit, BreakerOpen>, Option<BreakerChange>) {
        let gate = self.gate.load(Ordering::Acquire);
        if gate & 1 == 1 {
            return (Ok(BreakerPermit::of_closed(gate >> 1)), None);
        }
        let mut judge = self.lock();
        let (admitted, change) = judge.breaker.admit(now);
        self.publish(&judge.breaker, change.as_ref());
        (admitted, change)
    }

    /// A call has ended. `judge` decides what its result means, given the evidence of other calls.
    pub(super) fn end(
        &self,
        permit: BreakerPermit,
        verdict: impl FnOnce(&mut FailureEvidence) -> Option<CallVerdict>,
        terms: &BreakerTerms,
        now: Time,
    ) -> Option<BreakerChange> {
        self.mode.store(terms.mode as u8, Ordering::Relaxed);
        let mut judge = self.lock();
        let Judge { breaker, evidence, .. } = &mut *judge;
        let change = breaker.end(permit, verdict(evidence), terms, now);
        self.publish(breaker, change.as_ref());
        self.calm_until.store(breaker.calm_until(now).as_nanos(), Ordering::Release);
        change
    }

    /// An operator sets the state, or with `None` hands the decision back to the results.
    pub(super) fn force(&self, forced: Option<ForcedState>, now: Time) {
        let mut judge = self.lock();
        let change = judge.breaker.force(forced, now);
        self.publish(&judge.breaker, change.as_ref());
    }

    /// Returns the permit of a call that does not count.
    pub(super) fn release(&self, permit: BreakerPermit) {
        self.lock().breaker.release(permit);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.gate.load(Ordering::Acquire) & 1 == 1
    }

    /// Whether an operator has opened it.
    pub(super) fn is_forced_open(&self) -> bool {
        !self.is_closed() && self.lock().breaker.is_forced_open()
    }

    /// The results that it opened for, or judges by.
    pub(super) fn counts(&self, now: Time) -> CallCounts {
        self.lock().breaker.reading(now).1
    }

    /// The state of the breaker; `None` before the first call.
    pub(super) fn reading(&self, scope: BreakerScope, label: Label, now: Time) -> Option<BreakerReading> {
        let (state, counts) = self.lock().breaker.reading(now);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mode = self.mode.load(Ordering::Relaxed);
        let known = GuardMode::ALL.into_iter().find(|known| *known as u8 == mode);
        // A forced state applies in every mode.
        let mode = if matches!(state, BreakerState::Forced(_)) { Some(GuardMode::Enforce) } else { known };
        Some(BreakerReading {
            scope,
            label,
            mode: mode?,
            state,
            counts,
            opened: count(&self.opened),
            refused: count(&self.refused),
            would_refuse: count(&self.would_refuse),
        })
    }
}

fn gate_of(breaker: &Breaker) -> u64 {
    breaker.epoch() << 1 | u64::from(breaker.is_closed())
}

impl Judge {
    /// Adds the calls that were counted apart.
    fn add_counted(&mut self) {
        let Judge { breaker, evidence, apart } = self;
        for (epoch, calls, last) in apart.iter().filter_map(|count| count.take()) {
            evidence.on_answered(last);
            breaker.add_good(epoch, calls);
        }
    }
}

impl FailureEvidence {
    /// The upstream answered a call at this time. Calls counted apart arrive here late, and do not clear failures that
    /// came after them.
    fn on_answered(&mut self, at: Time) {
        self.answered = self.answered.max(at);
        if self.first.is_some_and(|(_, failed)| at >= failed) {
            (self.first, self.is_of_several) = (None, false);
        }
    }

    /// What the result of a call of this label means for the upstream.
    pub(super) fn judge(&mut self, result: CallResult, label: u32, began: Time, now: Time) -> Option<CallVerdict> {
        match result {
            CallResult::Answered | CallResult::Late => {
                self.on_answered(now);
                Some(CallVerdict::Good)
            }
            CallResult::Unreached => Some(CallVerdict::Failed),
            // The upstream has answered other calls since this one began.
            CallResult::Failed if began < self.answered => None,
            CallResult::Failed => {
                self.is_of_several |= self.first.get_or_insert((label, now)).0 != label;
                self.is_of_several.then_some(CallVerdict::Failed)
            }
        }
    }
}

impl CalmCount {
    /// Counts a call that was permitted in this epoch and ended well.
    pub(super) fn add(&self, epoch: u64, now: Time) {
        let of_epoch = epoch << u32::BITS;
        self.0.last.store(now.as_nanos(), Ordering::Relaxed);
        // Only the last epoch matters. Too few calls end within the time for the low half to overflow.
        let one_more =
            |seen: u64| Some(if seen >> u32::BITS == of_epoch >> u32::BITS { seen + 1 } else { of_epoch | 1 });
        let _ = self.0.good.fetch_update(Ordering::Release, Ordering::Relaxed, one_more);
    }

    /// Whether any call was counted and not taken yet.
    #[cfg(test)]
    pub(super) fn is_counting(&self) -> bool {
        self.0.good.load(Ordering::Relaxed) > 0
    }

    /// Takes the count: the low half of the epoch, the number of calls, and when the last one ended; `None` if there
    /// were none.
    fn take(&self) -> Option<(u32, u32, Time)> {
        if self.0.good.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let good = self.0.good.swap(0, Ordering::Acquire);
        let last = Time::from_nanos(self.0.last.load(Ordering::Relaxed));
        (good != 0).then_some(((good >> u32::BITS) as u32, good as u32, last))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_late_answer_does_not_clear_later_failures() {
        let at = |seconds: u64| Time::ZERO + Duration::from_secs(seconds);
        let fail = |evidence: &mut FailureEvidence, label, now| evidence.judge(CallResult::Failed, label, at(5), now);
        let mut evidence = FailureEvidence::default();
        assert_eq!(fail(&mut evidence, 1, at(10)), None, "it may be the fault of the tool");
        evidence.on_answered(at(4));
        assert_eq!(fail(&mut evidence, 2, at(11)), Some(CallVerdict::Failed));
        evidence.on_answered(at(4));
        assert_eq!(fail(&mut evidence, 2, at(12)), Some(CallVerdict::Failed));
        // A call that ended after the failures proves that the upstream is there.
        evidence.on_answered(at(12));
        assert_eq!(evidence.judge(CallResult::Failed, 2, at(13), at(14)), None);
    }
}
