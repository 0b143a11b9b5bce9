//! Routes with a policy, at the edge and at the connector: what is denied reaches no server, and is not shown.

mod bodies;
mod matrix;
mod model;
mod readers;
mod tool_server;

use std::sync::Arc;

use adit::base::Traffic;
use adit::engine::ladder::DriverChoice;
use adit::policy::ToolPolicy;
use serde_json::json;

use crate::support::Tunnel;

pub(crate) use tool_server::{Got, ask, call, names, read_answer, serve, serve_tools};

/// `printf %s open-sesame | sha256sum`
const KEY: &str = "d7ecdf25eaf3deba0f2628771dbdd22d4138ab6cf38f91ed02a2ca0dec7c8ab7";

fn policy() -> Arc<ToolPolicy> {
    let text = format!(
        "[[key]]\nname = 'batch'\nsha256 = '{KEY}'\n[[role]]\nname = 'batch'\nkeys = ['batch']\n\
         [[role]]\nname = 'near'\nnetworks = ['127.0.0.0/8']\n\
         [[rule]]\nname = 'reads'\neffect = 'allow'\ntools = ['get_*']\nroles = ['near']\n\
         [[rule]]\nname = 'writes'\neffect = 'allow'\ntools = ['put']\nroles = ['batch']\n\
         [[rule]]\nname = 'ask'\neffect = 'deny'\ntools = ['step_up']\nscope = 'more'\n"
    );
    Arc::new(ToolPolicy::parse(&text).unwrap())
}

/// All that is tried of one route.
fn is_governed(driver: DriverChoice, traffic: Traffic, at_edge: bool) {
    let place = format!("{driver:?} {traffic:?} at_edge={at_edge}");
    let got = Got::default();
    let tunnel = Tunnel::with_upstreams(driver, traffic, (1, 1), &[serve(&got)]);
    tunnel.govern(at_edge, &policy());
    let mut agent = tunnel.agent();
    let list = r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#;
    for path in ["/mcp", "/events"] {
        let (_, shown) = ask(&mut agent, path, "", list);
        assert_eq!(names(&shown), ["get_a", "step_up"], "{place} {path}");
        assert_eq!((&shown["result"]["nextCursor"], &shown["result"]["cacheScope"]), (&json!("n"), &json!("private")));
        let (_, shown) = ask(&mut agent, path, "Authorization: Bearer open-sesame\r\n", list);
        assert_eq!(names(&shown), ["get_a", "put", "step_up"], "{place} {path}");
        let (_, passed) = ask(&mut agent, path, "", &call("get_a"));
        assert_eq!(passed["result"], json!({"content": []}), "{place} {path}");
    }
    let (_, resumed) = ask(&mut agent, "/mcp", "Last-Event-ID: 1\r\n", "");
    assert_eq!(names(&resumed), ["get_a", "step_up"], "{place}: a stream that is resumed");
    let lists = got.lock().unwrap().iter().map(|request| request.to_ascii_lowercase()).collect::<Vec<_>>();
    assert!(lists.iter().all(|request| !request.contains("open-sesame") && !request.contains("gzip")), "{place}");

    let before = got.lock().unwrap().len();
    for tool in ["drop", "put", "nothing"] {
        let (head, denied) = ask(&mut agent, "/mcp", "", &call(tool));
        assert!(head.starts_with("HTTP/1.1 200 "), "{place}: {head} {denied}");
        let error = json!({"code": -32602, "message": format!("Unknown tool: {tool}")});
        assert_eq!(denied, json!({"jsonrpc": "2.0", "id": 7, "error": error}), "{place}");
    }
    let (head, _) = ask(&mut tunnel.agent(), "/mcp", "", &call("step_up"));
    assert!(
        head.starts_with("HTTP/1.1 403 ") && head.contains("error=\"insufficient_scope\", scope=\"more\""),
        "{head}"
    );
    for (status, fields, body) in [
        (400, "", format!("[{}]", call("get_a"))),
        (400, "", call("get_a").replace("\"name\":", "\"name\":\"drop\",\"name\":")),
        (400, "", format!("\u{feff}{}", call("get_a"))),
        (400, "Mcp-Name: get_a\r\n", call("drop")),
        (415, "Content-Encoding: gzip\r\n", call("get_a")),
        (413, "", call("get_a").replacen('{', &format!("{{\"x\":\"{}\",", "y".repeat(90_000)), 1)),
    ] {
        let (head, _) = ask(&mut tunnel.agent(), "/mcp", fields, &body);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{place} {fields}{}: {head}", &body[..60]);
    }
    assert_eq!(got.lock().unwrap().len(), before, "{place}: nothing of this has reached the server");
    let (_, passed) = ask(&mut agent, "/mcp", "Authorization: Bearer open-sesame\r\n", &call("put"));
    assert_eq!(passed["result"], json!({"content": []}), "{place}");
    tunnel.end();
}

#[test]
fn denied_tools_are_neither_listed_nor_reachable() {
    for driver in [DriverChoice::Epoll, DriverChoice::Uring] {
        for traffic in [Traffic::Plain, Traffic::Resealed, Traffic::Passthrough] {
            is_governed(driver, traffic, false);
            if traffic != Traffic::Passthrough {
                is_governed(driver, traffic, true);
            }
        }
    }
}
