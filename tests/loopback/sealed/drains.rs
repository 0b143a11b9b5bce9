//! Event streams that nobody ends, and a role that is told to end.

use std::io::{Read, Write};

use adit::base::Traffic;

use super::site::{Agent, EVENT, HOST, OPEN_HOST, Site};
use crate::drivers::drivers;

/// An agent that has an event stream, and has read what there is of it.
fn listening(site: &Site, traffic: Traffic) -> Agent {
    let mut agent = match traffic {
        Traffic::Passthrough => site.agent("state/seal-ca.pem", Some(HOST)),
        _ => site.agent("ca.pem", Some(OPEN_HOST)),
    };
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

#[test]
fn a_role_that_is_to_end_ends_the_event_streams_that_nobody_else_does() {
    for driver in drivers() {
        for traffic in [Traffic::Plain, Traffic::Resealed, Traffic::Passthrough] {
            for ends_edge in [true, false] {
                let what = format!("{driver} {traffic}, the edge: {ends_edge}");
                let site = Site::start_with(driver, traffic, "drain_timeout_ms = '1h'");
                let (connector, _) = site.connect(driver, traffic);
                let mut agent = listening(&site, traffic);
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
                    assert_eq!(site.edge.ended(), Some(0), "{what}");
                } else {
                    assert_eq!(connector.ended(), Some(0), "{what}");
                }
            }
        }
    }
}
