//! Several cores in one tunnel: links find their places, and connections the core that has a link for them.

use std::io::Write;
use std::sync::atomic::Ordering;

use crate::support::{HOST, Tunnel, read_message};
use adit::base::{GuardMode, Traffic};
use adit::edge::{CoreReport, EdgeCommand};
use adit::engine::ladder::DriverChoice;
use adit::engine::mailbox;

pub(crate) const CORES: usize = 3;
/// So many that the system spreads them over all cores.
const AGENTS: usize = 48;

fn reports(tunnel: &Tunnel) -> Vec<CoreReport> {
    let (sender, mut receiver) = mailbox(CORES);
    let asked = tunnel.edge.command(|| EdgeCommand::Report(sender.clone()));
    (0..asked).map(|_| futures_lite::future::block_on(receiver.recv()).unwrap()).collect()
}

/// How many links each core has, once all are there, wherever the system put them at first.
pub(crate) fn links(tunnel: &Tunnel) -> Vec<usize> {
    loop {
        let links: Vec<usize> = reports(tunnel).iter().map(|report| report.links.len()).collect();
        if links.iter().sum::<usize>() == CORES {
            return links;
        }
    }
}

fn calls_on_new_connections(tunnel: &Tunnel) {
    let mut agents: Vec<_> = (0..AGENTS).map(|_| tunnel.agent()).collect();
    for _ in 0..3 {
        agents.iter_mut().for_each(crate::support::call);
    }
}

#[test]
fn each_core_of_the_edge_gets_a_link() {
    for driver in [DriverChoice::Epoll, DriverChoice::Uring] {
        let tunnel = Tunnel::start(driver, Traffic::Plain, CORES, 0, || {});
        calls_on_new_connections(&tunnel);
        assert_eq!(links(&tunnel), [1; CORES], "{driver:?}");
        calls_on_new_connections(&tunnel);
        tunnel.end();
    }
}

#[test]
fn calls_and_bulk_go_over_quic_from_any_core() {
    const BULK_LEN: usize = 1_000_000;
    for driver in [DriverChoice::Epoll, DriverChoice::Uring] {
        for (traffic, cores, links) in [(Traffic::Plain, 1, 1), (Traffic::Resealed, 1, 1), (Traffic::Plain, CORES, 2)] {
            let tunnel = Tunnel::over_quic(driver, traffic, (cores, links));
            calls_on_new_connections(&tunnel);
            let mut agent = tunnel.agent();
            let request = format!("GET /bytes/{BULK_LEN} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
            agent.write_all(request.as_bytes()).unwrap();
            let answer = read_message(&mut agent);
            assert!(answer.len() > BULK_LEN, "{driver:?}: {} bytes", answer.len());
            tunnel.end();
        }
    }
}

#[test]
fn a_connection_is_handed_to_the_core_that_has_the_link() {
    for driver in [DriverChoice::Epoll, DriverChoice::Uring] {
        // Where deadlines are enforced, bodies are read before a link is chosen.
        let cases = Traffic::ALL.map(|traffic| (traffic, GuardMode::Observe));
        for (traffic, mode) in cases.into_iter().chain([(Traffic::Plain, GuardMode::Enforce)]) {
            let tunnel = Tunnel::start(driver, traffic, CORES, 1, || {});
            tunnel.set_guards(mode);
            calls_on_new_connections(&tunnel);
            let handed_over = tunnel.edge.counters().handed_over.load(Ordering::Relaxed);
            assert!(handed_over > 0, "{driver:?} {traffic}: of {AGENTS} some landed on a core without a link");
            tunnel.end();
        }
    }
}
