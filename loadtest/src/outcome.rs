//! The result of a run.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use adit::base::Time;
use serde_json::{Value, json};

use crate::latencies::{Latencies, micros, round};
use crate::load::Limits;
use crate::split::Split;
use crate::watch::Usage;

/// The result of a run. Only calls whose planned start lay in the measured time count.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The number of calls with a good answer.
    pub calls: u64,
    /// The calls that failed, by cause.
    pub failed: Failures,
    /// The measured time, which is shorter than planned if the run ended early.
    pub measured: Duration,
    /// From the planned start to the complete answer. In a closed loop a call is planned when the previous one is
    /// answered.
    pub corrected: Latencies,
    /// From sending a call to the complete answer: the latency without correction for a late generator (coordinated
    /// omission).
    pub uncorrected: Latencies,
    /// From the planned start to the first event, if answers are event streams.
    pub first_event: Latencies,
    /// From when a call could have been sent to when it was sent: the delay by the generator itself.
    pub generator_lag: Latencies,
    /// From when a call was due to when a connection was free, for calls that had to wait.
    pub waited: Latencies,
    /// How long making connections took while measuring.
    pub connects: Latencies,
    /// The number of due calls for which the queue was full.
    pub overflowed: u64,
    /// Bytes of requests, including heads.
    pub bytes_sent: u64,
    /// Bytes of answers, including heads.
    pub bytes_received: u64,
    /// The share of its CPU that the generator's thread used, from 0 to 1.
    pub generator_busy: f64,
    /// How the tunnel divided the time of the calls, if [`crate::Load::split`] is set.
    pub split: Option<Split>,
    /// Each call in the order of their ends, if [`crate::Load::trace`] is set.
    pub trace: Vec<Traced>,
    /// The resources that the watched processes used.
    pub usage: Usage,
    /// Why these figures must not be reported.
    pub void: Option<Void>,
    /// Why the run ended early. The figures are those up to then.
    pub partial: Option<Partial>,
}

impl Outcome {
    /// Good calls per second.
    #[must_use]
    pub fn rps(&self) -> f64 {
        per_second(self.calls as f64, self.measured)
    }

    /// CPU time of all watched processes per good call, in microseconds; `None` if no process is watched or no call was
    /// good.
    #[must_use]
    pub fn cpu_us_per_call(&self) -> Option<f64> {
        (self.calls > 0 && self.usage.is_watched()).then(|| micros(self.usage.cpu) / self.calls as f64)
    }

    /// Whether every call was good, the run complete, its figures valid, and all watched processes alive.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let whole = self.partial.is_none() && self.usage.gone.is_empty();
        whole && self.failed.count() == 0 && self.void.is_none() && self.calls > 0
    }

    /// Decides whether the generator was good enough for what it measured.
    pub fn judge(&mut self, limits: &Limits) {
        self.void = self.void_by(limits);
    }

    fn void_by(&self, limits: &Limits) -> Option<Void> {
        if self.overflowed > 0 {
            return Some(Void::Overflow { calls: self.overflowed, outstanding_max: limits.outstanding_max });
        }
        let (lag, p99) = (self.generator_lag.quantile(0.99), self.corrected.quantile(0.99));
        if lag > limits.lag_p99_max {
            return Some(Void::Lag { p99: lag, bound: limits.lag_p99_max });
        }
        // Without answers there is no p99 for the share.
        let share = Duration::from_nanos((p99.as_nanos() as f64 * limits.lag_share_max) as u64);
        (self.corrected.count() > 0 && lag > share).then_some(Void::Lag { p99: lag, bound: share })
    }

    /// The result as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "calls": self.calls,
            "failed": self.failed.to_json(),
            "measured_s": round3(self.measured.as_secs_f64()),
            "rps": round(self.rps()),
            "latency": self.corrected.to_json(),
            "uncorrected": self.uncorrected.to_json(),
            "first_event": (self.first_event.count() > 0).then(|| self.first_event.to_json()),
            "generator_lag": self.generator_lag.to_json(),
            "generator_busy": round3(self.generator_busy),
            "waited_for_connection": self.waited.to_json(),
            "connects": self.connects.to_json(),
            "overflowed": self.overflowed,
            "bytes_sent": self.bytes_sent,
            "bytes_received": self.bytes_received,
            "split": self.split.as_ref().map(Split::to_json),
            "cpu_us_per_call": self.cpu_us_per_call().map(round),
            "usage": self.usage.to_json(),
            "void": self.void.as_ref().map(Void::to_string),
            "partial": self.partial.as_ref().map(Partial::to_string),
        })
    }
}

/// A call, with its times on the machine's monotonic clock, [`adit::engine::MonotonicClock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traced {
    /// The planned time of the call.
    pub due: Time,
    /// When it was sent; [`Time::NEVER`] if it was not.
    pub sent: Time,
    /// When it was answered or given up.
    pub ended: Time,
    /// Why it failed; `None` if the answer was good.
    pub failed: Option<Cause>,
}

/// Why figures must not be reported: the generator influenced them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Void {
    /// The generator was late.
    Lag {
        /// The lag at its 99th percentile.
        p99: Duration,
        /// The limit of the lag.
        bound: Duration,
    },
    /// More calls were due than may wait.
    Overflow {
        /// The number of calls that had no room.
        calls: u64,
        /// The number of calls that may wait.
        outstanding_max: usize,
    },
}

