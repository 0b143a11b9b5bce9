//! The clock of the drivers that use the kernel.

use std::sync::OnceLock;
use std::time::Instant;

use crate::base::{Clock, Time};

/// The system's monotonic clock. It starts at its first use in the process and is the same for all threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct MonotonicClock;

impl Clock for MonotonicClock {
    fn now(&self) -> Time {
        static ORIGIN: OnceLock<Instant> = OnceLock::new();
        Time::ZERO + ORIGIN.get_or_init(Instant::now).elapsed()
    }
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
