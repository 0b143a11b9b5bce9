//! How this connector stands with one edge: whether it has a certificate, and until when.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::base::Time;

/// How this connector stands with one edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is not known yet whether the edge wants a certificate, or one that it gave is not good any more.
    Unknown,
    /// There is a certificate.
    Certified {
        /// When the next one is asked for.
        renew_at: Time,
        /// When it ends.
        until: Time,
    },
    /// The edge has no authority: the secret is enough.
    Uncertified,
}

/// The standing, as all cores share it. Each change has a number, so that a doubt about an old certificate is not taken for
/// one about its successor.
pub(super) struct SharedStanding(Mutex<(u64, Standing)>);

impl Default for SharedStanding {
    fn default() -> SharedStanding {
        SharedStanding(Mutex::new((0, Standing::Unknown)))
    }
}

impl SharedStanding {
    pub(super) fn get(&self) -> (u64, Standing) {
        *self.lock()
    }

    pub(super) fn set(&self, standing: Standing) {
        let mut current = self.lock();
        *current = (current.0 + 1, standing);
    }

    /// The edge did not take what was shown at change number `seen`. True when that was the latest, so that it is not known
    /// any more how things stand.
    pub(super) fn doubt(&self, seen: u64) -> bool {
        let mut current = self.lock();
        let news = current.0 == seen && current.1 != Standing::Unknown;
        if news {
            *current = (current.0 + 1, Standing::Unknown);
        }
        news
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (u64, Standing)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standing {
    /// A certificate that is good for `lifetime` from `now` on, to be renewed when two thirds of that are over; a little
    /// earlier by `early`, a fraction, so that many connectors do not all come at once.
    pub(super) fn certified(now: Time, lifetime: Duration, early: f64) -> Standing {
        let renew_after = lifetime.mul_f64(2.0 / 3.0 - early.clamp(0.0, RENEW_EARLY_MAX));
        Standing::Certified { renew_at: now + renew_after, until: now + lifetime }
    }
}

/// The part of its life by which a certificate is renewed before two thirds of it are over, at most.
pub(super) const RENEW_EARLY_MAX: f64 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_at_two_thirds_of_its_life_or_a_little_before() {
        let lifetime = Duration::from_secs(24 * 3600);
        for (early, hours) in [(0.0, 16.0), (0.05, 14.8), (1.0, 14.8)] {
            let Standing::Certified { renew_at, until } = Standing::certified(Time::ZERO, lifetime, early) else {
                panic!("it is certified")
            };
            assert!(((renew_at - Time::ZERO).as_secs_f64() / 3600.0 - hours).abs() < 0.001);
            assert_eq!(until - Time::ZERO, lifetime);
        }
    }

    #[test]
    fn a_doubt_counts_once_and_only_about_what_it_was_of() {
        let standing = SharedStanding::default();
        standing.set(Standing::Uncertified);
        let (seen, _) = standing.get();
        assert!(!standing.doubt(seen - 1));
        assert!(standing.doubt(seen));
        assert!(!standing.doubt(seen), "it is known already");
        assert_eq!(standing.get().1, Standing::Unknown);
    }
}
