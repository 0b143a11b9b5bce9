//! What is kept of one call that has ended.

use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU64};
use std::time::Duration;

use super::call_id::TraceId;
use super::call_limit::{CallLimit, CallerTimeSource};
use super::outcome::Outcome;
use super::phases::{CallPhases, Phase};
use super::recorder::LabelId;
use crate::base::{CallFailure, Time, text_start};

/// The bytes of a host name that are kept. Longer names are cut.
pub const HOST_LEN_KEPT: usize = 63;
/// Stands for a phase that the call did not have.
const NO_TIME: u32 = u32::MAX;

/// The record of one call that has ended: where it came from, how far it got, which rules decided about it, and how
/// long each phase took. It contains nothing of the body, the query, or fields that may hold a secret.
///
/// Its size is fixed, at most four cache lines, and it is written once.
#[derive(Clone, Copy, Debug)]
pub struct CallRecord {
    /// When the call ended.
    pub ended: Time,
    /// The number that the edge assigned; 0 for a connection that made no call.
    pub number: u64,
    /// The trace id that the caller sent.
    pub trace: Option<TraceId>,
    /// The address of its caller, as admission rules see it.
    pub peer: Option<IpAddr>,
    /// The host that the call named.
    pub host: HostText,
    /// Route, method and tool; `None` if they did not become known.
    pub label: Option<LabelId>,
    /// The number of the connector that took the call.
    pub connector: Option<NonZeroU64>,
    /// Why the call was sent a second time, if it was.
    pub again: Option<SentAgain>,
    /// How far the call got.
    pub stage: CallStage,
    /// The outcome under which it is counted; `None` for a connection that made no call.
    pub outcome: Option<Outcome>,
    /// The HTTP status of the response; 0 if there was none.
    pub status: u16,
    /// The response of the role itself, if it responded in place of the MCP server.
    pub own: Option<OwnAnswer>,
    /// The time limit of the call, if known.
    pub deadline: Option<CallLimit>,
    /// Whether it missed its deadline and was not ended for that.
    pub missed: bool,
    /// Whether it counts as slow.
    pub slow: bool,
    /// The decision of the route's policy, if the route has one.
    pub policy: Option<PolicyMark>,
    /// How long the phases of the call took.
    pub times: RecordedTimes,
}

/// The decision of a policy about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyMark {
    /// The first bytes of the digest of the policy.
    pub policy: u16,
    /// The index of the rule in the policy, from 1, or `NO_RULE`. An `Option` would make this struct, and an `Option`
    /// of it, larger.
    rule: NonZeroU16,
}

impl PolicyMark {
    const NO_RULE: NonZeroU16 = NonZeroU16::MAX;

    /// The decision of the policy with this start of its digest. `rule` is the index of the rule that decided; `None`
    /// if no rule did.
    #[must_use]
    pub fn new(policy: u16, rule: Option<u16>) -> PolicyMark {
        let from_one = rule.and_then(|rule| NonZeroU16::MIN.checked_add(rule));
        PolicyMark { policy, rule: from_one.unwrap_or(PolicyMark::NO_RULE) }
    }

    /// The index of the rule that decided; `None` if no rule did.
    #[must_use]
    pub fn rule(self) -> Option<u16> {
        Some(self.rule).filter(|rule| *rule != PolicyMark::NO_RULE).map(|rule| rule.get() - 1)
    }
}

/// Why a call was sent a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentAgain {
    /// The first connector did not pass it on.
    NotPassedOn {
        /// Why the first connector did not.
        failure: CallFailure,
        /// The number of that connector.
        connector: u64,
        /// Why the last connector that did not pass it on did not; equal to `failure` if only one was tried.
        last: CallFailure,
        /// The sum of the pauses before the retries.
        paused: RecordedTime,
    },
    /// The connector sent it again, on another connection.
    Resent {
        /// Whether no attempt had reached the MCP server.
        is_unread: bool,
        /// The sum of the pauses before the retries.
        paused: RecordedTime,
    },
    /// It was hedged: a second try began because the first was slow.
    Slow {
        /// The connector of the second try.
        connector: u64,
        /// How long after the first try the second began.
        after: RecordedTime,
        /// Whether the second try answered it.
        won: bool,
    },
}

