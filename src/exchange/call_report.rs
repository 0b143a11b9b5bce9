//! The details of one failed call, in addition to what its failure means in general.

use std::fmt::Write;
use std::time::Duration;

use crate::exchange::CallFailure;
use crate::latency::{BreakerOpen, BreakerScope, CallCounts, Overload, OverloadCause, Phase, TraceId, UsualLatency};
use crate::wire::http1::Answer;

/// The JSON-RPC error code of a call that missed its deadline.
const RPC_CODE_DEADLINE: i32 = -31_019;
/// The JSON-RPC error code of a call that was ended because its caller's own time limit was nearly over.
pub(super) const RPC_CODE_CALLER_TIMEOUT: i32 = -31_021;
/// The name of `RPC_CODE_CALLER_TIMEOUT`.
pub(super) const CODE_CALLER_TIMEOUT: &str = "caller_timeout";

/// The details that the error response of one failed call contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallReport {
    /// Replaces the failure's own codes, if set.
    code: Option<(i32, &'static str)>,
    /// Replaces the failure's own message, if set.
    message: Option<String>,
    /// Members of the `data` object of the JSON-RPC error, each preceded by a comma.
    data: String,
    /// Replaces the failure's own `Retry-After`, if set.
    retry_after_s: Option<Option<u32>>,
}

/// The failed call that a report describes.
#[derive(Clone, Copy, Debug)]
pub struct FailedCall<'a> {
    /// The id of the call's tunnel.
    pub tunnel: &'a str,
    /// The name of the call's route.
    pub route: &'a str,
    /// The MCP method; empty if it is not known.
    pub method: &'a str,
    /// The tool, if the method is `tools/call`.
    pub tool: Option<&'a str>,
    /// The number by which an operator finds the call; 0 if it has none.
    pub number: u64,
    /// The trace id that the agent sent, if it sent one.
    pub trace: Option<TraceId>,
    /// The phase in which the call failed.
    pub phase: Phase,
    /// How long earlier calls took, if known.
    pub usual: Option<UsualLatency>,
}

/// A call that was refused because a breaker was open.
#[derive(Clone, Copy, Debug)]
pub struct BreakerRefusal<'a> {
    /// The call that was refused.
    pub call: FailedCall<'a>,
    /// Which breaker was open.
    pub scope: BreakerScope,
    /// When calls will be tried again.
    pub refused: BreakerOpen,
    /// The results for which the breaker opened.
    pub counts: CallCounts,
}

/// A call that was refused because its route had reached its concurrency limit.
#[derive(Clone, Copy, Debug)]
pub struct OverloadRefusal<'a> {
    /// The call that was refused.
    pub call: FailedCall<'a>,
    /// Why it was refused.
    pub overload: Overload,
}

/// Where the time limit of a call comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitSource {
    /// The learned deadline, computed from earlier calls.
    Learned,
    /// It is the setting `first_byte_timeout_ms`.
    Setting,
    /// The time for which the caller waits.
    Caller,
}

/// A call that was ended because a time limit had passed.
#[derive(Clone, Copy, Debug)]
pub struct LateCall<'a> {
    /// The call that was ended.
    pub call: FailedCall<'a>,
    /// The limit that passed.
    pub limit: Duration,
    /// Where the limit comes from.
    pub source: LimitSource,
}

impl CallReport {
    /// A report with nothing but the identity of the call.
    #[must_use]
    pub fn of(call: &FailedCall<'_>) -> CallReport {
        CallReport { code: None, message: None, data: data_of(call), retry_after_s: None }
    }

