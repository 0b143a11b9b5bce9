//! What a hostile client sends over HTTP/2: it is refused, nothing of it reaches the upstream, and what it costs is bounded.

use std::io::Read;
use std::sync::atomic::Ordering;

use crate::http2::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, PING, PROTOCOL_ERROR, Peer,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame, get,
};
use crate::http2::site::{Site, at_each_end};
use crate::support::HOST;

/// Sends requests, each on its stream of one connection, which must be refused in one of these two ways.
fn refused(site: &Site, requests: &[Vec<(&str, &str)>], is_answered: bool) {
    let mut peer = Peer::connect(site.agents());
    for (stream, fields) in (1..).step_by(2).zip(requests) {
        peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(fields)));
        if is_answered {
            let status = peer.status(stream);
            assert!((400..=501).contains(&status), "{fields:?} is answered {status}");
        } else {
            let reset = peer.until(&[RST_STREAM, GOAWAY, HEADERS]);
            assert_eq!((reset.kind, reset.stream), (RST_STREAM, stream), "{fields:?}");
            assert_eq!(reset.code(), PROTOCOL_ERROR, "{fields:?}");
        }
    }
    assert_eq!(site.asked(), [""; 0], "nothing reaches the upstream");
    peer.call(1001);
    assert_eq!(site.asked(), ["GET /empty"], "the connection serves other requests");
}

#[test]
fn malformed_requests_are_errors_of_their_streams() {
    let of = |method, path, more: &[(&'static str, &'static str)]| {
        let mut fields = vec![(":method", method), (":scheme", "http"), (":authority", HOST), (":path", path)];
        fields.extend_from_slice(more);
        fields
    };
    at_each_end(|site| {
        let requests = [
            // Fields of a connection (RFC 9113, section 8.2.2).
            of("GET", "/", &[("connection", "close")]),
            of("POST", "/", &[("transfer-encoding", "chunked")]),
            of("GET", "/", &[("upgrade", "websocket")]),
            of("GET", "/", &[("keep-alive", "timeout=5")]),
            of("GET", "/", &[("proxy-connection", "close")]),
            of("GET", "/", &[("te", "gzip")]),
            // Pseudo-headers (section 8.3).
            of("GET", "/", &[(":path", "/b")]),
            of("GET", "/", &[(":authority", "b.test")]),
            of("GET", "/", &[("x", "y"), (":method", "GET")]),
            of("GET", "/", &[(":status", "200")]),
            of("GET", "", &[]),
            vec![(":method", "GET"), (":scheme", "http"), (":authority", HOST)],
            vec![(":method", "GET"), (":authority", HOST), (":path", "/")],
            vec![(":scheme", "http"), (":authority", HOST), (":path", "/")],
            // What would divide or end a line in HTTP/1.1.
            of("GET", "/a HTTP/1.1\r\nHost: b.test\r\n\r\n", &[]),
            of("GET", "/a b", &[]),
            of("GET", "/a\tb", &[]),
            of("GET", "mcp", &[]),
            vec![(":method", "GET"), (":scheme", "http"), (":authority", "a b"), (":path", "/")],
            // CONNECT that extends itself (RFC 8441), which was not offered.
            of("CONNECT", "/", &[(":protocol", "websocket")]),
            // A length that is not that of the body.
            of("POST", "/", &[("content-length", "5")]),
            of("POST", "/", &[("content-length", "x")]),
            of("POST", "/", &[("content-length", "+0")]),
            of("POST", "/", &[("content-length", "0x0")]),
            of("POST", "/", &[("content-length", "99999999999999999999999")]),
            of("POST", "/", &[("content-length", "0, 0")]),
            of("POST", "/", &[("content-length", "0"), ("content-length", "5")]),
        ];
        refused(site, &requests, false);
    });
}

