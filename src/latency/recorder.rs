use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::breaker_table::{BreakerTable, CoreBreakers};
use super::call_limit::CallLimit;
use super::deadline::{Deadline, WaitEnd};
use super::histogram::Histogram;
use super::label::Label;
use super::learned::{CoreLearned, LearnedTable};
use super::outcome::{OUTCOMES, Outcome};
use super::phases::{CallPhases, PHASES, Phase};
use super::status_class::{STATUS_CLASSES, StatusClass};
use super::window::UsualLatency;
use crate::base::{DeadlineTerms, GuardMode, Time};

/// The name under which calls without a label of their own are collected.
pub const OTHER: &str = "(other)";
/// The longest route, method or tool name that gets a label, in bytes.
pub const LABEL_LEN_MAX: usize = 128;

/// Separates the parts of a key. This byte never occurs in UTF-8.
const SEPARATOR: u8 = 0xff;

/// How many labels a core keeps figures for.
///
/// A label costs 126 KiB from its first call on, so the defaults give at most (128 + 64 + 1) x 126 KiB = 24 MiB per
/// core. A server with 20 tools takes 2.6 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatencySettings {
    /// The most labels of all routes, not counting the `(other)` label of each route.
    pub labels_max: usize,
    /// The most labels of one route. An agent that invents tool names then cannot use up the labels of other routes.
    pub labels_per_route_max: usize,
    /// The most routes. Calls of further routes are collected under the route `(other)`.
    pub routes_max: usize,
}

impl Default for LatencySettings {
    fn default() -> LatencySettings {
        LatencySettings { labels_max: 128, labels_per_route_max: 64, routes_max: 64 }
    }
}

/// The index of a label in its [`Recorder`], plus one, so that an `Option` takes no more memory. It is not valid in
/// another recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LabelId(NonZeroU32);

impl LabelId {
    /// The id of the label at this index.
    pub(super) fn at(index: usize) -> Option<LabelId> {
        let place = u32::try_from(index).ok()?.checked_add(1)?;
        NonZeroU32::new(place).map(LabelId)
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// The figures of one label on one core.
#[derive(Clone)]
pub struct LabelSet {
    phases: [Histogram; PHASES],
    outcomes: [u64; OUTCOMES],
    statuses: [u64; STATUS_CLASSES],
    clock_disagreements: u64,
    deadlines: Deadlines,
    retries: u64,
    hedges: Hedges,
}

/// How many calls of one label got a second try because the first was slow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hedges {
    /// How many calls got a second try.
    pub made: u64,
    /// How many of them were answered by the second try.
    pub won: u64,
}

/// The deadlines of the calls of one label on one core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deadlines {
    /// The terms of the last call that had a deadline.
    pub terms: Option<DeadlineTerms>,
    /// How many calls missed their deadline and were not ended for that.
    pub missed: u64,
    /// How many calls were ended because their deadline had passed.
    pub cut: u64,
}

/// How long a call with a deadline was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallWait {
    /// The terms of its deadline.
    pub terms: DeadlineTerms,
    /// The deadline that was enforced; `None` if none was.
    pub enforced: Option<Deadline>,
    /// How the wait for the response ended.
    pub end: WaitEnd,
    /// How long the wait was: until the response, or the longest time without a sign of progress before it.
    pub waited: Duration,
    /// How long the call took from beginning to end.
    pub took: Duration,
    /// Whether its duration is learned. That of a call that failed while its breaker was open is not.
    pub teaches: bool,
}

/// The judgement about a call that had a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The deadline that it had.
    pub limit: CallLimit,
    /// Whether the call missed the deadline.
    pub is_missed: bool,
    /// Whether the wait was [long](Deadline::is_long), so that the server is at fault even if the caller gave up.
    pub is_long: bool,
}

impl CallWait {
    /// Adds whether the breaker of its label is closed. While it is open, nothing is learned from calls without a
    /// response: the server is gone, not slow.
    #[must_use]
    pub fn with_breaker(self, is_closed: bool) -> CallWait {
        CallWait { teaches: self.end == WaitEnd::Answered || is_closed, ..self }
    }
}

impl LabelSet {
    fn new() -> LabelSet {
        LabelSet {
            phases: [(); PHASES].map(|()| Histogram::new()),
            outcomes: [0; OUTCOMES],
            statuses: [0; STATUS_CLASSES],
            clock_disagreements: 0,
            deadlines: Deadlines::default(),
            retries: 0,
            hedges: Hedges::default(),
        }
    }

