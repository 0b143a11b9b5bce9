use std::collections::BTreeMap;

use super::deadline::Deadline;
use super::histogram::Distribution;
use super::label::Label;
use super::outcome::{OUTCOMES, Outcome};
use super::phases::{PHASES, Phase};
use super::recorder::{Deadlines, Hedges, LabelSet};
use super::status_class::{STATUS_CLASSES, StatusClass};

/// The figures of one label, from one or more cores.
#[derive(Clone)]
pub struct LabelFigures {
    phases: [Distribution; PHASES],
    outcomes: [u64; OUTCOMES],
    statuses: [u64; STATUS_CLASSES],
    clock_disagreements: u64,
    retries: u64,
    hedges: Hedges,
    deadlines: Deadlines,
    deadline: Option<Deadline>,
}

impl LabelFigures {
    /// Creates the figures of a label with no calls.
    #[must_use]
    pub fn new() -> LabelFigures {
        LabelFigures {
            phases: [(); PHASES].map(|()| Distribution::new()),
            outcomes: [0; OUTCOMES],
            statuses: [0; STATUS_CLASSES],
            clock_disagreements: 0,
            retries: 0,
            hedges: Hedges::default(),
            deadlines: Deadlines::default(),
            deadline: None,
        }
    }

    /// Adds the figures of one core.
    pub fn add(&mut self, set: &LabelSet) {
        for phase in Phase::ALL {
            self.phases[phase as usize].add(set.phase(phase));
        }
        for outcome in Outcome::ALL {
            self.outcomes[outcome as usize] += set.outcome(outcome);
        }
        for class in StatusClass::ALL {
            self.statuses[class as usize] += set.answered(class);
        }
        self.clock_disagreements += set.clock_disagreements();
        self.retries += set.retries();
        self.add_hedges(set.hedges());
        self.add_deadlines(&set.deadlines());
    }

    /// Adds other figures, such as those of another label.
    pub fn merge(&mut self, other: &LabelFigures) {
        for (mine, theirs) in self.phases.iter_mut().zip(&other.phases) {
            mine.merge(theirs);
        }
        for (mine, theirs) in self.outcomes.iter_mut().zip(&other.outcomes) {
            *mine += theirs;
        }
        for (mine, theirs) in self.statuses.iter_mut().zip(&other.statuses) {
            *mine += theirs;
        }
        self.clock_disagreements += other.clock_disagreements;
        self.retries += other.retries;
        self.add_hedges(other.hedges);
        self.add_deadlines(&other.deadlines);
    }

    fn add_hedges(&mut self, other: Hedges) {
        self.hedges.made += other.made;
        self.hedges.won += other.won;
    }

    fn add_deadlines(&mut self, other: &Deadlines) {
        let Deadlines { terms, missed, cut } = &mut self.deadlines;
        *terms = other.terms.or(*terms);
        *missed += other.missed;
        *cut += other.cut;
    }

    /// The deadlines that calls missed, and the terms of the last call with a deadline.
    #[must_use]
    pub fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    /// The deadline of calls that begin now; `None` if they have none, or if these are the figures of several labels.
    #[must_use]
    pub fn deadline(&self) -> Option<&Deadline> {
        self.deadline.as_ref()
    }

    /// The durations of one phase.
    #[must_use]
    pub fn phase(&self, phase: Phase) -> &Distribution {
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

    /// The number of calls with any outcome.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.outcomes.iter().sum()
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

    /// How many calls had phases that add up to more than the total.
    #[must_use]
    pub fn clock_disagreements(&self) -> u64 {
        self.clock_disagreements
    }
}

impl Default for LabelFigures {
    fn default() -> LabelFigures {
        LabelFigures::new()
    }
}

/// The figures of all cores, added up for reading.
///
/// A core may be asked for one set at a time ([`Recorder::set`](super::Recorder::set)). The sets then differ by
/// moments, which does not matter to readers of metrics.
#[derive(Clone, Default)]
pub struct Snapshot {
    total: LabelFigures,
    labels: BTreeMap<Label, LabelFigures>,
    over_cap: u64,
}

impl Snapshot {
    /// Creates a snapshot with no labels.
    #[must_use]
    pub fn new() -> Snapshot {
        Snapshot::default()
    }

