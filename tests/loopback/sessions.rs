//! Two connectors, each in front of a server that keeps sessions of its own: every call of a session goes to the server that
//! began it, on both drivers and for each kind of traffic.

use std::collections::HashSet;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;

use adit::base::Traffic;
use adit::edge::EdgeCommand;
use adit::engine::ladder::DriverChoice;
use adit::engine::mailbox;

use crate::support::{Agent, HOST, Tunnel, read_message};

const SERVERS: [&str; 2] = ["alpha", "beta"];
const SESSIONS: usize = 8;
/// Cores of the edge, and links of each connector (0: one for each core).
const LAYOUTS: [(usize, u16); 3] = [(1, 1), (2, 0), (2, 1)];

/// A server that answers 404 to a session that it does not have. Returns where it listens.
pub(crate) fn serve(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let sessions = Arc::new(Mutex::new(HashSet::new()));
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let sessions = Arc::clone(&sessions);
            thread::spawn(move || {
                loop {
                    let request = read_message(&mut socket);
                    if request.is_empty() {
                        return;
                    }
                    let (status, begun) = handle(name, &request, &mut sessions.lock().unwrap());
                    let begun = begun.map(|id| format!("Mcp-Session-Id: {id}\r\n")).unwrap_or_default();
                    let answer =
                        format!("HTTP/1.1 {status} Told\r\nX-Server: {name}\r\n{begun}Content-Length: 2\r\n\r\n{{}}");
                    // A connection that fails is the other side's affair.
                    if socket.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn handle(name: &str, request: &str, sessions: &mut HashSet<String>) -> (u16, Option<String>) {
    match field(request, "mcp-session-id") {
        None => {
            let id = format!("{name}-{}", sessions.len());
            sessions.insert(id.clone());
            (200, Some(id))
        }
        Some(id) if !sessions.contains(&id) => (404, None),
        Some(_) => (200, None),
    }
}

fn field(message: &str, name: &str) -> Option<String> {
    let head = message.split("\r\n\r\n").next()?;
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
}

/// One request, in a session or to begin one; returns status, server and session of the answer.
fn call(agent: &mut Agent, method: &str, session: Option<&str>) -> (String, String, Option<String>) {
    let body = if method == "POST" { r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"# } else { "" };
    let session = session.map(|id| format!("Mcp-Session-Id: {id}\r\n")).unwrap_or_default();
    let head = format!("{method} /mcp HTTP/1.1\r\nHost: {HOST}\r\n{session}Content-Length: {}\r\n\r\n", body.len());
    agent.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let answer = read_message(agent);
    let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
    (status, field(&answer, "x-server").unwrap_or(answer.clone()), field(&answer, "mcp-session-id"))
}

/// Waits until both connectors have all of their links.
fn until_linked(tunnel: &Tunnel, links: usize) {
    loop {
        let (sender, mut receiver) = mailbox(4);
        let asked = tunnel.edge.command(|| EdgeCommand::Report(sender.clone()));
        let reports = (0..asked).map(|_| futures_lite::future::block_on(receiver.recv()).unwrap());
        if reports.map(|report| report.links.len()).sum::<usize>() == links {
            return;
        }
    }
}

/// One session: each request goes to the server that began it, on this connection and on others.
fn one_session(tunnel: &Tunnel) -> String {
    let mut agent = tunnel.agent();
    let (status, server, session) = call(&mut agent, "POST", None);
    assert_eq!(status, "200");
    for nth in 0..12 {
        if nth % 3 == 2 {
            agent = tunnel.agent();
        }
        let method = ["POST", "GET"][nth % 2];
        assert_eq!(call(&mut agent, method, session.as_deref()), ("200".to_owned(), server.clone(), None), "{nth}");
    }
    assert_eq!(call(&mut agent, "DELETE", session.as_deref()).0, "200");
    server
}

#[test]
fn eight_sessions_at_once_each_stay_with_their_server() {
    for driver in [DriverChoice::Epoll, DriverChoice::Uring] {
        for (traffic, layout) in Traffic::ALL.into_iter().flat_map(|traffic| LAYOUTS.map(|layout| (traffic, layout))) {
            let tunnel = Tunnel::with_upstreams(driver, traffic, layout, &SERVERS.map(serve));
            let (cores, links) = layout;
            until_linked(&tunnel, 2 * if links == 0 { cores } else { usize::from(links) });
            let servers: Vec<String> = thread::scope(|scope| {
                let running: Vec<_> = (0..SESSIONS).map(|_| scope.spawn(|| one_session(&tunnel))).collect();
                running.into_iter().map(|session| session.join().unwrap()).collect()
            });
            let of = SERVERS.map(|name| servers.iter().filter(|server| *server == name).count());
            assert_eq!(of[0] + of[1], SESSIONS, "{driver:?} {traffic} {layout:?}");
            match traffic {
                // What an agent's own TLS hides goes by its address, which is the same for all.
                Traffic::Passthrough => assert!(of.contains(&SESSIONS), "{driver:?} {layout:?}: {of:?}"),
                _ if links == 0 || cores == 1 => assert!(!of.contains(&0), "{driver:?} {traffic} {layout:?}: {of:?}"),
                // Each core may have a link of only one connector.
                _ => {}
            }
            tunnel.end();
        }
    }
}

#[test]
fn a_connection_may_carry_sessions_of_both_servers_in_turn() {
    for driver in [DriverChoice::Epoll, DriverChoice::Uring] {
        for (traffic, layout) in [Traffic::Plain, Traffic::Resealed].into_iter().flat_map(|t| LAYOUTS.map(|l| (t, l))) {
            let tunnel = Tunnel::with_upstreams(driver, traffic, layout, &SERVERS.map(serve));
            let (cores, links) = layout;
            until_linked(&tunnel, 2 * if links == 0 { cores } else { usize::from(links) });
            let begun: Vec<_> = (0..SESSIONS).map(|_| call(&mut tunnel.agent(), "POST", None)).collect();
            let mut agent = tunnel.agent();
            for (_, server, session) in begun.iter().cycle().take(10 * SESSIONS) {
                let answer = call(&mut agent, "POST", session.as_deref());
                assert_eq!(answer, ("200".to_owned(), server.clone(), None), "{driver:?} {traffic} {layout:?}");
            }
            tunnel.end();
        }
    }
}
