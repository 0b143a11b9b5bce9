//! The breakers of an edge or a connector, shared by all its cores.
//!
//! They are shared, and not of each core, so that agents get the same answer on whichever core they are, from the moment on when a
//! breaker opens; and so that as few calls as possible are needed to find out. While a breaker is closed, asking it reads an atomic;
//! its lock is held for some tens of nanoseconds when a call ends.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::{BreakerTerms, GuardMode, Time};
use crate::latency::breaker::{
    Breaker, BreakerChange, BreakerOpen, BreakerPermit, BreakerState, CallCounts, CallVerdict, ForcedState,
};
use crate::latency::label::Label;

/// The most openings that multiply the deadline of a probe, by 3 each.
const PATIENCE_TRIES_MAX: u32 = 8;

/// How a call ended, as far as it says whether others should be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallResult {
    /// The upstream answered in time.
    Answered,
    /// The upstream answered after the call's deadline.
    Late,
    /// The upstream broke the call off, answered as a gateway does for a server that it does not reach (502, 503, 504), or did not
    /// answer before the deadline. Only calls of other tools can tell whether the fault is the tool's.
    Failed,
    /// There was no connection to the upstream. The tool is not the cause.
    Unreached,
}

/// Which calls a breaker refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BreakerScope {
    /// All calls of a route.
    Upstream,
    /// Those of one label.
    Tool,
}

/// How one breaker is.
#[derive(Clone, Debug)]
pub struct BreakerReading {
    /// Which calls it refuses. For an upstream, the label has a route alone.
    pub scope: BreakerScope,
    /// The label of the calls.
    pub label: Label,
    /// What becomes of calls while it is open, as of the last call.
    pub mode: GuardMode,
    /// Whether it lets calls through.
    pub state: BreakerState,
    /// The calls that it judges by, or has opened for.
    pub counts: CallCounts,
    /// How often it has opened.
    pub opened: u64,
    /// How many calls it has refused.
    pub refused: u64,
    /// How many calls it would have refused if it were enforced.
    pub would_refuse: u64,
}

impl BreakerReading {
    /// Whether it has ever opened, or an operator has decided.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.opened > 0 || matches!(self.state, BreakerState::Forced(_))
    }

    /// Whether each call is made.
    #[must_use]
    pub fn lets_through(&self) -> bool {
        matches!(self.state, BreakerState::Closed | BreakerState::Forced(ForcedState::Closed))
    }
}

/// The changes of the breakers that one call has to do with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BreakerChanges {
    /// That of its route.
    pub upstream: Option<BreakerChange>,
    /// That of its label.
    pub tool: Option<BreakerChange>,
}

/// A breaker that all cores share.
struct SharedBreaker {
    /// Whether it is closed, and the epoch.
    gate: AtomicU64,
    /// The mode of the last call that was judged, or another number before the first.
    mode: AtomicU8,
    opened: AtomicU64,
    refused: AtomicU64,
    would_refuse: AtomicU64,
    breaker: Mutex<Breaker>,
}

/// The breaker of a route, and what tells the fault of a tool from one of the upstream.
struct UpstreamBreaker {
    shared: SharedBreaker,
    evidence: Mutex<FailureEvidence>,
}

/// The calls that failed since the upstream last answered one.
#[derive(Default)]
struct FailureEvidence {
    /// When the upstream last answered.
    answered: Time,
    /// The number of the label whose call failed first since then.
    first: Option<u32>,
    /// Whether calls of other labels failed as well.
    is_of_several: bool,
}

/// The breakers that a call of one label has to do with.
pub struct LabelBreakers {
    label: Label,
    /// A number of the label.
    number: u32,
    upstream: Arc<UpstreamBreaker>,
    tool: SharedBreaker,
}

/// Permission for one call. Dropped without a result, the call does not count.
pub struct Permit {
    breakers: Arc<LabelBreakers>,
    upstream: Option<BreakerPermit>,
    tool: Option<BreakerPermit>,
}

/// The breakers of all labels. There are as many as the recorders of all cores have labels, and one for each route of those. Each
/// takes 0.5 KiB.
#[derive(Default)]
pub struct BreakerTable {
    entries: Mutex<TableEntries>,
    /// How many of them an operator has opened.
    forced_open: AtomicUsize,
}

/// How many breakers of which no call was seen operators may decide about.
const FORCED_UNSEEN_MAX: usize = 256;

#[derive(Default)]
struct TableEntries {
    seed: u64,
    /// How many an operator has decided about of which no call was seen then.
    forced_unseen: usize,
    labels: BTreeMap<Label, Arc<LabelBreakers>>,
    upstreams: BTreeMap<Box<str>, Arc<UpstreamBreaker>>,
}

