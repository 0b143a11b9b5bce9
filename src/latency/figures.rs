use super::deadline::Deadline;
use super::label::Label;
use super::recorder::{LabelId, LabelSet, Recorder};
use crate::base::Time;

/// One answer to a request for the figures of a core.
#[derive(Clone)]
pub struct CoreFigures {
    /// The number of labels that have figures.
    pub labels: usize,
    /// How many calls got no label of their own.
    pub over_cap: u64,
    /// The requested set with its label; `None` if the index is past the last set.
    pub set: Option<(Label, LabelSet)>,
    /// The deadline of calls of that label that begin now, if they have one.
    pub deadline: Option<Deadline>,
}

impl Recorder {
    /// One set of this core's figures, by index.
    #[must_use]
    pub fn figures(&self, index: usize, now: Time) -> CoreFigures {
        let set = self.set(index).map(|(label, set)| (label.clone(), set.clone()));
        let terms = set.as_ref().and_then(|(_, set)| set.deadlines().terms);
        let deadline = terms.and_then(|terms| Some(self.deadline(LabelId::at(index)?, &terms, now)));
        CoreFigures { labels: self.sets(), over_cap: self.over_cap(), set, deadline }
    }
}