    /// The histogram of one phase.
    #[must_use]
    pub fn phase(&self, phase: Phase) -> &Histogram {
        &self.phases[phase as usize]
    }

    /// The number of calls with this outcome.
    #[must_use]
    pub fn outcome(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize]
    }

    /// The number of calls that the upstream answered with a status of this class.
    #[must_use]
    pub fn answered(&self, class: StatusClass) -> u64 {
        self.statuses[class as usize]
    }

    /// The number of calls whose parts added up to more than the total.
    #[must_use]
    pub fn clock_disagreements(&self) -> u64 {
        self.clock_disagreements
    }

    /// How often calls were sent again.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.retries
    }

    /// How many calls got a second try.
    #[must_use]
    pub fn hedges(&self) -> Hedges {
        self.hedges
    }

    /// The deadlines of the label's calls.
    #[must_use]
    pub fn deadlines(&self) -> Deadlines {
        self.deadlines
    }

    fn record(&mut self, phases: &CallPhases, outcome: Outcome) {
        self.outcomes[outcome as usize] += 1;
        if let Some(class) = phases.status() {
            self.statuses[class as usize] += 1;
        }
        if !outcome.is_timed() {
            return;
        }
        self.clock_disagreements += u64::from(phases.clocks_disagreed());
        for (phase, histogram) in Phase::ALL.iter().zip(&mut self.phases) {
            if let Some(duration) = phases.get(*phase) {
                histogram.record(duration);
            }
        }
    }
}

/// The figures of calls on one core, by label.
///
/// Looking up a label and recording a call do not allocate, except that the first call of a label creates its
/// histograms. Figures are read one set at a time ([`set`](Recorder::set)), so that the core is never blocked for long:
/// copying a set takes about ten microseconds.
pub struct Recorder {
    settings: LatencySettings,
    sets: Vec<(Label, LabelSet)>,
    /// What was learned about each label that has a set; `None` for [`OTHER`], which has calls of all kinds.
    learned: Vec<Option<CoreLearned>>,
    table: Arc<LearnedTable>,
    /// The breakers of each label that has a set; `None` for [`OTHER`].
    breakers: Vec<Option<CoreBreakers>>,
    breaker_table: Arc<BreakerTable>,
    /// The hash is not keyed. There are too few names for an attacker to slow it down with collisions.
    ids: FxHashMap<Box<[u8]>, LabelId>,
    routes: FxHashMap<Box<str>, RouteLabels>,
    named: usize,
    over_cap: u64,
    key: Vec<u8>,
}

impl Recorder {
    /// Creates a recorder with no labels.
    #[must_use]
    pub fn new(settings: LatencySettings) -> Recorder {
        Recorder {
            settings,
            sets: Vec::new(),
            learned: Vec::new(),
            table: Arc::default(),
            breakers: Vec::new(),
            breaker_table: Arc::default(),
            ids: FxHashMap::default(),
            routes: FxHashMap::default(),
            named: 0,
            over_cap: 0,
            key: Vec::with_capacity(3 * (LABEL_LEN_MAX + 1)),
        }
    }

    /// Shares what is learned with the other recorders of this table.
    #[must_use]
    pub fn with_learned(self, table: &Arc<LearnedTable>) -> Recorder {
        Recorder { table: Arc::clone(table), ..self }
    }

    /// Shares the breakers with the other recorders of this table.
    #[must_use]
    pub fn with_breakers(self, table: &Arc<BreakerTable>) -> Recorder {
        Recorder { breaker_table: Arc::clone(table), ..self }
    }

    /// The label of a call. If there is no room for a new label, the call is counted under the route's [`OTHER`].
    ///
    /// `tool` is empty if the method names none.
    pub fn label(&mut self, route: &str, method: &str, tool: &str) -> LabelId {
        if let Some(id) = self.find(route, method, tool) {
            return id;
        }
        if fits(route, method, tool) && self.has_room(route) {
            self.add_named(route, method, tool)
        } else {
            self.other(route)
        }
    }

    /// Whether the calls with this label have these names: not so of one that collects calls of several.
    #[must_use]
    pub fn has_names(&self, label: LabelId, route: &str, method: &str, tool: &str) -> bool {
        let is_it = |label: &Label| *label.tool == *tool && *label.method == *method && *label.route == *route;
        self.name(label).is_some_and(is_it)
    }

