//! Processes that die or are told to end, and what becomes of the calls.

use std::process::Command;

use super::{CALL, HOST, Way, get, post};
use crate::raw::{Peer, latin1};
use crate::tunnel_processes::Process;

/// Makes one whole call.
fn serve_one(way: &mut Way) {
    let (mut agent, came, mut at) = way.exchange(&post(CALL));
    assert_eq!(latin1(&at.body(&came)), CALL);
    at.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let answer = agent.head();
    assert_eq!((answer.status(), agent.body(&answer)), (200, b"ok".to_vec()));
}

/// Opens a stream of events that stays open; the agent's end and the upstream's.
fn open_stream(way: &mut Way) -> (Peer, Peer) {
    let (mut agent, _, mut at) = way.exchange(&get("/mcp"));
    at.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(agent.head().status(), 200);
    (agent, at)
}

/// Asks a process to end, as service managers do.
fn terminate(process: &Process) {
    let asked = Command::new("sh").args(["-c", &format!("kill -TERM {}", process.child.id())]).status();
    assert!(asked.expect("a shell runs").success());
}

#[test]
fn a_connector_that_dies_ends_its_streams_and_its_successor_serves() {
    let mut way = Way::tunnel();
    let (mut agent, mut at) = open_stream(&mut way);
    way.processes().connector = None;
    assert_eq!(at.until_closed(), b"");
    assert_eq!(latin1(&agent.until_closed()), "", "no last chunk may follow");
    // A call that finds no connector waits for the next one.
    let mut waiting = way.agent();
    waiting.send(post(CALL));
    let upstream = way.upstream.address;
    way.processes().connect(HOST, upstream);
    let (came, mut at) = way.upstream.next();
    assert_eq!(latin1(&at.body(&came)), CALL);
    at.send("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(waiting.head().status(), 202);
    way.upstream.keep(at);
    serve_one(&mut way);
}

#[test]
fn an_edge_that_dies_ends_its_streams_and_is_found_again() {
    let mut way = Way::tunnel();
    let (mut agent, mut at) = open_stream(&mut way);
    let tunnel = way.processes();
    tunnel.edge = None;
    assert_eq!(at.until_closed(), b"");
    assert_eq!(latin1(&agent.until_closed()), "");
    tunnel.run_edge();
    serve_one(&mut way);
}

#[test]
fn a_draining_connector_finishes_its_calls_while_its_successor_takes_new_ones() {
    let mut way = Way::tunnel();
    let (mut agent, came, mut at) = way.exchange(&post(CALL));
    assert_eq!(latin1(&at.body(&came)), CALL);
    let mut old = way.processes().connector.take().expect("a connector");
    terminate(&old);
    let upstream = way.upstream.address;
    way.processes().connect(HOST, upstream);
    serve_one(&mut way);
    at.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate");
    let answer = agent.head();
    assert_eq!((answer.status(), agent.body(&answer)), (200, b"late".to_vec()));
    assert!(old.child.wait().expect("a child can be waited for").success());
}

#[test]
fn a_draining_edge_finishes_its_calls() {
    let mut way = Way::tunnel();
    // A call that is answered by events. A stream that belongs to no call ends with the edge.
    let (mut agent, came, mut at) = way.exchange(&post(CALL));
    assert_eq!(latin1(&at.body(&came)), CALL);
    at.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(agent.head().status(), 200);
    let (mut idle, _, mut other) = way.exchange(&get("/mcp"));
    other.send("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(idle.head().status(), 202);
    let mut edge = way.processes().edge.take().expect("an edge");
    terminate(&edge);
    // A kept connection without a call is closed, which shows that the drain has begun.
    assert_eq!(idle.until_closed(), b"");
    for piece in ["data: 1\n\n", "data: 2\n\n"] {
        at.send(format!("{:x}\r\n{piece}\r\n", piece.len()));
        assert_eq!(latin1(&agent.decoded(piece.len())), piece);
    }
    at.send("0\r\n\r\n");
    assert_eq!(agent.chunk(), b"");
    assert!(edge.child.wait().expect("a child can be waited for").success());
}
