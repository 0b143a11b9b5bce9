//! A breaker that all cores share. While nothing is wrong, each core counts the calls that end well by itself.

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
    /// Whether it is closed, and the epoch.
    gate: AtomicU64,
    /// Until when calls that end well are counted apart, in nanoseconds.
    calm_until: AtomicU64,
    /// The mode of the last call that was judged, or another number before the first.
    mode: AtomicU8,
    opened: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) would_refuse: AtomicU64,
    judge: Mutex<Judge>,
}

/// What its lock protects.
struct Judge {
    breaker: Breaker,
    /// For the breaker of a route: what tells the fault of a tool from one of the upstream.
    evidence: FailureEvidence,
    /// What the cores count.
    apart: Vec<Arc<CalmCount>>,
}

/// The calls that failed since the upstream last answered one.
#[derive(Default)]
pub(super) struct FailureEvidence {
    /// When the upstream last answered.
    answered: Time,
    /// The number of the label whose call failed first since then, and when.
    first: Option<(u32, Time)>,
    /// Whether calls of other labels failed as well.
    is_of_several: bool,
}

/// The calls that one core counts apart.
#[derive(Default)]
pub(super) struct CalmCount(CachePadded<CalmCalls>);

#[derive(Default)]
struct CalmCalls {
    /// How many ended well, in the low half, of those that were permitted by the state whose epoch ends with the high half.
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

    /// A count for one more core.
    pub(super) fn count_apart(&self) -> Arc<CalmCount> {
        let count = Arc::<CalmCount>::default();
        let mut judge = self.lock();
        // Those of cores that have ended are of no more use.
        judge.apart.retain(|count| Arc::strong_count(count) > 1);
        judge.apart.push(Arc::clone(&count));
        count
    }

    /// The epoch of its state, if calls of these terms that end well `now` are counted apart.
    pub(super) fn calm_epoch(&self, terms: &BreakerTerms, now: Time) -> Option<u64> {
        let gate = self.gate.load(Ordering::Acquire);
        let is_calm = now.as_nanos() < self.calm_until.load(Ordering::Acquire);
        (gate & 1 == 1 && is_calm && self.mode.load(Ordering::Relaxed) == terms.mode as u8).then_some(gate >> 1)
    }

    /// Waits for the lock. What was counted apart has been added.
    fn lock(&self) -> MutexGuard<'_, Judge> {
        let mut judge = self.judge.lock().unwrap_or_else(PoisonError::into_inner);
        judge.add_counted();
        judge
    }

    /// Makes a change of the state known. The lock is held.
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

    /// A call has ended `now`. The verdict follows from what other calls have said.
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

    /// An operator decides, or leaves it to the calls again.
    pub(super) fn force(&self, forced: Option<ForcedState>, now: Time) {
        let mut judge = self.lock();
        let change = judge.breaker.force(forced, now);
        self.publish(&judge.breaker, change.as_ref());
    }

    /// Takes back the permission of a call that does not count.
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

    /// The calls for which it has opened, or by which it judges.
    pub(super) fn counts(&self, now: Time) -> CallCounts {
        self.lock().breaker.reading(now).1
    }

    /// None before the first call.
    pub(super) fn reading(&self, scope: BreakerScope, label: Label, now: Time) -> Option<BreakerReading> {
        let (state, counts) = self.lock().breaker.reading(now);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mode = self.mode.load(Ordering::Relaxed);
        let known = GuardMode::ALL.into_iter().find(|known| *known as u8 == mode);
        // What an operator decides holds in each mode.
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
    /// Adds what was counted apart.
    fn add_counted(&mut self) {
        let Judge { breaker, evidence, apart } = self;
        for (epoch, calls, last) in apart.iter().filter_map(|count| count.take()) {
            evidence.on_answered(last);
            breaker.add_good(epoch, calls);
        }
    }
}

impl FailureEvidence {
    /// The upstream has answered a call at this time. What other cores count apart is heard of late, and says nothing of what has failed
    /// since.
    fn on_answered(&mut self, at: Time) {
        self.answered = self.answered.max(at);
        if self.first.is_some_and(|(_, failed)| at >= failed) {
            (self.first, self.is_of_several) = (None, false);
        }
    }

    /// What a result of a call of this label, which began then, says of the upstream.
    pub(super) fn judge(&mut self, result: CallResult, label: u32, began: Time, now: Time) -> Option<CallVerdict> {
        match result {
            CallResult::Answered | CallResult::Late => {
                self.on_answered(now);
                Some(CallVerdict::Good)
            }
            CallResult::Unreached => Some(CallVerdict::Failed),
            // The upstream has answered others meanwhile.
            CallResult::Failed if began < self.answered => None,
            CallResult::Failed => {
                self.is_of_several |= self.first.get_or_insert((label, now)).0 != label;
                self.is_of_several.then_some(CallVerdict::Failed)
            }
        }
    }
}

impl CalmCount {
    /// Adds a call that ended well `now`, and was permitted by the state with this epoch.
    pub(super) fn add(&self, epoch: u64, now: Time) {
        let of_epoch = epoch << u32::BITS;
        self.0.last.store(now.as_nanos(), Ordering::Relaxed);
        // Only the last state is of interest. There are too few calls within the time for the low half to overflow.
        let one_more =
            |seen: u64| Some(if seen >> u32::BITS == of_epoch >> u32::BITS { seen + 1 } else { of_epoch | 1 });
        let _ = self.0.good.fetch_update(Ordering::Release, Ordering::Relaxed, one_more);
    }

    /// Whether any call was counted that was not taken.
    #[cfg(test)]
    pub(super) fn is_counting(&self) -> bool {
        self.0.good.load(Ordering::Relaxed) > 0
    }

    /// What was counted since this was asked before, and when the last call ended; none if no call was.
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
    fn an_answer_that_is_heard_of_late_says_nothing_of_what_failed_after_it() {
        let at = |seconds: u64| Time::ZERO + Duration::from_secs(seconds);
        let fail = |evidence: &mut FailureEvidence, label, now| evidence.judge(CallResult::Failed, label, at(5), now);
        let mut evidence = FailureEvidence::default();
        assert_eq!(fail(&mut evidence, 1, at(10)), None, "it may be the fault of the tool");
        evidence.on_answered(at(4));
        assert_eq!(fail(&mut evidence, 2, at(11)), Some(CallVerdict::Failed));
        evidence.on_answered(at(4));
        assert_eq!(fail(&mut evidence, 2, at(12)), Some(CallVerdict::Failed));
        // One that came after it says that the upstream is there.
        evidence.on_answered(at(12));
        assert_eq!(evidence.judge(CallResult::Failed, 2, at(13), at(14)), None);
    }
}