#[test]
fn requests_that_http_1_refuses_are_refused_with_an_answer() {
    let of = |authority, path, more: &[(&'static str, &'static str)]| {
        let mut fields = vec![(":method", "GET"), (":scheme", "http"), (":authority", authority), (":path", path)];
        fields.extend_from_slice(more);
        fields
    };
    at_each_end(|site| {
        let requests = [
            of(HOST, "/", &[("host", "b.test")]),
            of(HOST, "/", &[("host", HOST), ("host", HOST)]),
            of("user@mcp.test", "/", &[]),
            of("b.test", "/", &[]),
            of(HOST, "/", &[("content_length", "5")]),
            of(HOST, "/", &[("expect", "200-ok")]),
            of(HOST, "/", &[("content-length", "0"), ("content-length", "0")]),
            of(HOST, "/", &[("origin", "null")]),
            vec![(":method", "GET"), (":scheme", "http"), (":path", "/")],
            vec![(":method", "CONNECT"), (":authority", HOST)],
            vec![(":method", "TRACE"), (":scheme", "http"), (":authority", HOST), (":path", "/")],
        ];
        refused(site, &requests, true);
    });
}

/// A frame whose length lies, or that comes where it must not, ends the connection with a reason.
#[test]
fn upper_case_names_and_control_bytes_never_reach_the_upstream() {
    at_each_end(|site| {
        let fields = [("X-Upper", "1"), ("x y", "1"), ("x", "a\r\nb: c"), ("x", "a\0b"), ("x\r\ny", "1")];
        let mut requests = fields.map(|field| get("/", &[field])).to_vec();
        requests.push(vec![(":method", "PO\x01ST"), (":scheme", "http"), (":authority", HOST), (":path", "/")]);
        for fields in requests {
            let mut peer = Peer::connect(site.agents());
            peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&fields)));
            let end = peer.until(&[RST_STREAM, GOAWAY, HEADERS]);
            assert_ne!(end.kind, HEADERS, "{fields:?}");
        }
        assert_eq!(site.asked(), [""; 0]);
    });
}

#[test]
fn a_body_of_another_length_than_announced_is_reset() {
    at_each_end(|site| {
        let head = |length| {
            let mut fields = get("/mcp", &[("content-length", length)]);
            fields[0].1 = "POST";
            block(&fields)
        };
        for length in ["3", "9"] {
            let mut peer = Peer::connect(site.agents());
            peer.send(&frame(HEADERS, END_HEADERS, 1, &head(length)));
            peer.send(&frame(DATA, END_STREAM, 1, b"12345"));
            let reset = peer.until(&[RST_STREAM, GOAWAY, HEADERS]);
            assert_eq!((reset.kind, reset.code()), (RST_STREAM, PROTOCOL_ERROR), "{length}");
            peer.call(3);
        }
    });
}

#[test]
fn heads_that_are_too_long_are_answered_and_those_that_never_end_are_cut_off() {
    at_each_end(|site| {
        let (long, fields) = ("x".repeat(70_000), ("x", "y".repeat(1_000)));
        let mut peer = Peer::connect(site.agents());
        let head = block(&get("/", &[("x-long", &long)]));
        let (first, rest) = head.split_at(16_000);
        peer.send(&frame(HEADERS, END_STREAM, 1, first));
        let mut parts = rest.chunks(16_000).peekable();
        while let Some(part) = parts.next() {
            let flags = if parts.peek().is_none() { END_HEADERS } else { 0 };
            peer.send(&frame(CONTINUATION, flags, 1, part));
        }
        assert_eq!(peer.status(1), 431);
        // As long as one may be, but with too many fields.
        let many: Vec<_> = (0..101).map(|_| ("x", "y")).collect();
        peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &block(&get("/", &many))));
        loop {
            let next = peer.until(&[HEADERS, GOAWAY]);
            assert_eq!(next.kind, HEADERS);
            if next.stream == 3 {
                break;
            }
        }
        // A block without an end.
        let mut peer = Peer::connect(site.agents());
        peer.send(&frame(HEADERS, END_STREAM, 1, &block(&get("/", &[]))));
        let part = frame(CONTINUATION, 0, 1, &block(&[(fields.0, &fields.1)]));
        for _ in 0..1_000 {
            peer.send(&part);
        }
        let end = peer.next_end();
        assert!(end.is_none_or(|end| end.kind == GOAWAY), "a flood of CONTINUATION ends the connection");
        assert_eq!(site.asked(), [""; 0]);
    });
}

