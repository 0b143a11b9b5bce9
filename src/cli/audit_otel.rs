//! Exports lines of the audit log as OpenTelemetry log records: OTLP in JSON, one request per line, like the OTLP file
//! exporter.

use serde_json::{Map, Value, json};

use crate::control::WallTime;

/// The most log records of one request.
const RECORDS_MAX: usize = 256;
/// Attribute names of members. Other members are prefixed with `adit.`.
const ATTRIBUTES: [(&str, &str); 9] = [
    ("caller", "user.id"),
    ("http", "http.request.method"),
    ("id", "jsonrpc.request.id"),
    ("method", "mcp.method.name"),
    ("peer", "client.address"),
    ("revision", "mcp.protocol.version"),
    ("route", "server.address"),
    ("rpc_code", "rpc.response.status_code"),
    ("status", "http.response.status_code"),
];
/// Members with their own field in the record, which are not attributes.
const ELSEWHERE: [&str; 2] = ["time", "trace"];
const SEVERITY_INFO: (u32, &str) = (9, "INFO");
const SEVERITY_WARN: (u32, &str) = (13, "WARN");

/// Log records for one request.
#[derive(Default)]
pub(super) struct OtelRecords(Vec<Value>);

impl OtelRecords {
    /// Adds a line of the log. Returns a request when it is full.
    pub(super) fn add(&mut self, line: &Value) -> Option<Value> {
        self.0.push(record(line));
        if self.0.len() < RECORDS_MAX { None } else { self.take() }
    }

    /// The request with the records added since the last one, if any.
    pub(super) fn take(&mut self) -> Option<Value> {
        if self.0.is_empty() {
            return None;
        }
        let service = [("service.name", "adit"), ("service.version", env!("CARGO_PKG_VERSION"))];
        let resource: Vec<Value> = service.iter().map(|(key, value)| attribute(key, &json!(value))).collect();
        let logs = json!({"scope": {"name": "adit.audit"}, "logRecords": std::mem::take(&mut self.0)});
        Some(json!({"resourceLogs": [{"resource": {"attributes": resource}, "scopeLogs": [logs]}]}))
    }
}

fn record(line: &Value) -> Value {
    let text = |name: &str| line[name].as_str();
    let nanos = text("time").and_then(|time| time.parse::<WallTime>().ok()).map(|time| i128::from(time.0) * 1_000_000);
    let nanos = nanos.unwrap_or_default().max(0).to_string();
    let is_good = text("decision") != Some("denied")
        && line["is_error"] != true
        && line["rpc_code"].is_null()
        && matches!(text("outcome"), None | Some("ok" | "begun"));
    let (severity, severity_text) = if is_good { SEVERITY_INFO } else { SEVERITY_WARN };
    let members = line.as_object();
    let kept = members.into_iter().flatten().filter(|(name, _)| !ELSEWHERE.contains(&name.as_str()));
    let mut attributes: Vec<Value> = kept.map(|(name, value)| attribute(&name_of(line, name), value)).collect();
    if !is_good && let Some(outcome) = text("outcome") {
        attributes.push(attribute("error.type", &json!(outcome)));
    }
    let mut record = json!({
        "timeUnixNano": nanos,
        "observedTimeUnixNano": nanos,
        "severityNumber": severity,
        "severityText": severity_text,
        "eventName": format!("adit.audit.{}", text("kind").unwrap_or("line")),
        // The whole line, for readers that do not know the attributes.
        "body": {"stringValue": line.to_string()},
        "attributes": attributes,
    });
    if let Some(trace) = text("trace").filter(|trace| trace.len() == 32 && trace.bytes().all(|b| b.is_ascii_hexdigit()))
    {
        record["traceId"] = trace.into();
    }
    record
}

/// The attribute name of a member. For `name` it depends on the method (semantic conventions for MCP).
fn name_of(line: &Value, member: &str) -> String {
    if member == "name" {
        let by_method = match line["method"].as_str() {
            Some("tools/call") => Some("gen_ai.tool.name"),
            Some("prompts/get") => Some("gen_ai.prompt.name"),
            Some(method) if method.starts_with("resources/") => Some("mcp.resource.uri"),
            _ => None,
        };
        return by_method.unwrap_or("adit.name").to_owned();
    }
    let known = ATTRIBUTES.iter().find(|(own, _)| *own == member);
    known.map_or_else(|| format!("adit.{member}"), |(_, name)| (*name).to_owned())
}

