//! Streams of events: each piece at once, and whoever goes away is known to have gone.

use super::{CALL, HOST, Way, each_way, get, post};
use crate::raw::{Upstream, latin1};
use crate::tunnel_processes::Tunnel;

#[test]
fn the_head_of_a_stream_arrives_before_any_event_and_each_piece_before_the_next() {
    let pieces = [
        "id: 0\nretry: 3000\ndata: \n\n",
        ": keep-alive\n\n",
        ": ping - 2026\r\n\r\n",
        "event: message\r\nid: stream/7:1\r\ndata: {\"jsonrpc\":\"2.0\",\r\n",
        "data:  \"method\":\"notifications/progress\"}\r\n\r\n",
        "data: {\"id\":7}",
        "\n\n",
    ];
    each_way(|mut way| {
        let (mut agent, came, mut at) = way.exchange(&post(CALL));
        assert_eq!(latin1(&at.body(&came)), CALL);
        at.send(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\
             Transfer-Encoding: chunked\r\n\r\n",
        );
        // Nothing else is sent until the agent has the head, and no piece until it has the one before.
        let answer = agent.head();
        assert_eq!(answer.all("content-type"), ["text/event-stream"]);
        for piece in pieces {
            at.send(format!("{:x}\r\n{piece}\r\n", piece.len()));
            assert_eq!(latin1(&agent.decoded(piece.len())), piece);
        }
        at.send("0\r\n\r\n");
        assert_eq!(agent.chunk(), b"");
    });
}

#[test]
fn a_silent_stream_is_kept_alive_by_comments_where_that_is_set() {
    for traffic in ["plain", "resealed"] {
        let upstream = Upstream::start();
        let tunnel = Tunnel::start_with(traffic, HOST, upstream.address, "sse_keepalive_ms = 20");
        let mut way = Way::through(upstream, tunnel);
        let (mut agent, _, mut at) = way.exchange(&get("/mcp"));
        at.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n");
        agent.head();
        assert_eq!((latin1(&agent.chunk()), latin1(&agent.chunk())), (":\n\n".to_owned(), ":\n\n".to_owned()));
        at.send("data: 1\n");
        let first = std::iter::repeat_with(|| latin1(&agent.chunk())).find(|chunk| chunk != ":\n\n");
        assert_eq!(first.as_deref(), Some("data: 1\n"));
        at.send("\n");
        assert_eq!(latin1(&agent.chunk()), "\n");
        assert_eq!(latin1(&agent.chunk()), ":\n\n");
    }
}

#[test]
fn a_stream_that_ends_with_its_connection_passes_piece_by_piece_too() {
    each_way(|mut way| {
        let (mut agent, _, mut at) = way.exchange(&get("/mcp"));
        at.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n");
        let answer = agent.head();
        let chunked = answer.one("transfer-encoding").is_some();
        for piece in ["data: 1\n\n", "data: 2\n\n"] {
            at.send(piece);
            let came = if chunked { agent.decoded(piece.len()) } else { agent.exactly(piece.len()) };
            assert_eq!(latin1(&came), piece);
        }
        at.close();
        if chunked {
            assert_eq!(agent.chunk(), b"");
        } else {
            assert_eq!(agent.until_closed(), b"");
        }
    });
}

#[test]
fn an_agent_that_goes_away_is_passed_on_to_a_silent_stream() {
    each_way(|mut way| {
        let resumed = format!("GET /mcp HTTP/1.1\r\nHost: {HOST}\r\nLast-Event-ID: stream/7:42\r\n\r\n");
        let (mut agent, came, mut at) = way.exchange(&resumed);
        assert_eq!(came.all("last-event-id"), ["stream/7:42"]);
        at.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(agent.head().status(), 200);
        agent.close();
        assert_eq!(at.until_closed(), b"");
    });
}

#[test]
fn an_agent_that_goes_away_before_the_answer_is_passed_on() {
    each_way(|mut way| {
        let (agent, came, mut at) = way.exchange(&post(CALL));
        assert_eq!(latin1(&at.body(&came)), CALL);
        agent.close();
        assert_eq!(at.until_closed(), b"");
    });
}

#[test]
fn an_agent_that_goes_away_in_its_own_body_is_passed_on() {
    each_way(|mut way| {
        let mut agent = way.agent();
        agent.send(format!("POST /mcp HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 100\r\n\r\n0123456789"));
        let (_, mut at) = way.upstream.next();
        assert_eq!(at.exactly(10), b"0123456789");
        agent.close();
        assert_eq!(at.until_closed(), b"");
    });
}

#[test]
fn an_upstream_that_breaks_off_in_a_body_is_not_mistaken_for_one_that_ended_it() {
    each_way(|mut way| {
        let (mut agent, _, mut at) = way.exchange(&get("/mcp"));
        at.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(agent.head().status(), 200);
        at.send("9\r\ndata: 1\n\n\r\n");
        assert_eq!(latin1(&agent.decoded(9)), "data: 1\n\n");
        at.close();
        assert_eq!(latin1(&agent.until_closed()), "", "no last chunk may follow");

        let (mut agent, _, mut at) = way.exchange(&get("/mcp"));
        at.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234");
        assert_eq!(agent.head().status(), 200);
        assert_eq!(agent.exactly(5), b"01234");
        at.close();
        assert_eq!(latin1(&agent.until_closed()), "");
    });
}