/// A duration in microseconds, capped at one hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordedTime(u32);

/// The durations of one call in microseconds, each capped at one hour.
#[derive(Clone, Copy, Debug)]
pub struct RecordedTimes {
    /// How long it waited for a connector.
    waited_us: u32,
    /// How long it waited for a place among its route's calls in flight.
    queued_us: u32,
    by_place_us: [u32; PLACES],
    /// Whether the place that two phases share holds the second of them.
    is_beyond_edge: bool,
    is_stream: bool,
    /// How often it was retried. It stands here because it fits into padding.
    retries: u8,
    /// A bit set of the constants below.
    marks: u8,
    /// The caller's time limit in milliseconds; 0 if it is not known.
    caller_ms: u32,
    /// How many calls of the route were in flight when it got its place; 0 if they are not limited.
    place: u16,
    places: u16,
}

/// The call was a probe of a breaker.
const PROBE: u8 = 1;
/// The MCP server was sent `notifications/cancelled`.
const CANCELLED: u8 = 2;
/// The call was refused because its agent had used up its share.
const OVER_SHARE: u8 = 4;
/// The caller's time limit came from a setting, not from a header field.
const CALLER_BY_SETTING: u8 = 8;
const CALLER_BY_EDGE: u8 = 16;

/// How many durations are kept. Two phases share a place when no call can have both.
const PLACES: usize = 8;

const fn place_of(phase: Phase) -> usize {
    match phase {
        Phase::Edge => 0,
        Phase::Tunnel | Phase::BeyondEdge => 1,
        Phase::Connector => 2,
        Phase::UpstreamConnect => 3,
        Phase::Upstream => 4,
        Phase::UpstreamLast => 5,
        Phase::Total => 6,
        Phase::TotalLast | Phase::Stream => 7,
    }
}

impl RecordedTimes {
    const NONE: RecordedTimes = RecordedTimes {
        waited_us: 0,
        queued_us: 0,
        by_place_us: [NO_TIME; PLACES],
        is_beyond_edge: false,
        is_stream: false,
        retries: 0,
        marks: 0,
        caller_ms: 0,
        place: 0,
        places: 0,
    };

    fn mark(&mut self, mark: u8, is_so: bool) {
        self.marks |= if is_so { mark } else { 0 };
    }

    fn has(&self, mark: u8) -> bool {
        self.marks & mark != 0
    }

    fn get(&self, phase: Phase) -> Option<Duration> {
        let has_place = match phase {
            Phase::Tunnel => !self.is_beyond_edge,
            Phase::BeyondEdge => self.is_beyond_edge,
            Phase::TotalLast => !self.is_stream,
            Phase::Stream => self.is_stream,
            _ => true,
        };
        let us = Some(self.by_place_us[place_of(phase)]).filter(|us| has_place && *us != NO_TIME);
        us.map(|us| Duration::from_micros(us.into()))
    }
}

/// How far a call got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallStage {
    /// Its connection was refused because of its address.
    Accept,
    /// The TLS handshake failed.
    Tls,
    /// The request was malformed, or did not arrive in time.
    Request,
    /// A rule of the edge or of the tunnel refused it.
    Admission,
    /// No route has the host.
    Route,
    /// A breaker refused it.
    Breaker,
    /// The concurrency limit of its route refused it.
    Concurrency,
    /// The policy of its route denied it.
    Policy,
    /// No link could take it, or the link was lost.
    Link,
    /// The connector did not pass it on.
    Connector,
    /// The MCP server could not be reached, or did not answer completely or in time.
    Upstream,
    /// The caller did not receive the whole response.
    Caller,
    /// The response was passed on.
    #[default]
    Done,
}

/// A response of a role itself, in place of the MCP server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnAnswer {
    /// The HTTP status; 0 if the connection was closed without a response.
    pub status: u16,
    /// The JSON-RPC error code; 0 if there is none.
    pub rpc_code: i32,
    /// The machine-readable name of the error.
    pub code: &'static str,
    /// What was wrong and what to do.
    pub message: &'static str,
}

/// A host name or another short text, cut to [`HOST_LEN_KEPT`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HostText {
    len: u8,
    bytes: [u8; HOST_LEN_KEPT],
}

