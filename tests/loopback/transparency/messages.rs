//! Heads and bodies: unchanged, in order, passed on while they come.

use std::thread;

use super::{CALL, HOST, Way, each_way, get, post};
use crate::raw::latin1;

/// Fields of a request that the tunnel sets for its own hop, or may add.
const REQUEST_HOP: &[&str] = &["host", "connection", "transfer-encoding", "content-length"];
const REQUEST_MAY_ADD: &[&str] = &["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];
/// Fields of a response that the tunnel sets for its own hop, or adds.
const RESPONSE_HOP: &[&str] = &["connection", "transfer-encoding", "content-length", "server-timing"];

#[test]
fn fields_pass_in_order_with_their_duplicates_and_every_byte() {
    let asked: &[(&str, &str)] = &[
        ("authorization", "Bearer abc.def"),
        ("X-Many", "one"),
        ("Mcp-Method", "tools/call"),
        ("Mcp-Name", "=?base64?w6k=?="),
        ("Mcp-Param-Region", "us west 1"),
        ("x-many", "two, three"),
        ("MCP-Protocol-Version", "2026-07-28"),
        ("Mcp-Session-Id", "0af7651916cd43dd8448eb211c80319c"),
        ("Last-Event-ID", "stream/7:42"),
        ("Accept", "application/json, text/event-stream"),
        ("Accept-Encoding", "gzip, deflate"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "a=1,b=2"),
        ("baggage", "k=v"),
        ("DPoP", "eyJ"),
        ("X-Empty", ""),
        ("X-Latin", "caf\u{e9}"),
        ("X-MANY", "four"),
        ("Cookie", "a=1; b=2"),
    ];
    let answered: &[(&str, &str)] = &[
        ("Content-Type", "application/json; charset=utf-8"),
        ("WWW-Authenticate", r#"Bearer resource_metadata="https://a/b", scope="x y""#),
        ("Mcp-Session-Id", "0af7651916cd43dd8448eb211c80319c"),
        ("www-authenticate", "DPoP algs=\"ES256\""),
        ("Cache-Control", "no-cache, no-transform"),
        ("X-Accel-Buffering", "no"),
        ("Set-Cookie", "a=1; Path=/"),
        ("Set-Cookie", "b=2; Path=/"),
        ("Access-Control-Expose-Headers", "Mcp-Session-Id"),
        ("Location", "/elsewhere"),
        ("Retry-After", "3"),
        ("Allow", "POST"),
        ("ETag", "\"x\""),
        ("X-Empty", ""),
        ("X-Latin", "na\u{ef}ve"),
        ("Date", "Sat, 21 Nov 2026 09:00:00 GMT"),
        ("Server", "private/1"),
    ];
    each_way(|mut way| {
        let mut agent = way.agent();
        agent.send(format!("POST /mcp?a=%20b&c HTTP/1.1\r\nHost: {HOST}\r\n"));
        agent.send(lines(asked));
        agent.send("Content-Length: 2\r\n\r\n{}");
        let (came, mut at) = way.upstream.next();
        assert_eq!(came.start, "POST /mcp?a=%20b&c HTTP/1.1");
        way.assert_fields(&came.without(&[REQUEST_HOP, REQUEST_MAY_ADD].concat()), asked);
        let expected_host = if way.is_direct() { HOST.to_owned() } else { way.upstream.address.to_string() };
        assert_eq!(came.one("host"), Some(expected_host.as_str()));
        assert_eq!(at.body(&came), b"{}");

        at.send("HTTP/1.1 200 Quite Fine\r\n");
        at.send(lines(answered));
        at.send("Content-Length: 3\r\n\r\n{ }");
        let answer = agent.head();
        assert_eq!(answer.status(), 200);
        way.assert_fields(&answer.without(RESPONSE_HOP), answered);
        assert_eq!(agent.body(&answer), b"{ }");
    });
}

#[test]
fn hop_by_hop_fields_are_removed_and_te_trailers_is_passed_on() {
    let mut way = Way::tunnel();
    let (mut agent, came, mut at) = way.exchange(&format!(
        "GET /mcp HTTP/1.1\r\nHost: {HOST}\r\nX-Hop: 1\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\n\
         TE: gzip, trailers\r\nProxy-Connection: keep-alive\r\nX-Stays: 1\r\n\r\n"
    ));
    for gone in ["x-hop", "keep-alive", "proxy-connection"] {
        assert_eq!(came.all(gone), Vec::<&str>::new(), "{gone}");
    }
    assert_eq!((came.all("te"), came.all("connection")), (vec!["trailers"], vec!["TE"]));
    assert_eq!(came.all("x-stays"), ["1"]);
    at.send(
        "HTTP/1.1 200 OK\r\nConnection: X-Secret\r\nX-Secret: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n",
    );
    let answer = agent.head();
    assert_eq!((answer.all("x-secret"), answer.all("keep-alive")), (vec![], vec![]));
}

#[test]
fn answers_that_are_not_200_pass_with_every_byte_of_their_bodies() {
    // A dual-era client reads these bodies to learn what it talks to.
    let body = "{ \"jsonrpc\" : \"2.0\", \"id\": \"1\",\n\"error\":{\"code\":-32020,\"message\":\"\\u0061\"} }\r\n";
    let statuses = [400, 401, 403, 404, 405, 406, 409, 413, 415, 421, 422, 429, 500, 501, 502, 503, 504];
    each_way(|mut way| {
        for status in statuses {
            let mut agent = way.agent();
            agent.send(post(CALL));
            let (came, mut at) = way.upstream.next();
            assert_eq!(latin1(&at.body(&came)), CALL);
            let challenges =
                "WWW-Authenticate: Bearer a=\"1\"\r\nWWW-Authenticate: Basic realm=\"x\"\r\nAllow: POST\r\n";
            at.send(format!("HTTP/1.1 {status} Own Words\r\n{challenges}Content-Length: {}\r\n\r\n{body}", body.len()));
            let answer = agent.head();
            let words = if way.is_http2 { "" } else { "Own Words" };
            assert_eq!(answer.start, format!("HTTP/1.1 {status} {words}"));
            assert_eq!(answer.all("www-authenticate"), ["Bearer a=\"1\"", "Basic realm=\"x\""]);
            assert_eq!(answer.all("allow"), ["POST"]);
            assert_eq!(latin1(&agent.body(&answer)), body);
            way.upstream.keep(at);
        }
    });
}

#[test]
fn answers_without_a_body_have_none() {
    each_way(|mut way| {
        let mut agent = way.agent();
        for (method, answer, length) in [
            ("POST", "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", Some("0")),
            ("DELETE", "HTTP/1.1 204 No Content\r\n\r\n", None),
            ("GET", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 1234\r\n\r\n", Some("1234")),
            ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n", Some("1234")),
            ("POST", "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", Some("0")),
        ] {
            let length_of_request = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
            agent.send(format!("{method} /mcp HTTP/1.1\r\nHost: {HOST}\r\n{length_of_request}\r\n"));
            let (came, mut at) = way.upstream.next();
            assert!(came.start.starts_with(method), "{came:?}");
            at.send(answer);
            let head = agent.head();
            assert_eq!(head.status(), answer[9..12].parse::<u16>().unwrap());
            assert_eq!(head.one("content-length"), length, "{method} {head:?}");
            // The next exchange on the same connection shows that no body byte followed.
            way.upstream.keep(at);
        }
    });
}

#[test]
fn a_request_body_is_passed_on_while_it_is_sent() {
    each_way(|mut way| {
        let mut agent = way.agent();
        agent.send(format!("POST /mcp HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 12\r\n\r\nfirst "));
        let (came, mut at) = way.upstream.next();
        assert_eq!(came.one("content-length"), Some("12"));
        assert_eq!(at.exactly(6), b"first ");
        agent.send("second");
        assert_eq!(at.exactly(6), b"second");
        at.send("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(agent.head().status(), 202);
    });
}

#[test]
fn a_chunked_request_and_its_trailers_are_passed_on_while_they_are_sent() {
    each_way(|mut way| {
        let mut agent = way.agent();
        agent.send(format!("POST /mcp HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n"));
        let (came, mut at) = way.upstream.next();
        assert_eq!(came.one("transfer-encoding"), Some("chunked"));
        for piece in ["{\"a\":", "1}"] {
            agent.send(format!("{:X}\r\n{piece}\r\n", piece.len()));
            assert_eq!(latin1(&at.decoded(piece.len())), piece);
        }
        agent.send("0\r\nX-Digest: abc\r\nX-Digest: def\r\n\r\n");
        let named = |line: &str| if way.is_http2 { line.to_ascii_lowercase() } else { line.to_owned() };
        assert_eq!(at.trailers(), ["X-Digest: abc", "X-Digest: def"].map(named));
        at.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-After: 1\r\n\r\n");
        assert_eq!(agent.head().status(), 200);
        assert_eq!(agent.decoded(2), b"ok");
        assert_eq!(agent.trailers(), ["X-After: 1"].map(named));
    });
}

#[test]
fn an_answer_may_come_before_the_request_has_ended() {
    each_way(|mut way| {
        let mut agent = way.agent();
        agent.send(format!("POST /mcp HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10\r\n\r\n01234"));
        let (_, mut at) = way.upstream.next();
        assert_eq!(at.exactly(5), b"01234");
        at.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig");
        let answer = agent.head();
        assert_eq!((answer.status(), agent.body(&answer)), (413, b"big".to_vec()));
    });
}

#[test]
fn an_agent_that_waits_for_100_gets_it_and_its_body_arrives() {
    each_way(|mut way| {
        let mut agent = way.agent();
        agent.send(format!("POST /mcp HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"));
        let (came, mut at) = way.upstream.next();
        if came.one("expect").is_some() {
            at.send("HTTP/1.1 100 Continue\r\n\r\n");
        }
        assert_eq!(agent.head().status(), 100);
        agent.send("{}");
        assert_eq!(at.body(&came), b"{}");
        at.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let answer = agent.head();
        assert_eq!((answer.status(), agent.body(&answer)), (200, b"ok".to_vec()));
    });
}

#[test]
fn requests_that_are_sent_at_once_are_answered_in_order() {
    each_way(|mut way| {
        let mut agent = way.agent();
        agent.send([post(CALL), get("/second"), post("{}")].concat());
        for (path, body) in [("/mcp", "one"), ("/second", "two"), ("/mcp", "three")] {
            let (came, mut at) = way.upstream.next();
            assert_eq!(came.start.split(' ').nth(1), Some(path));
            at.body(&came);
            at.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
            let answer = agent.head();
            assert_eq!(latin1(&agent.body(&answer)), body);
            way.upstream.keep(at);
        }
    });
}

#[test]
fn large_bodies_pass_unchanged_both_ways() {
    // More than all windows and queues together.
    const LEN: usize = 1024 * 1024 + 17;
    let large: Vec<u8> = (0..LEN).map(|at| (at % 251) as u8).collect();
    each_way(|mut way| {
        let mut agent = way.agent();
        agent.send(format!("POST /mcp HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {LEN}\r\n\r\n"));
        let mut writer = agent.writer();
        let sent = large.clone();
        let sending = thread::spawn(move || writer.send(sent));
        let (came, mut at) = way.upstream.next();
        assert!(at.body(&came) == large, "the request's body changed");
        sending.join().unwrap();

        let mut writer = at.writer();
        let mut answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{LEN:x}\r\n").into_bytes();
        answer.extend_from_slice(&large);
        answer.extend_from_slice(b"\r\n0\r\n\r\n");
        let sending = thread::spawn(move || writer.send(answer));
        let head = agent.head();
        assert!(agent.body(&head) == large, "the response's body changed");
        sending.join().unwrap();
    });
}

#[test]
fn an_upstream_that_names_itself_is_named_as_it_was_called() {
    each_way(|mut way| {
        let inner = format!("http://{}", way.upstream.address);
        let (mut agent, _, mut at) = way.exchange(&get("/mcp"));
        at.send(format!(
            "HTTP/1.1 307 Temporary Redirect\r\nLocation: {inner}/mcp/?next={inner}/\r\n\
             Content-Location: https://other.test/mcp\r\nX-Other: {inner}/\r\nContent-Length: 0\r\n\r\n"
        ));
        let answer = agent.head();
        // Called directly, its own name is the one that it gave.
        let outer = if way.is_direct() { inner.clone() } else { format!("{}://{HOST}", way.scheme) };
        assert_eq!(answer.one("location"), Some(format!("{outer}/mcp/?next={inner}/").as_str()));
        assert_eq!(answer.one("content-location"), Some("https://other.test/mcp"));
        assert_eq!(answer.one("x-other"), Some(format!("{inner}/").as_str()));
    });
}

fn lines(fields: &[(&str, &str)]) -> Vec<u8> {
    // Back from Latin-1, so that bytes above ASCII go out as the one byte they are.
    let text: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    text.chars().map(|c| u8::try_from(u32::from(c)).expect("Latin-1")).collect()
}
