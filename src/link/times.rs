//! The times of a call, as a link reports them.

use std::time::Duration;

use crate::latency::ConnectorTimes;
use crate::wire::mux::{Phases, Stage};

/// The report of these times. It is the final one if the time of the upstream's last byte is known.
pub(super) fn report_of(times: &ConnectorTimes) -> Phases {
    let ns = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    Phases {
        stage: if times.upstream_last.is_some() { Stage::End } else { Stage::Head },
        connector_ns: ns(times.connector),
        upstream_connect_ns: times.upstream_connect.map_or(0, ns),
        upstream_first_ns: ns(times.upstream),
        upstream_last_ns: times.upstream_last.map_or(0, ns),
    }
}

/// The times that a report contains.
pub(super) fn times_of(report: &Phases) -> ConnectorTimes {
    let some = |ns: u64| (ns > 0).then(|| Duration::from_nanos(ns));
    ConnectorTimes {
        connector: Duration::from_nanos(report.connector_ns),
        upstream_connect: some(report.upstream_connect_ns),
        upstream: Duration::from_nanos(report.upstream_first_ns),
        upstream_last: some(report.upstream_last_ns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_the_same_on_both_sides_and_the_last_byte_makes_them_final() {
        let us = Duration::from_micros;
        let at_head = ConnectorTimes { connector: us(1), upstream_connect: None, upstream: us(2), upstream_last: None };
        let at_end = ConnectorTimes { upstream_connect: Some(us(4)), upstream_last: Some(us(3)), ..at_head };
        for (times, stage) in [(at_head, Stage::Head), (at_end, Stage::End)] {
            let report = report_of(&times);
            assert_eq!((report.stage, times_of(&report)), (stage, times));
        }
    }
}
