//! Where QUIC is trusted: an edge at which only TCP has answered is dialled over TCP for a time.

use std::cell::Cell;
use std::time::Duration;

use crate::base::Time;

/// How long QUIC is left alone after it has failed while TCP has not. Each further failure doubles it.
const LEAVE_MIN: Duration = Duration::from_secs(60);
/// The longest time for which it is left alone.
const LEAVE_MAX: Duration = Duration::from_secs(3600);

/// What one core knows of QUIC at each edge.
pub(super) struct Transports(Vec<OneEdge>);

#[derive(Default)]
struct OneEdge {
    failures: Cell<u32>,
    /// Until when TCP alone is used.
    tcp_until: Cell<Time>,
}

impl Transports {
    pub(super) fn new(edges: usize) -> Transports {
        Transports((0..edges).map(|_| OneEdge::default()).collect())
    }

    /// QUIC has failed at an edge that TCP reaches. `random` is from 0 to 1, so that not all connectors try again at the same time.
    pub(super) fn on_quic_failed(&self, edge: usize, now: Time, random: f64) {
        let of = &self.0[edge];
        let failures = of.failures.get();
        of.failures.set(failures.saturating_add(1));
        let wait = LEAVE_MIN.saturating_mul(1 << failures.min(10)).min(LEAVE_MAX);
        of.tcp_until.set(now + wait.mul_f64(1.0 - random / 4.0));
    }

    /// QUIC has carried a link to the edge for a while.
    pub(super) fn on_quic_proven(&self, edge: usize) {
        self.0[edge].failures.set(0);
        self.0[edge].tcp_until.set(Time::ZERO);
    }

    /// Until when TCP alone is used; a time in the past if QUIC may be.
    pub(super) fn tcp_until(&self, edge: usize) -> Time {
        self.0[edge].tcp_until.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quic_is_left_alone_for_longer_each_time_until_it_is_proven() {
        let transports = Transports::new(2);
        let now = Time::from_nanos(1);
        for (random, wait) in [(0.0, 60), (0.0, 120), (1.0, 180), (0.0, 480)] {
            transports.on_quic_failed(1, now, random);
            assert_eq!(transports.tcp_until(1), now + Duration::from_secs(wait));
        }
        for _ in 0..40 {
            transports.on_quic_failed(1, now, 0.0);
        }
        assert_eq!(transports.tcp_until(1), now + LEAVE_MAX);
        assert_eq!(transports.tcp_until(0), Time::ZERO);
        transports.on_quic_proven(1);
        assert_eq!(transports.tcp_until(1), Time::ZERO);
        transports.on_quic_failed(1, now, 0.0);
        assert_eq!(transports.tcp_until(1), now + LEAVE_MIN);
    }
}
