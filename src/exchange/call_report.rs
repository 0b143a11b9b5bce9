//! What is told of one call that failed, besides what its failure means for all calls.

use std::fmt::Write;
use std::time::Duration;

use crate::exchange::CallFailure;
use crate::latency::Usual;
use crate::wire::http1::Answer;

/// The code of the JSON-RPC error for a call that missed its deadline.
const RPC_CODE_DEADLINE: i32 = -31_019;

/// What is told of one call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallReport {
    /// In place of the failure's own codes, if it has others.
    code: Option<(i32, &'static str)>,
    message: String,
    /// Members of the data of the JSON-RPC error, each behind a comma.
    data: String,
}

/// A call that was cut because a limit for its time had passed.
#[derive(Clone, Copy, Debug)]
pub struct LateCall<'a> {
    /// The id of its tunnel.
    pub tunnel: &'a str,
    /// The name of its route.
    pub route: &'a str,
    /// Its MCP method.
    pub method: &'a str,
    /// Its tool, if it calls one.
    pub tool: Option<&'a str>,
    /// The limit that passed.
    pub limit: Duration,
    /// Whether the limit follows from earlier calls; if not, it is a setting.
    pub is_learned: bool,
    /// How long earlier calls took, if that is known.
    pub usual: Option<Usual>,
}

impl CallReport {
    /// The report of a call that was cut.
    #[must_use]
    pub fn late(call: &LateCall<'_>) -> CallReport {
        let LateCall { tunnel, route, method, tool, limit, is_learned, usual } = *call;
        let subject = match tool {
            Some(tool) => format!("The tool '{tool}' did not answer"),
            None => format!("The server did not answer '{method}'"),
        };
        let known = match usual {
            Some(usual) if is_learned => format!("usual: {}", text(usual.p50)),
            _ => "first_byte_timeout_ms".to_owned(),
        };
        let message = format!(
            "{subject} within {} ({known}). It may have run. Do not repeat it; ask the user or use another way.",
            text(limit)
        );
        let json = |text: &str| serde_json::Value::from(text);
        let mut data = format!(r#","tunnel":{},"route":{},"method":{}"#, json(tunnel), json(route), json(method));
        let mut add = |name: &str, value: &dyn std::fmt::Display| {
            write!(data, r#","{name}":{value}"#).expect("a String takes all");
        };
        if let Some(tool) = tool {
            add("tool", &json(tool));
        }
        add("phase", &json("upstream"));
        add("limit", &json(if is_learned { "deadline" } else { "first_byte_timeout_ms" }));
        add("limit_ms", &limit.as_millis());
        if let Some(usual) = usual {
            add("p50_ms", &usual.p50.as_millis());
            add("p95_ms", &usual.p95.as_millis());
        }
        CallReport { code: is_learned.then_some((RPC_CODE_DEADLINE, "deadline")), message, data }
    }

    /// The code of the JSON-RPC error and its name, if they differ from those of the failure.
    pub(super) fn code(&self) -> Option<(i32, &'static str)> {
        self.code
    }

    /// The answer to a failure with what is told of the call.
    #[must_use]
    pub fn refine<'a>(&'a self, answer: Answer<'a>) -> Answer<'a> {
        let (rpc_code, code) = self.code.unwrap_or((answer.rpc_code, answer.code));
        Answer { rpc_code, code, message: &self.message, data: &self.data, ..answer }
    }
}

impl CallReport {
    /// The last event of a stream that answers a call, which fails so and has this JSON-RPC id (JSON text).
    #[must_use]
    pub fn event(&self, failure: CallFailure, rpc_id: &str) -> Vec<u8> {
        let error = self.refine(failure.answer(Some(rpc_id))).body();
        format!("event: message\ndata: {error}\n\n").into_bytes()
    }
}

/// A time as people read it.
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

    const LATE: LateCall<'_> = LateCall {
        tunnel: "tnl_a",
        route: "a.test",
        method: "tools/call",
        tool: Some("sea\"rch"),
        limit: Duration::from_millis(3_260),
        is_learned: true,
        usual: Some(Usual { p50: Duration::from_millis(1_900), p95: Duration::from_millis(2_173) }),
    };

    fn error_of(late: &LateCall<'_>) -> serde_json::Value {
        let report = CallReport::late(late);
        let body = report.refine(CallFailure::Deadline.answer(Some("7"))).body();
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(json["id"], 7);
        json["error"].clone()
    }

    #[test]
    fn a_call_that_misses_its_deadline_is_told_what_a_model_can_act_on() {
        let error = error_of(&LATE);
        assert_eq!(error["code"], RPC_CODE_DEADLINE);
        let sentence = "The tool 'sea\"rch' did not answer within 3.2 s (usual: 1.9 s). It may have run. Do not repeat it; ask the \
                        user or use another way.";
        assert_eq!(error["message"], sentence);
        let data = serde_json::json!({
            "reason": "deadline", "may_have_acted": true, "terminal": true, "tunnel": "tnl_a", "route": "a.test",
            "method": "tools/call", "tool": "sea\"rch", "phase": "upstream", "limit": "deadline", "limit_ms": 3260,
            "p50_ms": 1900, "p95_ms": 2173,
        });
        assert_eq!(error["data"], data);
    }

    #[test]
    fn a_call_that_misses_a_setting_is_told_which() {
        let error = error_of(&LateCall { is_learned: false, usual: None, limit: Duration::from_secs(120), ..LATE });
        assert_eq!(error["code"], CallFailure::Deadline.answer(None).rpc_code);
        assert!(error["message"].as_str().unwrap().contains("within 120 s (first_byte_timeout_ms)"), "{error}");
        assert_eq!(error["data"]["limit"], "first_byte_timeout_ms");
        assert!(error["data"].get("p50_ms").is_none());
        let other = error_of(&LateCall { tool: None, method: "prompts/get", ..LATE });
        assert!(other["message"].as_str().unwrap().starts_with("The server did not answer 'prompts/get' within"));
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
