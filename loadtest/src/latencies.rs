//! Distributions of latencies: recording, quantiles and curves.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// The longest latency that is recorded exactly; longer ones count as this.
pub const RANGE_MAX: Duration = Duration::from_secs(60);
/// The finest step: one call in flight takes about 50 µs, of which this is an eighth of a percent.
const STEP_NS: u64 = 64;
/// The precision of the histogram, in significant decimal digits.
const DIGITS: u8 = 3;

/// A distribution of durations: steps of 64 ns up to 131 µs, then of at most 0.1 %, up to a minute. About 180 KiB.
#[derive(Clone, Debug)]
pub struct Latencies {
    counts: Histogram<u64>,
    sum_ns: u128,
    min_ns: u64,
    max_ns: u64,
}

impl Latencies {
    /// Creates a distribution with no durations.
    #[must_use]
    pub fn new() -> Latencies {
        let counts = Histogram::new_with_bounds(STEP_NS, nanos(RANGE_MAX), DIGITS);
        let counts = counts.expect("the bounds are constants in order");
        Latencies { counts, sum_ns: 0, min_ns: u64::MAX, max_ns: 0 }
    }

    /// Records one duration; one longer than [`RANGE_MAX`] counts as that long, except in the sum and in `max`.
    pub fn record(&mut self, duration: Duration) {
        let ns = nanos(duration);
        self.counts.saturating_record(ns);
        self.sum_ns += u128::from(ns);
        self.min_ns = self.min_ns.min(ns);
        self.max_ns = self.max_ns.max(ns);
    }

    /// Adds the durations of another distribution.
    pub fn add(&mut self, other: &Latencies) {
        self.counts.add(&other.counts).expect("all histograms have the same bounds");
        self.sum_ns += other.sum_ns;
        self.min_ns = self.min_ns.min(other.min_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// The number of durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.len()
    }

    /// The mean, exact; zero if there are no durations.
    #[must_use]
    pub fn mean(&self) -> Duration {
        duration(self.sum_ns.checked_div(u128::from(self.count())).unwrap_or(0))
    }

    /// The shortest duration, exact; zero if there are none.
    #[must_use]
    pub fn min(&self) -> Duration {
        Duration::from_nanos(if self.count() == 0 { 0 } else { self.min_ns })
    }

    /// The longest duration, exact; zero when there is none.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max_ns)
    }

    /// The quantile `q` (0 to 1): the duration that this share of all did not exceed, to within a step; zero if there
    /// are no durations.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Duration {
        if q >= 1.0 {
            return self.max();
        }
        Duration::from_nanos(self.counts.value_at_quantile(q.max(0.0)).min(self.max_ns))
    }

    /// Like [`Latencies::quantile`], in microseconds.
    #[must_use]
    pub fn quantile_us(&self, q: f64) -> f64 {
        micros(self.quantile(q))
    }

    /// The distribution as a curve for a plot of the tail: shares and their durations in microseconds, both rising,
    /// with finer steps towards 1.
    #[must_use]
    pub fn curve(&self) -> Vec<(f64, f64)> {
        const TICKS_PER_HALF: u32 = 8;
        let points = self.counts.iter_quantiles(TICKS_PER_HALF);
        let mut curve: Vec<(f64, f64)> = Vec::new();
        for point in points {
            let (q, us) = (point.quantile_iterated_to(), point.value_iterated_to().min(self.max_ns) as f64 / 1e3);
            if curve.last().is_none_or(|last| last.0 < q) {
                curve.push((q, us));
            }
        }
        curve
    }

    /// The usual figures in microseconds, as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "count": self.count(),
            "mean_us": round(micros(self.mean())),
            "min_us": round(micros(self.min())),
            "p50_us": round(self.quantile_us(0.5)),
            "p90_us": round(self.quantile_us(0.9)),
            "p95_us": round(self.quantile_us(0.95)),
            "p99_us": round(self.quantile_us(0.99)),
            "p999_us": round(self.quantile_us(0.999)),
            "max_us": round(micros(self.max())),
        })
    }
}

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies::new()
    }
}

/// A duration in microseconds.
#[must_use]
pub fn micros(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e3
}

/// Rounds to a tenth: finer than the steps, and short to read.
pub(crate) fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn duration(ns: u128) -> Duration {
    Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use adit::base::Rng;

    #[test]
    fn quantiles_are_within_a_thousandth_or_a_step() {
        let mut rng = Rng::new(5);
        let mut truth: Vec<u64> = (0..50_000).map(|_| rng.next_u64() >> rng.between(29, 60)).collect();
        let mut latencies = Latencies::new();
        truth.iter().for_each(|ns| latencies.record(Duration::from_nanos(*ns)));
        truth.sort_unstable();
        for q in [0.01, 0.5, 0.9, 0.99, 0.999] {
            let want = truth[(q * truth.len() as f64).ceil() as usize - 1];
            let got = nanos(latencies.quantile(q));
            assert!(got >= want && got - want <= (want / 1_000).max(STEP_NS), "q {q}: want {want}, got {got}");
        }
        assert_eq!(nanos(latencies.max()), truth[truth.len() - 1]);
        assert_eq!(nanos(latencies.min()), truth[0]);
    }

    #[test]
    fn an_empty_one_reads_as_zero_and_an_endless_one_as_its_maximum() {
        let mut latencies = Latencies::new();
        assert_eq!((latencies.quantile(0.99), latencies.mean(), latencies.min()), Default::default());
        assert!(latencies.curve().iter().all(|(_, us)| *us == 0.0));
        latencies.record(RANGE_MAX * 2);
        assert_eq!(latencies.max(), RANGE_MAX * 2);
        assert_eq!(latencies.quantile(1.0), RANGE_MAX * 2);
        assert!(latencies.quantile(0.5) >= RANGE_MAX);
    }

    #[test]
    fn merged_latencies_equal_those_of_one_recorder() {
        let mut rng = Rng::new(9);
        let (mut all, mut merged) = (Latencies::new(), Latencies::new());
        for _ in 0..3 {
            let mut part = Latencies::new();
            for _ in 0..1_000 {
                let latency = Duration::from_nanos(rng.below(50_000_000));
                part.record(latency);
                all.record(latency);
            }
            merged.add(&part);
        }
        assert_eq!(all.to_json(), merged.to_json());
        assert_eq!(all.curve(), merged.curve());
    }

    #[test]
    fn a_curve_rises_and_ends_at_the_maximum() {
        let mut latencies = Latencies::new();
        (1..=10_000).for_each(|us| latencies.record(Duration::from_micros(us)));
        let curve = latencies.curve();
        assert!(curve.len() > 50 && curve.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1));
        assert_eq!(*curve.last().unwrap(), (1.0, 10_000.0));
    }
}
