//! The connector's status at one edge: whether it has a certificate, and until when.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::base::Time;

/// The connector's status at one edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdgeStatus {
    /// It is not known yet whether the edge requires a certificate, or the last certificate is no longer accepted.
    Unknown,
    /// The connector has a certificate of the edge.
    Certified {
        /// When the certificate has to be renewed.
        renew_at: Time,
        /// When the certificate expires.
        until: Time,
    },
    /// The edge has no authority: the secret is enough.
    Uncertified,
}

/// The status, shared by all cores. Each change has a number, so that the refusal of an old certificate does not discard its
/// successor.
pub(super) struct SharedStatus(Mutex<(u64, EdgeStatus)>);

impl Default for SharedStatus {
    fn default() -> SharedStatus {
        SharedStatus(Mutex::new((0, EdgeStatus::Unknown)))
    }
}

impl SharedStatus {
    pub(super) fn get(&self) -> (u64, EdgeStatus) {
        *self.lock()
    }

    pub(super) fn set(&self, status: EdgeStatus) {
        let mut current = self.lock();
        *current = (current.0 + 1, status);
    }

    /// The edge refused the certificate of change number `seen`. True if that was the latest, so that the status is now
    /// unknown.
    pub(super) fn invalidate(&self, seen: u64) -> bool {
        let mut current = self.lock();
        let changed = current.0 == seen && current.1 != EdgeStatus::Unknown;
        if changed {
            *current = (current.0 + 1, EdgeStatus::Unknown);
        }
        changed
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (u64, EdgeStatus)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EdgeStatus {
    /// A certificate that is valid for `lifetime` from `now` on, to be renewed after two thirds of it, less the fraction
    /// `early`, so that many connectors do not all renew at once.
    pub(super) fn certified(now: Time, lifetime: Duration, early: f64) -> EdgeStatus {
        let renew_after = lifetime.mul_f64(2.0 / 3.0 - early.clamp(0.0, RENEW_EARLY_MAX));
        EdgeStatus::Certified { renew_at: now + renew_after, until: now + lifetime }
    }
}

/// The most by which a certificate is renewed before two thirds of its lifetime, as a fraction of the lifetime.
pub(super) const RENEW_EARLY_MAX: f64 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_at_two_thirds_of_its_life_or_a_little_before() {
        let lifetime = Duration::from_secs(24 * 3600);
        for (early, hours) in [(0.0, 16.0), (0.05, 14.8), (1.0, 14.8)] {
            let EdgeStatus::Certified { renew_at, until } = EdgeStatus::certified(Time::ZERO, lifetime, early) else {
                panic!("it is certified")
            };
            assert!(((renew_at - Time::ZERO).as_secs_f64() / 3600.0 - hours).abs() < 0.001);
            assert_eq!(until - Time::ZERO, lifetime);
        }
    }

    #[test]
    fn a_refusal_counts_once_and_only_for_the_latest_certificate() {
        let status = SharedStatus::default();
        status.set(EdgeStatus::Uncertified);
        let (seen, _) = status.get();
        assert!(!status.invalidate(seen - 1));
        assert!(status.invalidate(seen));
        assert!(!status.invalidate(seen), "the status is unknown already");
        assert_eq!(status.get().1, EdgeStatus::Unknown);
    }
}
