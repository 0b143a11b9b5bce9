//! Exports lines of the audit log in other formats.

use serde_json::{Value, json};

use crate::control::WallTime;

/// The columns of the table: all members of calls and actions, except `phases_us`, which is an object.
const COLUMNS: [&str; 44] = [
    "seq",
    "time",
    "kind",
    "role",
    "call",
    "tunnel",
    "route",
    "edge",
    "connector",
    "peer",
    "revision",
    "era",
    "http",
    "method",
    "name",
    "id",
    "session",
    "trace",
    "argument_bytes",
    "argument_sha256",
    "arguments",
    "caller",
    "issuer",
    "client",
    "proof",
    "forwarded_by",
    "forwarded_proof",
    "edge_name",
    "edge_authority",
    "decision",
    "policy",
    "rule",
    "limit",
    "approval",
    "status",
    "outcome",
    "rpc_code",
    "is_error",
    "bytes",
    "took_us",
    "retries",
    "action",
    "subject",
    "reason",
];

/// The row of column names.
pub(super) fn csv_head() -> String {
    COLUMNS.join(",")
}

/// A line as a row (RFC 4180).
pub(super) fn csv_row(line: &Value) -> String {
    COLUMNS.map(|name| line.get(name).map(cell).unwrap_or_default()).join(",")
}

