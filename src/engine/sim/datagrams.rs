//! Datagrams on the simulated network. They are lost, doubled, overtaken and sent from another port by chance.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::engine::sim::connection::Owner;
use crate::engine::sim::world::{Occurrence, World};
use crate::engine::{BATCH_LEN_MAX, Ecn};

/// How many datagrams wait at a socket; further ones are lost.
const WAITING_MAX: usize = 1024;

/// A datagram socket of a host.
pub(super) struct SimDatagramSocket {
    pub(super) host: IpAddr,
    address: SocketAddr,
    /// The port from which other hosts see its datagrams come, and at which they reach it.
    outer_port: u16,
    /// It asked for no port of its own, as a client does, so that its port outside may change.
    is_client: bool,
    owner: Owner,
    pub(super) arrived: VecDeque<SimDatagram>,
}

/// A datagram, with the addresses that its receiver sees.
#[derive(Clone)]
pub(super) struct SimDatagram {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) ecn: Option<Ecn>,
    pub(super) payload: Vec<u8>,
}

/// A datagram that has left its socket, and the host that it goes to.
pub(super) struct UnderWay {
    target: IpAddr,
    datagram: SimDatagram,
}

impl World {
    /// Opens a datagram socket. Returns its number and its address.
    pub(super) fn bind_datagrams(&mut self, owner: Owner, address: SocketAddr) -> Result<(u64, SocketAddr), ErrorKind> {
        let host = self.drivers[owner.driver].host;
        if !(address.ip().is_loopback() || address.ip().is_unspecified() || address.ip() == host) {
            return Err(ErrorKind::AddrNotAvailable);
        }
        let is_client = address.port() == 0;
        let port = if is_client { self.free_port(host) } else { address.port() };
        let address = SocketAddr::new(address.ip(), port);
        let id = self.next_serial();
        let socket = SimDatagramSocket { host, address, outer_port: port, is_client, owner, arrived: VecDeque::new() };
        self.datagram_sockets.insert(id, socket);
        Ok((id, address))
    }

    /// Sends one datagram on its way.
    pub(super) fn send_datagram(
        &mut self,
        id: u64,
        to: SocketAddr,
        local: Option<IpAddr>,
        ecn: Option<Ecn>,
        payload: &[u8],
    ) -> Result<(), ErrorKind> {
        if payload.len() > BATCH_LEN_MAX {
            return Err(ErrorKind::InvalidInput);
        }
        let Some(socket) = self.datagram_sockets.get(&id) else { return Ok(()) };
        let (host, bound, mut port) = (socket.host, socket.address, socket.address.port());
        let (target, own) = match to.ip() {
            ip if ip.is_loopback() => (host, ip),
            ip => (ip, host),
        };
        if target != host {
            port = self.outer_port(id);
        }
        let own = if bound.ip().is_unspecified() { local.unwrap_or(own) } else { bound.ip() };
        let faults = (self.faults.datagram_loss_chance, self.faults.datagram_double_chance);
        let is_lost = self.parted(host, target) || payload.len() > self.faults.datagram_bytes_max;
        if is_lost || (faults.0 > 0.0 && self.rng.chance(faults.0)) {
            self.note("datagram-lost", id, payload.len() as u64);
            return Ok(());
        }
        let datagram = SimDatagram { from: SocketAddr::new(own, port), to, ecn, payload: payload.to_vec() };
        if faults.1 > 0.0 && self.rng.chance(faults.1) {
            self.note("datagram-doubled", id, payload.len() as u64);
            self.forward(host, UnderWay { target, datagram: datagram.clone() });
        }
        self.forward(host, UnderWay { target, datagram });
        Ok(())
    }

    /// The port from which other hosts see a socket; a client's is drawn anew from time to time, as a router does that has
    /// forgotten it.
    fn outer_port(&mut self, id: u64) -> u16 {
        let chance = self.faults.datagram_rebind_chance;
        let Some(socket) = self.datagram_sockets.get(&id) else { return 0 };
        let (host, port) = (socket.host, socket.outer_port);
        if !socket.is_client || chance == 0.0 || !self.rng.chance(chance) {
            return port;
        }
        let port = self.free_port(host);
        if let Some(socket) = self.datagram_sockets.get_mut(&id) {
            socket.outer_port = port;
        }
        self.note("rebind", id, u64::from(port));
        port
    }

    fn forward(&mut self, from: IpAddr, under_way: UnderWay) {
        let mut arrival = self.arrival(from, under_way.target);
        if self.faults.datagram_late_chance > 0.0 && self.rng.chance(self.faults.datagram_late_chance) {
            arrival += Duration::from_nanos(self.rng.between(1, self.faults.datagram_late_ns_max.max(1)));
        }
        let number = self.next_serial();
        self.datagrams_under_way.insert(number, under_way);
        self.plan(arrival, Occurrence::DatagramArrives(number));
    }

    /// Gives a datagram to the socket that it reaches, if there is one with room.
    pub(super) fn datagram_arrives(&mut self, number: u64) {
        let Some(UnderWay { target, datagram }) = self.datagrams_under_way.remove(&number) else { return };
        let to = datagram.to;
        let reaches = |socket: &SimDatagramSocket| {
            let ip = socket.address.ip();
            let port = if to.ip().is_loopback() || datagram.from.ip() == socket.host {
                socket.address.port()
            } else {
                socket.outer_port
            };
            socket.host == target && port == to.port() && (ip.is_unspecified() || ip == to.ip())
        };
        // Those that share a port share the peers.
        let group: Vec<u64> =
            self.datagram_sockets.iter().filter(|(_, socket)| reaches(socket)).map(|(id, _)| *id).collect();
        let Some(id) = group.get(usize::from(datagram.from.port()) % group.len().max(1)).copied() else {
            self.note("datagram-unwanted", number, datagram.payload.len() as u64);
            return;
        };
        self.note("datagram", id, datagram.payload.len() as u64);
        let Some(socket) = self.datagram_sockets.get_mut(&id) else { return };
        if socket.arrived.len() < WAITING_MAX {
            socket.arrived.push_back(datagram);
        }
        let owner = socket.owner;
        self.notify_owner(owner);
    }
}