impl SharedBreaker {
    fn new(seed: u64) -> SharedBreaker {
        let breaker = Breaker::new(seed);
        SharedBreaker {
            gate: AtomicU64::new(gate_of(&breaker)),
            mode: AtomicU8::new(u8::MAX),
            opened: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            would_refuse: AtomicU64::new(0),
            breaker: Mutex::new(breaker),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs what may change the state, and publishes that.
    fn change<T>(&self, run: impl FnOnce(&mut Breaker) -> (T, Option<BreakerChange>)) -> (T, Option<BreakerChange>) {
        let mut breaker = self.lock();
        let (result, change) = run(&mut breaker);
        if let Some(change) = &change {
            self.gate.store(gate_of(&breaker), Ordering::Release);
            let has_opened = matches!(change.to, BreakerState::Open { .. });
            self.opened.fetch_add(u64::from(has_opened), Ordering::Relaxed);
        }
        (result, change)
    }

    fn admit(&self, now: Time) -> (Result<BreakerPermit, BreakerOpen>, Option<BreakerChange>) {
        let gate = self.gate.load(Ordering::Acquire);
        if gate & 1 == 1 {
            return (Ok(BreakerPermit::of_closed(gate >> 1)), None);
        }
        self.change(|breaker| breaker.admit(now))
    }

    fn end(
        &self,
        permit: BreakerPermit,
        verdict: Option<CallVerdict>,
        terms: &BreakerTerms,
        now: Time,
    ) -> Option<BreakerChange> {
        self.mode.store(terms.mode as u8, Ordering::Relaxed);
        self.change(|breaker| ((), breaker.end(permit, verdict, terms, now))).1
    }

    /// Takes back the permission of a call that does not count.
    fn release(&self, permit: BreakerPermit) {
        self.lock().release(permit);
    }

    fn is_closed(&self) -> bool {
        self.gate.load(Ordering::Acquire) & 1 == 1
    }

    /// Whether an operator has opened it.
    fn is_forced_open(&self) -> bool {
        !self.is_closed() && self.lock().is_forced_open()
    }

    /// None before the first call.
    fn reading(&self, scope: BreakerScope, label: Label, now: Time) -> Option<BreakerReading> {
        let (state, counts) = self.lock().reading(now);
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

impl FailureEvidence {
    /// What a result of a call of this label, which began then, says of the upstream.
    fn judge(&mut self, result: CallResult, label: u32, began: Time, now: Time) -> Option<CallVerdict> {
        match result {
            CallResult::Answered | CallResult::Late => {
                *self = FailureEvidence { answered: now, first: None, is_of_several: false };
                Some(CallVerdict::Good)
            }
            CallResult::Unreached => Some(CallVerdict::Failed),
            // The upstream has answered others meanwhile.
            CallResult::Failed if began < self.answered => None,
            CallResult::Failed => {
                self.is_of_several |= *self.first.get_or_insert(label) != label;
                self.is_of_several.then_some(CallVerdict::Failed)
            }
        }
    }
}

impl CallResult {
    /// What it says of the call's label.
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
    /// Asks to make a call `now`, where that is enforced.
    ///
    /// # Errors
    ///
    /// If the call is not to be made, with the breaker that says so.
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

    /// Counts a call that was made because nothing is enforced, and that began and ended then. It is judged as if it had asked when
    /// it ended.
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

    /// Whether calls of the label are made without asking.
    #[must_use]
    pub fn are_closed(&self) -> bool {
        self.tool.is_closed() && self.upstream.shared.is_closed()
    }

    /// Whether an operator has opened one of them, so that calls of the label are refused in each mode.
    #[must_use]
    pub fn is_forced_open(&self) -> bool {
        self.tool.is_forced_open() || self.upstream.shared.is_forced_open()
    }

    /// The label of the calls that it judges.
    #[must_use]
    pub fn label(&self) -> &Label {
        &self.label
    }

    /// The calls for which one of them has opened.
    #[must_use]
    pub fn opened_by(&self, scope: BreakerScope, now: Time) -> CallCounts {
        self.of_scope(scope).lock().reading(now).1
    }

    fn of_scope(&self, scope: BreakerScope) -> &SharedBreaker {
        match scope {
            BreakerScope::Upstream => &self.upstream.shared,
            BreakerScope::Tool => &self.tool,
        }
    }

    fn ask(self: &Arc<LabelBreakers>, now: Time) -> (Result<Permit, (BreakerScope, BreakerOpen)>, BreakerChanges) {
        let mut changes = BreakerChanges::default();
        let (of_upstream, change) = self.upstream.shared.admit(now);
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
                self.upstream.shared.release(upstream);
                (Err((BreakerScope::Tool, refused)), changes)
            }
        }
    }
}

impl Permit {
    /// The call has ended `now`, so; with none it says nothing.
    pub fn end(mut self, result: Option<CallResult>, terms: &BreakerTerms, began: Time, now: Time) -> BreakerChanges {
        let LabelBreakers { upstream, tool, number, .. } = &*self.breakers;
        let of_upstream = result.and_then(|result| {
            let mut evidence = upstream.evidence.lock().unwrap_or_else(PoisonError::into_inner);
            evidence.judge(result, *number, began, now)
        });
        let of_tool = result.and_then(CallResult::of_tool);
        let end =
            |breaker: &SharedBreaker, permit: Option<BreakerPermit>, verdict| breaker.end(permit?, verdict, terms, now);
        let changes = BreakerChanges {
            upstream: end(&upstream.shared, self.upstream, of_upstream),
            tool: end(tool, self.tool, of_tool),
        };
        (self.upstream, self.tool) = (None, None);
        changes
    }

    /// By what the deadline of the call is multiplied. While a breaker is open nothing is learned of times, so that its probes find
    /// out whether the server has become slow.
    #[must_use]
    pub fn patience(&self) -> u32 {
        let tries =
            [self.upstream, self.tool].into_iter().flatten().map(|permit| permit.tries).max().unwrap_or_default();
        3_u32.pow(tries.min(PATIENCE_TRIES_MAX))
    }

    /// Whether the call is a probe of one of its breakers.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        [self.upstream, self.tool].into_iter().flatten().any(|permit| permit.is_probe())
    }

    /// The breakers that it is of.
    #[must_use]
    pub fn breakers(&self) -> &Arc<LabelBreakers> {
        &self.breakers
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(permit) = self.upstream {
            self.breakers.upstream.shared.release(permit);
        }
        if let Some(permit) = self.tool {
            self.breakers.tool.release(permit);
        }
    }
}

impl BreakerTable {
    /// A table whose times vary by this seed.
    #[must_use]
    pub fn new(seed: u64) -> BreakerTable {
        let entries = Mutex::new(TableEntries { seed, ..TableEntries::default() });
        BreakerTable { entries, forced_open: AtomicUsize::new(0) }
    }

