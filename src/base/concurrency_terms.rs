use std::time::Duration;

use crate::base::GuardMode;

/// How many calls of one route may be in flight at one time, and what happens to further ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConcurrencyTerms {
    /// Whether further calls are only counted, or wait and are refused.
    pub mode: GuardMode,
    /// The lower bound of the learned limit.
    pub min: u32,
    /// The upper bound of the learned limit.
    pub max: u32,
    /// How many calls may wait.
    pub queue_max: u32,
    /// How long a call may wait.
    pub queue_time: Duration,
    /// The share of the places, in percent, that one agent may hold while other agents have calls; 100 does not
    /// restrict it.
    pub agent_share_percent: u32,
}

/// Terms that a route overrides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConcurrencyOverrides {
    /// Replaces [`ConcurrencyTerms::mode`], if set.
    pub mode: Option<GuardMode>,
    /// Replaces [`ConcurrencyTerms::max`], if set.
    pub max: Option<u32>,
}

impl ConcurrencyTerms {
    /// Whether calls beyond the limit wait, or are refused.
    #[must_use]
    pub fn is_enforced(&self) -> bool {
        self.mode == GuardMode::Enforce
    }

    /// The terms with these overrides.
    #[must_use]
    pub fn with(self, own: &ConcurrencyOverrides) -> ConcurrencyTerms {
        ConcurrencyTerms { mode: own.mode.unwrap_or(self.mode), max: own.max.unwrap_or(self.max), ..self }
    }
}

impl Default for ConcurrencyTerms {
    /// The defaults of the settings.
    fn default() -> ConcurrencyTerms {
        ConcurrencyTerms {
            mode: GuardMode::Off,
            min: 4,
            max: 1_000,
            queue_max: 64,
            queue_time: Duration::from_secs(1),
            agent_share_percent: 50,
        }
    }
}
