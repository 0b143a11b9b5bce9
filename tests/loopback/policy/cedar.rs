//! Routes whose policy has a second tier, in Cedar, at the edge and at the connector.

use std::sync::Arc;

use adit::base::Traffic;
use adit::engine::ladder::DriverChoice;
use adit::policy::{CedarRules, ToolPolicy};
use serde_json::{Value, json};

use super::{Got, ask, names, serve};
use crate::support::Tunnel;

const LISTS: &str = "[[role]]\nname = 'near'\nnetworks = ['127.0.0.0/8']\n\
                     [[rule]]\nname = 'no-drop'\neffect = 'deny'\ntools = ['drop']\n";
const CEDAR: &str = r#"
    @id("reads") permit(principal in Role::"near", action, resource == Tool::"get_a");
    @id("small-puts") permit(principal, action == Action::"tools/call", resource == Tool::"put")
    when { context.arguments has amount && context.arguments.amount <= 500 };
    @id("drops") permit(principal, action, resource == Tool::"drop");
    @id("no-step") @scope("more") forbid(principal, action, resource == Tool::"step_up");
"#;

fn call(tool: &str, arguments: &str) -> String {
    format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\",\"params\":{{\"name\":{},\"arguments\":{arguments}}}}}",
        json!(tool)
    )
}

fn is_governed(driver: DriverChoice, traffic: Traffic, at_edge: bool) {
    let place = format!("{driver:?} {traffic:?} at_edge={at_edge}");
    let got = Got::default();
    let tunnel = Tunnel::with_upstreams(driver, traffic, (1, 1), &[serve(&got)]);
    let rules = CedarRules::parse(CEDAR).unwrap_or_else(|faults| panic!("{faults:?}"));
    tunnel.govern(at_edge, &Arc::new(ToolPolicy::parse_with(LISTS, Some(rules)).unwrap()));
    let mut agent = tunnel.agent();
    for path in ["/mcp", "/events"] {
        let (_, shown) = ask(&mut agent, path, "", r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#);
        assert_eq!(names(&shown), ["get_a", "put", "step_up"], "{place} {path}");
    }
    let (_, resumed) = ask(&mut agent, "/mcp", "Last-Event-ID: 1\r\n", "");
    assert_eq!(names(&resumed), ["get_a", "put", "step_up"], "{place}: a stream that is resumed");
    for (tool, arguments) in [("get_a", "{}"), ("put", "{\"amount\":500}"), ("put", "{\"x\":[1,{}],\"amount\":1e2}")] {
        let (_, passed) = ask(&mut agent, "/mcp", "", &call(tool, arguments));
        assert_eq!(passed["result"], json!({"content": []}), "{place} {tool}");
    }
    let before = got.lock().unwrap().len();
    let sly = ["put\\", "get_a\u{202e}", "\");permit(principal,action,resource);//", "Tool::\"put\"", "PUT", ""];
    for tool in ["drop", "nothing"].iter().chain(&sly) {
        let (_, denied) = ask(&mut agent, "/mcp", "", &call(tool, "{\"amount\":1}"));
        assert_eq!(denied["error"]["code"], json!(-32602), "{place} {tool}");
        assert_eq!(denied["error"]["message"], json!(format!("Unknown tool: {tool}")), "{place}");
    }
    for (arguments, limit) in [
        ("{\"amount\":501}", "arguments"),
        ("{}", "arguments"),
        ("{\"amount\":\"1\"}", "evaluation"),
        ("{\"amount\":null}", "evaluation"),
        ("{\"amount\":1.5}", "evaluation"),
        ("{\"amount\":1e999}", "evaluation"),
    ] {
        let (head, denied) = ask(&mut agent, "/mcp", "", &call("put", arguments));
        assert!(head.starts_with("HTTP/1.1 200 "), "{place} {arguments}: {head}");
        assert_eq!(denied["error"]["data"]["limit"], json!(limit), "{place} {arguments}: {denied}");
    }
    let (head, _) = ask(&mut tunnel.agent(), "/mcp", "", &call("step_up", "{}"));
    assert!(head.starts_with("HTTP/1.1 403 ") && head.contains("scope=\"more\""), "{place}: {head}");
    for (status, arguments) in [
        (400, "{\"amount\":1,\"amount\":900}".to_owned()),
        (400, "{\"Amount\":900}".to_owned()),
        (400, "{\"amount\":9007199254740993}".to_owned()),
        (400, "{\"amount\":01}".to_owned()),
        (413, format!("{{\"amount\":1,\"x\":\"{}\"}}", "y".repeat(70_000))),
    ] {
        let (head, _) = ask(&mut tunnel.agent(), "/mcp", "", &call("put", &arguments));
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{place} {}: {head}", &arguments[..20]);
    }
    let listed: Vec<Value> = got.lock().unwrap()[before..].iter().map(|request| json!(request)).collect();
    assert_eq!(listed, Vec::<Value>::new(), "{place}: nothing of this has reached the server");
    tunnel.end();
}

#[test]
fn tools_denied_by_cedar_are_neither_listed_nor_reachable() {
    for driver in [DriverChoice::Epoll, DriverChoice::Uring] {
        for traffic in [Traffic::Plain, Traffic::Passthrough] {
            is_governed(driver, traffic, false);
        }
        is_governed(driver, Traffic::Plain, true);
    }
}