impl RecordedTime {
    /// Rounds this duration to whole microseconds.
    #[must_use]
    pub fn of(time: Duration) -> RecordedTime {
        RecordedTime(micros(time))
    }

    /// The duration that was kept.
    #[must_use]
    pub fn get(self) -> Duration {
        Duration::from_micros(self.0.into())
    }
}

impl CallRecord {
    /// A record of a call that ended `now`, with nothing else filled in.
    #[must_use]
    pub const fn new(now: Time) -> CallRecord {
        CallRecord {
            ended: now,
            number: 0,
            trace: None,
            peer: None,
            host: HostText::EMPTY,
            label: None,
            connector: None,
            again: None,
            stage: CallStage::Done,
            outcome: None,
            status: 0,
            own: None,
            deadline: None,
            missed: false,
            slow: false,
            policy: None,
            times: RecordedTimes::NONE,
        }
    }

    /// Sets the durations of its phases.
    #[must_use]
    pub fn with_phases(mut self, phases: &CallPhases) -> CallRecord {
        let of = |phase| phases.get(phase);
        let (beyond_edge, stream) = (of(Phase::BeyondEdge), of(Phase::Stream));
        self.times.is_beyond_edge = beyond_edge.is_some();
        self.times.is_stream = stream.is_some();
        // In the order of `place_of`. Listing them is faster than a loop that looks up the place of each.
        self.times.by_place_us = [
            of(Phase::Edge),
            of(Phase::Tunnel).or(beyond_edge),
            of(Phase::Connector),
            of(Phase::UpstreamConnect),
            of(Phase::Upstream),
            of(Phase::UpstreamLast),
            of(Phase::Total),
            of(Phase::TotalLast).or(stream),
        ]
        .map(|time| time.map_or(NO_TIME, micros));
        self
    }

    /// Sets how long it waited for a connector.
    #[must_use]
    pub fn with_wait(mut self, waited: Duration) -> CallRecord {
        self.times.waited_us = micros(waited);
        self
    }

    /// Sets how long it waited for a place among its route's calls in flight.
    #[must_use]
    pub fn with_queue_time(mut self, queued: Duration) -> CallRecord {
        self.times.queued_us = micros(queued);
        self
    }

    /// Sets how often it was retried: reopened by an edge, or sent again by a connector.
    #[must_use]
    pub fn with_retries(mut self, retries: u32) -> CallRecord {
        self.times.retries = u8::try_from(retries).unwrap_or(u8::MAX);
        self
    }

    /// Sets how long its caller waits, if known, and where that comes from.
    #[must_use]
    pub fn with_caller(mut self, caller: Option<(Duration, CallerTimeSource)>) -> CallRecord {
        if let Some((waits, source)) = caller {
            self.times.caller_ms = u32::try_from(waits.as_millis()).unwrap_or(u32::MAX);
            self.times.mark(CALLER_BY_SETTING, source == CallerTimeSource::Setting);
            self.times.mark(CALLER_BY_EDGE, source == CallerTimeSource::Edge);
        }
        self
    }

    /// Sets how many calls were in flight when it asked for a place, and the limit. `is_over_share` says that it was
    /// refused because its agent had used up its share.
    #[must_use]
    pub fn with_place(mut self, in_flight: u32, limit: u32, is_over_share: bool) -> CallRecord {
        let kept = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
        (self.times.place, self.times.places) = (kept(in_flight), kept(limit));
        self.times.mark(OVER_SHARE, is_over_share);
        self
    }

    /// Sets whether it was a probe of a breaker.
    #[must_use]
    pub fn with_probe(mut self, is_probe: bool) -> CallRecord {
        self.times.mark(PROBE, is_probe);
        self
    }

    /// Sets whether the MCP server was sent a cancellation.
    #[must_use]
    pub fn with_cancellation(mut self, was_sent: bool) -> CallRecord {
        self.times.mark(CANCELLED, was_sent);
        self
    }

    /// Sets the response of the role itself.
    #[must_use]
    pub fn with_own(self, own: Option<OwnAnswer>) -> CallRecord {
        let status = own.map_or(self.status, |own| own.status);
        CallRecord { status, own, ..self }
    }