/// A header block that is short and decodes to much (a bomb): one entry in the table, then its index again and again.
#[test]
fn a_block_that_decodes_to_much_is_refused() {
    at_each_end(|site| {
        let value = "v".repeat(3_000);
        let mut bomb = block(&get("/", &[]));
        // A literal that is entered in the table, with a name of its own (RFC 7541, section 6.2.1).
        let literal = block(&[("x-bomb", &value)]);
        bomb.push(0x40);
        bomb.extend_from_slice(&literal[1..]);
        // The first entry of the dynamic table is number 62.
        bomb.extend([0x80 | 62].repeat(12_000));
        let mut peer = Peer::connect(site.agents());
        peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb));
        let end = peer.until(&[HEADERS, RST_STREAM, GOAWAY]);
        assert!(end.kind != HEADERS || end.stream == 1, "{end:?}");
        assert_eq!(site.asked(), [""; 0]);
    });
}

#[test]
fn rapid_resets_end_the_connection() {
    at_each_end(|site| {
        let (edge, connector) = (site.tunnel.edge.counters(), site.tunnel.connector.counters());
        let floods = if site.is_sealed() { &connector.requests_refused } else { &edge.http2_floods };
        let flooded = || floods.load(Ordering::Relaxed);
        let before = flooded();
        let head = block(&get("/hold", &[]));
        // All at once, so that most are reset before they are looked at.
        let mut peer = Peer::connect(site.agents());
        let mut flood = Vec::new();
        for stream in (1..20_001_u32).step_by(2) {
            flood.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &head));
            flood.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        }
        peer.send(&flood);
        let end = peer.next_end();
        assert!(end.is_none_or(|end| end.code() == ENHANCE_YOUR_CALM));
        // One after another, each once it is under way.
        let mut peer = Peer::connect(site.agents());
        let mut held = 0;
        for stream in (1..2_001_u32).step_by(2) {
            peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &head));
            peer.send(&frame(PING, 0, 0, &[0; 8]));
            let Some(frame) = peer.next_of(&[PING, GOAWAY]) else { break };
            if frame.kind == GOAWAY {
                assert_eq!(frame.code(), ENHANCE_YOUR_CALM);
                break;
            }
            held += 1;
            peer.send(&self::frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        }
        assert!((100..600).contains(&held), "{held} requests were taken");
        while flooded() < before + 2 {
            std::thread::yield_now();
        }
    });
}

#[test]
fn floods_of_small_frames_are_bounded() {
    at_each_end(|site| {
        // Answers to these wait behind each other; none is kept for later.
        let mut peer = Peer::connect(site.agents());
        let mut writer = peer.socket().try_clone().unwrap();
        let flooding = std::thread::spawn(move || {
            let (ping, settings) = (frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[]));
            let flood = [ping, settings, frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())].concat().repeat(10_000);
            std::io::Write::write_all(&mut writer, &flood).unwrap();
        });
        for _ in 0..10_000 {
            assert_eq!(peer.until(&[PING, GOAWAY]).kind, PING);
        }
        flooding.join().unwrap();
        peer.call(1);
        // Frames of a body that carry nothing, or one byte each, for an upstream that takes none.
        for payload in [&b""[..], b"x"] {
            let mut peer = Peer::connect(site.agents());
            let mut head = get("/hold", &[]);
            head[0].1 = "POST";
            peer.send(&frame(HEADERS, END_HEADERS, 1, &block(&head)));
            peer.send(&frame(DATA, 0, 1, payload).repeat(300_000));
            let end = peer.next_end();
            assert!(end.is_none_or(|end| end.kind == GOAWAY || end.kind == RST_STREAM), "{payload:?}");
        }
    });
}

#[test]
fn a_preface_in_pieces_begins_http_2_and_its_like_does_not() {
    at_each_end(|site| {
        use std::io::Write;
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        for cut in 1..preface.len() {
            let mut peer = Peer::connect_cut(site.agents(), cut);
            peer.call(1);
        }
        if site.is_sealed() {
            // The protocol was chosen with TLS.
            return;
        }
        let mut agent = std::net::TcpStream::connect(site.agents()).unwrap();
        agent.set_nodelay(true).unwrap();
        for piece in ["P", "R", "OPFIND /a HTTP/1.1\r\nHost: ", HOST, "\r\nConnection: close\r\n\r\n"] {
            agent.write_all(piece.as_bytes()).unwrap();
        }
        let mut answer = String::new();
        agent.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("PROPFIND /a HTTP/1.1"), "{answer}");
    });
}
