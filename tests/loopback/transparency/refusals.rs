//! What the edge refuses, so that nothing behind it has to.

use super::{CALL, HOST, Way, each_way, get};
use crate::raw::latin1;

/// Requests by which a stranger could make two readers of one connection disagree, or exhaust one of them.
fn smuggling_rows() -> Vec<(&'static str, Vec<u8>)> {
    let with = |fields: &str| format!("POST /mcp HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n\r\n{{}}").into_bytes();
    let start = |line: &str| format!("{line}\r\nHost: {HOST}\r\nContent-Length: 2\r\n\r\n{{}}").into_bytes();
    let many: String = (0..101).map(|n| format!("X-{n}: 1\r\n")).collect();
    vec![
        ("length and encoding", with("Content-Length: 2\r\nTransfer-Encoding: chunked")),
        ("two lengths that differ", with("Content-Length: 2\r\nContent-Length: 3")),
        ("two lengths that agree", with("Content-Length: 2\r\nContent-Length: 2")),
        ("a list of lengths", with("Content-Length: 2, 2")),
        ("a length with a sign", with("Content-Length: +2")),
        ("a length that is no number", with("Content-Length: 0x2")),
        ("a length without end", with("Content-Length: 99999999999999999999999")),
        ("a length with a space in its name", with("Content-Length : 2")),
        ("a folded line", with("X-A: 1\r\n 2\r\nContent-Length: 2")),
        ("a bare carriage return", with("X-A: 1\rContent-Length: 0\r\nContent-Length: 2")),
        ("a bare line feed", with("X-A: 1\nContent-Length: 2")),
        ("a NUL", with("X-A: 1\0\r\nContent-Length: 2")),
        ("encoding twice", with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")),
        ("encoding in the wrong order", with("Transfer-Encoding: chunked, gzip")),
        ("an encoding unknown", with("Transfer-Encoding: xchunked")),
        ("a disguised length", with("Content_Length: 0\r\nContent-Length: 2")),
        ("two hosts", with("Host: other.test\r\nContent-Length: 2")),
        ("no host", b"POST /mcp HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}".to_vec()),
        ("a host that is none", b"POST /mcp HTTP/1.1\r\nHost: a b\r\nContent-Length: 2\r\n\r\n{}".to_vec()),
        ("a method that is none", start("PO\x01ST /mcp HTTP/1.1")),
        ("no target", start("POST HTTP/1.1")),
        ("a target with a space", start("POST /m cp HTTP/1.1")),
        ("a target that is none", start("POST mcp HTTP/1.1")),
        ("CONNECT", start("CONNECT mcp.test:443 HTTP/1.1")),
        ("a version unknown", start("POST /mcp HTTP/2.0")),
        ("a head without end", with(&format!("X-A: {}\r\nContent-Length: 2", "a".repeat(65 * 1024)))),
        ("a hundred and more fields", with(&format!("{many}Content-Length: 2"))),
    ]
}

#[test]
fn ambiguous_requests_are_refused_and_the_connection_closed() {
    let mut way = Way::tunnel();
    for (name, request) in smuggling_rows() {
        let mut agent = way.agent();
        agent.send(&request);
        let answer = agent.head();
        assert!([400, 431, 501, 505].contains(&answer.status()), "{name}: {answer:?}");
        assert_eq!(answer.one("content-type"), Some("application/json"), "{name}");
        let body: serde_json::Value = serde_json::from_slice(&agent.body(&answer)).unwrap();
        assert!(body["error"]["message"].is_string(), "{name}: {body}");
        assert_eq!(latin1(&agent.until_closed()), "", "{name}");
    }
    // The first request that the upstream sees is an honest one.
    let (_, came, _at) = way.exchange(&get("/honest"));
    assert_eq!(came.start, "GET /honest HTTP/1.1");
}

#[test]
fn chunks_that_two_readers_could_read_in_two_ways_end_the_call() {
    let mut way = Way::tunnel();
    for chunks in [
        "2;a=\r\n{}\r\n0\r\n\r\n".replace("a=", &"a".repeat(20_000)),
        "2\n{}\r\n0\r\n\r\n".to_owned(),
        "0x2\r\n{}\r\n0\r\n\r\n".to_owned(),
        "-2\r\n{}\r\n0\r\n\r\n".to_owned(),
        "2\r\n{}x\r\n0\r\n\r\n".to_owned(),
        "11111111111111111\r\n{}".to_owned(),
    ] {
        let mut agent = way.agent();
        agent.send(format!("POST /mcp HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n"));
        let (_, mut at) = way.upstream.next();
        agent.send(&chunks);
        let shown = &chunks[..chunks.len().min(20)];
        let seen = latin1(&at.until_closed());
        assert!(!seen.contains("\r\n0\r\n") && !seen.starts_with("0\r\n"), "{shown}: passed on as whole: {seen}");
        let answer = latin1(&agent.until_closed());
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{shown}: {answer}");
    }
}

#[test]
fn a_websocket_is_refused_with_a_clear_answer() {
    let mut way = Way::tunnel();
    let mut agent = way.agent();
    agent.send(format!(
        "GET /mcp HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ));
    let answer = agent.head();
    assert!((400..=501).contains(&answer.status()), "{answer:?}");
    let body: serde_json::Value = serde_json::from_slice(&agent.body(&answer)).unwrap();
    assert!(body["error"]["message"].as_str().unwrap().to_lowercase().contains("upgrade"), "{body}");
    let (_, came, _at) = way.exchange(&get("/honest"));
    assert_eq!(came.start, "GET /honest HTTP/1.1");
}

#[test]
fn an_offer_of_another_protocol_that_may_be_ignored_is_ignored() {
    for offer in [
        // Java's HttpClient on its first request of a plain connection.
        "Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\nUpgrade: h2c",
        "Connection: Upgrade\r\nUpgrade: TLS/1.2, HTTP/2.0",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "HTTP2-Settings: AAEAAEAA",
    ] {
        let mut way = Way::tunnel();
        let (mut agent, came, mut at) = way.exchange(&format!(
            "POST /mcp HTTP/1.1\r\nHost: {HOST}\r\n{offer}\r\nContent-Length: {}\r\n\r\n{CALL}",
            CALL.len()
        ));
        for name in ["connection", "upgrade", "http2-settings"] {
            assert_eq!(came.one(name), None, "{offer}: {came:?}");
        }
        assert_eq!(latin1(&at.body(&came)), CALL);
        at.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let answer = agent.head();
        assert_eq!((answer.status(), answer.one("upgrade")), (200, None), "{offer}");
        assert_eq!(agent.body(&answer), b"ok");
    }
}

#[test]
fn a_server_that_demands_another_protocol_says_which() {
    each_way(|mut way| {
        let (mut agent, _, mut at) = way.exchange(&get("/mcp"));
        at.send(
            "HTTP/1.1 426 Upgrade Required\r\nUpgrade: HTTP/3.0\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n",
        );
        let answer = agent.head();
        let connection = answer.one("connection").map(str::to_ascii_lowercase);
        // Neither field can be sent over HTTP/2 (RFC 9113, section 8.2.2).
        let (demanded, option) = if way.is_http2 { (None, None) } else { (Some("HTTP/3.0"), Some("upgrade")) };
        assert_eq!((answer.status(), answer.one("upgrade")), (426, demanded), "{answer:?}");
        assert_eq!(connection.as_deref(), option, "{answer:?}");
    });
}

#[test]
fn an_unknown_host_and_a_foreign_origin_are_refused_at_the_edge() {
    let mut way = Way::tunnel();
    let with = |host: &str, origin: &str| {
        format!("POST /mcp HTTP/1.1\r\nHost: {host}\r\n{origin}Content-Length: {}\r\n\r\n{CALL}", CALL.len())
    };
    for (host, origin, status) in [
        ("evil.example.com", "", 421),
        ("mcp.test.evil.example.com", "", 421),
        ("127.0.0.1", "", 421),
        (HOST, "Origin: http://evil.example.com\r\n", 403),
        (HOST, "Origin: null\r\n", 403),
    ] {
        let mut agent = way.agent();
        agent.send(with(host, origin));
        let answer = agent.head();
        assert_eq!(answer.status(), status, "{host} {origin}");
        assert_eq!(answer.one("content-type"), Some("application/json"));
        let body: serde_json::Value = serde_json::from_slice(&agent.body(&answer)).unwrap();
        assert!(body["error"]["message"].is_string(), "{body}");
    }
    // A page that the tunnel's own host served may call it, whatever the port.
    let own = format!("Origin: http://{HOST}:{}\r\nX-Own: 1\r\n", way.front.port());
    let (_agent, came, _at) = way.exchange(&with(&format!("{HOST}:{}", way.front.port()), &own));
    assert_eq!(came.all("x-own"), ["1"]);
}
