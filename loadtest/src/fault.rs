//! Faults under load: which calls are lost when a process is killed or stopped, or a path drops all packets, and how
//! long recovery takes.

use std::collections::BTreeMap;
use std::time::Duration;

use adit::base::Time;
use serde_json::{Value, json};

use crate::latencies::Latencies;
use crate::outcome::{Cause, Outcome, Traced};

/// The kind of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// A process is killed (SIGKILL) and started again.
    Kill,
    /// A process is stopped (SIGSTOP) and later continued. Its connections stay open, but it does not answer.
    Freeze,
    /// All packets of a path are dropped. No connection is closed.
    Cut,
}

impl How {
    /// The state of the part, in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            How::Kill => "killed",
            How::Freeze => "frozen",
            How::Cut => "cut",
        }
    }
}

/// The part that a fault affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The public side of the tunnel.
    Edge,
    /// The private side of the tunnel.
    Connector,
    /// The path between these two sides.
    Link,
    /// The server behind the tunnel, or the path to it.
    Upstream,
}

impl Part {
    /// The name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Part::Edge => "edge",
            Part::Connector => "connector",
            Part::Link => "link",
            Part::Upstream => "upstream",
        }
    }
}

/// The times of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strike {
    /// When the fault began.
    pub struck: Time,
    /// When the process had ended or stopped, or the path was cut.
    pub gone: Time,
    /// When it ended: the process was restarted or continued, or packets passed again.
    pub healed: Time,
    /// When the new process accepted connections, if it listens.
    pub listening: Option<Time>,
}

/// The effect of a fault on the calls.
///
/// A call is lost if it was answered with an error or not at all. Only calls that were sent after the process had ended
/// show recovery, because earlier answers may have been in flight.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recovery {
    /// Calls with a good answer, in the whole measured time.
    pub good: u64,
    /// Calls that were lost before the fault began.
    pub lost_before: u64,
    /// Lost calls that were in flight when it began.
    pub lost_in_flight: u64,
    /// Lost calls that were sent afterwards.
    pub lost_after: u64,
    /// All calls that were lost since the fault, by cause.
    pub causes: BTreeMap<Cause, u64>,
    /// The time from the beginning of the fault to the first good answer to a call that was sent after it.
    pub from_strike: Option<Duration>,
    /// The same time from the end of the fault; zero if the answer arrived before the end.
    pub from_healed: Option<Duration>,
    /// The time from the beginning of the fault to the sending of the last lost call.
    pub last_lost: Option<Duration>,
    /// The longest latency of a good call since the fault, from its planned start.
    pub longest: Option<Duration>,
}

impl Recovery {
    /// The effect of a fault on the calls of a run.
    #[must_use]
    pub fn of(outcome: &Outcome, strike: &Strike) -> Recovery {
        let mut recovery = Recovery { good: outcome.calls, ..Recovery::default() };
        outcome.trace.iter().for_each(|call| recovery.count(call, strike));
        recovery
    }

    fn count(&mut self, call: &Traced, strike: &Strike) {
        let Some(cause) = call.failed else { return self.count_good(call, strike) };
        if call.ended < strike.struck {
            self.lost_before += 1;
            return;
        }
        *self.causes.entry(cause).or_default() += 1;
        if call.sent <= strike.gone {
            self.lost_in_flight += 1;
        } else {
            self.lost_after += 1;
        }
        let sent = if call.sent == Time::NEVER { call.due } else { call.sent };
        self.last_lost = self.last_lost.max(Some(sent - strike.struck));
    }

    fn count_good(&mut self, call: &Traced, strike: &Strike) {
        if call.ended < strike.struck {
            return;
        }
        self.longest = self.longest.max(Some(call.ended - call.due));
        if call.sent > strike.gone {
            let earlier = |before: Option<Duration>, now: Duration| Some(before.map_or(now, |before| before.min(now)));
            self.from_strike = earlier(self.from_strike, call.ended - strike.struck);
            self.from_healed = earlier(self.from_healed, call.ended - strike.healed);
        }
    }

    /// The number of calls that were lost since the fault.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost_in_flight + self.lost_after
    }
}

/// The result of a fault.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The kind of the fault.
    pub how: How,
    /// The process or path that failed.
    pub part: Part,
    /// The times of the fault.
    pub strike: Strike,
    /// Its effect on the calls.
    pub recovery: Recovery,
    /// Calls that the upstream received more than once; `None` if it does not count them.
    pub doubled: Option<u64>,
    /// The latencies of good calls.
    pub latencies: Latencies,
    /// The generator's lag at its 99th percentile.
    pub generator_lag_p99: Duration,
    /// Why the result is incomplete.
    pub partial: Option<String>,
}

