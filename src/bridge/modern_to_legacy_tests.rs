use super::*;
use crate::base::Rng;
use crate::bridge::modern_call::ModernMessage;
use crate::wire::http1::RequestHead;
use serde_json::{Map, Value, json};

/// A call as an agent without sessions sends it.
fn call(method: &str, name: &str, mut params: Value, capabilities: Value, id: Value) -> ModernCall {
    let meta = params.as_object_mut().unwrap().entry("_meta").or_insert_with(|| json!({}));
    meta["io.modelcontextprotocol/protocolVersion"] = "2026-07-28".into();
    meta["io.modelcontextprotocol/clientCapabilities"] = capabilities;
    let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string();
    let named = if name.is_empty() { String::new() } else { format!("Mcp-Name: {name}\r\n") };
    let mut head = RequestHead::new();
    let text = format!(
        "POST /mcp HTTP/1.1\r\nHost: a\r\nMCP-Protocol-Version: 2026-07-28\r\nMcp-Method: {method}\r\n{named}\r\n"
    );
    head.feed(text.as_bytes()).unwrap();
    match ModernCall::read(&head, message.as_bytes()).unwrap() {
        ModernMessage::Call(call) => *call,
        ModernMessage::Notification => unreachable!("it has an id"),
    }
}

fn steps(machine: &mut ModernToLegacy, text: &str) -> Vec<CallStep> {
    let mut steps = Vec::new();
    machine.on_server(text.as_bytes(), &mut steps);
    steps
}

fn parsed(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap()
}

#[test]
fn answers_get_the_members_of_the_newer_revision_and_the_agents_id() {
    for (method, name, text, status, wanted) in [
        (
            "tools/call",
            "a",
            r#"{"jsonrpc":"2.0","id":7,"result":{"content":[],"n":1.00}}"#,
            200,
            r#"{"jsonrpc":"2.0","id":"x","result":{"content":[],"n":1.00,"resultType":"complete"}}"#,
        ),
        (
            "tools/list",
            "",
            r#"{"result" : {"tools":[]}, "id": 7,"jsonrpc":"2.0"}"#,
            200,
            r#"{"result" : {"tools":[],"resultType":"complete","ttlMs":0,"cacheScope":"private"}, "id": "x","jsonrpc":"2.0"}"#,
        ),
        (
            "tools/list",
            "",
            r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"no"}}"#,
            404,
            r#"{"jsonrpc":"2.0","id":"x","error":{"code":-32601,"message":"no"}}"#,
        ),
        (
            "resources/read",
            "a",
            r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32002,"message":"no"}}"#,
            200,
            r#"{"jsonrpc":"2.0","id":"x","error":{"code":-32602,"message":"no"}}"#,
        ),
    ] {
        let params = if method == "resources/read" { json!({"uri": name}) } else { json!({"name": name}) };
        let mut machine = ModernToLegacy::new(&call(method, name, params, json!({}), json!("x")), b"7");
        let wanted = vec![CallStep::Answer(status, wanted.as_bytes().to_vec())];
        assert_eq!(steps(&mut machine, text), wanted, "{text}");
    }
}

#[test]
fn only_messages_of_the_request_reach_the_agent() {
    let params = json!({"name": "a", "_meta": {"progressToken": "p", "io.modelcontextprotocol/logLevel": "info"}});
    let with_log = call("tools/call", "a", params, json!({}), json!(1));
    let mut machine = ModernToLegacy::new(&with_log, b"7");
    let log = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}"#;
    assert_eq!(steps(&mut machine, log), [CallStep::ToAgent(log.as_bytes().to_vec())]);
    let progress =
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":7,"progress":0.50}}"#;
    let wanted = progress.replace(":7,", ":\"p\",");
    assert_eq!(steps(&mut machine, progress), [CallStep::ToAgent(wanted.into_bytes())]);
    assert_eq!(steps(&mut machine, &progress.replace(":7,", ":8,")), []);
    let changed = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
    assert_eq!(steps(&mut machine, changed), []);
    let other = r#"{"jsonrpc":"2.0","id":8,"result":{}}"#;
    assert_eq!(steps(&mut machine, other), [], "it answers another request");
    let ping = r#"{"jsonrpc":"2.0","id":"s","method":"ping"}"#;
    let pong = r#"{"jsonrpc":"2.0","id":"s","result":{}}"#;
    assert_eq!(steps(&mut machine, ping), [CallStep::ToServer(pong.into())]);
    let plain = call("tools/call", "a", json!({"name": "a"}), json!({}), json!(1));
    let mut machine = ModernToLegacy::new(&plain, b"7");
    assert_eq!((steps(&mut machine, log), steps(&mut machine, progress)), (vec![], vec![]));
    let broken = steps(&mut machine, r#"{"id":7,"id":7,"result":{}}"#);
    assert!(matches!(&broken[..], [CallStep::Answer(200, text)] if parsed(text)["error"]["code"] == -32_603));
}

