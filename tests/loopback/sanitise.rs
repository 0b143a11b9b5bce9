//! Texts of servers that a policy has sanitised, at the edge and at the connector: as JSON, in events, and on resumed streams.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use adit::base::Traffic;
use adit::engine::ladder::DriverChoice;
use adit::policy::ToolPolicy;
use http::Method;
use serde_json::{Value, json};

use crate::http2::client::with_client;
use crate::policy::ask;
use crate::support::{Tunnel, read_message};

const POLICY: &str = "[sanitise]\ntags = 'strip'\nbidi = 'strip'\nansi = 'strip'\nsecrets = 'redact'\ncards = 'redact'\n\
                      [[pattern]]\nname = 'ticket'\nregex = 'TCK-[0-9]{6}'\n";
const TEXT: &str = r"a\u202eb\udb40\udc41 \u001b[31mAKIAIOSFODNN7EXAMPLE 4111 1111 1111 1111 TCK-123456";
const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":{}}}"#;
const CLEAN: &str = "ab [redacted:secret] [redacted:card] [redacted:ticket]";

/// A server that answers with a text, as JSON or in events that are cut into pieces of this many bytes.
fn serve(piece_len: usize) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            thread::spawn(move || {
                loop {
                    let request = read_message(&mut socket);
                    if !request.contains("\r\n\r\n") {
                        return;
                    }
                    let answer = format!(
                        r#"{{"jsonrpc":"2.0", "id":1,"result":{{"content":[{{"type":"text","text":"{TEXT}"}}], "n":1e2}}}}"#
                    );
                    let answer = if request.contains("/schema") { with_schema(&request) } else { answer };
                    let answer = if request.starts_with("POST /mcp") {
                        let len = answer.len();
                        format!(
                            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len}\r\n\r\n{answer}"
                        )
                    } else {
                        let events = format!(": hello\n\nid: 1\nevent: message\ndata: {answer}\n\n");
                        let chunks: String = events
                            .as_bytes()
                            .chunks(piece_len)
                            .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), std::str::from_utf8(chunk).unwrap()))
                            .collect();
                        format!(
                            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
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

/// The list of a tool whose results have a schema, or a result that fits it.
fn with_schema(request: &str) -> String {
    let key = json!({"properties": {"key": {"type": "string", "pattern": "^AKIA"}, "note": {"type": "string"}}});
    let result = match request.contains("tools/list") {
        true => json!({"tools": [{"name": "read", "inputSchema": {}, "outputSchema": key}]}),
        false if request.contains("Key: none") => json!({"structuredContent": {"note": "AKIAIOSFODNN7EXAMPLE"}}),
        false => json!({"structuredContent": {"key": "AKIAIOSFODNN7EXAMPLE"}}),
    };
    json!({"jsonrpc": "2.0", "id": 1, "result": result}).to_string()
}

/// A placeholder that a strict client would refuse is not sent.
fn keeps_schemas(driver: DriverChoice, traffic: Traffic, at_edge: bool) {
    let place = format!("{driver:?} {traffic:?} at_edge={at_edge}");
    let tunnel = Tunnel::with_upstreams(driver, traffic, (1, 1), &[serve(7)]);
    tunnel.govern(at_edge, &Arc::new(ToolPolicy::parse(POLICY).unwrap()));
    let mut agent = tunnel.agent();
    let mut says = |path: &str, fields: &str, body: &str| ask(&mut agent, path, fields, body).1["result"].clone();
    let redacted = json!({"structuredContent": {"key": "[redacted:secret]"}});
    assert_eq!(says("/mcp/schema", "", CALL), redacted, "{place}: no list has named its schema");
    let list = says("/mcp/schema", "", r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    assert_eq!(list["tools"][0]["name"], "read", "{place}");
    for path in ["/mcp/schema", "/events/schema"] {
        let message = says(path, "", CALL);
        assert_eq!(
            (message.get("structuredContent"), &message["isError"]),
            (None, &json!(true)),
            "{place} {path}: {message}"
        );
        assert!(message["content"][0]["text"].as_str().unwrap().contains("output schema"), "{place} {path}: {message}");
        let fits = json!({"structuredContent": {"note": "[redacted:secret]"}});
        assert_eq!(says(path, "Key: none\r\n", CALL), fits, "{place} {path}");
    }
    tunnel.end();
}

#[test]
fn a_structured_result_that_would_no_longer_fit_its_schema_is_left_out() {
    for driver in [DriverChoice::Epoll, DriverChoice::Uring] {
        for (traffic, at_edge) in
            [(Traffic::Plain, true), (Traffic::Plain, false), (Traffic::Resealed, true), (Traffic::Passthrough, false)]
        {
            keeps_schemas(driver, traffic, at_edge);
        }
    }
}

fn holds(driver: DriverChoice, traffic: Traffic, at_edge: bool, piece_len: usize) {
    let place = format!("{driver:?} {traffic:?} at_edge={at_edge} piece_len={piece_len}");
    let tunnel = Tunnel::with_upstreams(driver, traffic, (1, 1), &[serve(piece_len)]);
    tunnel.govern(at_edge, &Arc::new(ToolPolicy::parse(POLICY).unwrap()));
    let mut agent = tunnel.agent();
    let want: Value =
        json!({"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": CLEAN}], "n": 1e2}});
    for (path, fields, body) in [("/mcp", "", CALL), ("/events", "", CALL), ("/events", "Last-Event-ID: 0\r\n", "")] {
        let (head, answer) = ask(&mut agent, path, fields, body);
        assert!(head.starts_with("HTTP/1.1 200 "), "{place} {path}: {head}");
        assert_eq!(answer, want, "{place} {path} {fields}");
        // The length that the head tells is that of what is sent, and its connection goes on.
        assert_eq!(head.contains("ontent-Length: "), path == "/mcp", "{place} {path}: {head}");
    }
    for path in ["/mcp", "/events"].into_iter().filter(|_| traffic != Traffic::Passthrough) {
        let answer = with_client(tunnel.agents, |client| async move {
            client.call(Method::POST, path, CALL.as_bytes()).await.unwrap()
        });
        let body = String::from_utf8(answer.body.to_vec()).unwrap();
        let json = body.lines().find_map(|line| line.strip_prefix("data: ")).unwrap_or(&body);
        assert_eq!(serde_json::from_str::<Value>(json).unwrap(), want, "{place} {path} by HTTP/2");
    }
    tunnel.end();
}

#[test]
fn texts_are_sanitised_by_both_drivers_in_all_traffic_however_they_come() {
    for driver in [DriverChoice::Epoll, DriverChoice::Uring] {
        for piece_len in [1, 64] {
            holds(driver, Traffic::Plain, false, piece_len);
        }
        for (traffic, at_edge) in [
            (Traffic::Plain, true),
            (Traffic::Plain, false),
            (Traffic::Resealed, true),
            (Traffic::Resealed, false),
            (Traffic::Passthrough, false),
        ] {
            holds(driver, traffic, at_edge, 7);
        }
    }
}
