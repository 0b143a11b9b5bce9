//! A call's time, taken down.

use std::hint::black_box;
use std::time::Duration;

use adit::base::Rng;
use adit::latency::{CallPhases, ConnectorTimes, EdgeTimes, Histogram, LatencySettings, Outcome, Recorder};

use super::Work;

/// Durations from a microsecond to a second, from a fixed seed.
fn durations() -> Vec<Duration> {
    let mut rng = Rng::new(1);
    (0..1024).map(|_| Duration::from_nanos(1_000 << rng.below(20)) + Duration::from_nanos(rng.below(1_000))).collect()
}

/// One duration into one histogram.
pub(crate) fn duration() -> Work {
    let (mut histogram, mut durations) = (Histogram::new(), durations().into_iter().cycle());
    Box::new(move || {
        if let Some(duration) = durations.next() {
            histogram.record(black_box(duration));
        }
    })
}

/// A call with all its phases, under its route, method and tool and in the total.
pub(crate) fn call() -> Work {
    let (mut recorder, mut durations) = (Recorder::new(LatencySettings::default()), durations().into_iter().cycle());
    Box::new(move || {
        let Some(upstream) = durations.next() else { return };
        let us = Duration::from_micros;
        let total_last = Some(us(110) + upstream);
        let edge = EdgeTimes { edge: us(20), total: us(100) + upstream, total_last, ..EdgeTimes::default() };
        let connector =
            ConnectorTimes { connector: us(15), upstream_connect: None, upstream, upstream_last: Some(upstream) };
        let label = recorder.label(black_box("orders"), black_box("tools/call"), black_box("echo"));
        recorder.record(label, &CallPhases::split(edge, Some(connector)), Outcome::Ok);
    })
}