    /// How long a phase took; none if the call did not have it.
    #[must_use]
    pub fn time(&self, phase: Phase) -> Option<Duration> {
        self.times.get(phase)
    }

    /// How long the call waited for a connector.
    #[must_use]
    pub fn waited(&self) -> Duration {
        Duration::from_micros(self.times.waited_us.into())
    }

    /// How long the call waited for a place among its route's calls in flight.
    #[must_use]
    pub fn queued(&self) -> Duration {
        Duration::from_micros(self.times.queued_us.into())
    }

    /// How often the call was retried.
    #[must_use]
    pub fn retries(&self) -> u8 {
        self.times.retries
    }

    /// The caller's time limit and where it comes from, if known.
    #[must_use]
    pub fn caller(&self) -> Option<(Duration, CallerTimeSource)> {
        let waits = Some(self.times.caller_ms).filter(|ms| *ms > 0)?;
        let source = match () {
            () if self.times.has(CALLER_BY_SETTING) => CallerTimeSource::Setting,
            () if self.times.has(CALLER_BY_EDGE) => CallerTimeSource::Edge,
            () => CallerTimeSource::Field,
        };
        Some((Duration::from_millis(waits.into()), source))
    }

    /// How many calls of its route were in flight with it, and the limit; `None` if they are not limited.
    #[must_use]
    pub fn place(&self) -> Option<(u16, u16)> {
        Some((self.times.place, self.times.places)).filter(|(_, limit)| *limit > 0)
    }

    /// Whether it was refused because its agent had used up its share.
    #[must_use]
    pub fn is_over_share(&self) -> bool {
        self.times.has(OVER_SHARE)
    }

    /// Whether the call was a probe of a breaker.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.times.has(PROBE)
    }

    /// Whether the MCP server was sent a cancellation.
    #[must_use]
    pub fn was_cancelled(&self) -> bool {
        self.times.has(CANCELLED)
    }

    /// Whether the call failed: the response was incomplete, or had a status of 400 or higher.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.outcome != Some(Outcome::Ok) || self.status >= 400
    }

    /// Whether the call ended before it had a route.
    #[must_use]
    pub fn is_turned_away(&self) -> bool {
        matches!(
            self.stage,
            CallStage::Accept | CallStage::Tls | CallStage::Request | CallStage::Admission | CallStage::Route
        ) && self.label.is_none()
    }
}

impl CallStage {
    /// The stage that a call with this outcome reached.
    #[must_use]
    pub const fn of(outcome: Outcome) -> CallStage {
        match outcome {
            Outcome::Ok => CallStage::Done,
            Outcome::AgentGone | Outcome::AgentStalled => CallStage::Caller,
            Outcome::BadRequest => CallStage::Request,
            Outcome::UnknownHost => CallStage::Route,
            Outcome::BreakerOpen => CallStage::Breaker,
            Outcome::ConcurrencyLimited => CallStage::Concurrency,
            Outcome::Denied => CallStage::Policy,
            Outcome::AuditUnavailable
            | Outcome::Offline
            | Outcome::Overloaded
            | Outcome::LinkLost
            | Outcome::Revoked => CallStage::Link,
            Outcome::SealRefused | Outcome::NoRoute | Outcome::TunnelFailed => CallStage::Connector,
            Outcome::UpstreamRefused | Outcome::UpstreamFailed | Outcome::TimedOut => CallStage::Upstream,
        }
    }
}

impl OwnAnswer {
    /// Describes a connection that was closed without a response.
    #[must_use]
    pub const fn unanswered(code: &'static str, message: &'static str) -> OwnAnswer {
        OwnAnswer { status: 0, rpc_code: 0, code, message }
    }
}

impl HostText {
    /// The text of a call whose host is not known.
    pub const EMPTY: HostText = HostText { len: 0, bytes: [0; HOST_LEN_KEPT] };

    /// The beginning of this name, as far as it is kept.
    #[must_use]
    pub fn of(name: &str) -> HostText {
        let name = text_start(name, HOST_LEN_KEPT).as_bytes();
        let mut text = HostText::EMPTY;
        text.bytes[..name.len()].copy_from_slice(name);
        text.len = name.len() as u8;
        text
    }