    /// The report of a call that exceeded a time limit.
    #[must_use]
    pub fn late(late: &LateCall<'_>) -> CallReport {
        let LateCall { call: FailedCall { method, tool, usual, .. }, limit, source } = *late;
        let subject = match tool {
            Some(tool) => format!("The tool '{tool}' did not answer"),
            None => format!("The server did not answer '{method}'"),
        };
        let known = match (source, usual) {
            (LimitSource::Caller, _) => "the time limit of the caller".to_owned(),
            (LimitSource::Learned, Some(usual)) => format!("usual: {}", text(usual.p50)),
            _ => "first_byte_timeout_ms".to_owned(),
        };
        let (name, code) = match source {
            LimitSource::Learned => ("deadline", Some((RPC_CODE_DEADLINE, "deadline"))),
            LimitSource::Setting => ("first_byte_timeout_ms", None),
            LimitSource::Caller => ("caller_timeout", Some((RPC_CODE_CALLER_TIMEOUT, CODE_CALLER_TIMEOUT))),
        };
        let message = format!(
            "{subject} within {} ({known}). It may have run. Do not repeat it; ask the user or use another way.",
            text(limit)
        );
        let mut data = data_of(&late.call);
        add(&mut data, "limit", &json(name));
        add(&mut data, "limit_ms", &limit.as_millis());
        CallReport { code, message: Some(message), data, retry_after_s: None }
    }

    /// The report of a call that was refused because a breaker was open.
    #[must_use]
    pub fn breaker_open(refusal: &BreakerRefusal<'_>) -> CallReport {
        let BreakerRefusal { call: FailedCall { method, tool, .. }, scope, refused, counts } = *refusal;
        let called = tool.map_or_else(|| format!("'{method}'"), |tool| format!("The tool '{tool}'"));
        let (subject, it) = if scope == BreakerScope::Tool { (&*called, "It") } else { ("The server", &*called) };
        let message = match refused.retry_after {
            None => format!(
                "{subject} is switched off by the operator. {it} has not run. Do not repeat it; use another way."
            ),
            Some(wait) => {
                let CallCounts { calls, failed, slow } = counts;
                let how = if slow > 0 { "failed or were late" } else { "failed" };
                let wait = text(Duration::from_secs(seconds(wait).into()));
                format!(
                    "{subject} is not called at the moment: {} of its last {calls} calls {how}. {it} has not run. Try again in \
                     {wait}, or use another way.",
                    failed + slow
                )
            }
        };
        let mut data = data_of(&refusal.call);
        add(&mut data, "limit", &json("breaker"));
        add(&mut data, "breaker", &json(if scope == BreakerScope::Tool { "tool" } else { "upstream" }));
        if refused.retry_after.is_some() {
            add(&mut data, "calls", &counts.calls);
            add(&mut data, "failed", &counts.failed);
            add(&mut data, "late", &counts.slow);
        } else {
            add(&mut data, "terminal", &true);
        }
        CallReport { code: None, message: Some(message), data, retry_after_s: Some(refused.retry_after.map(seconds)) }
    }

    /// The report of a call that was refused by the concurrency limit.
    #[must_use]
    pub fn overloaded(refusal: &OverloadRefusal<'_>) -> CallReport {
        let OverloadRefusal { call: FailedCall { method, tool, .. }, overload } = *refusal;
        let Overload { cause, is_of_agent, limit, in_flight, retry_after } = overload;
        let called = match (tool, method) {
            (Some(tool), _) => format!("The tool '{tool}'"),
            (None, "") => "The call".to_owned(),
            (None, method) => format!("'{method}'"),
        };
        let why = if is_of_agent {
            "This client has its share of the calls that the server works on at one time".to_owned()
        } else {
            format!("The server works on {in_flight} calls, as many as it can at one time")
        };
        let retry_after_s = seconds(retry_after);
        let wait = text(Duration::from_secs(retry_after_s.into()));
        let message = format!("{why}. {called} has not run. Try again in {wait}.");
        let mut data = data_of(&refusal.call);
        add(&mut data, "limit", &json(if is_of_agent { "agent_share" } else { "concurrency" }));
        add(&mut data, "concurrency_limit", &limit);
        add(&mut data, "in_flight", &in_flight);
        let cause = match cause {
            OverloadCause::QueueFull => "queue_full",
            OverloadCause::TooLate => "too_late",
            OverloadCause::WaitedTooLong => "waited_too_long",
        };
        add(&mut data, "cause", &json(cause));
        CallReport { code: None, message: Some(message), data, retry_after_s: Some(Some(retry_after_s)) }
    }

