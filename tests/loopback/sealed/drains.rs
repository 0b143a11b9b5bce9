//! Event streams that nobody ends, and a role that is told to end.

use std::io::{Read, Write};

use adit::base::Traffic;

use super::site::{Agent, EVENT, HOST, OPEN_HOST, SEAL_CA, Site};
use crate::drivers::drivers;
use crate::front::Front;
use crate::http2::frames::{ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, Peer, RST_STREAM, block, frame};

/// What agents believe, and the name that they ask for.
fn server(traffic: Traffic) -> (&'static str, &'static str) {
    match traffic {
        Traffic::Passthrough => (SEAL_CA, HOST),
        _ => ("ca.pem", OPEN_HOST),
    }
}

/// An agent that has an event stream, and has read what there is of it.
fn listening(site: &Site, traffic: Traffic) -> Agent {
    let (ca, name) = server(traffic);
    let mut agent = site.agent(ca, Some(name));
    agent.write_all(format!("GET /mcp HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).unwrap();
    let mut received = String::new();
    while !received.ends_with(&format!("{EVENT}\r\n")) {
        let mut byte = [0];
        agent.read_exact(&mut byte).unwrap();
        received.push(char::from(byte[0]));
    }
    assert!(received.starts_with("HTTP/1.1 200 "), "{received}");
    agent
}

/// The same over HTTP/2.
fn listening_over_http2(site: &Site, traffic: Traffic) -> (Peer, Front) {
    let (ca, name) = server(traffic);
    let front = site.http2_front(ca, name);
    let mut agent = Peer::connect(front.address);
    let fields = [(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", "/mcp")];
    agent.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&fields)));
    assert_eq!(agent.status(1), 200);
    assert_eq!(agent.until(&[DATA]).payload, EVENT.as_bytes());
    (agent, front)
}

/// The event stream is ended properly, and so is the connection if that `ends` too.
fn assert_ended(agent: &mut Peer, ends: bool, what: &str) {
    let (mut last, mut goaways) = (Vec::new(), Vec::new());
    while last.is_empty() || ends {
        let Some(frame) = agent.next() else { break };
        match frame.kind {
            DATA | RST_STREAM => last.push((frame.kind, frame.flags, frame.payload.len())),
            PING => agent.send(&self::frame(PING, ACK, 0, &frame.payload)),
            GOAWAY => goaways.push(frame.code()),
            _ => {}
        }
    }
    assert_eq!(last, [(DATA, END_STREAM, 0)], "{what}");
    assert!(goaways.iter().all(|code| *code == 0) && (!ends || !goaways.is_empty()), "{what}: {goaways:?}");
}

#[test]
fn a_draining_role_ends_event_streams_that_stay_open() {
    // Processes take their time to start and to end: all at once.
    std::thread::scope(|scope| {
        for driver in drivers() {
            for traffic in [Traffic::Plain, Traffic::Resealed, Traffic::Passthrough] {
                for ends_edge in [true, false] {
                    scope.spawn(move || end_with_event_streams(driver, traffic, ends_edge));
                }
            }
        }
    });
}

fn end_with_event_streams(driver: &str, traffic: Traffic, ends_edge: bool) {
    let what = format!("{driver} {traffic}, the edge: {ends_edge}");
    let site = Site::start_with(driver, traffic, "drain_timeout_ms = '1h'");
    let (connector, _) = site.connect(driver, traffic);
    let mut agent = listening(&site, traffic);
    let (mut other, _front) = listening_over_http2(&site, traffic);
    if ends_edge {
        site.edge.signal("TERM")
    } else {
        connector.signal("TERM")
    }
    let mut end = [0; 5];
    agent.read_exact(&mut end).unwrap();
    assert_eq!(&end, b"0\r\n\r\n", "{what}");
    if ends_edge {
        // The connection ends behind it, though the agent keeps it open.
        assert_eq!(agent.read(&mut end).unwrap(), 0, "{what}");
    }
    // What the agent's TLS ends in is what ends.
    assert_ended(&mut other, ends_edge || traffic == Traffic::Passthrough, &what);
    let ended = if ends_edge { site.edge.ended() } else { connector.ended() };
    assert_eq!(ended, Some(0), "{what}");
}
