use std::time::Duration;

use crate::base::Time;

/// How fresh the proof must be that the whole path works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadinessSettings {
    /// A call or probe that went through longer ago than this proves nothing any more.
    pub fresh_for_ms: u64,
}

impl Default for ReadinessSettings {
    fn default() -> ReadinessSettings {
        ReadinessSettings { fresh_for_ms: 30_000 }
    }
}

/// Why a role does not call itself ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// It is shutting down.
    #[error("draining: calls in flight are being finished, new ones belong elsewhere")]
    Draining,
    /// No call or probe has ever gone through.
    #[error("no call or probe has gone through the whole path yet; is a connector linked and its upstream up?")]
    NeverPassed,
    /// The last one that was tried failed.
    #[error("the last probe failed {ago:?} ago; see GET /v1/status for the links and the log for the cause")]
    Failed {
        /// Time since that probe failed.
        ago: Duration,
    },
    /// The last one that went through did so too long ago.
    #[error("the last call or probe went through {ago:?} ago, longer than {limit:?}")]
    Stale {
        /// Time since the last call or probe that went through.
        ago: Duration,
        /// How long a proof is good for.
        limit: Duration,
    },
}

/// Remembers when the whole path (edge, link, connector, upstream and back) was last seen to work.
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
    /// Not ready until something goes through.
    #[must_use]
    pub const fn new(settings: ReadinessSettings) -> Readiness {
        let fresh_for = Duration::from_millis(settings.fresh_for_ms);
        Readiness { fresh_for, passed: None, failed: None, draining: false }
    }

    /// A call or probe went through the whole path at `when`; an older proof than the one known changes nothing.
    pub fn on_passed(&mut self, when: Time) {
        self.passed = self.passed.max(Some(when));
    }

    /// A call or probe was lost on the path at `when` (not one that the agent gave up).
    pub fn on_failed(&mut self, when: Time) {
        self.failed = self.failed.max(Some(when));
    }

    /// Shut-down began; there is no way back.
    pub fn on_draining(&mut self) {
        self.draining = true;
    }

    /// Whether a probe is worth sending: the proof is missing, contradicted, or past half its time.
    #[must_use]
    pub fn is_probe_due(&self, now: Time) -> bool {
        match self.check(now) {
            Err(NotReady::Draining) => false,
            Err(_) => true,
            Ok(age) => age >= self.fresh_for / 2,
        }
    }

    /// Ready, with the age of the proof.
    ///
    /// # Errors
    ///
    /// Says why not.
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
    fn ready_is_what_has_lately_been_seen_to_work() {
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
