//! The samples of a peer, by round.

use crate::latencies::Latencies;
use crate::outcome::Outcome;

/// The default share of a closed loop's connections that must have had a call in flight, by Little's law. A call that
/// is stuck during the whole measurement is in no histogram, but lowers this share.
pub(crate) const IN_FLIGHT_MIN: f64 = 0.8;

/// The workload for each peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Workload {
    pub(crate) payload: u64,
    pub(crate) connections: usize,
}

/// The result of one measurement of one peer.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) round: usize,
    pub(crate) figures: Figures,
    pub(crate) latencies: Latencies,
    /// Why it does not count, if so.
    pub(crate) void: Option<String>,
    pub(crate) machine: Machine,
    /// The number of failed calls, and the error of the first.
    pub(crate) failed: u64,
    pub(crate) first_failure: Option<String>,
}

/// The state of the machine during a measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Machine {
    /// CPU time that the hypervisor took (steal), in percent.
    pub(crate) steal_percent: f64,
    /// The utilisation of the CPUs of generator and upstream, from 0 to 1; none without pinning.
    pub(crate) load_cpu_busy: Option<f64>,
    /// The utilisation of the peer's CPUs.
    pub(crate) peer_cpu_busy: Option<f64>,
}

/// The figures of one measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    pub(crate) rps: f64,
    pub(crate) p50_us: f64,
    pub(crate) p95_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) cpu_us_per_call: Option<f64>,
    pub(crate) rss_kib: Option<f64>,
    pub(crate) generator_lag_p99_us: f64,
    /// Calls that were in flight on average: calls per second times mean latency.
    pub(crate) in_flight: f64,
}

/// All samples of a peer under a workload.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series {
    pub(crate) samples: Vec<Sample>,
    /// The error of the first round that failed.
    pub(crate) error: Option<String>,
}

impl Sample {
    /// The sample of a run, in which at least `in_flight_min` calls must have been in flight.
    pub(crate) fn new(round: usize, outcome: &Outcome, in_flight_min: f64, machine: Machine) -> Self {
        let at = |q| outcome.corrected.quantile_us(q);
        let rss_kib = outcome.usage.is_watched().then_some(outcome.usage.rss_kib_max as f64);
        let figures = Figures {
            rps: outcome.rps(),
            p50_us: at(0.5),
            p95_us: at(0.95),
            p99_us: at(0.99),
            p999_us: at(0.999),
            cpu_us_per_call: outcome.cpu_us_per_call(),
            rss_kib,
            generator_lag_p99_us: outcome.generator_lag.quantile_us(0.99),
            in_flight: outcome.rps() * outcome.corrected.mean().as_secs_f64(),
        };
        let idle = idle(figures.in_flight, in_flight_min);
        Self {
            round,
            figures,
            latencies: outcome.corrected.clone(),
            void: outcome.void.as_ref().map(ToString::to_string).or(idle),
            machine,
            failed: outcome.failed.count(),
            first_failure: outcome.failed.first().map(str::to_owned),
        }
    }
}

impl Series {
    /// The samples for the figures: the valid ones, if they are the majority; otherwise all, and the row is void.
    pub(crate) fn used(&self) -> (Vec<&Sample>, Option<String>) {
        let sound: Vec<&Sample> = self.samples.iter().filter(|sample| sample.void.is_none()).collect();
        if sound.len() * 2 > self.samples.len() {
            return (sound, None);
        }
        (self.samples.iter().collect(), self.samples.iter().find_map(|sample| sample.void.clone()))
    }

    /// The figures of a round, if they are used.
    pub(crate) fn in_round(&self, round: usize) -> Option<&Figures> {
        self.used().0.into_iter().find(|sample| sample.round == round).map(|sample| &sample.figures)
    }

    /// The median over the rounds in which both peers were measured.
    pub(crate) fn paired(&self, other: &Self, pair: impl Fn(&Figures, &Figures) -> Option<f64>) -> Option<f64> {
        let values = self.used().0.into_iter().filter_map(|sample| {
            let other = other.in_round(sample.round)?;
            pair(&sample.figures, other)
        });
        median(values)
    }

    /// The error of the peer itself, or else of its calls.
    pub(crate) fn error(&self) -> Option<String> {
        let failed = || {
            let sample = self.samples.iter().find(|sample| sample.failed > 0)?;
            let first = sample.first_failure.as_deref().unwrap_or("without a reason");
            Some(format!("round {}: {} calls failed, the first: {first}", sample.round + 1, sample.failed))
        };
        self.error.clone().or_else(failed)
    }
}

/// Why the figures of a closed loop with stuck connections do not count.
fn idle(in_flight: f64, in_flight_min: f64) -> Option<String> {
    (in_flight < in_flight_min).then(|| {
        format!(
            "only about {in_flight:.1} calls were in flight, and {in_flight_min:.1} should have been at least: connections \
             stood still all along, and what they waited is in no figure; try a longer --warm-up"
        )
    })
}

/// The median; none without values.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stuck_connections_make_a_sample_void() {
        use std::time::Duration;
        // Four connections, each with a call of 1 ms: 4,000 calls in a second.
        let mut outcome = Outcome { calls: 4_000, measured: Duration::from_secs(1), ..Outcome::default() };
        (0..4_000).for_each(|_| outcome.corrected.record(Duration::from_millis(1)));
        let void = |in_flight_min| Sample::new(0, &outcome, in_flight_min, Machine::default()).void;
        assert_eq!(void(4.0 * IN_FLIGHT_MIN), None);
        assert!(void(64.0 * IN_FLIGHT_MIN).expect("sixty were stuck").contains("only about 4.0 calls were in flight"));
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0]), Some(3.0));
        assert_eq!(median([9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }
}
