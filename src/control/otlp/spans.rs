//! The spans of a call: one of the role itself, and one of what the role waits for, which is the link at an edge and the
//! MCP server at a connector. Names and attributes follow the semantic conventions of OpenTelemetry for MCP.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::base::{Clock, Time, hex};
use crate::control::otlp::messages::{KeyValue, Span, SpanEvent, SpanLink, SpanStatus};
use crate::control::reading::{RoleKind, connector_name};
use crate::engine::MonotonicClock;
use crate::latency::{CallTrace, Outcome, Phase};

const KIND_SERVER: i32 = 2;
const KIND_CLIENT: i32 = 3;
const STATUS_ERROR: i32 = 2;
/// The call is sampled, and its parent is known to be of this process.
const FLAGS_LOCAL: u32 = 0x101;
/// The call is sampled, and its parent is known to be of another process.
const FLAGS_REMOTE: u32 = 0x301;
/// The name of the span of the link at an edge.
const TUNNEL: &str = "tunnel";

/// Both clocks at one moment, by which points on the clock of the cores become times.
#[derive(Clone, Copy)]
pub(super) struct Clocks {
    wall: Duration,
    cores: Time,
}

impl Clocks {
    pub(super) fn now() -> Clocks {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clocks { wall, cores: MonotonicClock.now() }
    }

    /// Now, in nanoseconds since 1970.
    pub(super) fn wall_nanos(&self) -> u64 {
        self.unix_nanos(self.cores)
    }