#[test]
fn questions_of_the_server_wait_for_the_agents_next_requests() {
    let able = json!({"elicitation": {}, "roots": {}});
    let first = call("tools/call", "a", json!({"name": "a"}), able.clone(), json!(1));
    let mut machine = ModernToLegacy::new(&first, b"7");
    assert!(!machine.has_questions());
    let ask = r#"{"jsonrpc":"2.0","id":90,"method":"elicitation/create","params":{"message":"who?","elicitationId":"e","requestedSchema":{"n":1.0}}}"#;
    assert_eq!(steps(&mut machine, ask), [CallStep::Ask]);
    let roots = r#"{"jsonrpc":"2.0","id":"r","method":"roots/list"}"#;
    assert_eq!(steps(&mut machine, roots), [CallStep::Ask]);
    let asked = String::from_utf8(machine.ask("state")).unwrap();
    let wanted = r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","inputRequests":{"q1":{"method":"elicitation/create","params":{"message":"who?","requestedSchema":{"n":1.0}}},"q2":{"method":"roots/list","params":{}}},"requestState":"state"}}"#;
    assert_eq!(asked, wanted);
    let retry = |responses: Value, id: i64| {
        let params = json!({"name": "a", "requestState": "state", "inputResponses": responses});
        call("tools/call", "a", params, able.clone(), json!(id))
    };
    let mut out = Vec::new();
    machine.on_retry(&retry(json!({"q1": {"action": "accept", "content": {}}}), 2), &mut out);
    let answer = r#"{"jsonrpc":"2.0","id":90,"result":{"action":"accept","content":{}}}"#;
    assert_eq!(out, [CallStep::ToServer(answer.into()), CallStep::Ask], "one question is left");
    assert_eq!(
        parsed(&machine.ask("state"))["result"]["inputRequests"],
        json!({"q2": {"method": "roots/list", "params": {}}})
    );
    let mut out = Vec::new();
    machine.on_retry(&retry(json!({"q1": {}, "q2": {"roots": []}}), 3), &mut out);
    assert_eq!(out, [CallStep::ToServer(br#"{"jsonrpc":"2.0","id":"r","result":{"roots":[]}}"#.to_vec())]);
    let done = steps(&mut machine, r#"{"jsonrpc":"2.0","id":7,"result":{}}"#);
    assert_eq!(
        done,
        [CallStep::Answer(200, br#"{"jsonrpc":"2.0","id":3,"result":{"resultType":"complete"}}"#.to_vec())]
    );
}

#[test]
fn a_server_that_asks_for_what_the_agent_cannot_do_is_told_so() {
    let plain = call("tools/call", "a", json!({"name": "a"}), json!({"sampling": {}}), json!(1));
    let mut machine = ModernToLegacy::new(&plain, b"7");
    for method in ["elicitation/create", "roots/list", "tasks/get"] {
        let asked = steps(&mut machine, &json!({"jsonrpc": "2.0", "id": 1, "method": method}).to_string());
        assert!(
            matches!(&asked[..], [CallStep::ToServer(text)] if parsed(text)["error"]["code"] == -32_601),
            "{method}"
        );
    }
    for nth in 0..2 * QUESTIONS_MAX {
        let asked = json!({"jsonrpc": "2.0", "id": nth, "method": "sampling/createMessage", "params": {}}).to_string();
        let is_asked = steps(&mut machine, &asked) == [CallStep::Ask];
        assert_eq!(is_asked, nth < QUESTIONS_MAX, "{nth}");
    }
}

#[test]
fn a_page_that_the_user_must_visit_first_is_asked_for_and_the_call_starts_again() {
    let error = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32042,"message":"m","data":{"elicitations":[{"mode":"url","url":"https://a","message":"go","elicitationId":"e"}]}}}"#;
    let able = call("tools/call", "a", json!({"name": "a"}), json!({"elicitation": {"url": {}}}), json!(1));
    let answered = steps(&mut ModernToLegacy::new(&able, b"7"), error);
    let [CallStep::Answer(200, text)] = &answered[..] else { panic!("{answered:?}") };
    let result = parsed(text)["result"].clone();
    assert_eq!((&result["resultType"], &result["requestState"]), (&"input_required".into(), &START_AGAIN.into()));
    let params = json!({"mode": "url", "url": "https://a", "message": "go"});
    assert_eq!(result["inputRequests"]["q0"], json!({"method": "elicitation/create", "params": params}));
    let unable = call("tools/call", "a", json!({"name": "a"}), json!({}), json!(1));
    let answered = steps(&mut ModernToLegacy::new(&unable, b"7"), error);
    assert!(matches!(&answered[..], [CallStep::Answer(200, text)] if parsed(text)["error"]["code"] == -32_042));
}

/// Members that no revision knows, in any form.
fn unknown_members(rng: &mut Rng) -> Map<String, Value> {
    let value = |rng: &mut Rng| match rng.below(5) {
        0 => json!(rng.next_u64()),
        1 => json!({"resultType": [1, {"ttlMs": "x"}], "_meta": {"id": null}}),
        2 => json!("\u{0}\"\\é"),
        3 => json!([[], {}, -0.5]),
        _ => Value::Null,
    };
    (0..rng.below(5)).map(|nth| (format!("own{nth}"), value(rng))).collect()
}

#[test]
fn whatever_else_a_message_says_passes_both_ways() {
    let mut rng = Rng::new(0x00b1_d6e6);
    for round in 0..2_000 {
        let (members, id) = (unknown_members(&mut rng), json!(rng.next_u64().to_string()));
        let mut params = Value::Object(members.clone());
        params["name"] = "a".into();
        if rng.below(2) == 0 {
            params["_meta"] = json!({"own": members.clone()});
        }
        let agents = call("tools/call", "a", params.clone(), json!({"x": 1}), id.clone());
        let sent = parsed(&agents.for_session(b"7"));
        assert_eq!(sent, json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}), "{round}");
        let answer = json!({"jsonrpc": "2.0", "id": 7, "result": members.clone()}).to_string();
        let answered = steps(&mut ModernToLegacy::new(&agents, b"7"), &answer);
        let [CallStep::Answer(200, text)] = &answered[..] else { panic!("{answered:?}") };
        let mut wanted = Value::Object(members);
        wanted["resultType"] = "complete".into();
        assert_eq!(parsed(text), json!({"jsonrpc": "2.0", "id": id, "result": wanted}), "{round}");
    }
}
