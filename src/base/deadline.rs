use std::time::Duration;

use crate::base::GuardMode;

/// Within which limits the deadlines of calls are learned, and what becomes of calls that miss them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadlineTerms {
    /// What becomes of a call that misses its deadline.
    pub mode: GuardMode,
    /// The shortest deadline that calls may get.
    pub floor: Duration,
    /// The longest deadline, which is also that of calls of which too few were seen. It is enforced in each mode, up to the head
    /// of the answer.
    pub ceiling: Duration,
    /// The time limit of a call that reports progress, which extends its deadline.
    pub progress_max: Duration,
}

/// Terms of a route or a tool, where they differ from those above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeadlineOverrides {
    /// In place of [`DeadlineTerms::mode`].
    pub mode: Option<GuardMode>,
    /// In place of [`DeadlineTerms::floor`].
    pub floor: Option<Duration>,
    /// In place of [`DeadlineTerms::ceiling`].
    pub ceiling: Option<Duration>,
    /// In place of [`DeadlineTerms::progress_max`].
    pub progress_max: Option<Duration>,
}

impl DeadlineTerms {
    /// Whether calls that miss their deadline are cut.
    #[must_use]
    pub fn is_enforced(&self) -> bool {
        self.mode == GuardMode::Enforce
    }

    /// The terms with these in their place.
    #[must_use]
    pub fn with(self, own: &DeadlineOverrides) -> DeadlineTerms {
        DeadlineTerms {
            mode: own.mode.unwrap_or(self.mode),
            floor: own.floor.unwrap_or(self.floor),
            ceiling: own.ceiling.unwrap_or(self.ceiling),
            progress_max: own.progress_max.unwrap_or(self.progress_max),
        }
    }
}

#[cfg(feature = "internals")]
impl Default for DeadlineTerms {
    /// The defaults of the settings, for tests.
    fn default() -> DeadlineTerms {
        DeadlineTerms {
            mode: GuardMode::Observe,
            floor: Duration::from_secs(1),
            ceiling: Duration::from_secs(120),
            progress_max: Duration::from_secs(600),
        }
    }
}
