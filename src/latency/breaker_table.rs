//! The breakers of an edge or a connector, shared by all its cores.
//!
//! They are shared so that few calls are enough to detect a fault, and an open breaker refuses calls on every core at
//! once. While a breaker is closed, a check reads one atomic. While its window has no bad call, each core counts calls
//! that end well by itself for up to 100 ms ([`CoreBreakers`]). Otherwise the end of a call holds the lock for some
//! tens of nanoseconds.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::{BreakerTerms, GuardMode, Time};
use crate::latency::breaker::{
    BreakerChange, BreakerOpen, BreakerPermit, BreakerState, CallCounts, CallVerdict, ForcedState,
};
use crate::latency::label::Label;
use crate::latency::shared_breaker::{CalmCount, FailureEvidence, SharedBreaker};

/// The deadline of a probe is multiplied by 3 for each time that the breaker opened, up to this many times.
const PATIENCE_TRIES_MAX: u32 = 8;

/// How a call ended, as far as it matters to breakers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallResult {
    /// The upstream answered in time.
    Answered,
    /// The upstream answered after the call's deadline.
    Late,
    /// The upstream broke off, did not answer before the deadline, or the response was one with which a gateway reports
    /// an unreachable server (502, 503, 504). Only calls of other tools can tell whether the tool or the upstream is at
    /// fault.
    Failed,
    /// There was no connection to the upstream, which is not the tool's fault.
    Unreached,
}

/// Which calls a breaker refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BreakerScope {
    /// All calls of a route.
    Upstream,
    /// The calls of one label.
    Tool,
}

/// The state of one breaker, for reading.
#[derive(Clone, Debug)]
pub struct BreakerReading {
    /// Which calls it refuses. If these are all calls of an upstream, the label has only a route.
    pub scope: BreakerScope,
    /// The label of the calls.
    pub label: Label,
    /// What happens to calls while it is open, as of the last call.
    pub mode: GuardMode,
    /// The state that it is in.
    pub state: BreakerState,
    /// The results that it judges by, or that it opened for.
    pub counts: CallCounts,
    /// How often it has opened.
    pub opened: u64,
    /// How many calls it has refused.
    pub refused: u64,
    /// How many calls it would have refused if it were enforced.
    pub would_refuse: u64,
}

impl BreakerReading {
    /// Whether it has ever opened, or an operator has set its state.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.opened > 0 || matches!(self.state, BreakerState::Forced(_))
    }

    /// Whether calls are made, forced or not.
    #[must_use]
    pub fn lets_through(&self) -> bool {
        matches!(self.state, BreakerState::Closed | BreakerState::Forced(ForcedState::Closed))
    }
}

/// The changes that one call caused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BreakerChanges {
    /// The change of the upstream's breaker.
    pub upstream: Option<BreakerChange>,
    /// The change of the label's breaker.
    pub tool: Option<BreakerChange>,
}

/// The breakers that apply to the calls of one label.
pub struct LabelBreakers {
    label: Label,
    /// A number that identifies the label.
    number: u32,
    upstream: Arc<SharedBreaker>,
    tool: SharedBreaker,
}

/// The breakers of a label as one core uses them. The core counts calls that end well by itself while no call is bad.
pub struct CoreBreakers {
    of: Arc<LabelBreakers>,
    upstream: Arc<CalmCount>,
    tool: Arc<CalmCount>,
}

/// Permission for one call. If it is dropped without a result, the call does not count.
pub struct Permit {
    breakers: Arc<LabelBreakers>,
    upstream: Option<BreakerPermit>,
    tool: Option<BreakerPermit>,
}

/// The breakers of all labels: one for each label of the recorders, and one for each of their routes. Each takes 0.5
/// KiB.
#[derive(Default)]
pub struct BreakerTable {
    entries: Mutex<TableEntries>,
    /// How many breakers an operator has opened.
    forced_open: AtomicUsize,
}

/// How many breakers operators may set before their first call.
const FORCED_UNSEEN_MAX: usize = 256;

#[derive(Default)]
struct TableEntries {
    seed: u64,
    /// How many breakers were set before their first call.
    forced_unseen: usize,
    labels: BTreeMap<Label, Arc<LabelBreakers>>,
    upstreams: BTreeMap<Box<str>, Arc<SharedBreaker>>,
}

