//! Where metrics are written, and OpenMetrics text as one such place.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::latency::Distribution;

/// The upper bounds of the buckets, in microseconds: fine in the range of a tunnel's own share, coarse in that of an
/// upstream.
pub(super) const BOUNDS_US: [u64; 20] = [
    10, 25, 50, 75, 100, 150, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 5_000_000, 30_000_000,
];

/// The names and values of labels.
pub(super) type Labels = Vec<(&'static str, String)>;

/// Where families of metrics are written. A family without rows is omitted.
pub(super) trait Families {
    /// Writes facts, as labels of a metric whose value is 1.
    fn info(&mut self, name: &str, help: &str, labels: &Labels) -> fmt::Result;

    /// Writes values that go up and down.
    fn gauges(&mut self, name: &str, help: &str, unit: Option<&Unit>, rows: &[(Labels, f64)]) -> fmt::Result;

    /// Writes counts since the start of the process.
    fn counters(&mut self, name: &str, help: &str, rows: &[(Labels, u64)]) -> fmt::Result;

    /// Writes distributions of durations since the start of the process.
    fn histograms<'d>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl Iterator<Item = (Labels, &'d Distribution)>,
    ) -> fmt::Result;
}

/// Writes families as OpenMetrics text.
pub(super) struct TextFamilies<'a>(pub(super) DescriptorEncoder<'a>);

impl Families for TextFamilies<'_> {
    fn info(&mut self, name: &str, help: &str, labels: &Labels) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(labels)
    }

    fn gauges(&mut self, name: &str, help: &str, unit: Option<&Unit>, rows: &[(Labels, f64)]) -> fmt::Result {
        if rows.is_empty() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        rows.iter().try_for_each(|(labels, value)| family.encode_family(labels)?.encode_gauge(value))
    }

    fn counters(&mut self, name: &str, help: &str, rows: &[(Labels, u64)]) -> fmt::Result {
        if rows.is_empty() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        rows.iter().try_for_each(|(labels, value)| {
            family.encode_family(labels)?.encode_counter::<NoLabelSet, _, u64>(value, None)
        })
    }

    fn histograms<'d>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl Iterator<Item = (Labels, &'d Distribution)>,
    ) -> fmt::Result {
        let mut rows = rows.peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        rows.try_for_each(|(labels, distribution)| {
            let sum = distribution.sum().as_secs_f64();
            let buckets = buckets(distribution);
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, distribution.count(), &buckets, None)
        })
    }
}

/// The number of durations in each bucket, with its upper bound in seconds. The last bucket has no upper bound.
pub(super) fn buckets(distribution: &Distribution) -> Vec<(f64, u64)> {
    let mut below = 0;
    let mut buckets: Vec<(f64, u64)> = BOUNDS_US
        .iter()
        .map(|bound_us| {
            let at_most = distribution.count_at_most(Duration::from_micros(*bound_us)).max(below);
            let inside = at_most - below;
            below = at_most;
            // Divides, instead of multiplying by 1e-6, so that `le` is 0.00025 and not 0.00025000000000000001.
            (*bound_us as f64 / 1e6, inside)
        })
        .collect();
    buckets.push((f64::INFINITY, distribution.count().saturating_sub(below)));
    buckets
}