    /// Records a call that has ended. The durations of refused calls are not kept; see [`Outcome::is_timed`].
    pub fn record(&mut self, label: LabelId, phases: &CallPhases, outcome: Outcome) {
        if let Some((_, set)) = self.sets.get_mut(label.index()) {
            set.record(phases, outcome);
        }
    }

    /// Counts how often a call with this label was sent again.
    pub fn count_retries(&mut self, label: LabelId, retries: u32) {
        if let Some((_, set)) = self.sets.get_mut(label.index()) {
            set.retries += u64::from(retries);
        }
    }

    /// Counts a call with this label that got a second try. `won` says whether that try answered it.
    pub fn count_hedge(&mut self, label: LabelId, won: bool) {
        if let Some((_, set)) = self.sets.get_mut(label.index()) {
            set.hedges.made += 1;
            set.hedges.won += u64::from(won);
        }
    }

    /// The deadline of a call that begins `now`.
    #[must_use]
    pub fn deadline(&self, label: LabelId, terms: &DeadlineTerms, now: Time) -> Deadline {
        Deadline::of(terms, self.learned(label).and_then(|learned| learned.usual(now)))
    }

    /// The usual latency of a label, if known.
    pub fn usual(&mut self, route: &str, method: &str, tool: &str, now: Time) -> Option<UsualLatency> {
        let label = self.find(route, method, tool)?;
        self.learned(label)?.usual(now)
    }

    /// What was learned about the calls of a label; `None` for [`OTHER`], which has calls of all kinds.
    #[must_use]
    pub fn learned(&self, label: LabelId) -> Option<&CoreLearned> {
        self.learned.get(label.index())?.as_ref()
    }

    /// The breakers of a label; `None` for [`OTHER`], which has calls of all kinds.
    #[must_use]
    pub fn breakers(&self, label: LabelId) -> Option<&CoreBreakers> {
        self.breakers.get(label.index())?.as_ref()
    }

    /// Learns from a call that has ended, and counts it if it missed its deadline. `None` for [`OTHER`], or if
    /// deadlines are off.
    pub fn learn(&mut self, label: LabelId, wait: &CallWait, now: Time) -> Option<Judged> {
        let at = label.index();
        let (Some((_, set)), Some(Some(learned))) = (self.sets.get_mut(at), self.learned.get_mut(at)) else {
            return None;
        };
        let deadlines = &mut set.deadlines;
        deadlines.terms = Some(wait.terms);
        let deadline = wait.enforced.unwrap_or_else(|| Deadline::of(&wait.terms, learned.usual(now)));
        let progress_max = wait.terms.progress_max.max(deadline.limit);
        let is_cut = wait.end == WaitEnd::Cut && wait.enforced.is_some();
        let is_past = wait.waited > deadline.limit || wait.took > progress_max;
        let is_missed = is_cut || (wait.terms.mode != GuardMode::Off && is_past);
        deadlines.cut += u64::from(is_cut);
        deadlines.missed += u64::from(is_missed && !is_cut);
        if wait.terms.mode == GuardMode::Off {
            return None;
        }
        if wait.teaches
            && let Some(counted) = deadline.counts_as(wait.end, wait.waited)
        {
            learned.record(counted, now);
        }
        let is_long = deadline.is_long(&wait.terms, wait.waited);
        Some(Judged { limit: CallLimit::of(&deadline, wait.enforced.is_some()), is_missed, is_long })
    }

    /// The number of labels with figures.
    #[must_use]
    pub fn sets(&self) -> usize {
        self.sets.len()
    }

    /// The label and figures at an index below [`sets`](Recorder::sets). Indices never change.
    #[must_use]
    pub fn set(&self, index: usize) -> Option<(&Label, &LabelSet)> {
        self.sets.get(index).map(|(label, set)| (label, set))
    }

    /// The label with this id.
    #[must_use]
    pub fn name(&self, id: LabelId) -> Option<&Label> {
        self.sets.get(id.index()).map(|(label, _)| label)
    }

    /// The number of calls that got no label of their own.
    #[must_use]
    pub fn over_cap(&self) -> u64 {
        self.over_cap
    }

    /// A copy of all figures, for tests.
    #[must_use]
    #[cfg(test)]
    pub fn snapshot(&self) -> super::snapshot::Snapshot {
        let mut snapshot = super::snapshot::Snapshot::new();
        snapshot.add_over_cap(self.over_cap);
        for (index, (label, set)) in self.sets.iter().enumerate() {
            snapshot.add_label(label, set, self.figures(index, Time::ZERO).deadline);
        }
        snapshot
    }