impl CallResult {
    /// The verdict for the breaker of the call's label.
    fn of_tool(self) -> Option<CallVerdict> {
        match self {
            CallResult::Answered => Some(CallVerdict::Good),
            CallResult::Late => Some(CallVerdict::Slow),
            CallResult::Failed => Some(CallVerdict::Failed),
            CallResult::Unreached => None,
        }
    }
}

impl LabelBreakers {
    /// Asks for permission to make a call, where breakers are enforced.
    ///
    /// # Errors
    ///
    /// If the call is refused, with the breaker that refuses it.
    pub fn admit(
        self: &Arc<LabelBreakers>,
        now: Time,
    ) -> (Result<Permit, (BreakerScope, BreakerOpen)>, BreakerChanges) {
        let (admitted, changes) = self.ask(now);
        let admitted = admitted.inspect_err(|(scope, _)| {
            self.of_scope(*scope).refused.fetch_add(1, Ordering::Relaxed);
        });
        (admitted, changes)
    }

    /// Counts a call that was made without asking, because breakers are not enforced. It is judged as if it had asked
    /// when it ended.
    pub fn observe(
        self: &Arc<LabelBreakers>,
        result: Option<CallResult>,
        terms: &BreakerTerms,
        began: Time,
        now: Time,
    ) -> BreakerChanges {
        let (admitted, asked) = self.ask(now);
        let ended = match admitted {
            Ok(permit) => permit.end(result, terms, began, now),
            Err((scope, _)) => {
                self.of_scope(scope).would_refuse.fetch_add(1, Ordering::Relaxed);
                BreakerChanges::default()
            }
        };
        BreakerChanges { upstream: ended.upstream.or(asked.upstream), tool: ended.tool.or(asked.tool) }
    }

    /// Whether all breakers are closed, so that calls of the label need not ask.
    #[must_use]
    pub fn are_closed(&self) -> bool {
        self.tool.is_closed() && self.upstream.is_closed()
    }

    /// Whether an operator has opened one of them. Such a breaker refuses calls in every mode.
    #[must_use]
    pub fn is_forced_open(&self) -> bool {
        self.tool.is_forced_open() || self.upstream.is_forced_open()
    }

    /// The label of the calls to which they apply.
    #[must_use]
    pub fn label(&self) -> &Label {
        &self.label
    }

    /// The results for which the breaker of this scope opened.
    #[must_use]
    pub fn opened_by(&self, scope: BreakerScope, now: Time) -> CallCounts {
        self.of_scope(scope).counts(now)
    }

    fn of_scope(&self, scope: BreakerScope) -> &SharedBreaker {
        match scope {
            BreakerScope::Upstream => &self.upstream,
            BreakerScope::Tool => &self.tool,
        }
    }

    fn ask(self: &Arc<LabelBreakers>, now: Time) -> (Result<Permit, (BreakerScope, BreakerOpen)>, BreakerChanges) {
        let mut changes = BreakerChanges::default();
        let (of_upstream, change) = self.upstream.admit(now);
        changes.upstream = change;
        let upstream = match of_upstream {
            Ok(permit) => permit,
            Err(refused) => return (Err((BreakerScope::Upstream, refused)), changes),
        };
        let (of_tool, change) = self.tool.admit(now);
        changes.tool = change;
        match of_tool {
            Ok(tool) => {
                let permit = Permit { breakers: Arc::clone(self), upstream: Some(upstream), tool: Some(tool) };
                (Ok(permit), changes)
            }
            Err(refused) => {
                self.upstream.release(upstream);
                (Err((BreakerScope::Tool, refused)), changes)
            }
        }
    }
}

impl CoreBreakers {
    /// As [`LabelBreakers::observe`], without a lock for an answered call while nothing is wrong.
    pub fn observe(&self, result: Option<CallResult>, terms: &BreakerTerms, began: Time, now: Time) -> BreakerChanges {
        match result {
            Some(CallResult::Answered) if self.count_apart(None, terms, now) => BreakerChanges::default(),
            result => self.of.observe(result, terms, began, now),
        }
    }