    /// A point on the clock of the cores, in nanoseconds since 1970.
    pub(super) fn unix_nanos(&self, at: Time) -> u64 {
        let since = self.wall.saturating_sub(self.cores - at);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The spans of a call of this role.
pub(super) fn spans_of(call: &CallTrace, role: RoleKind, clocks: &Clocks) -> Vec<Span> {
    let points = &call.points;
    // The end is that of the core's turn, which may have begun before the last points.
    let ended = points.ended.max(points.began).max(points.sent.unwrap_or(points.began));
    let common = mcp_attributes(call);
    let failed = failure_of(call);
    let link = call
        .sampled
        .link
        .map(|context| SpanLink { trace_id: context.trace.bytes().to_vec(), span_id: context.parent.bytes().to_vec() });
    let own = Span {
        trace_id: call.sampled.trace.bytes().to_vec(),
        span_id: call.sampled.own.bytes().to_vec(),
        parent_span_id: call.sampled.parent.map(|parent| parent.bytes().to_vec()).unwrap_or_default(),
        name: name_of(call),
        kind: KIND_SERVER,
        start_time_unix_nano: clocks.unix_nanos(points.began),
        end_time_unix_nano: clocks.unix_nanos(ended),
        attributes: [&common[..], &own_attributes(call, role), &error_type(failed.as_deref())].concat(),
        events: Vec::new(),
        links: link.into_iter().collect(),
        status: failed.as_deref().map(error_status),
        flags: FLAGS_REMOTE,
    };
    let Some(sent) = points.sent else { return vec![own] };
    let last = points.last.unwrap_or(ended).clamp(sent, ended);
    let failed = failed.or_else(|| refused_by_server(call));
    let onward = Span {
        trace_id: own.trace_id.clone(),
        span_id: call.sampled.onward.bytes().to_vec(),
        parent_span_id: own.span_id.clone(),
        name: if role == RoleKind::Edge { TUNNEL.to_owned() } else { own.name.clone() },
        kind: KIND_CLIENT,
        start_time_unix_nano: clocks.unix_nanos(sent),
        end_time_unix_nano: clocks.unix_nanos(last),
        attributes: [&common[..], &onward_attributes(call, role), &error_type(failed.as_deref())].concat(),
        events: points.first.map(|first| first_byte(clocks.unix_nanos(first))).into_iter().collect(),
        links: Vec::new(),
        status: failed.as_deref().map(error_status),
        flags: FLAGS_LOCAL,
    };
    vec![own, onward]
}

/// `tools/call NAME` and `prompts/get NAME`; other targets are too many for a name.
fn name_of(call: &CallTrace) -> String {
    let target = call.target.as_str();
    match call.method {
        "" if call.http_method == "_OTHER" => "HTTP".to_owned(),
        "" => call.http_method.to_owned(),
        method @ ("tools/call" | "prompts/get") if !target.is_empty() => format!("{method} {target}"),
        method => method.to_owned(),
    }
}

/// What both spans of a call say of its message.
fn mcp_attributes(call: &CallTrace) -> Vec<KeyValue> {
    let mut found = Vec::new();
    let mut text = |key: &str, value: &str| {
        if !value.is_empty() {
            found.push(KeyValue::text(key, value));
        }
    };
    text("mcp.method.name", call.method);
    match call.method {
        "tools/call" => {
            text("gen_ai.operation.name", "execute_tool");
            text("gen_ai.tool.name", call.target.as_str());
        }
        "prompts/get" => text("gen_ai.prompt.name", call.target.as_str()),
        // A query may contain secrets.
        method if method.starts_with("resources/") => {
            text("mcp.resource.uri", call.target.as_str().split(['?', '#']).next().unwrap_or_default());
        }
        _ => {}
    }
    // The id of a message is a number or a string; the convention has both as text.
    text("jsonrpc.request.id", call.rpc_id.as_str().trim_matches('"'));
    text("mcp.protocol.version", call.revision.as_str());
    text("mcp.session.id", &call.session.map(|start| hex(&start)).unwrap_or_default());
    text("network.protocol.name", "http");
    text("http.request.method", call.http_method);
    text("adit.route", call.route.as_str());
    found
}

/// What the span of the role itself says besides.
fn own_attributes(call: &CallTrace, role: RoleKind) -> Vec<KeyValue> {
    let record = &call.record;
    let mut found = vec![KeyValue::text("adit.role", role.as_str()), KeyValue::text("adit.phase", role.as_str())];
    found.extend(record.peer.map(|peer| KeyValue::text("client.address", peer.to_string())));
    found.extend(server_address(record.host.as_str()));
    found.extend(outcome_attributes(call));
    if record.number > 0 {
        found.push(KeyValue::text("adit.call", format!("{:x}", record.number)));
    }
    found.extend(record.connector.map(|number| KeyValue::text("adit.connector", connector_name(number.get()))));
    let phases = Phase::ALL.iter().filter_map(|phase| Some((phase.name(), record.time(*phase)?)));
    found.extend(phases.map(|(name, took)| {
        let us = i64::try_from(took.as_micros()).unwrap_or(i64::MAX);
        KeyValue::number(&format!("adit.phase.{name}_us"), us)
    }));
    found
}

/// What the span of the link or the MCP server says besides.
fn onward_attributes(call: &CallTrace, role: RoleKind) -> Vec<KeyValue> {
    let phase = if role == RoleKind::Edge { Phase::Tunnel } else { Phase::Upstream };
    let mut found = vec![KeyValue::text("adit.role", role.as_str()), KeyValue::text("adit.phase", phase.name())];
    found.extend(status_code(call));
    found
}

fn outcome_attributes(call: &CallTrace) -> Vec<KeyValue> {
    let record = &call.record;
    let mut found: Vec<KeyValue> = status_code(call).into_iter().collect();
    found.extend(record.outcome.map(|outcome| KeyValue::text("adit.outcome", outcome.name())));
    let rpc_code = record.own.map(|own| own.rpc_code).filter(|code| *code != 0);
    found.extend(rpc_code.map(|code| KeyValue::text("rpc.response.status_code", code.to_string())));
    found
}

fn status_code(call: &CallTrace) -> Option<KeyValue> {
    let status = Some(call.record.status).filter(|status| *status > 0)?;
    Some(KeyValue::number("http.response.status_code", status.into()))
}

/// The host and port of a `Host` field.
fn server_address(host: &str) -> Vec<KeyValue> {
    if host.is_empty() {
        return Vec::new();
    }
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() && !port.ends_with(']') => (name, port.parse().ok()),
        _ => (host, None),
    };
    let port = port.map(|port: u16| KeyValue::number("server.port", port.into()));
    [KeyValue::text("server.address", name)].into_iter().chain(port).collect()
}

/// Why the call failed; none if it did not, or if its caller gave it up.
fn failure_of(call: &CallTrace) -> Option<String> {
    let record = &call.record;
    match (record.own, record.outcome) {
        (_, Some(Outcome::AgentGone)) => None,
        (Some(own), _) if own.status >= 400 || own.status == 0 => Some(own.code.to_owned()),
        (_, Some(outcome)) if outcome != Outcome::Ok => Some(outcome.name().to_owned()),
        _ if record.status >= 500 => Some(record.status.to_string()),
        _ => None,
    }
}

/// The status with which the server refused the call. For a client that is an error, and for a server it is not.
fn refused_by_server(call: &CallTrace) -> Option<String> {
    (call.record.status >= 400).then(|| call.record.status.to_string())
}

fn error_type(failed: Option<&str>) -> Vec<KeyValue> {
    failed.map(|why| KeyValue::text("error.type", why)).into_iter().collect()
}

fn error_status(why: &str) -> SpanStatus {
    SpanStatus { message: why.to_owned(), code: STATUS_ERROR }
}

fn first_byte(time_unix_nano: u64) -> SpanEvent {
    SpanEvent { time_unix_nano, name: "first_byte".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::otlp::messages::AttributeValue;
    use crate::exchange::CallFailure;
    use crate::latency::{
        CallOrigin, CallPoints, CallRecord, HostText, TextStart, TraceContext, TraceQueue, TraceSettings,
    };

    fn at(ms: u64) -> Time {
        Time::ZERO + Duration::from_millis(ms)
    }

    fn call(method: &'static str, target: &str) -> CallTrace {
        let settings = TraceSettings { sampled: 0, queue_max: 1, process: 1, joins_edge: true };
        let context = |parent| {
            TraceContext::of_traceparent(format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{parent}-01").as_bytes())
        };
        let (of_head, of_message) = (context("00f067aa0ba902b7"), context("00f067aa0ba902b8"));
        let origin = CallOrigin { process: 1, number: 0x1f3 };
        CallTrace {
            record: CallRecord {
                number: 0x1f3,
                host: HostText::of("demo.test:8443"),
                outcome: Some(Outcome::Ok),
                status: 200,
                ..CallRecord::new(at(90))
            },
            points: CallPoints {
                began: at(10),
                sent: Some(at(20)),
                first: Some(at(70)),
                last: Some(at(80)),
                ended: at(90),
            },
            sampled: TraceQueue::new(settings).sample_at_edge(of_head, of_message, origin).unwrap(),
            route: TextStart::of("demo"),
            http_method: "POST",
            method,
            target: TextStart::of(target),
            rpc_id: TextStart::of("\"a-7\""),
            revision: TextStart::of("2025-11-25"),
            session: Some([0xab; 8]),
        }
    }

    fn clocks() -> Clocks {
        Clocks { wall: Duration::from_secs(1_000), cores: at(100) }
    }

    fn text<'a>(span: &'a Span, key: &str) -> Option<&'a str> {
        let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
        match found.value.as_ref()?.value.as_ref()? {
            AttributeValue::Text(text) => Some(text.as_str()),
            AttributeValue::Number(_) => Some("a number"),
        }
    }

    #[test]
    fn a_call_has_the_span_of_the_role_and_that_of_what_it_waits_for() {
        let call = call("tools/call", "search");
        let spans = spans_of(&call, RoleKind::Edge, &clocks());
        let [own, onward] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!((&*own.name, own.kind, &*onward.name, onward.kind), ("tools/call search", 2, "tunnel", 3));
        assert_eq!((hex(&own.parent_span_id), &onward.parent_span_id), ("00f067aa0ba902b7".to_owned(), &own.span_id));
        let ms = |nanos: u64| nanos / 1_000_000 - 999_900;
        let times = [own, onward].map(|span| (ms(span.start_time_unix_nano), ms(span.end_time_unix_nano)));
        assert_eq!((times, ms(onward.events[0].time_unix_nano)), ([(10, 90), (20, 80)], 70));
        assert_eq!(hex(&own.links[0].span_id), "00f067aa0ba902b8");
        for (key, value) in [
            ("mcp.method.name", "tools/call"),
            ("gen_ai.tool.name", "search"),
            ("gen_ai.operation.name", "execute_tool"),
            ("jsonrpc.request.id", "a-7"),
            ("mcp.session.id", "abababababababab"),
            ("mcp.protocol.version", "2025-11-25"),
            ("server.address", "demo.test"),
            ("server.port", "a number"),
            ("adit.call", "1f3"),
            ("adit.outcome", "ok"),
        ] {
            assert_eq!(text(own, key), Some(value), "{key}");
        }
        assert_eq!((text(own, "error.type"), &own.status), (None, &None));
        let at_connector = spans_of(&call, RoleKind::Connector, &clocks());
        assert_eq!(
            (&*at_connector[1].name, text(&at_connector[1], "adit.phase")),
            ("tools/call search", Some("upstream"))
        );
    }

    #[test]
    fn failures_are_errors_with_their_codes_and_a_caller_that_leaves_is_none() {
        let failed = |outcome: Outcome, status: u16, failure: Option<CallFailure>| {
            let mut call = call("tools/call", "search");
            call.record = CallRecord { outcome: Some(outcome), status, ..call.record };
            call.record = call.record.with_own(failure.map(|failure| failure.own_answer(None)));
            let spans = spans_of(&call, RoleKind::Connector, &clocks());
            [0, 1].map(|at| text(&spans[at], "error.type").map(str::to_owned))
        };
        let both = |why: &str| [Some(why.to_owned()), Some(why.to_owned())];
        assert_eq!(failed(Outcome::TimedOut, 0, Some(CallFailure::Deadline)), both("timed_out"));
        assert_eq!(failed(Outcome::UpstreamFailed, 200, None), both("upstream_failed"));
        assert_eq!(failed(Outcome::Ok, 503, None), both("503"));
        assert_eq!(failed(Outcome::Ok, 404, None), [None, Some("404".to_owned())]);
        assert_eq!(failed(Outcome::AgentGone, 200, None), [None, None]);
    }

    #[test]
    fn what_was_never_sent_has_one_span_and_a_uri_loses_its_query() {
        let mut call = call("resources/read", "file:///a?token=secret");
        call.points = CallPoints { sent: None, first: None, last: None, ..call.points };
        let spans = spans_of(&call, RoleKind::Edge, &clocks());
        assert_eq!((spans.len(), &*spans[0].name), (1, "resources/read"));
        assert_eq!(text(&spans[0], "mcp.resource.uri"), Some("file:///a"));
    }
}