    /// Whether it is of a call that was not made because the operator has opened a breaker.
    pub(super) fn is_forced(&self) -> bool {
        self.retry_after_s == Some(None)
    }

    /// The JSON-RPC error code and its name, if they differ from those of the failure.
    pub(super) fn code(&self) -> Option<(i32, &'static str)> {
        self.code
    }

    /// Adds the details of this call to the response that its failure produces.
    #[must_use]
    pub fn refine<'a>(&'a self, answer: Answer<'a>) -> Answer<'a> {
        let (rpc_code, code) = self.code.unwrap_or((answer.rpc_code, answer.code));
        let retry_after_s = self.retry_after_s.unwrap_or(answer.retry_after_s);
        let message = self.message.as_deref().unwrap_or(answer.message);
        Answer { rpc_code, code, message, data: &self.data, retry_after_s, ..answer }
    }
}

/// The members that every report has.
fn data_of(call: &FailedCall<'_>) -> String {
    let FailedCall { tunnel, route, method, tool, number, trace, phase, usual } = *call;
    let mut data = String::new();
    add(&mut data, "tunnel", &json(tunnel));
    add(&mut data, "route", &json(route));
    if !method.is_empty() {
        add(&mut data, "method", &json(method));
    }
    if let Some(tool) = tool {
        add(&mut data, "tool", &json(tool));
    }
    if number > 0 {
        add(&mut data, "call", &json(&format!("{number:x}")));
    }
    if let Some(trace) = trace {
        add(&mut data, "trace", &json(&trace.to_string()));
    }
    add(&mut data, "phase", &json(phase.name()));
    if let Some(UsualLatency { p50, p95 }) = usual {
        add(&mut data, "p50_ms", &p50.as_millis());
        add(&mut data, "p95_ms", &p95.as_millis());
    }
    data
}

fn add(data: &mut String, name: &str, value: &dyn std::fmt::Display) {
    write!(data, r#","{name}":{value}"#).expect("a String takes all");
}

fn json(text: &str) -> serde_json::Value {
    serde_json::Value::from(text)
}

/// Rounds up to whole seconds.
fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX)
}

impl CallReport {
    /// The last event of an event stream whose call failed: a JSON-RPC error for this id (JSON text).
    #[must_use]
    pub fn event(&self, failure: CallFailure, rpc_id: &str) -> Vec<u8> {
        let error = self.refine(failure.answer(Some(rpc_id))).body();
        format!("event: message\ndata: {error}\n\n").into_bytes()
    }
}