    /// As [`Permit::end`], without a lock for an answered call while nothing is wrong.
    pub fn end(
        &self,
        mut permit: Permit,
        result: Option<CallResult>,
        terms: &BreakerTerms,
        began: Time,
        now: Time,
    ) -> BreakerChanges {
        if result == Some(CallResult::Answered)
            && Arc::ptr_eq(&permit.breakers, &self.of)
            && let (Some(upstream), Some(tool)) = (permit.upstream, permit.tool)
            && self.count_apart(Some([upstream, tool]), terms, now)
        {
            (permit.upstream, permit.tool) = (None, None);
            return BreakerChanges::default();
        }
        permit.end(result, terms, began, now)
    }

    /// Counts an answered call without the lock, if no call is bad. A call with permits is judged by the state in which
    /// it asked, others by the state when they ended. Returns false if the call must be counted with the lock.
    fn count_apart(&self, permits: Option<[BreakerPermit; 2]>, terms: &BreakerTerms, now: Time) -> bool {
        let (upstream, tool) = (self.of.upstream.calm_epoch(terms, now), self.of.tool.calm_epoch(terms, now));
        let (Some(of_upstream), Some(of_tool)) = (upstream, tool) else { return false };
        // A call from an earlier state says nothing about this one.
        if permits.is_some_and(|[upstream, tool]| upstream.epoch() != of_upstream || tool.epoch() != of_tool) {
            return false;
        }
        self.upstream.add(of_upstream, now);
        self.tool.add(of_tool, now);
        true
    }
}

impl Deref for CoreBreakers {
    type Target = Arc<LabelBreakers>;

    fn deref(&self) -> &Arc<LabelBreakers> {
        &self.of
    }
}

impl Permit {
    /// The call has ended. `None` does not count.
    pub fn end(mut self, result: Option<CallResult>, terms: &BreakerTerms, began: Time, now: Time) -> BreakerChanges {
        let LabelBreakers { upstream, tool, number, .. } = &*self.breakers;
        let of_upstream = |evidence: &mut FailureEvidence| evidence.judge(result?, *number, began, now);
        let of_tool = |_: &mut FailureEvidence| result.and_then(CallResult::of_tool);
        BreakerChanges {
            upstream: self.upstream.take().and_then(|permit| upstream.end(permit, of_upstream, terms, now)),
            tool: self.tool.take().and_then(|permit| tool.end(permit, of_tool, terms, now)),
        }
    }

    /// The factor for the deadline of the call. While a breaker is open no durations are learned, so its probes get
    /// more time, in case the server has become slow.
    #[must_use]
    pub fn patience(&self) -> u32 {
        let tries =
            [self.upstream, self.tool].into_iter().flatten().map(|permit| permit.tries).max().unwrap_or_default();
        3_u32.pow(tries.min(PATIENCE_TRIES_MAX))
    }

    /// Whether the call is a probe of one of the breakers.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        [self.upstream, self.tool].into_iter().flatten().any(|permit| permit.is_probe())
    }

    /// The breakers that granted the permit.
    #[must_use]
    pub fn breakers(&self) -> &Arc<LabelBreakers> {
        &self.breakers
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(permit) = self.upstream {
            self.breakers.upstream.release(permit);
        }
        if let Some(permit) = self.tool {
            self.breakers.tool.release(permit);
        }
    }
}

impl BreakerTable {
    /// An empty table. `seed` varies the times of its breakers.
    #[must_use]
    pub fn new(seed: u64) -> BreakerTable {
        let entries = Mutex::new(TableEntries { seed, ..TableEntries::default() });
        BreakerTable { entries, forced_open: AtomicUsize::new(0) }
    }

    /// The breakers of a label, for one core. `beside` are the breakers of another label of the same route on that
    /// core, if there are any.
    pub(super) fn of_core(&self, label: &Label, beside: Option<&CoreBreakers>) -> CoreBreakers {
        let of = self.of(label);
        let upstream = match beside {
            Some(beside) => Arc::clone(&beside.upstream),
            None => of.upstream.count_apart(),
        };
        let tool = of.tool.count_apart();
        CoreBreakers { of, upstream, tool }
    }

