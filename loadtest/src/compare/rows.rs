//! The rows of a report: medians over the rounds, the difference to `direct`, ratios.

use serde::{Deserialize, Serialize};

use super::peer::{ADIT, Cover, DIRECT, Kind, Peer};
use super::series::{Figures, Series, Workload, median};
use crate::latencies::Latencies;

/// A CPU with a higher utilisation counts as full.
const CPU_FULL: f64 = 0.97;

/// The result of a peer under a workload. Times in microseconds; medians over the rounds.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub(crate) struct Row {
    /// The name of the peer.
    pub(crate) peer: String,
    /// Calls in flight of a closed loop, or connections of an open loop.
    pub(crate) connections: usize,
    /// Bytes of each request's body, and of its answer's.
    pub(crate) payload: u64,
    /// Good calls per second.
    pub(crate) rps: Option<f64>,
    /// The median latency, from the planned start of each call.
    pub(crate) p50_us: Option<f64>,
    /// The 95th percentile of the latency.
    pub(crate) p95_us: Option<f64>,
    /// The 99th percentile of the latency.
    pub(crate) p99_us: Option<f64>,
    /// The 99.9th percentile of the latency.
    pub(crate) p999_us: Option<f64>,
    /// The difference to a direct call in the same round, at the median.
    pub(crate) added_p50_us: Option<f64>,
    /// The same difference at the 95th percentile.
    pub(crate) added_p95_us: Option<f64>,
    /// CPU time of all processes of the peer per call.
    pub(crate) cpu_us_per_call: Option<f64>,
    /// The maximum resident memory of all processes of the peer.
    pub(crate) rss_kib: Option<f64>,
    /// The generator's lag at its 99th percentile.
    pub(crate) generator_lag_p99_us: Option<f64>,
    /// Calls in flight on average, by Little's law.
    pub(crate) in_flight: Option<f64>,
    /// Why these figures do not count; none if they do.
    pub(crate) void: Option<String>,
    /// The first error of the peer; its figures are those of the good rounds.
    pub(crate) error: Option<String>,
    /// The number of rounds in the figures.
    pub(crate) rounds: usize,
    /// The lowest median latency of a round.
    pub(crate) p50_us_min: Option<f64>,
    /// The highest median latency of a round.
    pub(crate) p50_us_max: Option<f64>,
    /// The number of calls in the figures.
    pub(crate) calls: u64,
    /// The number of failed calls in all rounds.
    pub(crate) failed_calls: u64,
    /// The utilisation of the CPUs of generator and upstream, from 0 to 1; none without pinning. Near 1, they limit the
    /// calls per second, and not the peer.
    pub(crate) load_cpu_busy: Option<f64>,
    /// The utilisation of the peer's CPUs, from 0 to 1.
    pub(crate) peer_cpu_busy: Option<f64>,
    /// CPU time that the hypervisor took in the worst round (steal), in percent.
    pub(crate) steal_percent: Option<f64>,
    /// Whether the agent connects with TLS.
    pub(crate) agent_tls: bool,
    /// Whether the hop between the peer's two processes is encrypted.
    pub(crate) link_encrypted: bool,
    /// `baseline`, `hops` or `tunnel`.
    pub(crate) kind: Kind,
    /// This peer's figures divided by those of `direct`, in the same round.
    pub(crate) to_direct: Ratios,
    /// This peer's figures divided by those of `adit`, in the same round.
    pub(crate) to_adit: Ratios,
    /// Shares of calls with the latency that they did not exceed, over all rounds.
    pub(crate) curve: Vec<(f64, f64)>,
}

/// Figures divided by those of another peer; medians over the rounds.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub(crate) struct Ratios {
    /// Calls per second: above 1 is more than the other.
    pub(crate) rps: Option<f64>,
    /// Median latency: above 1 is slower than the other.
    pub(crate) p50: Option<f64>,
    /// The difference to `direct` at the median.
    pub(crate) added_p50: Option<f64>,
    /// The difference to `direct` at the 95th percentile.
    pub(crate) added_p95: Option<f64>,
    /// CPU time per call.
    pub(crate) cpu: Option<f64>,
}