    /// The label of a call, if it already has figures. Leaves its key in the buffer for
    /// [`add_named`](Recorder::add_named).
    fn find(&mut self, route: &str, method: &str, tool: &str) -> Option<LabelId> {
        if !fits(route, method, tool) {
            return None;
        }
        write_key(&mut self.key, route, method, tool);
        self.ids.get(self.key.as_slice()).copied()
    }

    fn has_room(&self, route: &str) -> bool {
        let taken = match self.routes.get(route) {
            Some(labels) => labels.named,
            None if self.routes.len() < self.settings.routes_max => 0,
            None => return false,
        };
        self.named < self.settings.labels_max && taken < self.settings.labels_per_route_max
    }

    fn add_named(&mut self, route: &str, method: &str, tool: &str) -> LabelId {
        let id = self.add_set(Label::new(route, method, tool));
        self.ids.insert(self.key.as_slice().into(), id);
        self.routes.entry(route.into()).or_default().named += 1;
        self.named += 1;
        id
    }

    /// The label under which a route collects calls without labels of their own. If there are too many routes, or the
    /// name is too long, the route itself is [`OTHER`].
    fn other(&mut self, route: &str) -> LabelId {
        self.over_cap += 1;
        let known = self.routes.contains_key(route);
        let fits = route.len() <= LABEL_LEN_MAX && self.routes.len() < self.settings.routes_max;
        let route = if known || fits { route } else { OTHER };
        if let Some(id) = self.routes.get(route).and_then(|labels| labels.other) {
            return id;
        }
        let id = self.add_set(Label::new(route, OTHER, ""));
        self.routes.entry(route.into()).or_default().other = Some(id);
        id
    }

    fn add_set(&mut self, label: Label) -> LabelId {
        let id = LabelId::at(self.sets.len()).expect("the caps keep the number of sets far below 2^32");
        let is_one_kind = &*label.method != OTHER;
        self.learned.push(is_one_kind.then(|| CoreLearned::new(self.table.of(&label))));
        let of_route = self.breakers.iter().flatten().find(|of| of.label().route == label.route);
        let breakers = is_one_kind.then(|| self.breaker_table.of_core(&label, of_route));
        self.breakers.push(breakers);
        self.sets.push((label, LabelSet::new()));
        id
    }
}

/// The labels that one route uses.
#[derive(Default)]
struct RouteLabels {
    named: usize,
    other: Option<LabelId>,
}

/// Whether the names are short enough for a label.
fn fits(route: &str, method: &str, tool: &str) -> bool {
    [route, method, tool].iter().all(|name| name.len() <= LABEL_LEN_MAX)
}

