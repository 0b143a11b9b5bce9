//! Second tries of slow calls on real sockets, with either driver, plain and sealed again.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use adit::base::Traffic;
use adit::engine::ladder::DriverChoice;

use crate::support::{Agent, HOST, Tunnel, read_message};

const LIST: &str =
    r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"look","annotations":{"readOnlyHint":true}}]}}"#;
const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;
/// How long the first try of a slow call takes that is not given up.
const SLOW: Duration = Duration::from_millis(500);
/// Quick calls before each slow one; more than a second try costs.
const QUICK: usize = 60;
/// After so many slow calls one was answered by its second try, on whatever machine.
const SLOW_MAX: usize = 20;

/// What both servers have seen.
#[derive(Default)]
struct Seen {
    /// The slow calls that came to either.
    slow: Mutex<BTreeSet<String>>,
    /// Slow calls that were given up.
    given_up: AtomicUsize,
}

/// A server that takes long for the first try of a slow call, and none for anything else.
fn server(seen: &Arc<Seen>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::clone(seen);
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let seen = Arc::clone(&seen);
            thread::spawn(move || serve(socket, &seen));
        }
    });
    address
}

fn serve(mut socket: TcpStream, seen: &Seen) {
    // A connection that is reset has no more requests, like one that ends.
    while matches!(socket.peek(&mut [0]), Ok(1)) {
        let request = read_message(&mut socket);
        let slow = request.split("slow-").nth(1).and_then(|rest| rest.split('"').next());
        if slow.is_some_and(|name| seen.slow.lock().unwrap().insert(name.to_owned())) {
            // The connector closes the connection of a call that is given up.
            socket.set_read_timeout(Some(SLOW)).unwrap();
            let waited = socket.read(&mut [0; 64]).map_err(|error| error.kind());
            if !matches!(waited, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)) {
                seen.given_up.fetch_add(1, Ordering::SeqCst);
                return;
            }
            socket.set_read_timeout(None).unwrap();
        }
        let body = if request.contains("tools/list") { LIST } else { RESULT };
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        if socket.write_all(format!("{head}{body}").as_bytes()).is_err() {
            return;
        }
    }
}

fn post(agent: &mut Agent, body: &str) -> String {
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nX-Request-Timeout: 30\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    agent.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let answer = read_message(agent);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    answer
}

/// Calls the tool, and says what is looked at.
fn look(agent: &mut Agent, what: &str) {
    let call = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"look","arguments":{{"at":"{what}"}}}}}}"#
    );
    let answer = post(agent, &call);
    assert!(answer.ends_with(RESULT), "{answer}");
}

#[test]
fn a_slow_call_is_answered_by_its_second_try_with_either_driver_plain_and_sealed() {
    for (driver, traffic) in [DriverChoice::Uring, DriverChoice::Epoll]
        .into_iter()
        .flat_map(|driver| [Traffic::Plain, Traffic::Resealed].map(|traffic| (driver, traffic)))
    {
        let seen = Arc::<Seen>::default();
        let tunnel = Tunnel::with_upstreams(driver, traffic, (1, 1), &[server(&seen), server(&seen)]);
        tunnel.hedge();
        let mut agent = tunnel.agent();
        post(&mut agent, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
        let counter = |of: &AtomicUsize| of.load(Ordering::SeqCst);
        for nth in 0..SLOW_MAX {
            (0..QUICK).for_each(|_| look(&mut agent, "here"));
            look(&mut agent, &format!("slow-{nth}"));
            if counter(&seen.given_up) > 0 {
                break;
            }
        }
        let counters = tunnel.edge.counters();
        let [made, won] = [&counters.hedges, &counters.hedges_won].map(|of| of.load(Ordering::Relaxed));
        assert!(counter(&seen.given_up) > 0 && won > 0, "{driver:?} {traffic:?}: {won} of {made}");
        tunnel.end();
    }
}
