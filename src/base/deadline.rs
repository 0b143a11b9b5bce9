use std::time::Duration;

use crate::base::GuardMode;

/// The limits within which deadlines are learned, and what happens to calls that miss them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadlineTerms {
    /// What happens to a call that misses its deadline.
    pub mode: GuardMode,
    /// The shortest deadline that calls may get.
    pub floor: Duration,
    /// The longest deadline, which also applies when too few calls were seen. It is enforced in every mode, until the
    /// head of the response.
    pub ceiling: Duration,
    /// The time limit of a call that reports progress. Such reports extend its deadline.
    pub progress_max: Duration,
}

/// Terms that a route or a tool overrides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeadlineOverrides {
    /// Replaces [`DeadlineTerms::mode`], if set.
    pub mode: Option<GuardMode>,
    /// Replaces [`DeadlineTerms::floor`], if set.
    pub floor: Option<Duration>,
    /// Replaces [`DeadlineTerms::ceiling`], if set.
    pub ceiling: Option<Duration>,
    /// Replaces [`DeadlineTerms::progress_max`], if set.
    pub progress_max: Option<Duration>,
}

impl DeadlineTerms {
    /// Whether calls that miss their deadline are ended.
    #[must_use]
    pub fn is_enforced(&self) -> bool {
        self.mode == GuardMode::Enforce
    }

    /// The terms with these overrides.
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

impl Default for DeadlineTerms {
    /// The defaults of the settings.
    fn default() -> DeadlineTerms {
        DeadlineTerms {
            mode: GuardMode::Observe,
            floor: Duration::from_secs(1),
            ceiling: Duration::from_secs(120),
            progress_max: Duration::from_secs(600),
        }
    }
}