fn attribute(key: &str, value: &Value) -> Value {
    json!({"key": key, "value": any_value(value)})
}

/// A value in OTLP JSON: 64-bit integers are strings.
fn any_value(value: &Value) -> Value {
    match value {
        Value::Null => json!({}),
        Value::Bool(value) => json!({"boolValue": value}),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => json!({"intValue": whole.to_string()}),
            None => json!({"doubleValue": number.as_f64()}),
        },
        Value::String(text) => json!({"stringValue": text}),
        Value::Array(values) => json!({"arrayValue": {"values": values.iter().map(any_value).collect::<Vec<_>>()}}),
        Value::Object(members) => json!({"kvlistValue": {"values": key_values(members)}}),
    }
}

fn key_values(members: &Map<String, Value>) -> Vec<Value> {
    members.iter().map(|(key, value)| attribute(key, value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(record: &Value, key: &str) -> Value {
        let attributes = record["attributes"].as_array().unwrap();
        let found = attributes.iter().find(|attribute| attribute["key"] == key);
        found.map_or(Value::Null, |attribute| attribute["value"].clone())
    }

    #[test]
    fn a_record_says_all_that_the_line_says() {
        let line = json!({"seq": 7, "prev": "5fdc", "time": "2026-11-30T12:00:00.25Z", "kind": "call", "method": "tools/call",
            "name": "search", "peer": "192.0.2.1", "caller": "alice", "status": 200, "rpc_code": -32602, "outcome": "denied",
            "decision": "denied", "rule": "no-deletes", "is_error": false, "phases_us": {"edge": 20, "tunnel": 0.5},
            "trace": "4bf92f3577b34da6a3ce929d0e0e4736"});
        let record = record(&line);
        assert_eq!(record["timeUnixNano"], "1796040000250000000");
        assert_eq!((&record["severityNumber"], &record["eventName"]), (&json!(13), &json!("adit.audit.call")));
        assert_eq!(record["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(serde_json::from_str::<Value>(record["body"]["stringValue"].as_str().unwrap()).unwrap(), line);
        for (key, value) in [
            ("gen_ai.tool.name", json!({"stringValue": "search"})),
            ("mcp.method.name", json!({"stringValue": "tools/call"})),
            ("client.address", json!({"stringValue": "192.0.2.1"})),
            ("user.id", json!({"stringValue": "alice"})),
            ("http.response.status_code", json!({"intValue": "200"})),
            ("rpc.response.status_code", json!({"intValue": "-32602"})),
            ("error.type", json!({"stringValue": "denied"})),
            ("adit.rule", json!({"stringValue": "no-deletes"})),
            ("adit.seq", json!({"intValue": "7"})),
            ("adit.is_error", json!({"boolValue": false})),
        ] {
            assert_eq!(of(&record, key), value, "{key}");
        }
        let phases =
            json!([{"key": "edge", "value": {"intValue": "20"}}, {"key": "tunnel", "value": {"doubleValue": 0.5}}]);
        assert_eq!(of(&record, "adit.phases_us")["kvlistValue"]["values"], phases);
        // Every member is exported, in addition to the error.
        let attributes = record["attributes"].as_array().unwrap().len();
        assert_eq!(attributes, line.as_object().unwrap().len() - ELSEWHERE.len() + 1);
    }

    #[test]
    fn a_line_without_time_or_trace_is_a_record_too_and_actions_are_no_warnings() {
        let record = record(&json!({"kind": "action", "action": "tunnel.created", "trace": "short"}));
        assert_eq!((&record["timeUnixNano"], &record["severityText"]), (&json!("0"), &json!("INFO")));
        assert_eq!((record.get("traceId"), of(&record, "error.type")), (None, Value::Null));
    }

    #[test]
    fn records_are_gathered_into_requests_of_a_bounded_size() {
        let mut records = OtelRecords::default();
        assert_eq!(records.take(), None);
        let line = json!({"kind": "call"});
        let full: Vec<Value> = (0..RECORDS_MAX).filter_map(|_| records.add(&line)).collect();
        let of_request =
            |request: &Value| request["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array().unwrap().len();
        assert_eq!((full.len(), of_request(&full[0]), records.take()), (1, RECORDS_MAX, None));
        assert_eq!(records.add(&line), None);
        assert_eq!(of_request(&records.take().unwrap()), 1);
    }
}