fn write_key(key: &mut Vec<u8>, route: &str, method: &str, tool: &str) {
    key.clear();
    key.extend_from_slice(route.as_bytes());
    key.push(SEPARATOR);
    key.extend_from_slice(method.as_bytes());
    key.push(SEPARATOR);
    key.extend_from_slice(tool.as_bytes());
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::Rng;
    use crate::latency::histogram::HISTOGRAM_BYTES;
    use crate::latency::{ConnectorTimes, EdgeTimes};

    fn call(total_us: u64) -> CallPhases {
        let edge = EdgeTimes {
            edge: Duration::from_micros(5),
            is_handed_over: true,
            total: Duration::from_micros(total_us),
            total_last: Some(Duration::from_micros(total_us)),
            status: Some(StatusClass::of(200)),
            is_event_stream: false,
        };
        let far = ConnectorTimes { upstream: Duration::from_micros(10), ..ConnectorTimes::default() };
        CallPhases::split(edge, Some(far))
    }

    fn label_of(recorder: &Recorder, id: LabelId) -> String {
        recorder.set(id.index()).unwrap().0.to_string()
    }

    #[test]
    fn a_label_keeps_its_place_and_names_do_not_run_together() {
        let mut recorder = Recorder::new(LatencySettings::default());
        let a = recorder.label("r", "tools/call", "add");
        assert_eq!(recorder.label("r", "tools/call", "add"), a);
        assert_ne!(recorder.label("r", "tools/calla", "dd"), a);
        assert_ne!(recorder.label("rt", "ools/call", "add"), a);
        assert_eq!((recorder.sets(), recorder.over_cap()), (3, 0));
    }

    #[test]
    fn a_call_counts_for_its_label_and_in_total() {
        let mut recorder = Recorder::new(LatencySettings::default());
        let (a, b) = (recorder.label("r", "tools/call", "a"), recorder.label("r", "tools/call", "b"));
        recorder.record(a, &call(100), Outcome::Ok);
        recorder.record(b, &call(200), Outcome::AgentGone);
        recorder.record(b, &call(3), Outcome::Ok);
        let (_, of_b) = recorder.set(1).unwrap();
        assert_eq!(of_b.phase(Phase::Total).count(), 2);
        assert_eq!(of_b.phase(Phase::UpstreamConnect).count(), 0);
        assert_eq!(of_b.outcome(Outcome::AgentGone), 1);
        assert_eq!(of_b.clock_disagreements(), 1);
        assert_eq!(recorder.snapshot().total().phase(Phase::Tunnel).count(), 3);
        assert_eq!(recorder.snapshot().total().outcome(Outcome::Ok), 2);
    }

    #[test]
    fn a_refusal_is_counted_but_not_timed() {
        let mut recorder = Recorder::new(LatencySettings::default());
        let id = recorder.label("r", "tools/call", "a");
        recorder.record(id, &call(1), Outcome::Offline);
        assert_eq!(recorder.snapshot().total().outcome(Outcome::Offline), 1);
        assert_eq!(recorder.snapshot().total().phase(Phase::Total).count(), 0);
    }

    #[test]
    fn made_up_names_fill_only_their_own_routes_share() {
        let settings = LatencySettings { labels_max: 10, labels_per_route_max: 4, routes_max: 3 };
        let mut recorder = Recorder::new(settings);
        for i in 0..100 {
            recorder.label("loud", "tools/call", &format!("tool{i}"));
        }
        assert_eq!((recorder.sets(), recorder.over_cap()), (5, 96));
        let other = recorder.label("loud", "tools/call", "one more");
        assert_eq!(label_of(&recorder, other), "loud (other) ");
        let quiet = recorder.label("quiet", "tools/list", "");
        assert_eq!(label_of(&recorder, quiet), "quiet tools/list ");
    }

    #[test]
    fn the_number_of_sets_is_bounded_for_any_input() {
        let settings = LatencySettings { labels_max: 6, labels_per_route_max: 3, routes_max: 3 };
        let mut recorder = Recorder::new(settings);
        let mut rng = Rng::new(4);
        for _ in 0..5_000 {
            let route = format!("route{}", rng.below(9));
            let tool = "t".repeat(rng.below(2 * LABEL_LEN_MAX as u64) as usize);
            let id = recorder.label(&route, "tools/call", &tool);
            recorder.record(id, &call(rng.below(1_000)), Outcome::Ok);
        }
        assert!(recorder.sets() <= 6 + 3 + 1, "{} sets", recorder.sets());
        let by_label: u64 = (0..recorder.sets()).map(|i| recorder.set(i).unwrap().1.outcome(Outcome::Ok)).sum();
        assert_eq!((by_label, recorder.snapshot().total().outcome(Outcome::Ok)), (5_000, 5_000));
        let too_long = "x".repeat(LABEL_LEN_MAX + 1);
        let id = recorder.label(&too_long, "tools/call", "");
        assert_eq!(label_of(&recorder, id), "(other) (other) ");
    }

    #[test]
    fn a_question_makes_no_label_and_counts_nothing() {
        let mut recorder = Recorder::new(LatencySettings { labels_max: 1, ..LatencySettings::default() });
        assert_eq!(recorder.usual("r", "", "", Time::ZERO), None);
        assert_eq!((recorder.sets(), recorder.over_cap()), (0, 0));
        let label = recorder.label("r", "tools/call", "t");
        assert_eq!(recorder.usual("r", "tools/call", "another", Time::ZERO), None, "there is no room for it");
        assert_eq!((recorder.sets(), recorder.over_cap()), (1, 0));
        let learned = Arc::clone(recorder.learned(label).unwrap());
        (0..1_000).for_each(|_| learned.record(Duration::from_millis(5), Time::ZERO));
        assert!(recorder.usual("r", "tools/call", "t", Time::ZERO).is_some(), "it is known");
    }

    #[test]
    fn a_set_takes_the_documented_memory() {
        let bytes = PHASES * HISTOGRAM_BYTES + size_of::<LabelSet>();
        assert!((126 * 1_024 - 512..127 * 1_024).contains(&bytes), "{bytes} bytes");
    }
}
