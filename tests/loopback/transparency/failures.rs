//! What an agent is told when nobody answers, and that no call is made twice.

use std::net::SocketAddr;

use super::{CALL, HOST, Way, get, post};
use crate::free_address::free_address;
use crate::front::Front;
use crate::raw::{Head, Peer, Upstream, latin1};
use crate::tunnel_processes::Tunnel;

/// Ids of calls, as JSON texts.
const IDS: [&str; 4] = ["7", "\"7\"", "\"a \\\"b\\\" \u{17c}\"", "-1"];

/// Sends a call with this JSON-RPC id to a front behind which nobody answers, and gives the answer.
fn refused(front: SocketAddr, id: &str) -> (Head, serde_json::Value) {
    let mut agent = Peer::connect(front);
    agent.send(post(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"t"}}}}"#)));
    let answer = agent.head();
    let body = agent.body(&answer);
    (answer, serde_json::from_slice(&body).unwrap_or_else(|_| panic!("no JSON: {}", latin1(&body))))
}

fn assert_rpc_error(body: &serde_json::Value, id: &str) {
    assert_eq!(body["jsonrpc"], "2.0", "{body}");
    assert_eq!(body["id"].to_string(), id, "{body}");
    let code = body["error"]["code"].as_i64().expect("an error has a code");
    assert!(!(-32_768..=-32_000).contains(&code), "{code} belongs to the specifications");
    assert!(body["error"]["message"].is_string(), "{body}");
}

/// Calls are answered 503, over either version of HTTP.
fn assert_unavailable(tunnel: &Tunnel) {
    // One id is enough to show that the second version has the same answers.
    let over_http2 = Front::of_requests(tunnel.agents, None);
    for (front, ids) in [(tunnel.agents, &IDS[..]), (over_http2.address, &IDS[2..3])] {
        for id in ids {
            let (answer, body) = refused(front, id);
            assert_eq!((answer.status(), answer.one("content-type")), (503, Some("application/json")));
            assert!(answer.one("retry-after").is_some_and(|s| s.parse::<u32>().is_ok()), "{answer:?}");
            assert_rpc_error(&body, id);
        }
    }
}

#[test]
fn an_upstream_that_refuses_is_503_with_the_id_of_the_call_and_a_time_to_try_again() {
    let tunnel = Tunnel::start(HOST, free_address());
    assert_unavailable(&tunnel);
}

#[test]
fn a_connector_that_is_not_there_is_503_with_the_id_of_the_call_and_a_time_to_try_again() {
    let tunnel = Tunnel::without_connector("plain", HOST, 0, "");
    assert_unavailable(&tunnel);
    let mut agent = Peer::connect(tunnel.agents);
    agent.send(get("/mcp"));
    assert_eq!(agent.head().status(), 503);
}

#[test]
fn a_call_that_comes_before_the_connector_waits_for_it() {
    let mut upstream = Upstream::start();
    let mut tunnel = Tunnel::without_connector("plain", HOST, 20_000, "");
    let mut agent = Peer::connect(tunnel.agents);
    agent.send(post(CALL));
    tunnel.connect(HOST, upstream.address);
    let (came, mut at) = upstream.next();
    assert_eq!(latin1(&at.body(&came)), CALL);
    at.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let answer = agent.head();
    assert_eq!((answer.status(), agent.body(&answer)), (200, b"ok".to_vec()));
}

#[test]
fn a_request_that_may_have_reached_the_upstream_is_never_sent_twice() {
    let mut way = Way::tunnel();
    for kept in [false, true] {
        if kept {
            // The second time round the request goes out on a connection that has served before.
            let (mut agent, _, mut at) = way.exchange(&get("/warm"));
            at.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            assert_eq!(agent.head().status(), 200);
            way.upstream.keep(at);
        }
        let (mut agent, came, mut at) = way.exchange(&post(CALL));
        assert_eq!(latin1(&at.body(&came)), CALL);
        at.close();
        let answer = agent.head();
        assert_eq!(answer.status(), 502, "kept: {kept}");
        let body: serde_json::Value = serde_json::from_slice(&agent.body(&answer)).unwrap();
        assert_rpc_error(&body, "7");
        // Whatever arrives next is the marker, not the call again.
        let (mut agent, came, mut at) = way.exchange(&get("/marker"));
        assert_eq!(came.start, "GET /marker HTTP/1.1", "kept: {kept}");
        at.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        assert_eq!(agent.head().status(), 200);
    }
}

#[test]
fn a_kept_connection_that_the_upstream_closed_is_not_noticed_by_the_agent() {
    let mut way = Way::tunnel();
    let mut agent = way.agent();
    for round in 0..5 {
        agent.send(post(CALL));
        let (came, mut at) = way.upstream.next();
        assert_eq!(latin1(&at.body(&came)), CALL);
        at.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let answer = agent.head();
        assert_eq!((answer.status(), agent.body(&answer)), (200, b"ok".to_vec()), "round {round}");
        way.upstream.keep(at);
        way.upstream.close_kept();
    }
}