impl Fault {
    /// The fault of the result itself, apart from lost calls and time, which are measured.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let recovery = &self.recovery;
        if let Some(partial) = &self.partial {
            return Some(partial.clone());
        }
        if recovery.lost_before > 0 {
            return Some(format!("{} calls were lost before the fault", recovery.lost_before));
        }
        if recovery.from_strike.is_none() {
            return Some("no call succeeded again within the measured time (--after)".to_owned());
        }
        match self.doubled {
            None => Some("the upstream lost count of the calls".to_owned()),
            Some(0) => None,
            Some(doubled) => Some(format!("{doubled} calls reached the upstream more than once")),
        }
    }

    /// The result as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let recovery = &self.recovery;
        let causes: BTreeMap<String, u64> = recovery.causes.iter().map(|(cause, n)| (cause.to_string(), *n)).collect();
        let since_strike = |at: Time| ms(at - self.strike.struck);
        json!({
            "how": self.how.name(),
            "part": self.part.name(),
            "gone_ms": since_strike(self.strike.gone),
            "launched_ms": since_strike(self.strike.healed),
            "listening_ms": self.strike.listening.map(since_strike),
            "good_call_ms": recovery.from_strike.map(ms),
            "good_call_from_launch_ms": recovery.from_healed.map(ms),
            "last_lost_ms": recovery.last_lost.map(ms),
            "longest_ms": recovery.longest.map(ms),
            "good": recovery.good,
            "lost": recovery.lost(),
            "lost_in_flight": recovery.lost_in_flight,
            "lost_after": recovery.lost_after,
            "lost_before": recovery.lost_before,
            "causes": causes,
            "doubled": self.doubled,
            "latency": self.latencies.to_json(),
            "generator_lag_p99_us": self.generator_lag_p99.as_nanos() as f64 / 1e3,
            "error": self.fault(),
        })
    }
}

/// The result for vanished agents, each with a silent event stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vanished {
    /// The number of agents.
    pub agents: u64,
    /// The number of streams that were still open at the end.
    pub left: u64,
    /// The time until the first stream had ended at the upstream.
    pub first: Option<Duration>,
    /// The time until all streams had ended.
    pub all: Option<Duration>,
    /// The time limit of the wait.
    pub limit: Duration,
}

impl Vanished {
    /// The fault of the result, if any.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let Vanished { agents, left, limit, .. } = self;
        (*left > 0).then(|| format!("{left} of {agents} event streams of vanished agents were open after {limit:?}"))
    }

    /// The result as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "agents": self.agents,
            "left": self.left,
            "first_freed_ms": self.first.map(ms),
            "all_freed_ms": self.all.map(ms),
            "error": self.fault(),
        })
    }
}

/// Milliseconds, with three digits after the point.
#[must_use]
pub fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    fn strike() -> Strike {
        Strike { struck: at(1000), gone: at(1010), healed: at(1020), listening: Some(at(1100)) }
    }

    fn call(sent: u64, ended: u64, failed: Option<Cause>) -> Traced {
        Traced { due: at(sent), sent: at(sent), ended: at(ended), failed }
    }

    fn recovery(trace: Vec<Traced>) -> Recovery {
        let calls = trace.iter().filter(|call| call.failed.is_none()).count() as u64;
        Recovery::of(&Outcome { calls, trace, ..Outcome::default() }, &strike())
    }

    #[test]
    fn only_a_call_that_was_sent_afterwards_shows_that_it_recovered() {
        let ms = Duration::from_millis;
        // One was answered after the kill but sent before it; one was sent while the process was dying.
        let early = [call(990, 1001, None), call(1005, 1006, None)];
        assert_eq!(recovery(early.into()).from_strike, None);
        let found = recovery([&early[..], &[call(1400, 1450, None), call(1300, 1420, None)]].concat());
        assert_eq!((found.from_strike, found.from_healed), (Some(ms(420)), Some(ms(400))));
        assert_eq!((found.good, found.longest), (4, Some(ms(120))));
    }

    #[test]
    fn lost_calls_are_counted_by_when_they_were_sent() {
        let never = Traced { due: at(1200), sent: Time::NEVER, ended: at(9000), failed: Some(Cause::Unfinished) };
        let found = recovery(vec![
            call(900, 950, Some(Cause::Status(502))),
            call(990, 1002, Some(Cause::Broken)),
            call(1100, 1101, Some(Cause::Connect)),
            call(1300, 1301, Some(Cause::Connect)),
            never,
        ]);
        assert_eq!((found.lost_before, found.lost_in_flight, found.lost_after, found.lost()), (1, 1, 3, 4));
        assert_eq!(found.last_lost, Some(Duration::from_millis(300)));
        assert_eq!(found.causes[&Cause::Connect], 2);
    }

    #[test]
    fn repeated_calls_and_no_recovery_are_faults_and_lost_calls_are_figures() {
        let lost = vec![call(990, 1002, Some(Cause::Broken)), call(1400, 1500, None)];
        let mut fault = Fault {
            how: How::Kill,
            part: Part::Edge,
            strike: strike(),
            recovery: recovery(lost),
            doubled: Some(0),
            latencies: Latencies::new(),
            generator_lag_p99: Duration::ZERO,
            partial: None,
        };
        assert_eq!(fault.fault(), None);
        let json = fault.to_json();
        assert_eq!((&json["good_call_ms"], &json["good_call_from_launch_ms"]), (&json!(500.0), &json!(480.0)));
        assert_eq!(
            (&json["listening_ms"], &json["lost"], &json["causes"]["broken"]),
            (&json!(100.0), &json!(1), &json!(1))
        );
        fault.doubled = Some(2);
        assert!(fault.fault().unwrap().contains("2 calls reached the upstream more than once"));
        fault.recovery = recovery(vec![call(1400, 1500, Some(Cause::Connect))]);
        assert!(fault.fault().unwrap().contains("no call succeeded again"));
    }
}
