//! The last calls of one core.

use std::net::IpAddr;
use std::time::Duration;

use super::call_id::CallId;
use super::call_record::{CallRecord, CallStage, HostText, OwnAnswer};
use super::label::Label;
use super::recorder::Recorder;
use crate::base::Time;

/// The kinds of calls, each with its own space so that frequent ones do not displace rare ones.
const KINDS: usize = 3;

/// The last calls of one core, the same number of each kind: answered calls, calls that failed or were slow, and calls
/// that were turned away before they had a route. New calls replace the oldest of their kind.
///
/// Its memory is allocated when it is created. Recording a call copies its record and allocates nothing.
pub struct CallLog {
    rings: [Ring; KINDS],
    kept: usize,
}

/// Selects calls from a log.
#[derive(Clone, Debug, Default)]
pub struct CallFilter {
    /// Only calls with this id.
    pub id: Option<CallId>,
    /// Only calls with this `Host`, or of the route with this name.
    pub host: Option<String>,
    /// Only calls of this tool.
    pub tool: Option<String>,
    /// Only those that failed.
    pub failed: bool,
    /// Only calls that ended within this time.
    pub since: Option<Duration>,
    /// At most this many, the newest first.
    pub limit: usize,
}

/// A selected call, with what the core knows about it now.
#[derive(Clone, Debug)]
pub struct CallLine {
    /// The record of the call.
    pub record: CallRecord,
    /// How long ago it ended.
    pub age: Duration,
    /// Route, method and tool, if they are known.
    pub label: Option<Label>,
    /// The name of the route that its host belongs to now.
    pub route: Option<String>,
    /// The tunnel of that route; only on an edge.
    pub tunnel: Option<String>,
    /// The name of the rule that decided, if the route still has the same policy.
    pub rule: Option<String>,
}

impl CallLog {
    /// Keeps this many calls of each kind; zero keeps none.
    #[must_use]
    pub fn new(kept: usize) -> CallLog {
        CallLog { rings: [(); KINDS].map(|()| Ring { records: Vec::with_capacity(kept), next: 0 }), kept }
    }

    /// Whether any calls are kept.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.kept > 0
    }

    /// Records a call that has ended.
    pub fn record(&mut self, record: &CallRecord) {
        if !self.is_on() {
            return;
        }
        let kind = match record {
            record if record.is_turned_away() => 2,
            record if record.is_failed() || record.slow || record.missed => 1,
            _ => 0,
        };
        self.rings[kind].push(record, self.kept);
    }

    /// Records a connection that was turned away, or a request that could not be parsed.
    pub fn record_turned_away(&mut self, now: Time, peer: Option<IpAddr>, stage: CallStage, own: OwnAnswer) {
        self.record(&CallRecord { peer, stage, ..CallRecord::new(now) }.with_own(Some(own)));
    }

    /// The selected calls, the newest first. `recorder` supplies their labels.
    pub fn find<'a>(&'a self, filter: &CallFilter, recorder: &'a Recorder, now: Time) -> Vec<FoundCall<'a>> {
        let host = filter.host.as_deref().map(HostText::of);
        let mut found: Vec<FoundCall<'a>> = Vec::new();
        for ring in &self.rings {
            let labelled = ring.newest().map(|record| {
                let label = record.label.and_then(|id| recorder.name(id));
                FoundCall { record, age: now - record.ended, label }
            });
            found.extend(labelled.filter(|call| filter.takes(call, host)).take(filter.limit));
        }
        found.sort_by_key(|call| call.age);
        found.truncate(filter.limit);
        found
    }
}

/// A call that a filter selected.
#[derive(Clone, Copy)]
pub struct FoundCall<'a> {
    /// The record of the call.
    pub record: &'a CallRecord,
    /// How long ago it ended.
    pub age: Duration,
    /// Its label, if known.
    pub label: Option<&'a Label>,
}

impl CallFilter {
    fn takes(&self, call: &FoundCall<'_>, host: Option<HostText>) -> bool {
        let FoundCall { record, age, label } = call;
        let has_id = match self.id {
            None => true,
            Some(CallId::Trace(trace)) => record.trace == Some(trace),
            Some(CallId::Number(number)) => record.number == number && number > 0,
        };
        let is_of_route = || label.is_some_and(|label| Some(&*label.route) == self.host.as_deref());
        has_id
            && (!self.failed || record.is_failed())
            && self.since.is_none_or(|since| *age <= since)
            && host.is_none_or(|host| record.host == host || is_of_route())
            && self.tool.as_deref().is_none_or(|tool| label.is_some_and(|label| &*label.tool == tool))
    }
}

/// A ring buffer of records.
struct Ring {
    records: Vec<CallRecord>,
    /// Where the next record goes, once the buffer is full.
    next: usize,
}

