//! Peers that stand still: what they hold of a core is nobody else's.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::site::{Agent, HOSTS, LOCALHOST, Scale, Site, dial, serve};
use crate::drivers::drivers;
use crate::process::PATIENCE;

/// Agents of one tunnel that do not read.
const DEAD: usize = 40;
/// Calls of those who are served well nevertheless.
const PROBES: usize = 30;
/// What each of them is to get, in bytes: more than all of the memory on its way.
const ANSWER_LEN: usize = 8 << 20;
/// A sender that could send nothing for so long stands.
const STANDS_AFTER: Duration = Duration::from_millis(500);

/// Few buffers, on one driver, and as small a link: an eighth of what they are otherwise.
fn small(driver: &str) -> Scale {
    let engine = match driver {
        "uring" => "driver = \"uring\"\nbuffer_memory_max_bytes = \"8MiB\"",
        _ => "driver = \"epoll\"\nbuffer_memory_max_bytes = \"8MiB\"",
    };
    Scale { engine, edge: "link_window_bytes = \"512KiB\"" }
}

/// The links stand, and every call to `host` is answered.
fn assert_served(site: &Site, host: &str) {
    for nth in 0..PROBES {
        let answer = site.get(LOCALHOST, host).unwrap_or_else(|error| panic!("call {nth}: {error}"));
        assert!(answer.starts_with("HTTP/1.1 200 "), "call {nth}: {answer}");
    }
    assert_eq!(site.count("links_ended"), 0);
}

#[test]
fn agents_of_one_tunnel_that_read_nothing_take_nothing_from_another() {
    let body = "x".repeat(ANSWER_LEN);
    let answer: Arc<[u8]> =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {ANSWER_LEN}\r\n\r\n{body}").into_bytes().into();
    for driver in drivers() {
        let mut site = Site::scaled(small(driver), [""; 2], "");
        let (asked, answer) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&answer));
        let shared = Arc::clone(&asked);
        let large = serve(move |_| {
            shared.fetch_add(1, Ordering::Relaxed);
            Arc::clone(&answer)
        });
        site.connect_to(0, &[HOSTS[0]], &format!("http://{large}"));
        site.connect(1, &[HOSTS[1]]);
        let idle = site.allowance();
        let mut dead: Vec<Agent> = (0..DEAD).map(|_| site.agent(LOCALHOST, HOSTS[0], b"").unwrap()).collect();
        for agent in &mut dead {
            agent.write_all(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", HOSTS[0]).as_bytes()).unwrap();
        }
        until("the calls are under way", || asked.load(Ordering::Relaxed) == DEAD);
        until("the edge's core is under pressure", || site.allowance() < idle / 2.0);
        assert_served(&site, HOSTS[1]);
    }
}

#[test]
fn unread_uploads_in_tiny_pieces_delay_no_other_call() {
    for driver in drivers() {
        let mut site = Site::scaled(small(driver), [""; 2], "");
        let upstream = serve_deaf();
        site.connect_to(0, &[HOSTS[0]], &format!("http://{upstream}"));
        site.connect(1, &[HOSTS[1]]);
        // Their connections stay open, with all that they have sent.
        let _standing: Vec<TcpStream> = (0..6).map(|_| upload_until_it_stands(&site)).collect();
        assert_served(&site, HOSTS[0]);
        assert_served(&site, HOSTS[1]);
    }
}

/// Sends an upload in pieces of 60 bytes, until no more is taken.
fn upload_until_it_stands(site: &Site) -> TcpStream {
    let mut agent = dial(site.agents, LOCALHOST).expect("the edge listens");
    let host = HOSTS[0];
    agent
        .write_all(format!("POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes())
        .expect("the head is taken");
    let piece = format!("3c\r\n{}\r\n", "x".repeat(60));
    // Each goes on by itself, and comes by itself.
    agent.set_nodelay(true).expect("TCP_NODELAY");
    agent.set_write_timeout(Some(STANDS_AFTER)).expect("a write time-out");
    loop {
        match agent.write_all(piece.as_bytes()) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return agent,
            Err(error) => panic!("the upload was broken off: {error}"),
        }
    }
}

/// An upstream that answers a GET, and reads nothing of what follows the head of a POST.
fn serve_deaf() -> SocketAddr {
    let listener = TcpListener::bind((LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            thread::spawn(move || {
                // So small that nothing is read ahead.
                let mut from = BufReader::with_capacity(1, socket);
                loop {
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n") {
                        if !matches!(from.read_line(&mut head), Ok(1..)) {
                            return;
                        }
                    }
                    if head.starts_with("POST ") {
                        loop {
                            thread::park();
                        }
                    }
                    if from.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "{what}: not in time");
        thread::yield_now();
    }
}
