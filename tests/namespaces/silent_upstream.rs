//! An upstream whose host answers nothing any more, behind a tunnel on each real driver.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use adit::base::Traffic;
use adit::upstream::UpstreamSettings;

use crate::node::Node;
use crate::packet_filter::on_each_driver;
use crate::support::{HOST, Tunnel, read_message};

/// Far less than the system takes to notice it by itself.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn an_upstream_of_http_2_that_answers_nothing_is_given_up() -> Result<(), String> {
    on_each_driver(|driver, filter| {
        let node = Node::start("clear");
        let tunnel = Tunnel::with_upstream(driver, Traffic::Plain, node.in_the_clear());
        let status = |path: &str| {
            let mut agent = tunnel.agent();
            agent.sock.set_read_timeout(Some(PATIENCE)).unwrap();
            let head = format!("POST {path} HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: 0\r\n\r\n");
            std::io::Write::write_all(&mut agent, head.as_bytes()).unwrap();
            let answer = read_message(&mut agent);
            answer.split(' ').nth(1).unwrap_or_default().to_owned()
        };
        // Behind a connection that has served, and during a call.
        for path in ["/bytes/3", "/hold"] {
            assert_eq!(status("/bytes/3"), "200");
            let (sent, waiting) = std::thread::scope(|scope| {
                let held = (path == "/hold").then(|| scope.spawn(|| status(path)));
                if held.is_some() {
                    // It is at the upstream before this one is answered.
                    assert_eq!(status("/bytes/3"), "200");
                }
                filter.add(&format!("tcp sport {} drop", node.port));
                let sent = held.is_none().then(|| status(path));
                (sent, held.map(|held| held.join().unwrap()))
            });
            assert_eq!(sent.or(waiting).as_deref(), Some("504"), "{driver:?} {path}");
            filter.flush();
            assert_eq!(status("/bytes/3"), "200", "{driver:?}: the first one after it");
        }
        tunnel.end();
    });
    Ok(())
}

/// How many connections the pool keeps.
const CALLS: usize = 4;

/// An upstream of HTTP/1.1 that answers requests for `/together` once there are so many of them, and for `/events` with one event.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (address, together) = (listener.local_addr().unwrap(), Arc::new(Barrier::new(CALLS)));
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let together = Arc::clone(&together);
            thread::spawn(move || {
                loop {
                    let request = read_message(&mut socket);
                    if request.is_empty() {
                        return;
                    }
                    if request.contains(" /together ") {
                        together.wait();
                    }
                    let answer: &[u8] = match request.contains(" /events ") {
                        true => b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 0\n\n",
                        false => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                    };
                    if socket.write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

pub(crate) fn an_upstream_of_http_1_that_answers_nothing_is_given_up() -> Result<(), String> {
    on_each_driver(|driver, filter| {
        let upstream = upstream();
        let tunnel = Tunnel::with_upstreams(driver, Traffic::Plain, (1, 1), &[upstream]);
        let status = |path: &str| {
            let mut agent = tunnel.agent();
            agent.sock.set_read_timeout(Some(PATIENCE)).unwrap();
            let head = format!("POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n");
            agent.write_all(head.as_bytes()).unwrap();
            read_message(&mut agent).split(' ').nth(1).unwrap_or_default().to_owned()
        };
        let together = |path: &'static str| -> Vec<String> {
            thread::scope(|scope| {
                let calls: Vec<_> = (0..CALLS).map(|_| scope.spawn(|| status(path))).collect();
                calls.into_iter().map(|call| call.join().unwrap()).collect()
            })
        };
        assert_eq!(together("/together"), ["200"; CALLS], "the pool has a connection for each");
        filter.add(&format!("tcp sport {} drop", upstream.port()));
        // Whoever was sent may have been acted on; whoever finds no connection was not sent.
        let statuses = together("/mcp");
        assert!(statuses.iter().all(|status| ["502", "503", "504"].contains(&status.as_str())), "{statuses:?}");
        assert!(statuses.iter().any(|status| status == "504"), "{statuses:?}");
        filter.flush();
        assert_eq!(status("/mcp"), "200", "{driver:?}: the first one after it");
        tunnel.end();
    });
    Ok(())
}

pub(crate) fn the_silent_event_streams_of_upstreams_that_vanish_end_in_time() -> Result<(), String> {
    on_each_driver(|driver, filter| {
        let node = Node::start("clear");
        let http1 = upstream();
        // Over HTTP/1.1 the system probes, over HTTP/2 it is a PING that is to be acknowledged.
        let short = |settings, silence, acknowledged| UpstreamSettings {
            silence_max: Duration::from_secs(silence),
            acknowledged_within: Duration::from_secs(acknowledged),
            ..settings
        };
        let http1_settings = UpstreamSettings::for_tests(format!("http://{http1}").parse().unwrap());
        for (port, settings) in
            [(http1.port(), short(http1_settings, 2, 600)), (node.port, short(node.in_the_clear(), 600, 1))]
        {
            let tunnel = Tunnel::with_upstream(driver, Traffic::Plain, settings);
            let mut agent = tunnel.agent();
            agent.sock.set_read_timeout(Some(PATIENCE)).unwrap();
            let head = format!("GET /events HTTP/1.1\r\nHost: {HOST}\r\nAccept: text/event-stream\r\n\r\n");
            agent.write_all(head.as_bytes()).unwrap();
            let (mut seen, mut piece) = (Vec::new(), [0; 4096]);
            while !String::from_utf8_lossy(&seen).contains("data: 0") {
                let len = agent.read(&mut piece).unwrap();
                assert_ne!(len, 0, "{}", String::from_utf8_lossy(&seen));
                seen.extend_from_slice(&piece[..len]);
            }
            filter.add(&format!("tcp sport {port} drop"));
            // To its end, in whatever way that is told.
            let end = loop {
                match agent.read(&mut piece) {
                    Ok(0) => break None,
                    Ok(_) => {}
                    Err(error) => break Some(error.kind()),
                }
            };
            assert_ne!(end, Some(ErrorKind::WouldBlock), "{driver:?}: the stream goes on");
            filter.flush();
            drop(agent);
            tunnel.end();
        }
    });
    Ok(())
}
