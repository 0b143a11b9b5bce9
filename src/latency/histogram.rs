use std::time::Duration;

use hdrhistogram::Histogram as Hdr;

/// The longest duration that is recorded exactly. Longer ones are recorded as this and counted apart.
pub const RANGE_MAX: Duration = Duration::from_secs(120);

/// The finest step. The smallest power of two that tells a 10 µs phase to within 1 %.
const STEP_NS: u64 = 64;
/// Two digits give steps of at most 0.8 % (1/128), a sixth of the 5 % that the split promises; three would cost seven
/// times the memory.
const DIGITS: u8 = 2;
/// The number of buckets that `STEP_NS`, `DIGITS` and `RANGE_MAX` give: 256 linear ones up to 16 µs, then 128 for each
/// doubling.
#[cfg(test)]
const BUCKETS: usize = 3_200;
/// The heap memory of one [`Histogram`].
#[cfg(test)]
pub(super) const HISTOGRAM_BYTES: usize = BUCKETS * size_of::<u32>();

/// The durations of one phase on one core: steps of 64 ns up to 16 µs, then of at most 0.8 %, up to two minutes.
///
/// The memory is fixed (12.5 KiB), so recording neither allocates nor fails. Counts have 32 bits; before one could
/// overflow, at 4.29 thousand million records, the histogram is reset (a metrics store sees this as a restart).
#[derive(Clone)]
pub struct Histogram {
    counts: Hdr<u32>,
    sum_ns: u64,
    max_ns: u64,
    over_range: u64,
}

impl Histogram {
    /// Creates a histogram with no durations.
    #[must_use]
    pub fn new() -> Histogram {
        let counts =
            Hdr::new_with_bounds(STEP_NS, nanos(RANGE_MAX), DIGITS).expect("the bounds are constants in order");
        Histogram { counts, sum_ns: 0, max_ns: 0, over_range: 0 }
    }

    /// Records one duration. One longer than `RANGE_MAX` is recorded as `RANGE_MAX` and counted apart.
    pub fn record(&mut self, duration: Duration) {
        self.record_n(duration, 1);
    }

    /// The number of durations recorded.
    #[must_use]
    #[cfg(test)]
    pub fn count(&self) -> u64 {
        self.counts.len()
    }

    fn record_n(&mut self, duration: Duration, n: u32) {
        if self.counts.len() + u64::from(n) > u64::from(u32::MAX) {
            self.start_anew();
        }
        let ns = nanos(duration);
        self.over_range += u64::from(ns > nanos(RANGE_MAX));
        self.counts.saturating_record_n(ns, n);
        self.sum_ns = self.sum_ns.saturating_add(ns.saturating_mul(u64::from(n)));
        self.max_ns = self.max_ns.max(ns);
    }

    fn start_anew(&mut self) {
        self.counts.reset();
        (self.sum_ns, self.max_ns, self.over_range) = (0, 0, 0);
    }
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram::new()
    }
}

/// The histograms of several cores added up, for reading. Counts have 64 bits and are never reset.
#[derive(Clone)]
pub struct Distribution {
    counts: Hdr<u64>,
    sum_ns: u128,
    max_ns: u64,
    over_range: u64,
}

impl Distribution {
    /// Creates a distribution with no durations.
    #[must_use]
    pub fn new() -> Distribution {
        let counts =
            Hdr::new_with_bounds(STEP_NS, nanos(RANGE_MAX), DIGITS).expect("the bounds are constants in order");
        Distribution { counts, sum_ns: 0, max_ns: 0, over_range: 0 }
    }

    /// Adds what one core recorded.
    pub fn add(&mut self, histogram: &Histogram) {
        for bucket in histogram.counts.iter_recorded() {
            self.counts.saturating_record_n(bucket.value_iterated_to(), u64::from(bucket.count_at_value()));
        }
        self.sum_ns += u128::from(histogram.sum_ns);
        self.max_ns = self.max_ns.max(histogram.max_ns);
        self.over_range += histogram.over_range;
    }

    /// Adds all durations of another distribution to this one.
    pub fn merge(&mut self, other: &Distribution) {
        self.counts.add(&other.counts).expect("both have the same bounds");
        self.sum_ns += other.sum_ns;
        self.max_ns = self.max_ns.max(other.max_ns);
        self.over_range += other.over_range;
    }

    /// The durations that were added since `before`, an earlier state of this distribution. Their maximum is not known: it is that
    /// of all durations. If `before` is not an earlier state, all durations are returned.
    #[must_use]
    pub fn since(&self, before: &Distribution) -> Distribution {
        let mut since = self.clone();
        // A core that has reset its counts has fewer of some.
        if since.counts.subtract(&before.counts).is_err() {
            return self.clone();
        }
        since.sum_ns = self.sum_ns.saturating_sub(before.sum_ns);
        since.over_range = self.over_range.saturating_sub(before.over_range);
        since
    }