    pub(super) fn of(&self, label: &Label) -> Arc<LabelBreakers> {
        self.lock().of(label)
    }

    /// Whether an operator has opened a breaker of this route, so that it has to be known what its calls call.
    #[must_use]
    pub fn is_forced_open(&self, route: &str) -> bool {
        self.forced_open.load(Ordering::Acquire) > 0 && self.lock().is_forced_open(route)
    }

    /// How the breakers are `now` that have seen calls, those of a route behind that of its upstream.
    #[must_use]
    pub fn readings(&self, now: Time) -> Vec<BreakerReading> {
        let entries = self.lock();
        let upstreams = entries.upstreams.iter().filter_map(|(route, breaker)| {
            let label = Label { route: route.clone(), method: "".into(), tool: "".into() };
            breaker.shared.reading(BreakerScope::Upstream, label, now)
        });
        let labels = entries.labels.iter();
        let labels = labels.filter_map(|(label, of)| of.tool.reading(BreakerScope::Tool, label.clone(), now));
        let mut readings: Vec<BreakerReading> = upstreams.chain(labels).collect();
        readings.sort_by(|a, b| (&a.label, a.scope).cmp(&(&b.label, b.scope)));
        readings
    }

    /// An operator decides about the breaker of a label, or about that of its route's upstream if it has no method, or leaves it to the
    /// calls again. It need not have seen a call. Returns how it is then; none if it has seen none and is left to them, or if too many
    /// were decided about before their first call.
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
            breaker.change(|breaker| ((), breaker.force(forced, now)));
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

    fn upstream_of(&mut self, route: &str) -> Arc<UpstreamBreaker> {
        let seed = self.next_seed().wrapping_add(1);
        let new = || {
            let (shared, evidence) = (SharedBreaker::new(seed), Mutex::default());
            Arc::new(UpstreamBreaker { shared, evidence })
        };
        Arc::clone(self.upstreams.entry(route.into()).or_insert_with(new))
    }

    fn next_seed(&self) -> u64 {
        self.seed.wrapping_add(2 * self.labels.len() as u64)
    }

    fn is_forced_open(&self, route: &str) -> bool {
        let of_route = self.upstreams.get(route).is_some_and(|upstream| upstream.shared.is_forced_open());
        of_route || self.labels.values().any(|of| &*of.label.route == route && of.tool.is_forced_open())
    }

