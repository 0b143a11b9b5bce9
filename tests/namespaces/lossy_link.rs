//! A path that begins to lose large packets under a link that stands, on each real driver.

use std::cell::Cell;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use adit::base::Traffic;

use crate::packet_filter::on_each_driver;
use crate::space;
use crate::support::{HOST, Tunnel, read_message};

/// Less than it takes until a link is given up whose other side is silent.
const PATIENCE: Duration = Duration::from_secs(12);
/// As long as many packets.
const LEN: usize = 300_000;

fn status(tunnel: &Tunnel, request: &str) -> String {
    let mut agent = tunnel.agent();
    agent.sock.set_read_timeout(Some(PATIENCE)).unwrap();
    agent.write_all(request.as_bytes()).unwrap();
    read_message(&mut agent).split(' ').nth(1).unwrap_or_default().to_owned()
}

pub(crate) fn a_link_on_which_large_packets_are_lost_is_given_up() -> Result<(), String> {
    // Packets on loopback are as those on a wire: not joined before they are filtered.
    space::done(&["ip", "link", "set", "lo", "up", "gso_max_segs", "1"], "install iproute2");
    let small = format!("GET /bytes/3 HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let download = format!("POST /bytes/{LEN} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n");
    let upload = format!("POST /bytes/3 HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {LEN}\r\n\r\n{}", "x".repeat(LEN));
    on_each_driver(|driver, filter| {
        let port = Cell::new(0);
        let tunnel = Tunnel::tapped(driver, Traffic::Plain, &|edge| {
            port.set(edge.port());
            edge
        });
        // Towards the edge, and towards the connector.
        for (way, large) in [("dport", &download), ("sport", &upload)] {
            assert_eq!(status(&tunnel, &small), "200");
            filter.add(&format!("tcp {way} {} meta length > 1000 drop", port.get()));
            let is_over = AtomicBool::new(false);
            let ended = thread::scope(|scope| {
                // Small calls go on, and share the fate of the large one for no longer than it.
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        assert!(!status(&tunnel, &small).is_empty());
                    }
                });
                let ended = status(&tunnel, large);
                is_over.store(true, Ordering::Relaxed);
                ended
            });
            assert_eq!(ended, "502", "{driver:?} {way}");
            filter.flush();
            while status(&tunnel, &small) != "200" {}
        }
        tunnel.end();
    });
    Ok(())
}