fn cell(value: &Value) -> String {
    let Value::String(text) = value else { return value.to_string() };
    // Spreadsheets interpret texts with these first characters as formulas.
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if is_formula { format!("'{text}") } else { text.clone() };
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

/// A line as an event of the class API Activity (6003) of OCSF 1.5.0.
pub(super) fn ocsf_event(line: &Value) -> Value {
    let text = |name: &str| line[name].as_str();
    let operation = text("method").or(text("action")).unwrap_or_else(|| text("kind").unwrap_or_default());
    let time = text("time").and_then(|time| time.parse::<WallTime>().ok()).unwrap_or_default().0;
    let is_good = text("kind") == Some("action")
        || (matches!(text("outcome"), Some("ok" | "begun")) && line["is_error"] != true && line["rpc_code"].is_null());
    let mut event = json!({
        "metadata": {
            "version": "1.5.0",
            "product": {"name": "adit", "vendor_name": "adit"},
            "sequence": line["seq"],
            "log_name": "audit",
        },
        "category_uid": 6,
        "category_name": "Application Activity",
        "class_uid": 6003,
        "class_name": "API Activity",
        "activity_id": 99,
        "activity_name": operation,
        "type_uid": 600_399,
        "time": time,
        "severity_id": 1,
        "status_id": if is_good { 1 } else { 2 },
        "status": if is_good { "Success" } else { "Failure" },
        "actor": {"app_name": "adit"},
        "api": {"operation": operation},
        "src_endpoint": {"name": "unknown"},
        "unmapped": line,
    });
    if let Some(peer) = text("peer") {
        event["src_endpoint"] = json!({"ip": peer});
    }
    if let Some(route) = text("route") {
        event["api"]["service"] = json!({"name": route});
    }
    if let Some(id) = text("id") {
        event["api"]["request"] = json!({"uid": id});
    }
    if let Some(session) = text("session") {
        event["actor"]["session"] = json!({"uid": session});
    }
    if let Some(caller) = text("caller") {
        event["actor"]["user"] = json!({"uid": caller});
    }
    if let Some(issuer) = text("issuer") {
        event["actor"]["idp"] = json!({"uid": issuer});
    }
    if let Some(client) = text("client") {
        event["actor"]["app_uid"] = client.into();
    }
    if let Some(decision) = text("decision") {
        let mut authorization = json!({"decision": decision});
        if let Some(policy) = text("policy") {
            authorization["policy"] = json!({"uid": policy, "is_applied": true});
            if let Some(rule) = text("rule") {
                authorization["policy"]["name"] = rule.into();
            }
        }
        event["actor"]["authorizations"] = json!([authorization]);
        let is_denied = decision == "denied";
        let (id, action, disposition) = if is_denied { (2, "Denied", "Blocked") } else { (1, "Allowed", "Allowed") };
        event["metadata"]["profiles"] = json!(["security_control"]);
        (event["action_id"], event["action"]) = (json!(id), json!(action));
        (event["disposition_id"], event["disposition"]) = (json!(id), json!(disposition));
    }
    if let Some(name) = text("name") {
        event["resources"] = json!([{"name": name, "type": operation}]);
    }
    if let Some(outcome) = text("outcome") {
        event["status_detail"] = outcome.into();
    }
    if let Some(status) = line["status"].as_u64() {
        event["status_code"] = status.to_string().into();
    }
    if let Some(took) = line["took_us"].as_u64() {
        event["duration"] = (took / 1_000).into();
    }
    event
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::audit::{ActionLine, AuditCallLine, AuditedCaller, AuditedDecision, AuditedPolicy, LineHash, RpcAnswer};

    #[test]
    fn a_row_has_a_cell_for_each_column_and_no_formula() {
        let line = json!({"seq": 1, "kind": "call", "name": "=cmd|' /C calc'!A0", "id": "\"a\",b", "is_error": true,
            "decision": "denied", "policy": "5fdc", "rule": "no-deletes"});
        let row = csv_row(&line);
        assert!(row.starts_with("1,,call,"), "{row}");
        assert!(row.contains(",'=cmd|' /C calc'!A0,\"\"\"a\"\",b\","), "{row}");
        let at = |name: &str| COLUMNS.iter().position(|column| *column == name).unwrap();
        assert_eq!(&COLUMNS[at("decision")..=at("rule")], ["decision", "policy", "rule"]);
        assert!(row.contains(",denied,5fdc,no-deletes,"), "{row}");
        assert_eq!(csv_row(&json!({})).matches(',').count(), COLUMNS.len() - 1);
        assert_eq!(csv_head().matches(',').count(), COLUMNS.len() - 1);
    }

    #[test]
    fn each_member_of_a_call_or_an_action_has_a_column() {
        let whole = AuditCallLine {
            role: "edge",
            tunnel: "tnl_a",
            route: "a",
            edge: Some(7),
            connector: Some(8),
            peer: "192.0.2.1".parse().ok(),
            revision: Some(b"2025-11-25"),
            era: "sessions",
            http: "POST",
            method: "tools/call",
            name: Some("t"),
            id: Some("1"),
            session: Some(b"s"),
            trace: Some("4bf9".into()),
            arguments: Some((2, LineHash::of(b"{}"))),
            caller: Some(AuditedCaller {
                subject: "a",
                issuer: Some("i"),
                client: Some("c"),
                proof: "jwt",
                forwarded: None,
            }),
            decision: Some(AuditedDecision::Denied),
            policy: Some(AuditedPolicy { digest: LineHash::of(b"{}"), rule: Some("r"), limit: None, approval: None }),
            status: 200,
            outcome: "ok",
            answer: RpcAnswer { code: Some(-1), is_error: Some(true) },
            phases: vec![("edge", Duration::from_micros(20))],
            retries: 1,
            ..AuditCallLine::default()
        };
        let action =
            ActionLine { action: "tunnel.created", tunnel: Some("tnl_a"), subject: Some("s"), reason: Some("why") };
        for body in [whole.body(), action.body()] {
            let line: Value = serde_json::from_slice(&[b"{", &body[..]].concat()).unwrap();
            for name in line.as_object().unwrap().keys().filter(|name| *name != "phases_us") {
                assert!(COLUMNS.contains(&name.as_str()), "{name}");
            }
        }
    }

    #[test]
    fn an_event_has_the_attributes_that_its_class_requires() {
        let line = json!({"seq": 7, "time": "1970-01-01T00:00:01Z", "kind": "call", "method": "tools/call", "name": "t",
            "peer": "192.0.2.1", "outcome": "ok", "is_error": true, "status": 200, "took_us": 2_500});
        let event = ocsf_event(&line);
        for required in [
            "activity_id",
            "category_uid",
            "class_uid",
            "metadata",
            "severity_id",
            "time",
            "type_uid",
            "api",
            "actor",
            "src_endpoint",
        ] {
            assert!(event.get(required).is_some(), "{required}");
        }
        assert_eq!(
            (&event["time"], &event["duration"], &event["status"]),
            (&json!(1_000), &json!(2), &json!("Failure"))
        );
        assert_eq!(event["type_uid"], json!(6_003 * 100 + 99));
        let event = ocsf_event(&json!({"decision": "denied", "policy": "5fdc", "rule": "no-deletes"}));
        let policy = json!({"uid": "5fdc", "is_applied": true, "name": "no-deletes"});
        assert_eq!(event["actor"]["authorizations"], json!([{"decision": "denied", "policy": policy}]));
        assert_eq!((&event["action_id"], &event["disposition"]), (&json!(2), &json!("Blocked")));
        assert_eq!(event["metadata"]["profiles"], json!(["security_control"]));
        let event = ocsf_event(&json!({"decision": "allowed", "policy": "5fdc"}));
        let policy = json!({"uid": "5fdc", "is_applied": true});
        assert_eq!(event["actor"]["authorizations"], json!([{"decision": "allowed", "policy": policy}]));
        assert_eq!(
            ocsf_event(&json!({"decision": "allowed"}))["actor"]["authorizations"],
            json!([{"decision": "allowed"}])
        );
        let event = ocsf_event(&json!({"caller": "alice", "issuer": "https://login.example", "client": "agent-7"}));
        let actor = json!({"app_name": "adit", "app_uid": "agent-7", "user": {"uid": "alice"},
            "idp": {"uid": "https://login.example"}});
        assert_eq!(event["actor"], actor);
    }
}
