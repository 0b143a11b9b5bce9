use std::array;
use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;

/// The first status, and how many are counted.
const STATUS_MIN: usize = 100;
const STATUSES: usize = 500;

/// What the calls of all connections of a connector came to.
pub struct CloudflaredCounts {
    requests: AtomicU64,
    failed: AtomicU64,
    answers: [AtomicU64; STATUSES],
}

impl Default for CloudflaredCounts {
    fn default() -> CloudflaredCounts {
        let answers = array::from_fn(|_| AtomicU64::new(0));
        CloudflaredCounts { requests: AtomicU64::new(0), failed: AtomicU64::new(0), answers }
    }
}

impl CloudflaredCounts {
    /// How many calls the edges have opened.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// How many of them the connector has failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Each status with which calls were answered, and how often.
    pub fn answers(&self) -> impl Iterator<Item = (usize, u64)> {
        let counts = self.answers.iter().map(|count| count.load(Ordering::Relaxed));
        counts.enumerate().map(|(nth, count)| (STATUS_MIN + nth, count)).filter(|(_, count)| *count > 0)
    }

    pub(super) fn on_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn on_failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn on_answer(&self, status: StatusCode) {
        if let Some(count) = self.answers.get(usize::from(status.as_u16()).saturating_sub(STATUS_MIN)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}
