use super::recorder::{Label, LabelSet, Recorder};

/// A part of the figures of one core.
#[derive(Clone)]
pub struct CoreFigures {
    /// The number of labels that have figures.
    pub labels: usize,
    /// How many calls got no label of their own.
    pub over_cap: u64,
    /// The requested set with its label; `None` beyond the last one.
    pub set: Option<(Label, LabelSet)>,
}

impl Recorder {
    /// One set of this core's figures.
    #[must_use]
    pub fn figures(&self, index: usize) -> CoreFigures {
        let set = self.set(index).map(|(label, set)| (label.clone(), set.clone()));
        CoreFigures { labels: self.sets(), over_cap: self.over_cap(), set }
    }
}
