//! A sample report for tests, with every state: measured, void, failed, not found, without a far side.

use std::time::Duration;

use super::host::Host;
use super::peer::{ADIT, DIRECT, Peer};
use super::report::{Method, PeerNote, Report, State};
use super::rows::Row;
use super::series::{Figures, Machine, Sample, Series, Workload};
use crate::latencies::Latencies;

const ROUNDS: usize = 3;
const CALLS: u64 = 20_000;

pub(crate) fn report() -> Report {
    let peers = Peer::all();
    let mut rows = Vec::new();
    for connections in [1, 64] {
        let workload = Workload { payload: 1024, connections };
        let find = |name: &str| peers.iter().find(|peer| peer.name == name).expect("it exists");
        let (direct, adit) = (series(find(DIRECT), workload), series(find(ADIT), workload));
        for peer in peers.iter().filter(|peer| state(&peer.name) == State::Measured) {
            rows.push(Row::new(peer, workload, &series(peer, workload), &direct, &adit));
        }
    }
    let host = Host {
        cpu: "AMD EPYC 9B45 <sample>".to_owned(),
        cores: 2,
        kernel: "6.18.44".to_owned(),
        governor: "none".to_owned(),
        memory_mib: 24_000,
        load_cpus: "0".to_owned(),
        peer_cpus: "1".to_owned(),
        ..Host::default()
    };
    Report {
        command: "adit-loadtest compare --peers 'a<b>' --connections 1,64".to_owned(),
        version: "0.1.0".to_owned(),
        began: "2026-11-24T12:00:00Z".to_owned(),
        method: Method {
            call: "mcp-2026-07-28".to_owned(),
            mode: "closed".to_owned(),
            rounds: ROUNDS,
            duration_s: 5.0,
            warm_up_s: 1.0,
        },
        host,
        rows,
        not_found: vec!["wstunnel".to_owned()],
        no_far_side: vec!["cloudflared".to_owned(), "tunnel-client".to_owned()],
        peers: peers.iter().map(|peer| PeerNote::new(peer, state(&peer.name), reason(peer))).collect(),
        ended_early: None,
        debug_build: false,
    }
}

fn state(peer: &str) -> State {
    match peer {
        "wstunnel" => State::NotFound,
        "cloudflared" | "tunnel-client" => State::NoFarSide,
        _ => State::Measured,
    }
}

fn reason(peer: &Peer) -> Option<String> {
    (peer.name == "wstunnel").then(|| peer.file.install.clone()).or_else(|| peer.file.no_far_side.clone())
}

/// Invented values, with a longer tail for slower peers.
fn series(peer: &Peer, workload: Workload) -> Series {
    let place = peer.name.bytes().map(u64::from).sum::<u64>() % 97;
    let base_us = if peer.name == DIRECT { 40.0 } else { 90.0 + place as f64 } * (workload.connections as f64).sqrt();
    let samples = (0..ROUNDS).map(|round| sample(peer, round, base_us * (1.0 + round as f64 / 50.0)));
    match peer.name.as_str() {
        "bore" => Series { samples: Vec::new(), error: Some("round 1: the client ended by itself".to_owned()) },
        _ => Series { samples: samples.collect(), error: None },
    }
}

fn sample(peer: &Peer, round: usize, base_us: f64) -> Sample {
    let mut latencies = Latencies::new();
    for i in 0..CALLS {
        let beyond = (CALLS - i) as f64 / CALLS as f64;
        let us = base_us * (0.85 + 0.12 * -beyond.ln() + 0.02 * beyond.ln().powi(2));
        latencies.record(Duration::from_nanos((us * 1e3) as u64));
    }
    let at = |q| latencies.quantile_us(q);
    let is_peer = peer.name != DIRECT;
    let figures = Figures {
        rps: 1e6 / base_us,
        p50_us: at(0.5),
        p95_us: at(0.95),
        p99_us: at(0.99),
        p999_us: at(0.999),
        cpu_us_per_call: is_peer.then_some(base_us / 4.0),
        rss_kib: is_peer.then_some(20_000.0),
        generator_lag_p99_us: 4.0,
        in_flight: 1.0,
    };
    let void = (peer.name == "chisel").then(|| "the generator was late by 80 µs at its p99".to_owned());
    let machine = Machine {
        steal_percent: 0.1,
        load_cpu_busy: Some(if is_peer { 0.8 } else { 0.99 }),
        peer_cpu_busy: is_peer.then_some(0.9),
    };
    Sample { round, figures, latencies, void, machine, failed: 0, first_failure: None }
}

/// Writes the page of this report to a file for inspection.
#[test]
fn the_sample_can_be_looked_at() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let folder = std::env::var_os("ADIT_TEST_PAGE").map_or_else(|| folder.path().to_owned(), Into::into);
    let (path, page) = (folder.join("sample.html"), super::page::html(&report()).expect("the page is created"));
    std::fs::write(&path, &page).expect("the file is writable");
    std::fs::write(folder.join("sample.txt"), super::table::text(&report())).expect("the file is writable");
    assert!(page.len() < 400_000, "{} bytes is no page that one likes to send", page.len());
}
