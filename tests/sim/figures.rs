//! Asks a core for its figures, one label after another.

use adit::latency::{CoreFigures, LabelSet, Outcome};

/// The sets of all labels.
pub(crate) fn sets(ask: impl FnMut(usize) -> CoreFigures) -> Vec<LabelSet> {
    (0..).map(ask).map_while(|figures| figures.set).map(|(_, set)| set).collect()
}

/// How many calls ended in each way that occurred.
pub(crate) fn outcomes(ask: impl FnMut(usize) -> CoreFigures) -> Vec<(Outcome, u64)> {
    let sets = sets(ask);
    let count = |outcome| sets.iter().map(|set| set.outcome(outcome)).sum();
    let counts = Outcome::ALL.into_iter().map(|outcome| (outcome, count(outcome)));
    counts.filter(|(_, count)| *count > 0).collect()
}