impl Ring {
    fn push(&mut self, record: &CallRecord, kept: usize) {
        if self.records.len() < kept {
            return self.records.push(*record);
        }
        self.records[self.next] = *record;
        self.next = (self.next + 1) % kept;
    }

    fn newest(&self) -> impl Iterator<Item = &CallRecord> {
        let (newer, older) = self.records.split_at(self.next);
        newer.iter().rev().chain(older.iter().rev())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::{LatencySettings, Outcome, TraceId};

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    fn call(recorder: &mut Recorder, ms: u64, tool: &str, outcome: Outcome) -> CallRecord {
        let label = Some(recorder.label("a.test", "tools/call", tool));
        let stage = CallStage::of(outcome);
        let host = HostText::of("a.test");
        CallRecord { label, outcome: Some(outcome), stage, number: ms, host, ..CallRecord::new(at(ms)) }
    }

    fn numbers(log: &CallLog, recorder: &Recorder, filter: &CallFilter) -> Vec<u64> {
        log.find(filter, recorder, at(1_000)).iter().map(|call| call.record.number).collect()
    }

    const ALL: usize = usize::MAX;

    #[test]
    fn the_last_ones_are_kept_and_frequent_ones_do_not_displace_rare_ones() {
        let (mut log, mut recorder) = (CallLog::new(3), Recorder::new(LatencySettings::default()));
        let filter = CallFilter { limit: ALL, ..CallFilter::default() };
        log.record(&call(&mut recorder, 1, "a", Outcome::TimedOut));
        for ms in 2..=9 {
            log.record(&call(&mut recorder, ms, "a", Outcome::Ok));
        }
        let turned_away = |ms| CallRecord { stage: CallStage::Tls, number: ms, ..CallRecord::new(at(ms)) };
        (10..=14).for_each(|ms| log.record(&turned_away(ms)));
        assert_eq!(numbers(&log, &recorder, &filter), [14, 13, 12, 9, 8, 7, 1]);
        let slow = CallRecord { slow: true, ..call(&mut recorder, 15, "a", Outcome::Ok) };
        log.record(&slow);
        (16..=18).for_each(|ms| log.record(&call(&mut recorder, ms, "a", Outcome::Ok)));
        assert_eq!(numbers(&log, &recorder, &filter), [18, 17, 16, 15, 14, 13, 12, 1]);
        assert_eq!(numbers(&log, &recorder, &CallFilter { limit: 2, ..filter }), [18, 17]);
    }

    #[test]
    fn a_log_of_no_size_keeps_nothing() {
        let (mut log, mut recorder) = (CallLog::new(0), Recorder::new(LatencySettings::default()));
        log.record(&call(&mut recorder, 1, "a", Outcome::Ok));
        assert_eq!(numbers(&log, &recorder, &CallFilter { limit: ALL, ..CallFilter::default() }), [0; 0]);
    }

    #[test]
    fn each_filter_selects_only_its_calls() {
        let (mut log, mut recorder) = (CallLog::new(8), Recorder::new(LatencySettings::default()));
        let trace = TraceId::of_digits(b"4bf92f3577b34da6a3ce929d0e0e4736");
        log.record(&CallRecord { trace, ..call(&mut recorder, 100, "a", Outcome::Ok) });
        log.record(&CallRecord { status: 404, ..call(&mut recorder, 200, "b", Outcome::Ok) });
        log.record(&call(&mut recorder, 300, "b", Outcome::AgentGone));
        let refused = CallRecord {
            stage: CallStage::Route,
            outcome: Some(Outcome::UnknownHost),
            number: 900,
            host: HostText::of("b.test"),
            ..CallRecord::new(at(900))
        };
        log.record(&refused);
        let all = || CallFilter { limit: ALL, ..CallFilter::default() };
        let found = |filter| numbers(&log, &recorder, &filter);
        assert_eq!(found(all()), [900, 300, 200, 100]);
        assert_eq!(found(CallFilter { failed: true, ..all() }), [900, 300, 200]);
        assert_eq!(found(CallFilter { tool: Some("b".to_owned()), ..all() }), [300, 200]);
        assert_eq!(found(CallFilter { host: Some("b.test".to_owned()), ..all() }), [900]);
        assert_eq!(found(CallFilter { host: Some("a.test".to_owned()), ..all() }), [300, 200, 100]);
        assert_eq!(found(CallFilter { since: Some(Duration::from_millis(800)), ..all() }), [900, 300, 200]);
        assert_eq!(found(CallFilter { id: trace.map(CallId::Trace), ..all() }), [100]);
        assert_eq!(found(CallFilter { id: Some(CallId::Number(300)), ..all() }), [300]);
    }
}
