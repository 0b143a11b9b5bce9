//! A service level objective, such as `p95<5ms`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::latencies::Latencies;

/// A bound on one quantile of the latency.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slo {
    quantile: Quantile,
    bound: Duration,
    inclusive: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantile {
    P50,
    P90,
    P95,
    P99,
    P999,
    Max,
}

const QUANTILES: [(&str, Quantile, f64); 6] = [
    ("p50", Quantile::P50, 0.5),
    ("p90", Quantile::P90, 0.9),
    ("p95", Quantile::P95, 0.95),
    ("p99", Quantile::P99, 0.99),
    ("p999", Quantile::P999, 0.999),
    ("max", Quantile::Max, 1.0),
];

/// The error for an invalid objective.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' is not a valid objective: {why}; write one as p95<5ms, with p50, p90, p95, p99, p999 or max, < or <=, us, ms or s"
)]
pub struct SloError {
    text: String,
    why: &'static str,
}

impl Slo {
    /// Whether the latencies meet it. An empty distribution does not.
    #[must_use]
    pub fn is_met(&self, latencies: &Latencies) -> bool {
        let value = self.value(latencies);
        latencies.count() > 0 && (value < self.bound || self.inclusive && value == self.bound)
    }

    /// The quantile that the objective limits.
    #[must_use]
    pub fn value(&self, latencies: &Latencies) -> Duration {
        latencies.quantile(self.row().2)
    }

    fn row(&self) -> &(&'static str, Quantile, f64) {
        QUANTILES.iter().find(|row| row.1 == self.quantile).expect("each quantile has a row")
    }
}

impl FromStr for Slo {
    type Err = SloError;

    fn from_str(text: &str) -> Result<Slo, SloError> {
        let fault = |why| SloError { text: text.to_owned(), why };
        let (name, bound) = text.split_once('<').ok_or_else(|| fault("it has no <"))?;
        let (inclusive, bound) = match bound.strip_prefix('=') {
            Some(bound) => (true, bound),
            None => (false, bound),
        };
        let name = name.trim().to_ascii_lowercase();
        let row = QUANTILES.iter().find(|row| row.0 == name).ok_or_else(|| fault("it names no such quantile"))?;
        let bound = parse_bound(bound.trim()).ok_or_else(|| fault("its bound is not a positive time with a unit"))?;
        Ok(Slo { quantile: row.1, bound, inclusive })
    }
}

fn parse_bound(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(split);
    let ns_per_unit = match unit.trim() {
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return None,
    };
    let ns = number.parse::<f64>().ok()? * ns_per_unit;
    // No run could decide about more than two minutes.
    (1.0..=120e9).contains(&ns).then(|| Duration::from_nanos(ns.round() as u64))
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.inclusive { "<=" } else { "<" };
        let ns = self.bound.as_nanos();
        let (number, unit) = match ns {
            ns if ns >= 1_000_000_000 => (ns as f64 / 1e9, "s"),
            ns if ns >= 1_000_000 => (ns as f64 / 1e6, "ms"),
            ns => (ns as f64 / 1e3, "us"),
        };
        write!(f, "{}{sign}{number}{unit}", self.row().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Slo {
        text.parse().unwrap()
    }

    #[test]
    fn every_form_is_understood_and_printed_so_that_it_means_the_same() {
        for (text, shown) in [
            ("p95<5ms", "p95<5ms"),
            (" P99 <= 250us", "p99<=250us"),
            ("max<1.5s", "max<1.5s"),
            ("p50<0.25ms", "p50<250us"),
            ("p999 < 10 µs", "p999<10us"),
            ("p90<2000ms", "p90<2s"),
        ] {
            assert_eq!(parsed(text).to_string(), shown);
            assert_eq!(parsed(shown), parsed(text));
        }
    }

    #[test]
    fn invalid_texts_are_refused_with_the_remedy() {
        for text in [
            "",
            "p95",
            "p95>5ms",
            "p42<5ms",
            "p95<",
            "p95<5",
            "p95<ms",
            "p95<-5ms",
            "p95<0ms",
            "p95<5h",
            "p95<1.2.3s",
            "p95<1e3ms",
            "<5ms",
            "p95<=<5ms",
            "p95<999s",
        ] {
            let error = text.parse::<Slo>().unwrap_err();
            assert!(error.to_string().contains("p95<5ms"), "{text}");
        }
    }

    #[test]
    fn it_bounds_the_quantile_that_it_names() {
        let mut latencies = Latencies::new();
        assert!(!parsed("max<1s").is_met(&latencies), "an empty distribution meets nothing");
        (1..=100).for_each(|ms| latencies.record(Duration::from_millis(ms)));
        assert!(parsed("p50<51ms").is_met(&latencies) && !parsed("p50<50ms").is_met(&latencies));
        assert!(parsed("p95<96ms").is_met(&latencies) && !parsed("p95<94ms").is_met(&latencies));
        assert!(!parsed("max<100ms").is_met(&latencies) && parsed("max<=100ms").is_met(&latencies));
    }
}