    /// The number of durations recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.len()
    }

    /// The sum of all durations, exact.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(u64::try_from(self.sum_ns).unwrap_or(u64::MAX))
    }

    /// The mean, exact; zero if there are no durations.
    #[must_use]
    pub fn mean(&self) -> Duration {
        let mean_ns = self.sum_ns.checked_div(u128::from(self.count())).unwrap_or(0);
        Duration::from_nanos(u64::try_from(mean_ns).unwrap_or(u64::MAX))
    }

    /// The longest duration, exact; zero if there are none.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max_ns)
    }

    /// The quantile `q` (0 to 1): the duration that this share of all did not exceed, at most 0.8 % or 64 ns above the
    /// exact value; zero if there are no durations.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Duration {
        if self.over_range > 0 && q >= 1.0 {
            return self.max();
        }
        Duration::from_nanos(self.counts.value_at_quantile(q.clamp(0.0, 1.0)).min(self.max_ns))
    }

    /// The number of durations that were at most `limit`, to within a step: the value of a Prometheus bucket.
    #[must_use]
    pub fn count_at_most(&self, limit: Duration) -> u64 {
        self.counts.count_between(0, nanos(limit))
    }

    /// The number of durations longer than [`RANGE_MAX`].
    #[must_use]
    #[cfg(test)]
    pub fn over_range(&self) -> u64 {
        self.over_range
    }
}

impl Default for Distribution {
    fn default() -> Distribution {
        Distribution::new()
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    fn distribution_of(histogram: &Histogram) -> Distribution {
        let mut whole = Distribution::new();
        whole.add(histogram);
        whole
    }

    #[test]
    fn it_takes_the_documented_memory() {
        assert_eq!(Histogram::new().counts.distinct_values(), BUCKETS);
        assert_eq!(HISTOGRAM_BYTES, 12_800);
    }

    #[test]
    fn quantiles_are_within_a_hundredth_or_a_step_of_the_truth() {
        let mut rng = Rng::new(5);
        let mut truth: Vec<u64> = (0..20_000).map(|_| rng.next_u64() >> rng.between(28, 63)).collect();
        let mut histogram = Histogram::new();
        truth.iter().for_each(|ns| histogram.record(Duration::from_nanos(*ns)));
        truth.sort_unstable();

        let whole = distribution_of(&histogram);
        for q in [0.01, 0.5, 0.9, 0.95, 0.99, 0.999] {
            let rank = (q * truth.len() as f64).ceil() as usize;
            let (want, got) = (truth[rank - 1], nanos(whole.quantile(q)));
            assert!(got >= want && got - want <= (want / 100).max(STEP_NS), "q {q}: want {want}, got {got}");
        }
        assert_eq!(nanos(whole.max()), truth[truth.len() - 1]);
        assert_eq!(nanos(whole.sum()), truth.iter().sum::<u64>());
        assert_eq!(nanos(whole.mean()), truth.iter().sum::<u64>() / truth.len() as u64);
    }

    #[test]
    fn a_difference_has_only_what_was_added() {
        let mut histogram = Histogram::new();
        histogram.record_n(Duration::from_millis(900), 50);
        let before = distribution_of(&histogram);
        assert_eq!(before.since(&before).count(), 0);
        histogram.record_n(Duration::from_millis(2), 10);
        let since = distribution_of(&histogram).since(&before);
        assert_eq!((since.count(), since.sum()), (10, Duration::from_millis(20)));
        assert!(since.quantile(0.95) < Duration::from_millis(3));
        // A core that began anew has fewer.
        assert_eq!(before.since(&distribution_of(&histogram)).count(), 50);
    }

    #[test]
    fn values_out_of_range_are_counted_and_the_maximum_stays_exact() {
        let mut histogram = Histogram::new();
        histogram.record(Duration::ZERO);
        histogram.record(RANGE_MAX);
        histogram.record(RANGE_MAX + Duration::from_secs(1));
        histogram.record(Duration::MAX);
        let whole = distribution_of(&histogram);
        assert_eq!((whole.count(), whole.over_range()), (4, 2));
        assert_eq!(whole.max(), Duration::from_nanos(u64::MAX));
        assert_eq!(whole.quantile(1.0), whole.max());
        assert!(whole.quantile(0.5) >= RANGE_MAX);
    }

    #[test]
    fn an_empty_distribution_reads_as_zero() {
        let whole = Distribution::new();
        assert_eq!((whole.quantile(0.99), whole.mean(), whole.max()), Default::default());
        assert_eq!(whole.count_at_most(RANGE_MAX), 0);
    }

    #[test]
    fn putting_cores_together_is_as_if_one_had_seen_it_all() {
        let mut rng = Rng::new(9);
        let (mut all, mut merged) = (Histogram::new(), Distribution::new());
        for _ in 0..4 {
            let mut core = Histogram::new();
            for _ in 0..1_000 {
                let duration = Duration::from_nanos(rng.below(50_000_000));
                core.record(duration);
                all.record(duration);
            }
            merged.merge(&distribution_of(&core));
        }
        let all = distribution_of(&all);
        assert_eq!(merged.count(), all.count());
        assert_eq!(merged.sum(), all.sum());
        for percent in 0..=100 {
            let q = f64::from(percent) / 100.0;
            assert_eq!(merged.quantile(q), all.quantile(q));
        }
        for ms in [1, 5, 20, 60] {
            let limit = Duration::from_millis(ms);
            assert_eq!(merged.count_at_most(limit), all.count_at_most(limit));
        }
    }

    #[test]
    fn a_full_histogram_starts_anew_and_two_full_ones_can_be_added() {
        let mut histogram = Histogram::new();
        histogram.record_n(Duration::from_micros(10), u32::MAX);
        let mut whole = distribution_of(&histogram);
        whole.add(&histogram);
        assert_eq!(whole.count(), 2 * u64::from(u32::MAX));
        assert!(whole.quantile(0.5) > Duration::ZERO);

        histogram.record(Duration::from_micros(3));
        assert_eq!(histogram.count(), 1);
        assert_eq!(distribution_of(&histogram).max(), Duration::from_micros(3));
    }
}
