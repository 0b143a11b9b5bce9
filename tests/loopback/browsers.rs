//! Pages of other origins, through a tunnel that answers their browsers, where the agent's TLS ends at the edge and where it
//! ends in the connector.

use std::io::{Read, Write};

use adit::base::Traffic;

use crate::raw::{Head, Peer, Upstream, latin1};
use crate::sealed::site::{HOST, SEAL_CA, Site};
use crate::tunnel_processes::Tunnel;

const APP: &str = "https://app.example.com";
const RULES: &str = "allowed_origins = ['https://app.example.com']\ncors = true";
const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t"}}"#;
const EXPOSED: &str = "Mcp-Session-Id, WWW-Authenticate, Server-Timing, Retry-After, Mcp-Protocol-Version";

fn post(fields: &str) -> String {
    let length = CALL.len();
    format!("POST /mcp HTTP/1.1\r\nHost: {HOST}\r\n{fields}Content-Length: {length}\r\n\r\n{CALL}")
}

fn preflight(origin: &str) -> String {
    format!(
        "OPTIONS /mcp HTTP/1.1\r\nHost: {HOST}\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: POST\r\n\
         Access-Control-Request-Headers: authorization,content-type,mcp-param-region\r\n\r\n"
    )
}

fn from(origin: &str) -> String {
    format!("Origin: {origin}\r\n")
}

/// A response that a page of [`APP`] may read.
fn assert_readable(answer: &Head) {
    assert_eq!(answer.one("access-control-allow-origin"), Some(APP), "{answer:?}");
    assert_eq!(answer.one("access-control-expose-headers"), Some(EXPOSED), "{answer:?}");
    assert!(answer.all("vary").iter().any(|value| value.to_ascii_lowercase().contains("origin")), "{answer:?}");
    assert_eq!(answer.one("access-control-allow-credentials"), None, "{answer:?}");
}

fn ask(agent: &mut Peer, request: &str) -> Head {
    agent.send(request);
    let answer = agent.head();
    let _ = agent.body(&answer);
    answer
}

#[test]
fn a_preflight_request_is_answered_at_the_edge_though_no_connector_is_there() {
    let tunnel = Tunnel::without_connector("plain", HOST, 0, RULES);
    let mut agent = Peer::connect(tunnel.agents);
    for _ in 0..2 {
        let answer = ask(&mut agent, &preflight(APP));
        assert_eq!(answer.status(), 204, "{answer:?}");
        assert_eq!(answer.one("access-control-allow-origin"), Some(APP));
        let methods = answer.one("access-control-allow-methods").unwrap();
        assert!(["GET", "POST", "DELETE"].iter().all(|method| methods.contains(method)), "{methods}");
        let names = answer.one("access-control-allow-headers").unwrap();
        assert_eq!(names, "authorization,content-type,mcp-param-region");
        assert!(answer.one("access-control-max-age").is_some() && answer.all("vary")[0].contains("Origin"));
        assert_eq!((answer.one("content-length"), answer.one("connection")), (None, None));
    }
    // The page is told that nobody is there, instead of that it may not read the answer.
    let answer = ask(&mut agent, &post(&from(APP)));
    assert_eq!(answer.status(), 503);
    assert_readable(&answer);
    // Refused heads too, as far as they came.
    let malformed = format!("{}Content-Length: 1\r\nContent-Length: 2\r\n", from(APP));
    for (request, status) in [
        (post(&malformed), 400),
        (post(&from(APP)).replace(HOST, "other.test"), 421),
        (preflight(APP).replace(HOST, "other.test"), 421),
    ] {
        let answer = ask(&mut Peer::connect(tunnel.agents), &request);
        assert_eq!(answer.status(), status, "{request}");
        assert_readable(&answer);
    }
    // A stranger is told nothing.
    for request in [preflight("https://evil.example"), post(&from("https://evil.example"))] {
        let answer = ask(&mut Peer::connect(tunnel.agents), &request);
        assert_eq!((answer.status(), answer.one("access-control-allow-origin")), (403, None), "{request}");
    }
}

