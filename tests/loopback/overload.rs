//! Concurrency limits on real sockets: calls that wait are woken on whichever core they are, at the edge, and at the connector
//! where agents' TLS ends there.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use adit::base::Traffic;
use adit::engine::ladder::DriverChoice;
use adit::latency::QueueReading;

use crate::many_cores::{CORES, links};
use crate::support::{Tunnel, read_message, send_call};

/// The calls that may be in flight.
const LIMIT: u32 = 2;
/// So many that the system spreads them over all cores.
const AGENTS: usize = 24;
/// For how long something that is to happen is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// The calls that an upstream works on, and the most of them at one time.
#[derive(Default)]
struct Work {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// An upstream that answers no call until it `may`.
fn patient_upstream(work: &Arc<Work>, may: &Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (work, may) = (Arc::clone(work), Arc::clone(may));
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let (work, may) = (Arc::clone(&work), Arc::clone(&may));
            thread::spawn(move || {
                while !read_message(&mut socket).is_empty() {
                    let now = work.now.fetch_add(1, Ordering::SeqCst) + 1;
                    work.most.fetch_max(now, Ordering::SeqCst);
                    while !may.load(Ordering::SeqCst) {
                        thread::yield_now();
                    }
                    let body = r#"{"jsonrpc":"2.0","id":7,"result":{}}"#;
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                    // Before the answer: the next call may come as soon as it is there.
                    work.now.fetch_sub(1, Ordering::SeqCst);
                    if socket.write_all(format!("{head}{body}").as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// The limit of the route, once it is as it should be.
fn reading(tunnel: &Tunnel, is_so: impl Fn(&QueueReading) -> bool) -> QueueReading {
    let began = Instant::now();
    loop {
        let limits = [tunnel.edge.limits(), tunnel.connector.limits()].concat();
        if let Some((_, reading)) = limits.iter().find(|(_, reading)| is_so(reading)) {
            return *reading;
        }
        assert!(began.elapsed() < PATIENCE, "{limits:?}");
        thread::yield_now();
    }
}

#[test]
fn calls_beyond_the_limit_wait_for_a_place_on_whichever_core_they_are() {
    let kinds = [DriverChoice::Epoll, DriverChoice::Uring];
    for (driver, traffic) in
        kinds.into_iter().flat_map(|driver| [Traffic::Plain, Traffic::Passthrough].map(|traffic| (driver, traffic)))
    {
        let (work, may) = (Arc::<Work>::default(), Arc::<AtomicBool>::default());
        let upstream = patient_upstream(&work, &may);
        let tunnel = Tunnel::with_upstreams(driver, traffic, (CORES, 0), &[upstream]);
        tunnel.limit_calls(LIMIT);
        // A call that goes to another core asks for a place there as well.
        assert_eq!(links(&tunnel), [1; CORES], "{driver:?}");
        let mut agents: Vec<_> = (0..AGENTS).map(|_| tunnel.agent()).collect();
        agents.iter_mut().for_each(|agent| send_call(agent, ""));
        let waiting = AGENTS as u32 - LIMIT;
        reading(&tunnel, |reading| reading.in_flight == LIMIT && reading.waiting == waiting);
        may.store(true, Ordering::SeqCst);
        for agent in &mut agents {
            let answer = read_message(agent);
            assert!(answer.starts_with("HTTP/1.1 200 "), "{driver:?}, {traffic}: {answer}");
        }
        let counts = reading(&tunnel, |reading| reading.in_flight == 0 && reading.waiting == 0).counts;
        assert_eq!(
            (counts.admitted, counts.waited),
            (AGENTS as u64, waiting.into()),
            "{driver:?}, {traffic}: {counts:?}"
        );
        assert_eq!(counts.refused, 0, "{driver:?}, {traffic}");
        assert_eq!(work.most.load(Ordering::SeqCst), LIMIT as usize, "{driver:?}, {traffic}");
        let is_agents = traffic == Traffic::Passthrough;
        assert_eq!((tunnel.edge.limits().is_empty(), tunnel.connector.limits().is_empty()), (is_agents, !is_agents));
        tunnel.end();
    }
}
