use super::recorder::{Label, LabelSet, Recorder};

/// Some of the times of calls on one core.
#[derive(Clone)]
pub struct CoreFigures {
    /// How many labels have figures.
    pub labels: usize,
    /// How many times a call came that got no label of its own.
    pub over_cap: u64,
    /// The set that was asked for, and its label unless it is the total; none beyond the last one.
    pub set: Option<(Option<Label>, LabelSet)>,
}

impl Recorder {
    /// One set of this core's: the total at 0, then those of each label.
    #[must_use]
    pub fn figures(&self, index: usize) -> CoreFigures {
        let set = match index.checked_sub(1) {
            None => Some((None, self.total().clone())),
            Some(index) => self.set(index).map(|(label, set)| (Some(label.clone()), set.clone())),
        };
        CoreFigures { labels: self.sets(), over_cap: self.over_cap(), set }
    }
}
