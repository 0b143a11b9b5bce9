use std::time::Duration;

use crate::base::GuardMode;

/// When a breaker opens, for how long, and whether it refuses calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerTerms {
    /// Whether it counts or refuses calls while it is open.
    pub mode: GuardMode,
    /// It opens when this percentage of the calls fail.
    pub failed_percent: u32,
    /// It opens when this percentage of the calls fail or miss their deadline.
    pub slow_percent: u32,
    /// It does not open before this many calls were seen.
    pub calls_min: u32,
    /// How long it is open before calls are tried, plus or minus a fifth.
    pub open_for: Duration,
}

/// Terms that a route or a tool overrides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BreakerOverrides {
    /// Replaces [`BreakerTerms::mode`], if set.
    pub mode: Option<GuardMode>,
}

impl BreakerTerms {
    /// Whether calls are refused while a breaker is open.
    #[must_use]
    pub fn is_enforced(&self) -> bool {
        self.mode == GuardMode::Enforce
    }

    /// The terms with these overrides.
    #[must_use]
    pub fn with(self, own: &BreakerOverrides) -> BreakerTerms {
        BreakerTerms { mode: own.mode.unwrap_or(self.mode), ..self }
    }
}

impl Default for BreakerTerms {
    /// The defaults of the settings.
    fn default() -> BreakerTerms {
        BreakerTerms {
            mode: GuardMode::Observe,
            failed_percent: 50,
            slow_percent: 80,
            calls_min: 10,
            open_for: Duration::from_secs(5),
        }
    }
}
