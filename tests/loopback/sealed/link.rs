//! What crosses the link, with the link's own TLS left out so that it can be looked at.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use adit::base::Traffic;
use adit::engine::ladder::DriverChoice;

use crate::drivers::drivers;
use crate::support::{Tunnel, call};

/// What went over the link, both ways.
type Record = Arc<Mutex<Vec<u8>>>;

/// Listens for the connector, passes on to the edge, and puts down all that goes by.
fn tap(edge: SocketAddr, record: &Record) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let record = Arc::clone(record);
    thread::spawn(move || {
        for connector in listener.incoming().flatten() {
            // The edge may not listen yet: the connector then tries again.
            let Ok(edge) = TcpStream::connect(edge) else { continue };
            let ways = [(&connector, &edge), (&edge, &connector)];
            for (from, to) in ways.map(|(from, to)| (from.try_clone().unwrap(), to.try_clone().unwrap())) {
                let record = Arc::clone(&record);
                thread::spawn(move || pass(from, to, &record));
            }
        }
    });
    address
}

fn pass(mut from: TcpStream, mut to: TcpStream, record: &Record) {
    let mut piece = [0; 16 * 1024];
    while let Ok(n) = from.read(&mut piece) {
        record.lock().unwrap().extend_from_slice(&piece[..n]);
        if n == 0 || to.write_all(&piece[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

#[test]
fn nothing_of_a_sealed_call_can_be_read_on_the_link() {
    for driver in drivers() {
        let driver = if driver == "uring" { DriverChoice::Uring } else { DriverChoice::Epoll };
        for traffic in Traffic::ALL {
            let record = Record::default();
            let tunnel = Tunnel::tapped(driver, traffic, &|edge| tap(edge, &record));
            let mut agent = tunnel.agent();
            (0..5).for_each(|_| call(&mut agent));
            drop(agent);
            tunnel.end();
            let record = record.lock().unwrap();
            let times = |needle: &str| memchr::memmem::find_iter(&record, needle).count();
            // The hostname is what the link tells of any call.
            assert!(times("mcp.test") > 0);
            // Heads and bodies of requests and answers.
            for needle in ["POST /mcp", "tools/call", "HTTP/1.1 200", "\"result\":{}"] {
                assert_eq!(times(needle) > 0, traffic == Traffic::Plain, "{traffic}: {needle:?}");
            }
        }
    }
}
