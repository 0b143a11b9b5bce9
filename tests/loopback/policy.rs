//! Routes with a policy, at the edge and at the connector: what is denied reaches no server, and is not shown.

mod bodies;
#[cfg(feature = "cedar")]
mod cedar;
mod matrix;
mod model;
mod readers;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;

use adit::base::Traffic;
use adit::engine::ladder::DriverChoice;
use adit::policy::ToolPolicy;
use serde_json::{Value, json};

use crate::support::{Agent, HOST, Tunnel, read_message};

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

/// What the server has got.
pub(crate) type Got = Arc<Mutex<Vec<String>>>;

/// A server with four tools that answers with JSON, or with events where the path is `/events`.
pub(crate) fn serve(got: &Got) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let got = Arc::clone(got);
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let got = Arc::clone(&got);
            thread::spawn(move || {
                loop {
                    let request = read_message(&mut socket);
                    let Some((head, body)) = request.split_once("\r\n\r\n") else { return };
                    got.lock().unwrap().push(request.clone());
                    let tools =
                        ["get_a", "put", "drop", "step_up"].map(|name| json!({"name": name, "inputSchema": {}}));
                    let asked: Value = serde_json::from_str(body).unwrap_or_default();
                    let result = match asked["method"].as_str() {
                        Some("tools/list") => json!({"tools": tools, "nextCursor": "n", "cacheScope": "public"}),
                        _ => json!({"content": []}),
                    };
                    let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": result}).to_string();
                    let answer = if head.starts_with("POST /events") || head.starts_with("GET ") {
                        let answer = if head.starts_with("GET ") {
                            json!({"jsonrpc": "2.0", "id": 9, "result": {"tools": tools}}).to_string()
                        } else {
                            answer
                        };
                        let events = format!(": hello\n\nid: 1\nevent: message\ndata: {answer}\n\n");
                        // In chunks of odd lengths, each of its own.
                        let chunks: String = events
                            .as_bytes()
                            .chunks(7)
                            .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), std::str::from_utf8(chunk).unwrap()))
                            .collect();
                        format!(
                            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
                        )
                    } else {
                        format!(
                            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{answer}",
                            answer.len()
                        )
                    };
                    if socket.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Sends a message with these fields, and returns the head of the answer and its JSON.
pub(crate) fn ask(agent: &mut Agent, path: &str, fields: &str, body: &str) -> (String, Value) {
    let method = if body.is_empty() { "GET" } else { "POST" };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\
         Accept: application/json, text/event-stream\r\n{fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    agent.write_all(request.as_bytes()).unwrap();
    let answer = read_answer(agent);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let json = body.lines().find_map(|line| line.strip_prefix("data: ")).unwrap_or(body);
    (head.to_owned(), serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {answer}")))
}

/// An answer, whose chunks are put together.
pub(crate) fn read_answer(agent: &mut impl Read) -> String {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let lower = head.to_ascii_lowercase();
            if lower.contains("transfer-encoding: chunked") {
                if body.ends_with("0\r\n\r\n") {
                    return format!("{head}\r\n\r\n{}", unchunked(body));
                }
            } else {
                let len = lower.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
                if body.len() >= len.parse().unwrap() {
                    return text;
                }
            }
        }
        let n = agent.read(&mut piece).unwrap();
        assert!(n > 0, "the connection has ended: {text}");
        bytes.extend_from_slice(&piece[..n]);
    }
}

fn unchunked(mut body: &str) -> String {
    let mut out = String::new();
    while let Some((len, rest)) = body.split_once("\r\n") {
        let len = usize::from_str_radix(len, 16).unwrap();
        out.push_str(&rest[..len]);
        body = rest[len..].strip_prefix("\r\n").unwrap();
        if len == 0 {
            break;
        }
    }
    out
}

pub(crate) fn call(tool: &str) -> String {
    json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool, "arguments": {}}}).to_string()
}

pub(crate) fn names(list: &Value) -> Vec<&str> {
    list["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect()
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