/// Formats a duration for people.
fn text(time: Duration) -> String {
    match time.as_millis() {
        ms @ 0..1_000 => format!("{ms} ms"),
        ms @ 1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        ms => format!("{} s", ms / 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: FailedCall<'_> = FailedCall {
        tunnel: "tnl_a",
        route: "a.test",
        method: "tools/call",
        tool: Some("search"),
        number: 0x2a,
        trace: None,
        phase: Phase::Edge,
        usual: None,
    };

    const USUAL: Option<UsualLatency> =
        Some(UsualLatency { p50: Duration::from_millis(1_900), p95: Duration::from_millis(2_173) });

    const LATE: LateCall<'_> = LateCall {
        call: FailedCall { tool: Some("sea\"rch"), phase: Phase::Upstream, usual: USUAL, ..CALL },
        limit: Duration::from_millis(3_260),
        source: LimitSource::Learned,
    };

    fn error_of(late: &LateCall<'_>) -> serde_json::Value {
        let report = CallReport::late(late);
        let body = report.refine(CallFailure::Deadline.answer(Some("7"))).body();
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(json["id"], 7);
        json["error"].clone()
    }

    #[test]
    fn a_missed_deadline_is_reported_in_words_for_a_model() {
        let error = error_of(&LATE);
        assert_eq!(error["code"], RPC_CODE_DEADLINE);
        let sentence = "The tool 'sea\"rch' did not answer within 3.2 s (usual: 1.9 s). It may have run. Do not repeat it; ask the \
                        user or use another way.";
        assert_eq!(error["message"], sentence);
        let data = serde_json::json!({
            "reason": "deadline", "may_have_acted": true, "terminal": true, "tunnel": "tnl_a", "route": "a.test",
            "method": "tools/call", "tool": "sea\"rch", "call": "2a", "phase": "upstream", "limit": "deadline", "limit_ms": 3260,
            "p50_ms": 1900, "p95_ms": 2173,
        });
        assert_eq!(error["data"], data);
    }

    #[test]
    fn a_reached_limit_is_reported_with_its_setting() {
        let error = error_of(&LateCall { call: CALL, source: LimitSource::Setting, limit: Duration::from_secs(120) });
        assert_eq!(error["code"], CallFailure::Deadline.answer(None).rpc_code);
        assert!(error["message"].as_str().unwrap().contains("within 120 s (first_byte_timeout_ms)"), "{error}");
        assert_eq!(error["data"]["limit"], "first_byte_timeout_ms");
        assert!(error["data"].get("p50_ms").is_none());
        let other = error_of(&LateCall {
            call: FailedCall { tool: None, method: "prompts/get", usual: USUAL, ..CALL },
            ..LATE
        });
        assert!(other["message"].as_str().unwrap().starts_with("The server did not answer 'prompts/get' within"));
    }

    const REFUSAL: BreakerRefusal<'_> = BreakerRefusal {
        call: CALL,
        scope: BreakerScope::Tool,
        refused: BreakerOpen { retry_after: Some(Duration::from_millis(4_100)) },
        counts: CallCounts { calls: 20, failed: 12, slow: 0 },
    };

    fn refused(refusal: &BreakerRefusal<'_>) -> (serde_json::Value, Option<u32>) {
        let report = CallReport::breaker_open(refusal);
        let answer = report.refine(CallFailure::BreakerOpen.answer(Some("7")));
        let json: serde_json::Value = serde_json::from_str(&answer.body()).unwrap();
        (json["error"].clone(), answer.retry_after_s)
    }

    #[test]
    fn a_refusal_by_a_breaker_has_its_reason_and_its_end() {
        let (error, retry_after_s) = refused(&REFUSAL);
        let sentence = "The tool 'search' is not called at the moment: 12 of its last 20 calls failed. It has not run. Try again \
                        in 5.0 s, or use another way.";
        assert_eq!((&error["message"], retry_after_s), (&sentence.into(), Some(5)));
        let data = serde_json::json!({
            "reason": "breaker_open", "may_have_acted": false, "retry_after_ms": 5_000, "tunnel": "tnl_a", "route": "a.test",
            "method": "tools/call", "tool": "search", "call": "2a", "phase": "edge", "limit": "breaker", "breaker": "tool",
            "calls": 20, "failed": 12, "late": 0,
        });
        assert_eq!(error["data"], data);
        let counts = CallCounts { slow: 4, ..REFUSAL.counts };
        let (error, _) = refused(&BreakerRefusal { scope: BreakerScope::Upstream, counts, ..REFUSAL });
        let sentence = error["message"].as_str().unwrap();
        assert!(
            sentence
                .starts_with("The server is not called at the moment: 16 of its last 20 calls failed or were late.")
        );
        assert!(sentence.contains("The tool 'search' has not run."), "{sentence}");
    }

    #[test]
    fn a_call_over_the_limit_gets_a_time_to_retry() {
        let overload = Overload {
            cause: OverloadCause::QueueFull,
            is_of_agent: false,
            limit: 12,
            in_flight: 12,
            retry_after: Duration::from_millis(1_200),
        };
        let call = FailedCall { tool: Some("search"), usual: USUAL, ..CALL };
        let reported = |refusal: &OverloadRefusal<'_>| {
            let report = CallReport::overloaded(refusal);
            let answer = report.refine(CallFailure::ConcurrencyLimit.answer(Some("7")));
            let json: serde_json::Value = serde_json::from_str(&answer.body()).unwrap();
            (json["error"].clone(), answer.retry_after_s)
        };
        let (error, retry_after_s) = reported(&OverloadRefusal { call, overload });
        let sentence = "The server works on 12 calls, as many as it can at one time. The tool 'search' has not run. Try again in \
                        2.0 s.";
        assert_eq!((&error["message"], retry_after_s), (&sentence.into(), Some(2)));
        let data = serde_json::json!({
            "reason": "concurrency_limit", "may_have_acted": false, "retry_after_ms": 2_000, "tunnel": "tnl_a",
            "route": "a.test", "method": "tools/call", "tool": "search", "call": "2a", "phase": "edge", "p50_ms": 1900,
            "p95_ms": 2173, "limit": "concurrency",
            "concurrency_limit": 12, "in_flight": 12, "cause": "queue_full",
        });
        assert_eq!(error["data"], data);
        let overload = Overload { is_of_agent: true, cause: OverloadCause::WaitedTooLong, ..overload };
        let (error, _) = reported(&OverloadRefusal { call: FailedCall { method: "", tool: None, ..call }, overload });
        assert_eq!(
            (&error["data"]["limit"], &error["data"]["cause"]),
            (&"agent_share".into(), &"waited_too_long".into())
        );
        assert!(error["data"].get("method").is_none(), "{error}");
        assert!(error["message"].as_str().unwrap().starts_with("This client has its share"), "{error}");
    }

    #[test]
    fn a_breaker_forced_open_is_reported_as_terminal() {
        let call = FailedCall { tool: None, method: "prompts/get", ..CALL };
        let forced = BreakerRefusal { call, refused: BreakerOpen { retry_after: None }, ..REFUSAL };
        let (error, retry_after_s) = refused(&forced);
        assert_eq!((&error["data"]["terminal"], retry_after_s), (&true.into(), None));
        assert!(
            error["message"].as_str().unwrap().starts_with("'prompts/get' is switched off by the operator."),
            "{error}"
        );
        // The list of calls says so as well.
        let listed = |refusal| CallFailure::BreakerOpen.own_answer(Some(&CallReport::breaker_open(refusal))).message;
        assert!(listed(&forced).contains("operator") && !listed(&REFUSAL).contains("operator"));
    }

    #[test]
    fn any_failure_names_the_call_and_its_trace_and_keeps_its_sentence() {
        let trace = TraceId::of_digits(b"4bf92f3577b34da6a3ce929d0e0e4736");
        let report = CallReport::of(&FailedCall { trace, method: "", tool: None, ..CALL });
        let plain = CallFailure::ConnectorOffline.answer(Some("7"));
        let json: serde_json::Value = serde_json::from_str(&report.refine(plain).body()).unwrap();
        assert_eq!(
            (&json["error"]["message"], &json["error"]["code"]),
            (&plain.message.into(), &plain.rpc_code.into())
        );
        let data = serde_json::json!({
            "reason": "connector_offline", "may_have_acted": false, "retry_after_ms": 1_000, "tunnel": "tnl_a",
            "route": "a.test", "call": "2a", "trace": "4bf92f3577b34da6a3ce929d0e0e4736", "phase": "edge",
        });
        assert_eq!(json["error"]["data"], data);
    }

    #[test]
    fn times_are_short() {
        let of = |ms| text(Duration::from_millis(ms));
        assert_eq!(
            [of(0), of(999), of(1_000), of(59_999), of(120_000)],
            ["0 ms", "999 ms", "1.0 s", "59.9 s", "120 s"]
        );
    }
}
