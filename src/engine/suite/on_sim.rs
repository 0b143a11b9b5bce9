//! The suite on the simulated network, where waiting moves the clock.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::Network;
use crate::base::{Rng, Time};
use crate::engine::driver::{
    Address, Close, Driver, DriverEvent, DriverKind, RawSocket, SocketOptions, Token, Wait, Wake,
};
use crate::engine::pool::Pool;
use crate::engine::sim::{Faults, SimDriver, SimNet};
use crate::engine::{BoundDatagrams, DatagramBatch};

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// Loopback on one simulated host.
struct SimNetwork {
    net: SimNet,
    named: u32,
}

impl Network for SimNetwork {
    fn new(seed: u64) -> Option<SimNetwork> {
        Some(SimNetwork { net: SimNet::new(seed, harmless(seed)), named: 0 })
    }

    fn driver(&mut self, pool: &Pool) -> Box<dyn Driver> {
        Box::new(Waiting { net: self.net.clone(), driver: self.net.driver(HOST, pool.clone()) })
    }

    fn address(&mut self) -> Address {
        Address::Tcp(([127, 0, 0, 1], 0).into())
    }

    fn unix_address(&mut self) -> Option<Address> {
        self.named += 1;
        Some(Address::Unix(format!("/run/{}", self.named).into()))
    }
}

/// Faults that a connection survives: bytes arrive late and in pieces. The first seed has no faults.
fn harmless(seed: u64) -> Faults {
    if seed == 1 {
        return Faults::none();
    }
    let mut rng = Rng::new(seed);
    Faults {
        jitter_ns_max: rng.below(100_000),
        clog_chance: 0.001,
        clog_ns: 1_000_000,
        segment_bytes_max: rng.between(1000, 20_000) as usize,
        short_read_chance: 0.2,
        short_write_chance: 0.2,
        slow_read_chance: 0.02,
        slow_read_ns_max: 200_000,
        shuffle: true,
        ..Faults::none()
    }
}

/// A driver that may wait: its turn moves the clock until something happens on it.
struct Waiting {
    net: SimNet,
    driver: SimDriver,
}

impl Driver for Waiting {
    fn flush(&mut self, events: &mut Vec<DriverEvent>) -> bool {
        self.driver.flush(events)
    }

    fn turn(&mut self, wait: Wait, events: &mut Vec<DriverEvent>) -> io::Result<()> {
        loop {
            self.driver.turn(wait, events)?;
            let Some(until) = self.net.idle_until(self.driver.id()) else { return Ok(()) };
            match self.net.next_event_at().unwrap_or(Time::NEVER).min(until) {
                // Only another thread can end this.
                Time::NEVER => std::thread::yield_now(),
                next => self.net.advance_to(next),
            }
        }
    }

    fn kind(&self) -> DriverKind {
        self.driver.kind()
    }

    fn now(&self) -> Time {
        self.driver.now()
    }

    fn listen(&mut self, listener: Token, address: &Address) -> io::Result<Address> {
        self.driver.listen(listener, address)
    }

    fn accept(&mut self, listener: Token, armed: bool) {
        self.driver.accept(listener, armed);
    }

    fn connect(&mut self, socket: Token, address: &Address, options: SocketOptions) -> io::Result<()> {
        self.driver.connect(socket, address, options)
    }

    fn adopt(&mut self, socket: Token, raw: RawSocket, options: SocketOptions) -> io::Result<()> {
        self.driver.adopt(socket, raw, options)
    }

    fn bind(&mut self, socket: Token, address: SocketAddr) -> io::Result<BoundDatagrams> {
        self.driver.bind(socket, address)
    }

    fn send_datagrams(&mut self, socket: Token, batch: DatagramBatch) {
        self.driver.send_datagrams(socket, batch);
    }

    fn serve_link(&mut self, socket: Token) {
        self.driver.serve_link(socket);
    }

    fn receive(&mut self, socket: Token, armed: bool) {
        self.driver.receive(socket, armed);
    }

    fn acknowledge(&mut self, socket: Token) {
        self.driver.acknowledge(socket);
    }

    fn has_pending_input(&self, socket: Token) -> bool {
        self.driver.has_pending_input(socket)
    }

    fn send(&mut self, socket: Token, lease: crate::engine::Lease) {
        self.driver.send(socket, lease);
    }

    fn unacknowledged_bytes(&self, socket: Token) -> usize {
        self.driver.unacknowledged_bytes(socket)
    }

    fn in_flight_bytes(&self, socket: Token) -> usize {
        self.driver.in_flight_bytes(socket)
    }

    fn is_over(&self, socket: Token) -> bool {
        self.driver.is_over(socket)
    }

    fn shutdown(&mut self, socket: Token) {
        self.driver.shutdown(socket);
    }

    fn close(&mut self, token: Token, how: Close) {
        self.driver.close(token, how);
    }

    fn detach(&mut self, socket: Token) {
        self.driver.detach(socket);
    }

    fn wake(&self) -> Arc<dyn Wake> {
        self.driver.wake()
    }
}

conformance!(SimNetwork);