#[test]
fn cors_fields_of_the_upstream_are_replaced() {
    for traffic in ["plain", "resealed"] {
        let mut upstream = Upstream::start();
        let tunnel = Tunnel::start_with(traffic, HOST, upstream.address, RULES);
        for (origin, vary, of_page) in [
            (from(APP), "", true),
            (from(APP), "Vary: Accept, origin\r\n", true),
            (from(APP), "Vary: Accept\r\n", true),
            (String::new(), "", false),
        ] {
            let mut agent = Peer::connect(tunnel.agents);
            agent.send(post(&origin));
            let (came, mut at) = upstream.next();
            assert_eq!(came.one("origin"), of_page.then_some(APP), "the upstream sees who calls");
            assert_eq!(latin1(&at.body(&came)), CALL);
            at.send(format!(
                "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\naccess-control-allow-credentials: true\r\n\
                 Access-Control-Expose-Headers: X-Own\r\nMcp-Session-Id: s\r\n{vary}Content-Length: 2\r\n\r\nok"
            ));
            let answer = agent.head();
            assert_eq!((answer.status(), answer.one("mcp-session-id")), (200, Some("s")));
            assert_eq!(agent.body(&answer), b"ok");
            if of_page {
                assert_readable(&answer);
            } else {
                assert!(!answer.fields.iter().any(|(name, _)| name.to_ascii_lowercase().starts_with("access-control")));
                assert_eq!(answer.all("vary"), ["Origin"]);
            }
            let names_origin = |value: &&&str| value.to_ascii_lowercase().contains("origin");
            assert_eq!(answer.all("vary").iter().filter(names_origin).count(), 1, "{answer:?}");
            // Closed now, the connection would be used for the next request before its end is seen.
            upstream.keep(at);
        }
    }
}

#[test]
fn without_the_setting_cors_is_the_upstreams() {
    let mut upstream = Upstream::start();
    let tunnel = Tunnel::start_with("plain", HOST, upstream.address, "allowed_origins = ['https://app.example.com']");
    let mut agent = Peer::connect(tunnel.agents);
    agent.send(preflight(APP));
    let (came, mut at) = upstream.next();
    assert_eq!(came.one("access-control-request-method"), Some("POST"));
    at.send("HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nVary: X\r\nContent-Length: 0\r\n\r\n");
    let answer = agent.head();
    assert_eq!((answer.one("access-control-allow-origin"), answer.one("vary")), (Some("*"), Some("X")));
    assert_eq!(answer.one("access-control-expose-headers"), None);
}

#[test]
fn browsers_are_answered_in_the_connector_where_their_tls_ends_there() {
    let mut upstream = Upstream::start();
    let site = Site::start("epoll", Traffic::Passthrough);
    let (_connector, _) = site.connect_with("epoll", Traffic::Passthrough, upstream.address, RULES);
    let broken = std::thread::spawn(move || upstream.next().1.send("no HTTP\r\n\r\n"));
    for (request, status) in [
        (preflight(APP), "204 No Content"),
        (post(&from(APP)), "502 Bad Gateway"),
        (post(&format!("{}Content-Length: 1\r\n", from(APP))), "400 Bad Request"),
        (post(&from(APP)).replace(HOST, "other.test"), "421 Misdirected Request"),
        (post(&from("https://evil.example")), "403 Forbidden"),
    ] {
        let request = request.replacen("\r\n", "\r\nConnection: close\r\n", 1);
        let mut agent = site.agent(SEAL_CA, Some(HOST));
        agent.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        agent.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request}: {answer}");
        let allows = answer.matches("\r\nAccess-Control-Allow-Origin: https://app.example.com\r\n").count();
        assert_eq!(allows, usize::from(!status.starts_with("403")), "{request}: {answer}");
        assert_eq!(answer.contains(EXPOSED), allows == 1 && !status.starts_with("204"), "{answer}");
    }
    broken.join().unwrap();
}
