use super::recorder::{Label, LabelSet, Recorder};

/// A part of the figures of one core.
#[derive(Clone)]
pub struct CoreFigures {
    /// The number of labels that have figures.
    pub labels: usize,
    /// How many calls got no label of their own.
    pub over_cap: u64,
    /// The requested set, with its label unless it is the total; `None` beyond the last one.
    pub set: Option<(Option<Label>, LabelSet)>,
}

impl Recorder {
    /// One set of this core's figures: the total at index 0, then one set for each label.
    #[must_use]
    pub fn figures(&self, index: usize) -> CoreFigures {
        let set = match index.checked_sub(1) {
            None => Some((None, self.total().clone())),
            Some(index) => self.set(index).map(|(label, set)| (Some(label.clone()), set.clone())),
        };
        CoreFigures { labels: self.sets(), over_cap: self.over_cap(), set }
    }
}