    fn of(&self, label: &Label) -> Arc<LabelBreakers> {
        self.lock().of(label)
    }

    /// Whether an operator has opened a breaker of this route, so that the label of its calls must be known.
    #[must_use]
    pub fn is_forced_open(&self, route: &str) -> bool {
        self.forced_open.load(Ordering::Acquire) > 0 && self.lock().is_forced_open(route)
    }

    /// The state of all breakers that have had calls. The breaker of an upstream comes before those of its labels.
    #[must_use]
    pub fn readings(&self, now: Time) -> Vec<BreakerReading> {
        let entries = self.lock();
        let upstreams = entries.upstreams.iter().filter_map(|(route, breaker)| {
            let label = Label { route: route.clone(), method: "".into(), tool: "".into() };
            breaker.reading(BreakerScope::Upstream, label, now)
        });
        let labels = entries.labels.iter();
        let labels = labels.filter_map(|(label, of)| of.tool.reading(BreakerScope::Tool, label.clone(), now));
        let mut readings: Vec<BreakerReading> = upstreams.chain(labels).collect();
        readings.sort_by(|a, b| (&a.label, a.scope).cmp(&(&b.label, b.scope)));
        readings
    }

    /// An operator sets the state of a label's breaker, or with `None` hands the decision back to the results. A label
    /// without a method means the breaker of the route's upstream. The breaker need not have had a call. Returns its
    /// state; `None` if there is nothing to set back, or if too many were set before their first call.
    pub fn force(&self, label: &Label, forced: Option<ForcedState>, now: Time) -> Option<BreakerReading> {
        let mut entries = self.lock();
        if forced.is_some() && entries.with(label, |_, _| ()).is_none() {
            if entries.forced_unseen >= FORCED_UNSEEN_MAX {
                return None;
            }
            entries.forced_unseen += 1;
            match &*label.method {
                "" => drop(entries.upstream_of(&label.route)),
                _ => drop(entries.of(label)),
            }
        }
        entries.with(label, |breaker, scope| {
            let was_open = breaker.is_forced_open();
            breaker.force(forced, now);
            match (was_open, breaker.is_forced_open()) {
                (false, true) => _ = self.forced_open.fetch_add(1, Ordering::AcqRel),
                (true, false) => _ = self.forced_open.fetch_sub(1, Ordering::AcqRel),
                (true, true) | (false, false) => {}
            }
            breaker.reading(scope, label.clone(), now)
        })?
    }

    fn lock(&self) -> MutexGuard<'_, TableEntries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TableEntries {
    fn of(&mut self, label: &Label) -> Arc<LabelBreakers> {
        if let Some(known) = self.labels.get(label) {
            return Arc::clone(known);
        }
        let (number, seed) = (self.labels.len() as u32, self.next_seed());
        let upstream = self.upstream_of(&label.route);
        let breakers =
            Arc::new(LabelBreakers { label: label.clone(), number, upstream, tool: SharedBreaker::new(seed) });
        self.labels.insert(label.clone(), Arc::clone(&breakers));
        breakers
    }

    fn upstream_of(&mut self, route: &str) -> Arc<SharedBreaker> {
        let seed = self.next_seed().wrapping_add(1);
        Arc::clone(self.upstreams.entry(route.into()).or_insert_with(|| Arc::new(SharedBreaker::new(seed))))
    }

    fn next_seed(&self) -> u64 {
        self.seed.wrapping_add(2 * self.labels.len() as u64)
    }

    fn is_forced_open(&self, route: &str) -> bool {
        let of_route = self.upstreams.get(route).is_some_and(|upstream| upstream.is_forced_open());
        of_route || self.labels.values().any(|of| &*of.label.route == route && of.tool.is_forced_open())
    }

    fn with<T>(&self, label: &Label, run: impl FnOnce(&SharedBreaker, BreakerScope) -> T) -> Option<T> {
        match &*label.method {
            "" => Some(run(self.upstreams.get(&label.route)?.as_ref(), BreakerScope::Upstream)),
            _ => Some(run(&self.labels.get(label)?.tool, BreakerScope::Tool)),
        }
    }
}

#[cfg(test)]
mod tests;
