//! The clock of the drivers that use the kernel.

use std::sync::OnceLock;
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

use crate::base::{Clock, Time};

/// The system's monotonic clock. It starts at its first use in the process and is the same for all threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct MonotonicClock;

impl Clock for MonotonicClock {
    fn now(&self) -> Time {
        static ORIGIN: OnceLock<u64> = OnceLock::new();
        let now = monotonic_ns();
        // Another thread may have set the origin to a later time.
        Time::from_nanos(now.saturating_sub(*ORIGIN.get_or_init(|| now)))
    }
}

/// The instant that stands for [`Time::ZERO`] towards libraries that count in instants. They use only differences.
#[must_use]
pub fn instant_of_zero() -> Instant {
    static ZERO: OnceLock<Instant> = OnceLock::new();
    *ZERO.get_or_init(Instant::now)
}

/// The clock of `std::time::Instant`, in nanoseconds. It is read directly, because `Instant` gives a difference as a
/// `Duration`, which would have to be converted back for every stamp of a call.
fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_one_origin() {
        let before = MonotonicClock.now();
        let between = std::thread::spawn(|| MonotonicClock.now()).join().unwrap();
        let after = MonotonicClock.now();
        assert!(before <= between && between <= after);
    }
}
