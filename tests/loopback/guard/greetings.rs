//! Those who begin something and do not end it.

use std::io::{Read, Write};

use super::site::{LOCALHOST, SECRETS, Site, dial};

/// What is kept of unfinished heads on one core, in bytes, and of each besides.
const GREETING_MEMORY_MAX: usize = 16 * 1024 * 1024;
const GREETING_LEN_FREE: usize = 4 * 1024;

#[test]
fn heads_that_do_not_end_are_bounded_together() {
    let site = Site::start([""; 2], "");
    let head = [b"GET / HTTP/1.1\r\nHost: one.test\r\nX: ", &[b'y'; 60_000][..]].concat();
    let held_max = GREETING_MEMORY_MAX / (head.len() - GREETING_LEN_FREE);
    let mut held = Vec::new();
    for _ in 0..held_max + 20 {
        let mut socket = dial(site.agents, LOCALHOST).unwrap();
        socket.write_all(&head).unwrap();
        held.push(socket);
    }
    while site.count("greetings_refused") == 0 {
        std::thread::yield_now();
    }
    // An ordinary call has room.
    assert!(site.get(LOCALHOST, "one.test").unwrap().starts_with("HTTP/1.1 200 "));
    // As have long heads again when the others have gone.
    drop(held);
    let end = b"\r\n\r\n";
    loop {
        let mut socket = dial(site.agents, LOCALHOST).unwrap();
        // In two parts, the first of which is kept; a refused one may be reset before it could be read.
        let mut text = String::new();
        let sent = socket.write_all(&head).and_then(|()| {
            std::thread::yield_now();
            socket.write_all(end)?;
            socket.shutdown(std::net::Shutdown::Write)
        });
        if sent.and_then(|()| socket.read_to_string(&mut text)).is_ok() && text.starts_with("HTTP/1.1 200 ") {
            break;
        }
    }
}

#[test]
fn silent_peers_are_closed_after_the_time_for_a_head() {
    let site = Site::start([""; 2], "");
    // Until then reading ends with an error: an idle connection is kept longer than a test waits.
    let mut silent = dial(site.agents, LOCALHOST).unwrap();
    let mut half = site.agent(LOCALHOST, "one.test", b"").unwrap();
    half.sock.write_all(&[23, 3, 3]).unwrap();
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    let mut text = Vec::new();
    half.sock.read_to_end(&mut text).unwrap();
    assert!(!text.is_empty(), "it is told why");
}

#[test]
fn a_tunnel_has_so_many_links() {
    let mut site = Site::without_connectors([""; 2], "[admission]\nlinks_per_tunnel_max = 1\n");
    site.connect(0, &["one.test"]);
    let second = site.start_connector(0, SECRETS[0], &["one.test"], site.connectors);
    second.event("no_link");
    assert!(site.count("links_limited") > 0);
    assert_eq!(site.status().links.len(), 1);
    site.connect(1, &["two.test"]);
    assert!(site.get(LOCALHOST, "one.test").unwrap().starts_with("HTTP/1.1 200 "));
}