impl Row {
    /// The row of one peer. `direct` and `adit` are their series under the same workload.
    pub(crate) fn new(peer: &Peer, workload: Workload, series: &Series, direct: &Series, adit: &Series) -> Self {
        let (used, void) = series.used();
        let all = |pick: fn(&Figures) -> Option<f64>| median(used.iter().filter_map(|sample| pick(&sample.figures)));
        let p50s = || used.iter().map(|sample| sample.figures.p50_us);
        let mut latencies = Latencies::new();
        used.iter().for_each(|sample| latencies.add(&sample.latencies));
        let is_direct = peer.name == DIRECT;
        let added = |pick: fn(&Figures) -> f64| {
            if is_direct { None } else { series.paired(direct, |own, base| Some(pick(own) - pick(base))).map(tenth) }
        };
        Self {
            peer: peer.name.clone(),
            connections: workload.connections,
            payload: workload.payload,
            rps: all(|f| Some(f.rps)).map(tenth),
            p50_us: all(|f| Some(f.p50_us)).map(tenth),
            p95_us: all(|f| Some(f.p95_us)).map(tenth),
            p99_us: all(|f| Some(f.p99_us)).map(tenth),
            p999_us: all(|f| Some(f.p999_us)).map(tenth),
            added_p50_us: added(|f| f.p50_us),
            added_p95_us: added(|f| f.p95_us),
            cpu_us_per_call: all(|f| f.cpu_us_per_call).map(tenth),
            rss_kib: all(|f| f.rss_kib),
            generator_lag_p99_us: all(|f| Some(f.generator_lag_p99_us)).map(tenth),
            in_flight: all(|f| Some(f.in_flight)).map(tenth),
            void,
            error: series.error(),
            rounds: used.len(),
            p50_us_min: p50s().reduce(f64::min).map(tenth),
            p50_us_max: p50s().reduce(f64::max).map(tenth),
            calls: latencies.count(),
            failed_calls: series.samples.iter().map(|sample| sample.failed).sum(),
            load_cpu_busy: median(used.iter().filter_map(|sample| sample.machine.load_cpu_busy)).map(hundredth),
            peer_cpu_busy: median(used.iter().filter_map(|sample| sample.machine.peer_cpu_busy)).map(hundredth),
            steal_percent: used.iter().map(|sample| sample.machine.steal_percent).reduce(f64::max).map(hundredth),
            agent_tls: peer.file.agent_tls,
            link_encrypted: peer.file.link_encrypted,
            kind: peer.file.kind,
            to_direct: if is_direct { Ratios::default() } else { Ratios::of(series, direct, None) },
            to_adit: if peer.name == ADIT {
                Ratios::default()
            } else {
                Ratios::of(series, adit, (!is_direct).then_some(direct))
            },
            curve: if latencies.count() == 0 { Vec::new() } else { latencies.curve() },
        }
    }

    /// Whether its calls per second were limited by generator and upstream, which had no CPU left.
    pub(crate) fn is_bounded_by_load(&self) -> bool {
        self.load_cpu_busy.is_some_and(|busy| busy >= CPU_FULL)
    }

    /// Whether its figures may be compared with those of others.
    #[must_use]
    pub(crate) fn counts(&self) -> bool {
        self.void.is_none() && self.p50_us.is_some()
    }

    pub(crate) fn cover(&self) -> Cover {
        Cover::of(self.agent_tls, self.link_encrypted)
    }
}

impl Ratios {
    /// The ratios of two series. Without `direct` there are no differences.
    fn of(series: &Series, other: &Series, direct: Option<&Series>) -> Self {
        let ratio = |pick: fn(&Figures) -> Option<f64>| {
            series.paired(other, |own, base| divide(pick(own)?, pick(base)?)).map(hundredth)
        };
        let added = |pick: fn(&Figures) -> f64| {
            let direct = direct?;
            let values = series.used().0.into_iter().filter_map(|sample| {
                let base = pick(direct.in_round(sample.round)?);
                let other = pick(other.in_round(sample.round)?);
                divide(pick(&sample.figures) - base, other - base)
            });
            median(values).map(hundredth)
        };
        Self {
            rps: ratio(|f| Some(f.rps)),
            p50: ratio(|f| Some(f.p50_us)),
            added_p50: added(|f| f.p50_us),
            added_p95: added(|f| f.p95_us),
            cpu: ratio(|f| f.cpu_us_per_call),
        }
    }
}

