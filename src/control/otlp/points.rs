//! The metrics of `/metrics` as points of OTLP. Names, labels and buckets are the same; a Prometheus server that gets
//! them from a collector sees the names that it would scrape.

use std::fmt;

use prometheus_client::registry::Unit;

use crate::control::metric_families::{Families, Labels, buckets};
use crate::control::otlp::messages::{
    ExplicitHistogram, Gauge, HistogramPoint, KeyValue, Metric, MetricData, NumberPoint, PointValue, Sum,
};
use crate::latency::Distribution;

/// Counts begin with the process and are never reset.
const CUMULATIVE: i32 = 2;

/// Collects families of metrics as they are written.
pub(super) struct PointFamilies {
    /// When the process began, in nanoseconds since 1970.
    pub(super) start_time_unix_nano: u64,
    /// When the values were read, in nanoseconds since 1970.
    pub(super) time_unix_nano: u64,
    pub(super) metrics: Vec<Metric>,
}

impl PointFamilies {
    fn add(&mut self, name: &str, description: &str, unit: &str, data: MetricData) {
        let [name, description, unit] = [name, description, unit].map(str::to_owned);
        self.metrics.push(Metric { name, description, unit, data: Some(data) });
    }

    fn point(&self, labels: &Labels, value: PointValue) -> NumberPoint {
        NumberPoint {
            start_time_unix_nano: self.start_time_unix_nano,
            time_unix_nano: self.time_unix_nano,
            value: Some(value),
            attributes: attributes(labels),
        }
    }
}

impl Families for PointFamilies {
    fn info(&mut self, name: &str, help: &str, labels: &Labels) -> fmt::Result {
        self.gauges(&format!("{name}_info"), help, None, &[(labels.clone(), 1.0)])
    }

    fn gauges(&mut self, name: &str, help: &str, unit: Option<&Unit>, rows: &[(Labels, f64)]) -> fmt::Result {
        if rows.is_empty() {
            return Ok(());
        }
        let data_points = rows.iter().map(|(labels, value)| self.point(labels, PointValue::Double(*value))).collect();
        self.add(name, help, unit.map_or("1", unit_name), MetricData::Gauge(Gauge { data_points }));
        Ok(())
    }

    fn counters(&mut self, name: &str, help: &str, rows: &[(Labels, u64)]) -> fmt::Result {
        if rows.is_empty() {
            return Ok(());
        }
        let whole = |count: u64| PointValue::Whole(i64::try_from(count).unwrap_or(i64::MAX));
        let data_points = rows.iter().map(|(labels, count)| self.point(labels, whole(*count))).collect();
        let sum = Sum { data_points, aggregation_temporality: CUMULATIVE, is_monotonic: true };
        self.add(name, help, "1", MetricData::Sum(sum));
        Ok(())
    }

    fn histograms<'d>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl Iterator<Item = (Labels, &'d Distribution)>,
    ) -> fmt::Result {
        let data_points: Vec<HistogramPoint> = rows
            .map(|(labels, distribution)| {
                let (bounds, counts): (Vec<f64>, Vec<u64>) = buckets(distribution).into_iter().unzip();
                HistogramPoint {
                    start_time_unix_nano: self.start_time_unix_nano,
                    time_unix_nano: self.time_unix_nano,
                    count: distribution.count(),
                    sum: Some(distribution.sum().as_secs_f64()),
                    // The last bucket has no bound.
                    explicit_bounds: bounds.into_iter().filter(|bound| bound.is_finite()).collect(),
                    bucket_counts: counts,
                    attributes: attributes(&labels),
                }
            })
            .collect();
        if data_points.is_empty() {
            return Ok(());
        }
        let histogram = ExplicitHistogram { data_points, aggregation_temporality: CUMULATIVE };
        self.add(name, help, unit_name(&Unit::Seconds), MetricData::Histogram(histogram));
        Ok(())
    }
}

/// The name of a unit in UCUM, which OTLP uses.
fn unit_name(unit: &Unit) -> &'static str {
    match unit {
        Unit::Seconds => "s",
        Unit::Bytes => "By",
        _ => "1",
    }
}

fn attributes(labels: &Labels) -> Vec<KeyValue> {
    labels.iter().map(|(name, value)| KeyValue::text(name, value.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::metrics::{metrics, write_metrics};
    use crate::control::sample;

    #[test]
    fn every_family_of_the_text_is_exported_with_the_same_counts() {
        let mut points = PointFamilies { start_time_unix_nano: 1, time_unix_nano: 2, metrics: Vec::new() };
        write_metrics(sample::report(), &mut points).unwrap();
        let text = metrics(sample::report());
        let families: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let names: Vec<String> = (points.metrics.iter())
            .map(|metric| match &*metric.unit {
                "s" => format!("{}_seconds", metric.name),
                "By" => format!("{}_bytes", metric.name),
                _ => metric.name.trim_end_matches("_info").to_owned(),
            })
            .collect();
        assert_eq!(names, families);
        let durations = points.metrics.iter().find(|metric| metric.name == "adit_call_phase_duration").unwrap();
        let Some(MetricData::Histogram(histogram)) = &durations.data else { panic!("{durations:?}") };
        for point in &histogram.data_points {
            assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
            assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
        }
        let counts: usize = (histogram.data_points.iter()).map(|point| point.count as usize).sum();
        assert!(counts > 0 && text.contains("adit_call_phase_duration_seconds_count"));
    }
}
