//! How soon an upstream learns that an agent went away from a silent stream, directly and through the tunnel.
//!
//! `cargo bench --bench disconnect` prints both; the aim is that the tunnel adds less than 10 ms.

#[path = "../tests/loopback/free_address.rs"]
mod free_address;
#[path = "../tests/loopback/tunnel_processes.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod tunnel_processes;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use tunnel_processes::Tunnel;

const HOST: &str = "mcp.test";
const ROUNDS: usize = 300;
const WARM_UP: usize = 20;

fn main() {
    let upstream = TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
    let address = upstream.local_addr().expect("a bound listener has an address");
    report("directly", &measure(&upstream, address));
    let tunnel = Tunnel::start(HOST, address);
    report("through the tunnel", &measure(&upstream, tunnel.agents));
}

/// Opens a stream, lets the agent vanish, and takes the time until the upstream reads the end; again and again.
fn measure(upstream: &TcpListener, front: SocketAddr) -> Vec<Duration> {
    let mut times: Vec<Duration> = (0..WARM_UP + ROUNDS).map(|_| round(upstream, front)).skip(WARM_UP).collect();
    times.sort();
    times
}

fn round(upstream: &TcpListener, front: SocketAddr) -> Duration {
    let mut agent = TcpStream::connect(front).expect("the front listens");
    agent.write_all(format!("GET /mcp HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).expect("the front reads");
    let (mut at, _) = upstream.accept().expect("the stream reaches the upstream");
    skip_head(&at);
    at.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        .expect("the tunnel reads");
    skip_head(&agent);
    let gone = Instant::now();
    drop(agent);
    // The end may come as a reset; either way it has come.
    let _ = at.read(&mut [0]);
    gone.elapsed()
}

fn skip_head(stream: &TcpStream) {
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        assert!(lines.read_line(&mut line).expect("a head comes") > 0, "the connection ended in a head");
    }
}

fn report(way: &str, times: &[Duration]) {
    let us = |quantile: usize| times[(times.len() - 1) * quantile / 100].as_secs_f64() * 1e6;
    println!("{way:>20}: p50 {:8.1} us  p95 {:8.1} us  max {:8.1} us", us(50), us(95), us(100));
}
