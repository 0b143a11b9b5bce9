//! The time that callers wait, on both drivers and for each kind of traffic: when it is over they have an answer, and the MCP server
//! has been told to stop.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use adit::base::Traffic;
use adit::engine::ladder::DriverChoice;

use crate::process::PATIENCE;
use crate::support::{HOST, Tunnel, read_message};

/// The method by which an agent asks for events.
const LISTEN: &str = "subscriptions/listen";

/// What a server sees that never answers a call.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// The id of a call, as it comes.
    Called(u64),
    /// The connection of a call was closed.
    Closed,
    /// A notification that the call with this id is cancelled.
    Cancelled(u64),
}

fn serve() -> (SocketAddr, Receiver<Seen>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (shared, seen) = channel();
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let shared: Sender<Seen> = shared.clone();
            thread::spawn(move || {
                let request = read_message(&mut socket);
                let Some((_, body)) = request.split_once("\r\n\r\n") else { return };
                let message: serde_json::Value = serde_json::from_str(body).unwrap();
                if message["method"] == "notifications/cancelled" {
                    socket
                        .write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                        .unwrap();
                    return shared.send(Seen::Cancelled(message["params"]["requestId"].as_u64().unwrap())).unwrap();
                }
                shared.send(Seen::Called(message["id"].as_u64().unwrap())).unwrap();
                let ended = socket.read(&mut [0; 16]);
                let is_closed = match ended {
                    Ok(len) => len == 0,
                    Err(error) => error.kind() == ErrorKind::ConnectionReset,
                };
                assert!(is_closed, "nothing more is sent on it");
                shared.send(Seen::Closed).unwrap();
            });
        }
    });
    (address, seen)
}

#[test]
fn a_call_over_its_callers_timeout_is_answered_and_cancelled_at_the_server() {
    for driver in [DriverChoice::Epoll, DriverChoice::Uring] {
        for traffic in Traffic::ALL {
            let (upstream, seen) = serve();
            let tunnel = Tunnel::with_upstreams(driver, traffic, (2, 0), &[upstream]);
            for (id, is_stateless) in [(1, false), (2, true)] {
                let context = format!("{driver:?}, {traffic:?}, call {id}");
                let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo"}}}}"#);
                let fields = match is_stateless {
                    true => "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: echo\r\n",
                    false => "MCP-Protocol-Version: 2025-11-25\r\n",
                };
                let head = format!(
                    "POST /mcp HTTP/1.1\r\nHost: {HOST}\r\nX-Request-Timeout: 700ms\r\n{fields}Content-Length: {}\r\n\r\n",
                    body.len()
                );
                let mut agent = tunnel.agent();
                agent.write_all(format!("{head}{body}").as_bytes()).unwrap();
                let answer = read_message(&mut agent);
                assert!(answer.starts_with("HTTP/1.1 504 "), "{context}: {answer}");
                assert!(
                    answer.contains(r#""code":-31021"#) && answer.contains(&format!(r#""id":{id}"#)),
                    "{context}: {answer}"
                );
                let next = || seen.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{context}: {error}"));
                assert_eq!(next(), Seen::Called(id), "{context}");
                let mut stopped = vec![next()];
                if !is_stateless {
                    stopped.push(next());
                }
                assert!(stopped.contains(&Seen::Closed), "{context}: {stopped:?}");
                assert_eq!(stopped.contains(&Seen::Cancelled(id)), !is_stateless, "{context}: {stopped:?}");
            }
            tunnel.end();
            assert!(seen.try_recv().is_err(), "{driver:?}, {traffic:?}: nothing more is sent");
        }
    }
}

/// A server that sends an agent that listens one event, and another one when it is told to. It answers no call.
fn serve_events() -> (SocketAddr, Sender<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, shared) = channel();
    let shared = Arc::new(Mutex::new(shared));
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                if !read_message(&mut socket).contains(LISTEN) {
                    // Until it is given up.
                    let _ = socket.read(&mut [0; 16]);
                    return;
                }
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
                let event = "a\r\ndata: {}\n\n\r\n";
                // A connection that was cut shows in the answer.
                let _ = socket.write_all(format!("{head}{event}").as_bytes());
                shared.lock().unwrap().recv_timeout(PATIENCE).unwrap();
                let _ = socket.write_all(format!("{event}0\r\n\r\n").as_bytes());
            });
        }
    });
    (address, tell)
}

/// In a sealed session and in one that is passed through, the connector knows of the time by the head of the request.
#[test]
fn a_stream_of_events_that_an_agent_listens_to_outlives_the_time_for_answers() {
    for driver in [DriverChoice::Epoll, DriverChoice::Uring] {
        for traffic in Traffic::ALL {
            let (upstream, tell) = serve_events();
            let tunnel = Tunnel::with_upstreams(driver, traffic, (2, 0), &[upstream]);
            let post = |method: &str, timeout_ms: u32| {
                let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"name":"echo"}}}}"#);
                let head = format!(
                    "POST /mcp HTTP/1.1\r\nHost: {HOST}\r\nX-Request-Timeout: {timeout_ms}ms\r\nMCP-Protocol-Version: 2026-07-28\r\n\
                     Mcp-Method: {method}\r\nMcp-Name: echo\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                let mut agent = tunnel.agent();
                agent.write_all(format!("{head}{body}").as_bytes()).unwrap();
                agent
            };
            let mut listens = post(LISTEN, 500);
            let mut answer = read_events(&mut listens, 1);
            // Its time is over when that of a call is that came after it and has more.
            let of_call = read_message(&mut post("tools/call", 700));
            assert!(of_call.starts_with("HTTP/1.1 504 "), "{driver:?}, {traffic:?}: {of_call}");
            tell.send(()).unwrap();
            answer += &read_events(&mut listens, 1);
            assert_eq!(answer.matches("data: {}").count(), 2, "{driver:?}, {traffic:?}: {answer}");
            drop(listens);
            tunnel.end();
        }
    }
}

/// Reads until so many events have come, or the connection ends.
fn read_events(from: &mut impl Read, events: usize) -> String {
    let (mut answer, mut piece) = (String::new(), [0; 4096]);
    while answer.matches("data: {}").count() < events {
        match from.read(&mut piece).unwrap_or(0) {
            0 => break,
            len => answer.push_str(std::str::from_utf8(&piece[..len]).unwrap()),
        }
    }
    answer
}