    /// The text, empty if nothing was kept.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

/// Converts to whole microseconds, capped at one hour.
fn micros(time: Duration) -> u32 {
    let us = time.as_secs().saturating_mul(1_000_000).saturating_add(time.subsec_micros().into());
    u32::try_from(us).unwrap_or(u32::MAX).min(NO_TIME - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::{ConnectorTimes, EdgeTimes};

    /// The most bytes of a record: four cache lines.
    const RECORD_LEN_MAX: usize = 256;

    #[test]
    fn a_record_is_small() {
        let len = size_of::<CallRecord>();
        assert!(len <= RECORD_LEN_MAX, "{len} bytes");
    }

    #[test]
    fn times_are_kept_to_the_microsecond() {
        let us = Duration::from_micros;
        let edge =
            EdgeTimes { edge: us(21), total: us(5_000_000), total_last: Some(Duration::MAX), ..EdgeTimes::default() };
        let far = ConnectorTimes { connector: us(15), upstream: us(4_000_000), ..ConnectorTimes::default() };
        let record = CallRecord::new(Time::ZERO).with_phases(&CallPhases::split(edge, Some(far))).with_wait(us(7));
        let record = record.with_queue_time(us(9));
        assert_eq!(record.time(Phase::Edge), Some(us(21)));
        assert_eq!(record.time(Phase::Upstream), Some(us(4_000_000)));
        assert_eq!(record.time(Phase::UpstreamConnect), None);
        assert_eq!(record.time(Phase::TotalLast), Some(us(u64::from(u32::MAX) - 1)));
        assert_eq!((record.waited(), record.queued()), (us(7), us(9)));
    }

    #[test]
    fn decisions_are_kept() {
        let new = CallRecord::new(Time::ZERO);
        assert_eq!((new.caller(), new.place(), new.is_probe(), new.was_cancelled()), (None, None, false, false));
        for source in [CallerTimeSource::Field, CallerTimeSource::Setting, CallerTimeSource::Edge] {
            let caller = Some((Duration::from_secs(5), source));
            let record = new.with_caller(caller).with_place(3, 8, false);
            assert_eq!((record.caller(), record.place(), record.is_over_share()), (caller, Some((3, 8)), false));
            assert!(!record.is_probe() && !record.was_cancelled());
        }
        let record = new.with_probe(true).with_cancellation(true).with_place(70_000, 80_000, true);
        assert!(record.is_probe() && record.was_cancelled() && record.is_over_share());
        assert_eq!(record.place(), Some((u16::MAX, u16::MAX)));
    }

    #[test]
    fn each_phase_that_a_call_had_is_kept_and_no_other() {
        let us = Duration::from_micros;
        let edge = EdgeTimes {
            edge: us(1),
            is_handed_over: true,
            total: us(90),
            total_last: Some(us(200)),
            ..EdgeTimes::default()
        };
        let far = ConnectorTimes {
            connector: us(2),
            upstream_connect: Some(us(3)),
            upstream: us(4),
            upstream_last: Some(us(5)),
        };
        for is_event_stream in [false, true] {
            for connector in [None, Some(far)] {
                let phases = CallPhases::split(EdgeTimes { is_event_stream, ..edge }, connector);
                let record = CallRecord::new(Time::ZERO).with_phases(&phases);
                for phase in Phase::ALL {
                    assert_eq!(record.time(phase), phases.get(phase), "{}", phase.name());
                }
            }
        }
    }

    #[test]
    fn a_long_host_is_cut_between_characters() {
        assert_eq!(HostText::of("demo.test").as_str(), "demo.test");
        assert_eq!(HostText::of(&"a".repeat(300)).as_str(), "a".repeat(HOST_LEN_KEPT));
        assert_eq!(HostText::of(&"é".repeat(300)).as_str(), "é".repeat(HOST_LEN_KEPT / 2));
    }

    #[test]
    fn only_a_call_that_succeeded_is_done() {
        let done = Outcome::ALL.iter().filter(|outcome| CallStage::of(**outcome) == CallStage::Done);
        assert_eq!(done.collect::<Vec<_>>(), [&Outcome::Ok]);
    }
}
