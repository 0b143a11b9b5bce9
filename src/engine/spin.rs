//! The decision whether to spin before parking.

use std::time::Duration;

/// A wait longer than this many budgets counts as this many.
const GAP_CAP: u32 = 16;
/// Spinning pays while the mean wait is below this many budgets: about one wait in a few then ends while spinning.
const WORTH_BELOW: u32 = 4;
/// A new wait has a weight of one in this many in the mean.
const MEMORY: u32 = 8;

/// Estimates from recent waits how long the next one will be.
pub(super) struct SpinEstimate {
    budget: Duration,
    gap_mean: Duration,
}

impl SpinEstimate {
    /// Spins for up to `budget`; never when it is zero.
    pub(super) fn new(budget: Duration) -> SpinEstimate {
        SpinEstimate { budget, gap_mean: budget }
    }

    /// How long to spin at most.
    pub(super) fn budget(&self) -> Duration {
        self.budget
    }

    /// Whether the next wait is likely enough to end while spinning.
    pub(super) fn worth_it(&self) -> bool {
        self.gap_mean < self.budget * WORTH_BELOW
    }

    /// Adds a wait to the mean.
    pub(super) fn waited(&mut self, gap: Duration) {
        let gap = gap.min(self.budget * GAP_CAP);
        self.gap_mean = (self.gap_mean * (MEMORY - 1) + gap) / MEMORY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_core_stops_spinning_and_a_busy_one_starts_again() {
        let mut spin = SpinEstimate::new(Duration::from_micros(50));
        assert!(spin.worth_it());
        (0..8).for_each(|_| spin.waited(Duration::from_secs(1)));
        assert!(!spin.worth_it());
        (0..16).for_each(|_| spin.waited(Duration::from_micros(20)));
        assert!(spin.worth_it());
    }

    #[test]
    fn no_budget_means_no_spinning() {
        assert!(!SpinEstimate::new(Duration::ZERO).worth_it());
    }
}
