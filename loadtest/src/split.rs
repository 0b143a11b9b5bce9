//! A comparison of the time that a tunnel reports for a call's parts with the time that the upstream reports.

use std::time::Duration;

use adit::wire::http1::ResponseHead;
use serde_json::{Value, json};

use crate::latencies::{Latencies, micros, round};

/// The field in which an upstream reports its service time, from the first byte of the request to the first queued byte
/// of the answer, in microseconds as a decimal number.
pub const TRUTH: &str = "X-Service-Time-Us";
/// The field in which a tunnel reports the times of a call's parts.
const SERVER_TIMING: &str = "Server-Timing";

/// The times of calls' parts as a tunnel reports them, and their error.
#[derive(Clone, Debug, Default)]
pub struct Split {
    /// Time in the edge.
    pub edge: Latencies,
    /// Time on the link and in its queues.
    pub tunnel: Latencies,
    /// Time in the connector.
    pub connector: Latencies,
    /// Time in the upstream, as the tunnel measured it.
    pub upstream: Latencies,
    /// Time in the upstream, as the upstream itself reported it.
    pub truth: Latencies,
    /// The absolute difference between these two.
    pub error: Latencies,
    /// The caller's time minus all times that the tunnel reports: the path between the two.
    pub outside: Latencies,
    /// The number of answers without the tunnel's report.
    pub without_account: u64,
    /// The number of answers without the upstream's report.
    pub without_truth: u64,
    error_sum_us: f64,
}

impl Split {
    /// Adds an answer, for which the caller waited `took`.
    pub(crate) fn record(&mut self, head: &ResponseHead, took: Duration) {
        let account = head.get(SERVER_TIMING).and_then(|value| std::str::from_utf8(value).ok()).and_then(Account::read);
        let truth = head.get(TRUTH).and_then(|value| std::str::from_utf8(value).ok()).and_then(microseconds);
        self.without_account += u64::from(account.is_none());
        self.without_truth += u64::from(truth.is_none());
        if let Some(truth) = truth {
            self.truth.record(truth);
        }
        let Some(account) = account else { return };
        self.edge.record(account.edge);
        self.tunnel.record(account.tunnel);
        self.connector.record(account.connector);
        self.upstream.record(account.upstream);
        self.outside.record(took.saturating_sub(account.sum));
        if let Some(truth) = truth {
            self.error.record(account.upstream.abs_diff(truth));
            self.error_sum_us += micros(account.upstream) - micros(truth);
        }
    }

    /// The mean excess of the tunnel's time for the upstream; negative if it is too short.
    #[must_use]
    pub fn error_mean_us(&self) -> f64 {
        if self.error.count() == 0 { 0.0 } else { self.error_sum_us / self.error.count() as f64 }
    }

    /// The result as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "edge": self.edge.to_json(),
            "tunnel": self.tunnel.to_json(),
            "connector": self.connector.to_json(),
            "upstream": self.upstream.to_json(),
            "truth": self.truth.to_json(),
            "error": self.error.to_json(),
            "error_mean_us": round(self.error_mean_us()),
            "outside": self.outside.to_json(),
            "without_account": self.without_account,
            "without_truth": self.without_truth,
        })
    }
}

/// A `Server-Timing` field (W3C Server Timing) with the phases of a tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Account {
    edge: Duration,
    tunnel: Duration,
    connector: Duration,
    upstream: Duration,
    /// The sum of all phases, including those without a field here.
    sum: Duration,
}

impl Account {
    /// Parses the value; `None` if it has no phase of the upstream.
    fn read(value: &str) -> Option<Account> {
        let mut account = Account::default();
        let mut tells = false;
        for metric in value.split(',') {
            let mut parts = metric.split(';').map(str::trim);
            let name = parts.next()?;
            let Some(ms) = parts.find_map(|part| part.strip_prefix("dur=")) else { continue };
            let duration = milliseconds(ms)?;
            account.sum += duration;
            match name {
                "edge" => account.edge = duration,
                "tunnel" => account.tunnel = duration,
                "connector" => account.connector = duration,
                "upstream" => {
                    account.upstream = duration;
                    tells = true;
                }
                _ => {}
            }
        }
        tells.then_some(account)
    }
}

fn milliseconds(text: &str) -> Option<Duration> {
    decimal(text.trim_matches('"'), 1e-3)
}

fn microseconds(text: &str) -> Option<Duration> {
    decimal(text, 1e-6)
}

fn decimal(text: &str, unit_s: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(text.trim().parse::<f64>().ok()? * unit_s).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use adit::wire::http1::{Method, Progress};

    fn head(fields: &str) -> ResponseHead {
        let mut head = ResponseHead::new();
        let fed = head.feed(format!("HTTP/1.1 200 OK\r\n{fields}\r\n").as_bytes(), Method::Get);
        assert!(matches!(fed, Ok(Progress::Complete { .. })));
        head
    }

    #[test]
    fn an_account_is_held_against_the_truth() {
        let mut split = Split::default();
        let timing = "Server-Timing: edge;dur=0.021, tunnel;dur=0.1, connector;dur=0.015, upstream_connect;dur=1, \
                      upstream;dur=20.113\r\n";
        split.record(&head(&format!("{timing}X-Service-Time-Us: 20100.5\r\n")), Duration::from_micros(21_500));
        let us = |latencies: &Latencies| latencies.max().as_nanos() as f64 / 1e3;
        assert_eq!((us(&split.edge), us(&split.tunnel), us(&split.connector)), (21.0, 100.0, 15.0));
        assert_eq!((us(&split.upstream), us(&split.truth), us(&split.error)), (20_113.0, 20_100.5, 12.5));
        assert_eq!(us(&split.outside), 251.0);
        assert_eq!(split.error_mean_us().round(), 13.0);
        split.record(&head("X-Service-Time-Us: 1\r\n"), Duration::from_micros(2));
        split.record(&head(timing), Duration::from_micros(2));
        assert_eq!((split.without_account, split.without_truth, split.error.count()), (1, 1, 1));
    }

    #[test]
    fn other_values_are_not_an_account() {
        for text in ["", "cache", "edge;dur=1", "upstream;dur=x", "upstream;dur=-1", "upstream;desc=\"x\""] {
            assert_eq!(Account::read(text), None, "{text}");
        }
        assert_eq!(Account::read("db, upstream;desc=x;dur=1").unwrap().upstream, Duration::from_millis(1));
    }
}
