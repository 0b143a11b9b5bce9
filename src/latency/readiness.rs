use std::time::Duration;

use crate::base::Time;

/// How recent the proof that the whole path works must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadinessSettings {
    /// How long a successful call or probe counts as proof, in milliseconds.
    pub fresh_for_ms: u64,
}

impl Default for ReadinessSettings {
    fn default() -> ReadinessSettings {
        ReadinessSettings { fresh_for_ms: 30_000 }
    }
}

/// Why a role is not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// The role is shutting down.
    #[error("draining: calls in flight are being finished, new ones belong elsewhere")]
    Draining,
    /// No call or probe has ever gone through.
    #[error("no call or probe has gone through the whole path yet; is a connector linked and its upstream up?")]
    NeverPassed,
    /// The most recent call or probe failed.
    #[error("the last probe failed {ago:?} ago; see GET /v1/status for the links and the log for the cause")]
    Failed {
        /// Time since that probe failed.
        ago: Duration,
    },
    /// The last successful call or probe is too old.
    #[error("the last call or probe went through {ago:?} ago, longer than {limit:?}")]
    Stale {
        /// Time since the last call or probe that went through.
        ago: Duration,
        /// How long a proof counts.
        limit: Duration,
    },
}

/// Remembers when the whole path (edge, link, connector, upstream and back) last worked.
///
/// Real calls count as proof, so that a busy tunnel needs no probe.
#[derive(Clone, Copy, Debug)]
pub struct Readiness {
    fresh_for: Duration,
    passed: Option<Time>,
    failed: Option<Time>,
    draining: bool,
}

impl Readiness {
    /// Creates a state that is not ready until a call or probe goes through.
    #[must_use]
    pub const fn new(settings: ReadinessSettings) -> Readiness {
        let fresh_for = Duration::from_millis(settings.fresh_for_ms);
        Readiness { fresh_for, passed: None, failed: None, draining: false }
    }

    /// Records that a call or probe went through the whole path at `when`. Ignored if a later one is known.
    pub fn on_passed(&mut self, when: Time) {
        self.passed = self.passed.max(Some(when));
    }

    /// Records that a call or probe failed on the path at `when`. Calls that the agent gave up are not passed here.
    pub fn on_failed(&mut self, when: Time) {
        self.failed = self.failed.max(Some(when));
    }

    /// Records that shutdown began. It cannot be undone.
    pub fn on_draining(&mut self) {
        self.draining = true;
    }

    /// Whether a probe should be sent: there is no proof, a later call failed, or half of the proof's lifetime has
    /// passed.
    #[must_use]
    pub fn is_probe_due(&self, now: Time) -> bool {
        match self.check(now) {
            Err(NotReady::Draining) => false,
            Err(_) => true,
            Ok(age) => age >= self.fresh_for / 2,
        }
    }

    /// The age of the proof, if the role is ready.
    ///
    /// # Errors
    ///
    /// The reason why it is not ready.
    pub fn check(&self, now: Time) -> Result<Duration, NotReady> {
        if self.draining {
            return Err(NotReady::Draining);
        }
        if let Some(failed) = self.failed.filter(|failed| self.passed.is_none_or(|passed| *failed > passed)) {
            return Err(NotReady::Failed { ago: now - failed });
        }
        let ago = now - self.passed.ok_or(NotReady::NeverPassed)?;
        if ago > self.fresh_for { Err(NotReady::Stale { ago, limit: self.fresh_for }) } else { Ok(ago) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Time {
        Time::from_nanos(s * 1_000_000_000)
    }

    const fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn readiness_follows_recent_successes() {
        let mut ready = Readiness::new(ReadinessSettings { fresh_for_ms: 30_000 });
        assert_eq!(ready.check(at(100)), Err(NotReady::NeverPassed));
        assert!(ready.is_probe_due(at(100)));

        ready.on_passed(at(100));
        assert_eq!(ready.check(at(110)), Ok(secs(10)));
        assert!(!ready.is_probe_due(at(110)));
        assert!(ready.is_probe_due(at(115)));
        assert_eq!(ready.check(at(130)), Ok(secs(30)));
        assert_eq!(ready.check(at(131)), Err(NotReady::Stale { ago: secs(31), limit: secs(30) }));
    }

    #[test]
    fn a_failure_counts_until_something_passes_again() {
        let mut ready = Readiness::new(ReadinessSettings::default());
        ready.on_failed(at(1));
        assert_eq!(ready.check(at(3)), Err(NotReady::Failed { ago: secs(2) }));
        ready.on_passed(at(4));
        ready.on_passed(at(2));
        assert_eq!(ready.check(at(5)), Ok(secs(1)));
        ready.on_failed(at(6));
        assert_eq!(ready.check(at(6)), Err(NotReady::Failed { ago: Duration::ZERO }));
    }

    #[test]
    fn draining_is_final_and_needs_no_probe() {
        let mut ready = Readiness::new(ReadinessSettings::default());
        ready.on_draining();
        ready.on_passed(at(1));
        assert_eq!(ready.check(at(1)), Err(NotReady::Draining));
        assert!(!ready.is_probe_due(at(1)));
    }
}
