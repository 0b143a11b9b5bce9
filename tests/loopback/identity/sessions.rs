//! MCP sessions of callers who are known: each is for the caller for whom it was begun, and no stream outlasts the proof of who reads it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use adit::base::Traffic;
use adit::engine::ladder::DriverChoice;
use adit::identity::{KeyStore, RouteAuth};
use serde_json::{Value, json};

use super::signer::{Signer, claims};
use super::{ISSUER, PLACES, RESOURCE, auth, issuer, keys, shown, with};
use crate::policy::{ask, call};
use crate::support::{HOST, Tunnel, read_message};

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#;

/// A server that begins the sessions `s-1`, `s-2` and so on, and knows all that were ever named. A GET is answered with a stream that does
/// not end.
fn server() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (nth, mut socket) in listener.incoming().flatten().enumerate() {
            thread::spawn(move || {
                loop {
                    let request = read_message(&mut socket);
                    let Some((head, body)) = request.split_once("\r\n\r\n") else { return };
                    let asked: Value = serde_json::from_str(body).unwrap_or_default();
                    if head.starts_with("GET ") {
                        let stream = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: hello\n\n";
                        socket.write_all(stream.as_bytes()).unwrap();
                        let _ = socket.read(&mut [0]);
                        return;
                    }
                    let session = if asked["method"] == "initialize" {
                        format!("Mcp-Session-Id: s-{nth}\r\n")
                    } else {
                        String::new()
                    };
                    let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"content": []}}).to_string();
                    let status = if asked["params"]["name"] == "get_lost" { "404 Not Found" } else { "200 OK" };
                    let head = format!("HTTP/1.1 {status}\r\n{session}Content-Type: application/json\r\n");
                    let answer = format!("{head}Content-Length: {}\r\n\r\n{answer}", answer.len());
                    if socket.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn tunnel(driver: DriverChoice, traffic: Traffic, at_edge: bool, auth: &Arc<RouteAuth>) -> Tunnel {
    let tunnel = Tunnel::with_upstreams(driver, traffic, (2, 1), &[server()]);
    tunnel.authorize(at_edge, Some(auth));
    tunnel
}

/// The status of a call with these fields.
fn status(tunnel: &Tunnel, fields: &str) -> (u16, Value) {
    let (head, answer) = ask(&mut tunnel.agent(), "/mcp", fields, &call("get_a"));
    (head[9..12].parse().unwrap(), answer)
}

/// Ends a session.
fn delete(tunnel: &Tunnel, fields: &str) -> u16 {
    let mut agent = tunnel.agent();
    let request = format!("DELETE /mcp HTTP/1.1\r\nHost: {HOST}\r\n{fields}Content-Length: 0\r\n\r\n");
    agent.write_all(request.as_bytes()).unwrap();
    read_message(&mut agent)[9..12].parse().unwrap()
}

#[test]
fn a_session_is_only_for_the_caller_for_whom_it_was_begun() {
    for (driver, traffic, at_edge) in PLACES {
        let signer = Signer::new("k1");
        let issuer = issuer(KeyStore::fixed(keys(&[&signer])));
        let tunnel = tunnel(driver, traffic, at_edge, &auth(&issuer, Some("")));
        let alice = shown(&signer.sign(&claims(ISSUER, RESOURCE)));
        // The same caller, some time later.
        let renewed = shown(&signer.sign(&with("jti", json!("2"))));
        let bob = shown(&signer.sign(&with("sub", json!("bob"))));
        let place = format!("{driver:?} {traffic:?} at_edge={at_edge}");

        let (head, _) = ask(&mut tunnel.agent(), "/mcp", &alice, INITIALIZE);
        let session = head.split("Mcp-Session-Id: ").nth(1).unwrap().split("\r\n").next().unwrap();
        let named = format!("Mcp-Session-Id: {session}\r\n");
        let (of_alice, of_bob) = (format!("{alice}{named}"), format!("{bob}{named}"));
        assert_eq!(status(&tunnel, &of_alice).0, 200, "{place}");
        assert_eq!(status(&tunnel, &format!("{renewed}{named}")).0, 200, "{place}: a token is renewed");
        // On each core, and whatever revision it pretends to be of.
        for fields in [&of_bob, &of_bob, &format!("{of_bob}MCP-Protocol-Version: 2026-07-28\r\n")] {
            let (status, answer) = status(&tunnel, fields);
            assert_eq!((status, &answer["error"]["data"]["reason"]), (404, &json!("session_unknown")), "{place}");
            assert_eq!(answer["id"], 7, "{place}");
        }
        for two in [format!("{of_bob}Mcp-Session-Id: x\r\n"), format!("{bob}Mcp-Session-Id: x\r\n{named}")] {
            assert_eq!(status(&tunnel, &two).0, 404, "{place}: servers differ in which of two they read");
        }
        assert_eq!(delete(&tunnel, &of_bob), 404, "{place}");
        assert_eq!(status(&tunnel, &of_alice).0, 200, "{place}");
        assert_eq!(status(&tunnel, &bob).0, 200, "{place}: without a session");

        // Another server behind the same route may not have it.
        let (lost, _) = ask(&mut tunnel.agent(), "/mcp", &of_alice, &call("get_lost"));
        assert!(lost.starts_with("HTTP/1.1 404 "), "{place}: {lost}");
        assert_eq!(status(&tunnel, &of_bob).0, 404, "{place}: it is still hers");
        assert_eq!(status(&tunnel, &of_alice).0, 200, "{place}");

        // One that was begun before it could be seen is that of the first who uses it.
        assert_eq!(status(&tunnel, &format!("{bob}Mcp-Session-Id: old\r\n")).0, 200, "{place}");
        assert_eq!(status(&tunnel, &format!("{alice}Mcp-Session-Id: old\r\n")).0, 404, "{place}");
        // One that has ended is nobody's.
        assert_eq!(delete(&tunnel, &of_alice), 200, "{place}");
        assert_eq!(status(&tunnel, &of_bob).0, 200, "{place}");
        tunnel.end();
    }
}

#[test]
fn a_stream_that_stands_open_ends_when_the_token_of_its_reader_does() {
    thread::scope(|scope| {
        for (driver, traffic, at_edge) in PLACES {
            scope.spawn(move || ends_with_its_token(driver, traffic, at_edge));
        }
    });
}

fn ends_with_its_token(driver: DriverChoice, traffic: Traffic, at_edge: bool) {
    let signer = Signer::new("k1");
    // A token holds for its leeway longer than it says, which is half a minute here.
    let issuer = issuer(KeyStore::fixed(keys(&[&signer])));
    let tunnel = tunnel(driver, traffic, at_edge, &auth(&issuer, None));
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let ends = now + Duration::from_secs(10) - Duration::from_secs(30);
    let fields = shown(&signer.sign(&with("exp", json!(ends.as_secs()))));
    let mut agent = tunnel.agent();
    let request = format!("GET /mcp HTTP/1.1\r\nHost: {HOST}\r\nAccept: text/event-stream\r\n{fields}\r\n");
    agent.write_all(request.as_bytes()).unwrap();
    let (mut stream, mut piece) = (String::new(), [0; 1024]);
    while !stream.ends_with("0\r\n\r\n") {
        let len = agent.read(&mut piece).unwrap();
        assert!(len > 0, "it is not broken off: {stream}");
        stream.push_str(std::str::from_utf8(&piece[..len]).unwrap());
        assert!(stream.starts_with("HTTP/1.1 200 "), "{traffic:?} {at_edge}: {stream}");
    }
    assert!(stream.contains("data: hello\n\n"), "{stream}");
    let (head, _) = ask(&mut tunnel.agent(), "/mcp", &fields, &call("get_a"));
    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
    tunnel.end();
}