impl fmt::Display for Void {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Void::Lag { p99, bound } => write!(
                f,
                "the generator was late by {:.1} µs at its p99, above the limit of {:.1} µs: give it its own CPU \
                 (--cpu), or reduce the load",
                micros(*p99),
                micros(*bound)
            ),
            Void::Overflow { calls, outstanding_max } => write!(
                f,
                "{calls} calls were due and could not be queued: {outstanding_max} may wait for a connection; lower the rate, \
                 or raise --connections or --outstanding-max"
            ),
        }
    }
}

/// Why a run ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Partial {
    /// It was interrupted, by a signal or by the caller.
    Interrupted,
    /// Every call failed for too long.
    Lost {
        /// How long every call had failed.
        patience: Duration,
        /// The error of the last call.
        cause: String,
    },
}

impl fmt::Display for Partial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Partial::Interrupted => f.write_str("interrupted before the end"),
            Partial::Lost { patience, cause } => write!(
                f,
                "given up: every call failed for {:.1} s, the last because {cause}; check that the target still runs",
                patience.as_secs_f64()
            ),
        }
    }
}

/// The cause of a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// No connection could be made, or the TLS handshake failed.
    Connect,
    /// The connection ended before the answer was complete.
    Broken,
    /// The answer is not valid HTTP.
    Protocol,
    /// The answer has an error status.
    Status(u16),
    /// The status is good, but the answer is wrong: another id, an error, no result.
    Answer,
    /// The time limit was exceeded.
    TimedOut,
    /// The call was still in flight when the drain ended.
    Unfinished,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Connect => f.write_str("connect"),
            Cause::Broken => f.write_str("broken"),
            Cause::Protocol => f.write_str("protocol"),
            Cause::Status(status) => write!(f, "status_{status}"),
            Cause::Answer => f.write_str("answer"),
            Cause::TimedOut => f.write_str("timed_out"),
            Cause::Unfinished => f.write_str("unfinished"),
        }
    }
}

/// Calls that failed, by cause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    causes: BTreeMap<Cause, u64>,
    first: Option<String>,
}

impl Failures {
    /// Counts one more failure, and keeps the text of the first.
    pub fn add(&mut self, cause: Cause, text: &dyn fmt::Display) {
        *self.causes.entry(cause).or_default() += 1;
        if self.first.is_none() {
            self.first = Some(text.to_string());
        }
    }

    /// The number of all failures.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.causes.values().sum()
    }

    /// The number of failures by cause.
    #[must_use]
    pub fn by_cause(&self) -> &BTreeMap<Cause, u64> {
        &self.causes
    }

    /// The text of the first failure.
    #[must_use]
    pub fn first(&self) -> Option<&str> {
        self.first.as_deref()
    }

    /// The failures as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let causes: BTreeMap<String, u64> = self.causes.iter().map(|(cause, n)| (cause.to_string(), *n)).collect();
        json!({ "count": self.count(), "by_cause": causes, "first": self.first })
    }
}

/// `amount` over `time`; zero when there was no time.
pub(crate) fn per_second(amount: f64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { amount / time.as_secs_f64() }
}

fn round3(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(latency_us: u64, lag_us: u64) -> Outcome {
        let mut outcome = Outcome { calls: 1, measured: Duration::from_secs(2), ..Outcome::default() };
        outcome.corrected.record(Duration::from_micros(latency_us));
        outcome.generator_lag.record(Duration::from_micros(lag_us));
        outcome
    }

    #[test]
    fn a_late_generator_makes_a_run_void() {
        let limits = Limits::default();
        for (latency_us, lag_us, is_void) in
            [(1_000, 10, false), (1_000, 49, false), (1_000, 51, true), (200, 10, false), (200, 30, true)]
        {
            let mut outcome = outcome(latency_us, lag_us);
            outcome.judge(&limits);
            assert_eq!(matches!(outcome.void, Some(Void::Lag { .. })), is_void, "{latency_us} {lag_us}");
            assert_eq!(outcome.is_good(), !is_void);
        }
        let mut lenient = outcome(200, 30);
        lenient.judge(&Limits { lag_share_max: 0.5, ..limits });
        assert_eq!(lenient.void, None);
    }

    #[test]
    fn a_call_without_room_makes_a_run_void() {
        let mut outcome = outcome(1_000, 1);
        outcome.overflowed = 1;
        outcome.judge(&Limits::default());
        assert_eq!(outcome.void, Some(Void::Overflow { calls: 1, outstanding_max: 10_000 }));
        assert!(outcome.to_json()["void"].as_str().unwrap().contains("--outstanding-max"));
    }

    #[test]
    fn failures_are_counted_by_cause_and_the_first_is_kept() {
        let mut failures = Failures::default();
        for (cause, text) in [(Cause::Status(503), "a"), (Cause::Connect, "b"), (Cause::Status(503), "c")] {
            failures.add(cause, &text);
        }
        assert_eq!(failures.count(), 3);
        assert_eq!(
            failures.to_json(),
            json!({
                "count": 3, "by_cause": { "status_503": 2, "connect": 1 }, "first": "a"
            })
        );
    }
}
