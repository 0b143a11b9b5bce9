//! What the edge's settings do to calls over HTTP/2.

use std::process::Command;

use crate::raw::{Peer, latin1};
use crate::support::HOST;
use crate::tunnel_processes::Tunnel;

const RULES: &str = "allowed_origins = ['https://app.example.com']\ncors = true";

/// The head of the answer to a request, as curl shows it: status and fields in lower case.
fn curl(tunnel: &Tunnel, args: &[&str]) -> String {
    let port = tunnel.agents.port();
    let mut command = Command::new("curl");
    command.args(["--http2-prior-knowledge", "--silent", "--show-error", "--include", "--max-time", "20"]);
    command.args(["--resolve", &format!("{HOST}:{port}:127.0.0.1")]).args(args);
    let out = command.arg(format!("http://{HOST}:{port}/mcp")).output().expect("curl is there");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn browsers_are_answered_over_http_2() {
    let tunnel = Tunnel::without_connector("plain", HOST, 0, RULES);
    let from = |origin: &str| format!("Origin: https://{origin}");
    let asks = ["-X", "OPTIONS", "-H", "Access-Control-Request-Method: POST"];
    let answer = curl(&tunnel, &[&asks[..], &["-H", &from("app.example.com")]].concat());
    assert!(answer.starts_with("HTTP/2 204"), "{answer}");
    assert!(answer.contains("access-control-allow-origin: https://app.example.com\r\n"), "{answer}");
    assert!(answer.contains("access-control-allow-methods: "), "{answer}");
    let answer = curl(&tunnel, &["--data", "{\"id\":7}", "-H", &from("app.example.com")]);
    assert!(answer.starts_with("HTTP/2 503"), "{answer}");
    assert!(answer.contains("access-control-allow-origin: https://app.example.com\r\n"), "{answer}");
    assert!(answer.contains("retry-after: 1\r\n") && answer.contains("server-timing: "), "{answer}");
    assert!(answer.contains("\"id\":7,") && answer.contains("connector_offline"), "{answer}");
    let answer = curl(&tunnel, &[&asks[..], &["-H", &from("evil.example")]].concat());
    assert!(answer.starts_with("HTTP/2 403") && !answer.contains("allow-origin"), "{answer}");
}

#[test]
fn an_edge_may_speak_http_1_alone() {
    let tunnel = Tunnel::without_connector("plain", HOST, 0, "http2 = false");
    let mut peer = Peer::connect(tunnel.agents);
    peer.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let answer = latin1(&peer.until_closed());
    assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
    let tunnel = Tunnel::without_connector("plain", HOST, 0, "");
    assert!(curl(&tunnel, &[]).starts_with("HTTP/2 503"));
}