    /// Adds the number of calls of one core that got no label of their own.
    pub fn add_over_cap(&mut self, over_cap: u64) {
        self.over_cap += over_cap;
    }

    /// Adds one core's figures of one label, and the deadline of its calls. All cores compute the same deadline when
    /// asked at the same time.
    pub fn add_label(&mut self, label: &Label, set: &LabelSet, deadline: Option<Deadline>) {
        self.total.add(set);
        let figures = self.labels.entry(label.clone()).or_default();
        figures.add(set);
        figures.deadline = deadline.or(figures.deadline);
    }

    /// Adds another snapshot, such as that of another core.
    #[cfg(test)]
    pub fn merge(&mut self, other: &Snapshot) {
        self.total.merge(&other.total);
        for (label, figures) in &other.labels {
            self.labels.entry(label.clone()).or_default().merge(figures);
        }
        self.over_cap += other.over_cap;
    }

    /// The figures of all calls together.
    #[must_use]
    pub fn total(&self) -> &LabelFigures {
        &self.total
    }

    /// The figures by label, in order of route, method and tool.
    pub fn labels(&self) -> impl Iterator<Item = (&Label, &LabelFigures)> {
        self.labels.iter()
    }

    /// The figures by route, each the sum of its labels.
    #[must_use]
    pub fn routes(&self) -> BTreeMap<&str, LabelFigures> {
        let mut routes: BTreeMap<&str, LabelFigures> = BTreeMap::new();
        for (label, figures) in &self.labels {
            routes.entry(&label.route).or_default().merge(figures);
        }
        routes
    }

    /// How many calls got no label of their own.
    #[must_use]
    pub fn over_cap(&self) -> u64 {
        self.over_cap
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::latency::{CallPhases, EdgeTimes, LatencySettings, Recorder};

    fn call(ms: u64) -> CallPhases {
        let total = Duration::from_millis(ms);
        CallPhases::split(EdgeTimes { edge: Duration::ZERO, total, total_last: None, ..EdgeTimes::default() }, None)
    }

    fn core(tools: &[(&str, u64)]) -> Snapshot {
        let mut recorder = Recorder::new(LatencySettings { labels_per_route_max: 2, ..LatencySettings::default() });
        for (tool, ms) in tools {
            let label = recorder.label("r", "tools/call", tool);
            recorder.record(label, &call(*ms), Outcome::Ok);
        }
        recorder.snapshot()
    }

    #[test]
    fn cores_are_put_together_by_label() {
        let mut snapshot = core(&[("a", 1), ("b", 2), ("c", 3)]);
        snapshot.merge(&core(&[("b", 40), ("a", 50)]));

        let counts: Vec<_> = snapshot.labels().map(|(l, f)| (l.method.as_ref(), l.tool.as_ref(), f.calls())).collect();
        assert_eq!(counts, [("(other)", "", 1), ("tools/call", "a", 2), ("tools/call", "b", 2)]);
        assert_eq!(snapshot.over_cap(), 1);
        assert_eq!(snapshot.total().calls(), 5);
        assert_eq!(snapshot.total().phase(Phase::Total).max(), Duration::from_millis(50));

        let routes = snapshot.routes();
        assert_eq!(routes.len(), 1);
        assert_eq!(routes["r"].calls(), 5);
        assert_eq!(routes["r"].phase(Phase::Total).sum(), snapshot.total().phase(Phase::Total).sum());
    }

    #[test]
    fn asking_set_by_set_gives_the_same_as_asking_at_once() {
        let mut recorder = Recorder::new(LatencySettings::default());
        for ms in 1..50 {
            let label = recorder.label("r", "tools/call", if ms % 3 == 0 { "a" } else { "b" });
            recorder.record(label, &call(ms), Outcome::Ok);
        }
        let mut by_set = Snapshot::new();
        for index in 0..recorder.sets() {
            let (label, set) = recorder.set(index).unwrap();
            by_set.add_label(&label.clone(), &set.clone(), None);
        }
        let at_once = recorder.snapshot();
        assert_eq!(by_set.total().calls(), at_once.total().calls());
        for ((label_a, a), (label_b, b)) in by_set.labels().zip(at_once.labels()) {
            assert_eq!(label_a, label_b);
            assert_eq!(a.phase(Phase::Total).quantile(0.95), b.phase(Phase::Total).quantile(0.95));
        }
    }
}
