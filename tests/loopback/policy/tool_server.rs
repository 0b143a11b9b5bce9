//! A server with a few tools, and how agents of tests ask for them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

use crate::support::{Agent, HOST, read_message};

/// What the server has got.
pub(crate) type Got = Arc<Mutex<Vec<String>>>;

/// A server with four tools that answers with JSON, or with events where the path is `/events`.
pub(crate) fn serve(got: &Got) -> SocketAddr {
    serve_tools(got, ["get_a", "put", "drop", "step_up"])
}

/// The same with other tools.
pub(crate) fn serve_tools<const N: usize>(got: &Got, names: [&'static str; N]) -> SocketAddr {
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
                    let tools = names.map(|name| json!({"name": name, "inputSchema": {}}));
                    let asked: Value = serde_json::from_str(body).unwrap_or_default();
                    let result = match asked["method"].as_str() {
                        Some("tools/list") => {
                            json!({"tools": tools.as_slice(), "nextCursor": "n", "cacheScope": "public"})
                        }
                        _ => json!({"content": []}),
                    };
                    let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": result}).to_string();
                    let answer = if head.starts_with("POST /events") || head.starts_with("GET ") {
                        let answer = if head.starts_with("GET ") {
                            json!({"jsonrpc": "2.0", "id": 9, "result": {"tools": tools.as_slice()}}).to_string()
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