    fn with<T>(&self, label: &Label, run: impl FnOnce(&SharedBreaker, BreakerScope) -> T) -> Option<T> {
        match &*label.method {
            "" => Some(run(&self.upstreams.get(&label.route)?.shared, BreakerScope::Upstream)),
            _ => Some(run(&self.labels.get(label)?.tool, BreakerScope::Tool)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;
    use crate::latency::{LatencySettings, Recorder};
    use std::time::Duration;

    const TERMS: BreakerTerms = BreakerTerms {
        mode: GuardMode::Enforce,
        failed_percent: 50,
        slow_percent: 80,
        calls_min: 10,
        open_for: Duration::from_secs(5),
    };

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn label(tool: &str) -> Label {
        Label { route: "r".into(), method: "tools/call".into(), tool: tool.into() }
    }

    /// Makes so many calls that end so at once. Returns how many were refused, by which breaker.
    fn calls(of: &Arc<LabelBreakers>, count: u32, result: CallResult, now: Time) -> Vec<BreakerScope> {
        let mut refused = Vec::new();
        for _ in 0..count {
            match of.admit(now).0 {
                Ok(permit) => {
                    permit.end(Some(result), &TERMS, now, now);
                }
                Err((scope, _)) => refused.push(scope),
            }
        }
        refused
    }

    #[test]
    fn a_tool_that_fails_leaves_its_neighbours_alone() {
        let table = BreakerTable::default();
        let [bad, good] = ["bad", "good"].map(|tool| table.of(&label(tool)));
        assert_eq!(calls(&good, 5, CallResult::Answered, at(1)), []);
        assert_eq!(calls(&bad, 12, CallResult::Failed, at(2)), [BreakerScope::Tool; 2]);
        assert_eq!(calls(&good, 5, CallResult::Answered, at(2)), []);
        assert!(good.are_closed() && !bad.are_closed());
        // Even if it alone is called, however often.
        assert_eq!(calls(&bad, 1, CallResult::Failed, at(60)), []);
        assert_eq!(table.readings(at(60))[0].state, BreakerState::Closed);
    }

    #[test]
    fn an_upstream_that_cannot_be_reached_closes_all_its_tools() {
        let table = BreakerTable::default();
        let [one, other] = ["one", "other"].map(|tool| table.of(&label(tool)));
        assert_eq!(calls(&one, 12, CallResult::Unreached, at(1)), [BreakerScope::Upstream; 2]);
        assert_eq!(calls(&other, 1, CallResult::Answered, at(1)), [BreakerScope::Upstream]);
        let readings = table.readings(at(1));
        let states = readings.iter().map(|reading| (reading.scope, reading.state == BreakerState::Closed));
        // Of the other tool no call was made yet.
        assert_eq!(states.collect::<Vec<_>>(), [(BreakerScope::Upstream, false), (BreakerScope::Tool, true)]);
        assert_eq!((readings[0].refused, readings[0].opened, readings[0].mode), (3, 1, GuardMode::Enforce));
        // Three calls of whatever tool find out that it is back.
        assert_eq!(calls(&other, 3, CallResult::Answered, at(10)), []);
        assert!(one.are_closed());
    }

    #[test]
    fn an_upstream_that_answers_no_call_of_several_tools_closes_all() {
        let table = BreakerTable::default();
        let [one, other, third] = ["one", "other", "third"].map(|tool| table.of(&label(tool)));
        for nth in 0..20 {
            let of = if nth % 2 == 0 { &one } else { &other };
            calls(of, 1, CallResult::Failed, at(1));
        }
        assert_eq!(calls(&third, 1, CallResult::Answered, at(1)), [BreakerScope::Upstream]);
        // One that answers meanwhile is there.
        let table = BreakerTable::default();
        let [one, other, third] = ["one", "other", "third"].map(|tool| table.of(&label(tool)));
        for nth in 0..20 {
            let of = if nth % 2 == 0 { &one } else { &other };
            if let Ok(permit) = of.admit(at(nth)).0 {
                calls(&third, 1, CallResult::Answered, at(nth + 1));
                permit.end(Some(CallResult::Failed), &TERMS, at(nth), at(nth + 2));
            }
        }
        assert!(third.are_closed() && !one.are_closed() && !other.are_closed());
    }

    #[test]
    fn a_call_that_is_dropped_leaves_its_place_to_another() {
        let table = BreakerTable::default();
        let of = table.of(&label("a"));
        calls(&of, 10, CallResult::Failed, at(1));
        let probes: Vec<_> = (0..3).map(|_| of.admit(at(10)).0.ok().unwrap()).collect();
        assert!(probes.iter().all(|probe| probe.patience() == 3));
        assert_eq!(calls(&of, 1, CallResult::Answered, at(10)), [BreakerScope::Tool]);
        drop(probes);
        assert_eq!(calls(&of, 3, CallResult::Answered, at(10)), []);
        assert!(of.are_closed());
        assert_eq!(of.admit(at(10)).0.ok().unwrap().patience(), 1);
    }

    #[test]
    fn where_nothing_is_enforced_calls_are_counted_that_would_be_refused() {
        let table = BreakerTable::default();
        let of = table.of(&label("a"));
        let observe = |result, now| of.observe(Some(result), &TERMS, now, now);
        let opened = (0..10).map(|_| observe(CallResult::Failed, at(1))).filter(|changes| changes.tool.is_some());
        assert_eq!(opened.count(), 1);
        (0..7).for_each(|_| assert_eq!(observe(CallResult::Answered, at(2)), BreakerChanges::default()));
        let counts = |table: &BreakerTable| (table.readings(at(2))[1].refused, table.readings(at(2))[1].would_refuse);
        assert_eq!(counts(&table), (0, 7));
        (0..3).for_each(|_| _ = observe(CallResult::Answered, at(10)));
        assert!(of.are_closed());
    }

    #[test]
    fn an_operator_forces_a_breaker_whether_or_not_calls_were_seen() {
        let table = BreakerTable::default();
        let [one, other] = ["one", "other"].map(|tool| table.of(&label(tool)));
        let force = |label: &Label, forced| Some(table.force(label, forced, at(1))?.state);
        let (open, is_open) = (Some(ForcedState::Open), Some(BreakerState::Forced(ForcedState::Open)));
        assert_eq!(force(&label("none"), None), None, "it has seen no call");
        assert!(!table.is_forced_open("r") && !one.is_forced_open());
        assert_eq!(force(&label("one"), open), is_open);
        assert!(table.is_forced_open("r") && !table.is_forced_open("other route"));
        assert!(one.is_forced_open() && !other.is_forced_open() && other.are_closed());
        assert_eq!(calls(&other, 1, CallResult::Answered, at(1)), []);
        let upstream = Label { method: "".into(), tool: "".into(), ..label("") };
        assert_eq!((force(&upstream, open), force(&upstream, open)), (is_open, is_open));
        assert_eq!(calls(&other, 1, CallResult::Answered, at(1)), [BreakerScope::Upstream]);
        assert_eq!(force(&upstream, None), Some(BreakerState::Closed));
        assert_eq!(table.readings(at(1))[0].refused, 1);
        assert!(other.are_closed() && table.is_forced_open("r"));
        force(&label("one"), None);
        assert!(!table.is_forced_open("r"));
        let forced = (0..2 * FORCED_UNSEEN_MAX).filter(|nth| force(&label(&nth.to_string()), open).is_some()).count();
        assert_eq!(forced, FORCED_UNSEEN_MAX, "of tools that nobody has called there are so many");
    }

    #[test]
    fn calls_without_a_label_of_their_own_have_no_breaker() {
        let table = Arc::<BreakerTable>::default();
        let settings = LatencySettings { labels_per_route_max: 1, ..LatencySettings::default() };
        let mut recorder = Recorder::new(settings).with_breakers(&table);
        for nth in 0..100 {
            let id = recorder.label("r", "tools/call", &format!("tool{nth}"));
            assert_eq!(recorder.breakers(id).is_some(), nth == 0);
        }
        let labels = table.lock().labels.len();
        assert_eq!((labels, table.readings(at(1)).len()), (1, 0), "none has seen a call");
    }

    /// As many probes are made as there may be, whoever asks.
    #[test]
    fn cores_share_what_they_find_out() {
        let table = Arc::new(BreakerTable::new(7));
        let cores: Vec<_> = (0..4).map(|_| table.of(&label("a"))).collect();
        calls(&cores[0], 10, CallResult::Failed, at(1));
        let mut rng = Rng::new(1);
        let mut admit = || cores[rng.below(4) as usize].admit(at(10)).0.ok();
        let probes: Vec<Permit> = (0..1_000).filter_map(|_| admit()).collect();
        assert_eq!(probes.len(), 3);
        for probe in probes {
            assert!(cores.iter().all(|core| !core.are_closed()));
            probe.end(Some(CallResult::Answered), &TERMS, at(10), at(10));
        }
        assert!(cores.iter().all(|core| core.are_closed()));
    }
}