/// None if the divisor is not above zero, because the ratio has no meaning.
fn divide(dividend: f64, divisor: f64) -> Option<f64> {
    (divisor > 0.0).then(|| dividend / divisor)
}

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn hundredth(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::series::{Machine, Sample};
    use super::*;

    fn sample(round: usize, p50_us: f64, cpu: Option<f64>, void: Option<&str>) -> Sample {
        let mut latencies = Latencies::new();
        latencies.record(Duration::from_nanos((p50_us * 1e3) as u64));
        let figures =
            Figures { rps: 1e6 / p50_us, p50_us, p95_us: p50_us * 2.0, cpu_us_per_call: cpu, ..Figures::default() };
        let void = void.map(str::to_owned);
        Sample { round, figures, latencies, void, machine: Machine::default(), failed: 0, first_failure: None }
    }

    fn series(p50s_us: &[f64]) -> Series {
        let samples =
            p50s_us.iter().enumerate().map(|(round, p50_us)| sample(round, *p50_us, Some(p50_us / 10.0), None));
        Series { samples: samples.collect(), error: None }
    }

    fn row(name: &str, own: &Series, direct: &Series, adit: &Series) -> Row {
        let peer = Peer::named([name]).expect("a known peer").remove(0);
        Row::new(&peer, Workload { payload: 1024, connections: 1 }, own, direct, adit)
    }

    #[test]
    fn differences_are_computed_within_each_round() {
        // The machine slowed down for all peers: 50, 60 and 70 were added in the three rounds.
        let (direct, adit) = (series(&[100.0, 200.0, 300.0]), series(&[150.0, 260.0, 370.0]));
        let shown = row("adit", &adit, &direct, &adit);
        assert_eq!((shown.p50_us, shown.added_p50_us, shown.added_p95_us), (Some(260.0), Some(60.0), Some(120.0)));
        assert_eq!((shown.p50_us_min, shown.p50_us_max, shown.rounds), (Some(150.0), Some(370.0), 3));
        assert_eq!(shown.to_direct.p50, Some(1.3));
        assert_eq!(shown.to_adit, Ratios::default());

        let shown = row("rathole", &series(&[200.0, 320.0, 440.0]), &direct, &adit);
        assert_eq!(shown.to_adit.added_p50, Some(2.0));
        assert_eq!(shown.to_adit.cpu, Some(1.23));
        let shown = row("direct", &direct, &direct, &adit);
        assert_eq!((shown.added_p50_us, shown.to_direct), (None, Ratios::default()));
        assert_eq!((shown.to_adit.p50, shown.to_adit.added_p50), (Some(0.77), None));
    }

    #[test]
    fn without_direct_nothing_is_added() {
        let shown = row("adit", &series(&[150.0]), &Series::default(), &series(&[150.0]));
        assert_eq!((shown.p50_us, shown.added_p50_us), (Some(150.0), None));
        assert_eq!(shown.to_direct, Ratios::default());
    }

    #[test]
    fn a_void_round_does_not_count_and_too_many_make_a_row_void() {
        let direct = series(&[100.0, 100.0, 100.0]);
        let mut own = series(&[150.0, 160.0, 900.0]);
        own.samples[2].void = Some("late".to_owned());
        let shown = row("adit", &own, &direct, &own);
        assert_eq!((shown.void.as_deref(), shown.p50_us, shown.rounds), (None, Some(155.0), 2));
        own.samples[1].void = Some("later".to_owned());
        let shown = row("adit", &own, &direct, &own);
        assert_eq!((shown.void.as_deref(), shown.rounds, shown.counts()), (Some("later"), 3, false));
    }

    #[test]
    fn a_peer_that_failed_has_its_error_and_its_good_rounds() {
        let own = Series { error: Some("it died".to_owned()), ..series(&[150.0]) };
        let shown = row("adit", &own, &series(&[100.0, 100.0]), &own);
        assert_eq!((shown.error.as_deref(), shown.added_p50_us), (Some("it died"), Some(50.0)));
        let nothing = Series { error: Some("it never ran".to_owned()), samples: Vec::new() };
        let shown = row("adit", &nothing, &series(&[100.0]), &nothing);
        assert_eq!((shown.p50_us, shown.void.as_deref(), shown.rounds, shown.counts()), (None, None, 0, false));
        assert!(shown.curve.is_empty());
        let mut failing = series(&[150.0]);
        (failing.samples[0].failed, failing.samples[0].first_failure) = (3, Some("status 502".to_owned()));
        let shown = row("adit", &failing, &series(&[100.0]), &failing);
        assert_eq!(shown.failed_calls, 3);
        assert!(shown.error.expect("the error is reported").contains("status 502"));
    }

    #[test]
    fn a_load_without_cpu_left_is_reported() {
        let mut own = series(&[150.0, 150.0, 150.0]);
        for (sample, busy) in own.samples.iter_mut().zip([0.99, 0.5, 0.98]) {
            sample.machine = Machine { load_cpu_busy: Some(busy), ..Machine::default() };
        }
        assert!(row("adit", &own, &own, &own).is_bounded_by_load());
        own.samples[0].machine.load_cpu_busy = Some(0.6);
        assert!(!row("adit", &own, &own, &own).is_bounded_by_load());
        assert!(!row("adit", &series(&[1.0]), &own, &own).is_bounded_by_load());
    }

    #[test]
    fn a_row_has_the_fields_that_readers_rely_on() {
        let json = serde_json::to_value(row("adit", &series(&[1.0]), &series(&[1.0]), &series(&[1.0])))
            .expect("it serializes");
        for field in [
            "peer",
            "connections",
            "payload",
            "rps",
            "p50_us",
            "p95_us",
            "p99_us",
            "p999_us",
            "added_p50_us",
            "added_p95_us",
            "cpu_us_per_call",
            "rss_kib",
            "generator_lag_p99_us",
            "void",
        ] {
            assert!(json.get(field).is_some(), "{field}");
        }
        assert!(json["void"].is_null() && json["p50_us"].is_number());
    }
}
