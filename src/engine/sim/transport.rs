//! Simulated connections: how they are made, carry bytes, and end.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::engine::driver::Address;
use crate::engine::sim::connection::{Connection, ConnectionEnd, End, EndId, Life, Owner, Payload};
use crate::engine::sim::world::{Occurrence, World};

/// The most connections that wait at a listener.
const BACKLOG_MAX: usize = 4096;
/// How long a host waits before it sends a SYN again.
const SYN_RETRY: Duration = Duration::from_secs(1);

/// The result of a read.
pub(super) enum Arrival {
    /// There is nothing to read at the moment.
    Nothing,
    /// This many bytes were read.
    Bytes(usize),
    /// The peer has finished sending.
    End,
    /// The connection has failed.
    Failed(ErrorKind),
}

/// Connecting: the handshake and its retries.
impl World {
    /// Starts to connect to `address`, and returns the client's end.
    pub(super) fn connect(&mut self, owner: Owner, address: &Address) -> EndId {
        let host = self.drivers[owner.driver].host;
        let (target, from) = self.resolve(host, address);
        let id = self.next_serial();
        let mut client = End::new(host, from, Life::Open);
        client.owner = Some(owner);
        let to = match address {
            Address::Tcp(address) => Some(*address),
            Address::Unix(_) => None,
        };
        let server = End::new(target, to, Life::Embryo);
        self.connections.insert(id, Connection::new(client, server, address.clone(), &self.faults));
        self.trace.note(self.now, "connect", id, 0);
        self.plan_connect(id, host, target);
        EndId { connection: id, side: ConnectionEnd::Client }
    }

    fn plan_connect(&mut self, id: u64, host: IpAddr, target: IpAddr) {
        let expires = self.now + Duration::from_nanos(self.faults.connect_timeout_ns);
        self.plan(expires, Occurrence::ConnectExpires(id));
        if !self.knows_host(target) || self.rng.chance(self.faults.lost_connect_chance) {
            return;
        }
        let arrival = self.arrival(host, target);
        self.plan(arrival, Occurrence::SynArrives(id));
    }

    /// The hosts of the client and the server, while the client waits for the connection.
    fn waiting(&self, id: u64) -> Option<(IpAddr, IpAddr)> {
        let connection = self.connections.get(&id)?;
        let client = connection.end(ConnectionEnd::Client);
        let waits = client.life == Life::Open && connection.connected.is_none();
        waits.then(|| (client.host, connection.end(ConnectionEnd::Server).host))
    }

    pub(super) fn syn_arrives(&mut self, id: u64) {
        let Some((client, server)) = self.waiting(id) else { return };
        if self.parted(client, server) {
            self.plan(self.now + SYN_RETRY, Occurrence::SynArrives(id));
            return;
        }
        let Some(address) = self.connections.get(&id).map(|connection| connection.address.clone()) else { return };
        let refused = self.rng.chance(self.faults.refuse_chance);
        let listener = self.listener_at(server, &address).filter(|_| !refused);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.listener = listener;
        }
        self.trace.note(self.now, "syn", id, listener.unwrap_or_default());
        let arrival = self.arrival(server, client);
        let answer = if listener.is_some() { Occurrence::SynAckArrives(id) } else { Occurrence::RefusalArrives(id) };
        self.plan(arrival, answer);
    }

    pub(super) fn syn_ack_arrives(&mut self, id: u64) {
        let Some((client, server)) = self.waiting(id) else { return };
        if self.parted(server, client) {
            self.plan(self.now + SYN_RETRY, Occurrence::SynAckArrives(id));
            return;
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.connected = Some(Ok(()));
        }
        self.trace.note(self.now, "connected", id, 0);
        let end = EndId { connection: id, side: ConnectionEnd::Client };
        self.launch(end, Payload::Established);
        self.notify(end);
    }

    /// Ends the client's connect with an error.
    pub(super) fn connect_ends(&mut self, id: u64, why: ErrorKind) {
        if self.waiting(id).is_none() {
            return;
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.connected = Some(Err(why));
            connection.end_mut(ConnectionEnd::Client).error = Some(why);
        }
        self.trace.note(self.now, "not-connected", id, 0);
        self.notify(EndId { connection: id, side: ConnectionEnd::Client });
    }

    /// Completes the handshake at the server. The connection waits to be accepted, or is reset if nothing listens.
    fn established(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let listener = connection.listener.and_then(|listener| self.listeners.get_mut(&listener));
        match listener.filter(|listener| listener.backlog.len() < BACKLOG_MAX) {
            Some(listener) => {
                connection.end_mut(ConnectionEnd::Server).life = Life::Open;
                listener.backlog.push_back(id);
                let owner = listener.owner;
                self.notify_owner(owner);
            }
            None => self.reset(EndId { connection: id, side: ConnectionEnd::Server }),
        }
    }

    /// Accepts the first waiting connection of a listener; returns it with its peer address.
    pub(super) fn accept(&mut self, listener: u64) -> Option<(u64, Arc<()>, Option<SocketAddr>)> {
        let id = self.listeners.get_mut(&listener)?.backlog.pop_front()?;
        let peer = self.connections.get(&id)?.end(ConnectionEnd::Client).address;
        self.trace.note(self.now, "accept", id, listener);
        let (socket, held) = self.park(EndId { connection: id, side: ConnectionEnd::Server });
        Some((socket, held, peer))
    }

    /// Stops listening and resets the connections that wait to be accepted.
    pub(super) fn unlisten(&mut self, listener: u64) {
        let Some(listener) = self.listeners.remove(&listener) else { return };
        for id in listener.backlog {
            self.reset(EndId { connection: id, side: ConnectionEnd::Server });
        }
    }
}

/// Moving connected sockets from one driver to another.
impl World {
    /// Takes an end from its driver. The world closes it when all copies of the handle are dropped.
    pub(super) fn park(&mut self, end: EndId) -> (u64, Arc<()>) {
        if let Some(connection) = self.connections.get_mut(&end.connection) {
            connection.end_mut(end.side).owner = None;
        }
        let socket = self.next_serial();
        let held = Arc::new(());
        self.parked.insert(socket, (end, Arc::clone(&held)));
        (socket, held)
    }

    /// Gives a parked end to a driver.
    pub(super) fn unpark(&mut self, socket: u64, owner: Owner) -> Option<EndId> {
        let (end, _) = self.parked.remove(&socket)?;
        let connection = self.connections.get_mut(&end.connection)?;
        connection.end_mut(end.side).owner = Some(owner);
        self.notify_owner(owner);
        Some(end)
    }

    /// Closes parked sockets that can no longer be adopted.
    pub(super) fn reap_parked(&mut self) {
        let dropped: Vec<u64> =
            self.parked.iter().filter(|(_, (_, held))| Arc::strong_count(held) == 1).map(|(id, _)| *id).collect();
        for socket in dropped {
            if let Some((end, _)) = self.parked.remove(&socket) {
                self.close(end);
            }
        }
    }
}

/// Sending, delivering and reading bytes.
impl World {
    /// Gives bytes to the sender's host; returns how many it accepted.
    pub(super) fn write(&mut self, end: EndId, bytes: &[u8]) -> Result<usize, ErrorKind> {
        let Some(connection) = self.connections.get_mut(&end.connection) else { return Err(ErrorKind::BrokenPipe) };
        if let Some(error) = connection.end(end.side).error {
            return Err(error);
        }
        let pipe = connection.out_mut(end.side);
        let n = bytes.len().min(pipe.room());
        pipe.unsent.extend(&bytes[..n]);
        self.pump(end);
        Ok(n)
    }

    /// How many accepted bytes have not arrived. If the connection has failed they never will. A FIN counts as one.
    pub(super) fn unacknowledged_bytes(&self, end: EndId) -> usize {
        self.connections.get(&end.connection).map_or(0, |connection| connection.out(end.side).unacknowledged_bytes())
    }

    /// How many of those bytes are in flight.
    pub(super) fn in_flight_bytes(&self, end: EndId) -> usize {
        self.connections.get(&end.connection).map_or(0, |connection| connection.out(end.side).in_flight_bytes())
    }

    /// The error because of which nothing more can be sent, if there is one.
    pub(super) fn failure(&self, end: EndId) -> Option<ErrorKind> {
        match self.connections.get(&end.connection) {
            Some(connection) => connection.end(end.side).error,
            None => Some(ErrorKind::BrokenPipe),
        }
    }

    /// Finishes sending: the FIN follows the bytes that are queued.
    pub(super) fn finish(&mut self, end: EndId) {
        let Some(connection) = self.connections.get_mut(&end.connection) else { return };
        if connection.end(end.side).error.is_none() {
            connection.out_mut(end.side).finishing = true;
            self.pump(end);
        }
    }

    /// What a read would return.
    pub(super) fn arrival_at(&self, end: EndId) -> Arrival {
        let Some(connection) = self.connections.get(&end.connection) else {
            return Arrival::Failed(ErrorKind::ConnectionReset);
        };
        let pipe = connection.out(end.side.other());
        match (pipe.arrived.len(), connection.end(end.side).error) {
            (0, Some(error)) => Arrival::Failed(error),
            (0, None) if pipe.fin_arrived => Arrival::End,
            (0, None) => Arrival::Nothing,
            (bytes, _) => Arrival::Bytes(bytes),
        }
    }

    /// Whether nothing will arrive any more.
    pub(super) fn is_ended(&self, end: EndId) -> bool {
        self.connections.get(&end.connection).is_none_or(|connection| {
            connection.out(end.side.other()).fin_arrived || connection.end(end.side).error.is_some()
        })
    }

    /// Reads bytes that have arrived into `into`; returns how many.
    pub(super) fn read(&mut self, end: EndId, into: &mut [u8]) -> usize {
        let Some(connection) = self.connections.get_mut(&end.connection) else { return 0 };
        let arrived = &mut connection.out_mut(end.side.other()).arrived;
        let n = into.len().min(arrived.len());
        let (front, back) = arrived.as_slices();
        let of_front = n.min(front.len());
        into[..of_front].copy_from_slice(&front[..of_front]);
        into[of_front..n].copy_from_slice(&back[..n - of_front]);
        arrived.drain(..n);
        self.pump(end.peer());
        n
    }

    /// Sends what the window permits, and tells the sender if that made room.
    pub(super) fn pump(&mut self, from: EndId) {
        let mut moved = false;
        loop {
            let Some(connection) = self.connections.get_mut(&from.connection) else { return };
            let waits = from.side == ConnectionEnd::Client && connection.connected != Some(Ok(()));
            let pipe = connection.out_mut(from.side);
            let ready = pipe.unsent.len().min(pipe.window());
            if ready == 0 || waits {
                break;
            }
            let piece = self.rng.between(1, self.faults.segment_bytes_max.max(1) as u64) as usize;
            // Split in one step, since draining would move byte by byte.
            let rest = pipe.unsent.split_off(ready.min(piece));
            let bytes = Vec::from(std::mem::replace(&mut pipe.unsent, rest));
            moved = true;
            self.launch(from, Payload::Bytes(bytes));
            if self.faults.reset_chance > 0.0 && self.rng.chance(self.faults.reset_chance) {
                self.break_off(from);
            }
        }
        let Some(connection) = self.connections.get_mut(&from.connection) else { return };
        let pipe = connection.out_mut(from.side);
        if pipe.finishing && !pipe.fin_sent && pipe.unsent.is_empty() {
            pipe.fin_sent = true;
            self.launch(from, Payload::Fin);
        }
        if moved {
            self.notify(from);
        }
    }

    /// Sends a segment, which arrives after those before it.
    fn launch(&mut self, from: EndId, payload: Payload) {
        let Some(connection) = self.connections.get(&from.connection) else { return };
        let (here, there) = (connection.end(from.side).host, connection.end(from.side.other()).host);
        let bytes = if let Payload::Bytes(bytes) = &payload { bytes.len() } else { 0 };
        let arrival = self.arrival(here, there);
        let occupied = self.faults.occupied(bytes);
        let Some(connection) = self.connections.get_mut(&from.connection) else { return };
        let pipe = connection.out_mut(from.side);
        let due = arrival.max(pipe.last_due + occupied);
        pipe.launch(due, payload);
        self.plan(due, Occurrence::Deliver(from));
    }

    /// Something on the path resets the connection.
    fn break_off(&mut self, at: EndId) {
        let Some(connection) = self.connections.get(&at.connection) else { return };
        let (here, there) = (connection.end(at.side).host, connection.end(at.side.other()).host);
        self.trace.note(self.now, "break", at.connection, 0);
        let (first, second) = (self.arrival(there, here), self.arrival(here, there));
        self.plan(first, Occurrence::Broken(at));
        self.plan(second, Occurrence::Broken(at.peer()));
    }

    /// A segment from `from` arrives, unless the hosts are cut off from each other.
    pub(super) fn deliver(&mut self, from: EndId) {
        let now = self.now;
        let Some(connection) = self.connections.get(&from.connection) else { return };
        let pipe = connection.out(from.side);
        let due = pipe.flight.front().is_some_and(|segment| segment.due <= now);
        if !due || pipe.stall.is_some() {
            return;
        }
        if self.parted(connection.end(from.side).host, connection.end(from.side.other()).host) {
            self.stall(from);
            return;
        }
        let Some(connection) = self.connections.get_mut(&from.connection) else { return };
        match connection.out_mut(from.side).land() {
            Some(Payload::Established) => self.established(from.connection),
            Some(Payload::Bytes(bytes)) => self.bytes_arrive(from, &bytes),
            Some(Payload::Fin) => self.fin_arrives(from),
            Some(Payload::Reset) => self.fail(from.peer(), ErrorKind::ConnectionReset),
            None => {}
        }
        self.sweep(from.connection);
    }

    fn bytes_arrive(&mut self, from: EndId, bytes: &[u8]) {
        self.trace.note(self.now, "bytes", from.connection, bytes.len() as u64);
        let to = from.peer();
        let Some(connection) = self.connections.get_mut(&from.connection) else { return };
        if connection.end(to.side).listens() {
            connection.out_mut(from.side).arrived.extend(bytes);
            self.notify(to);
        } else {
            self.refuse(to);
        }
    }

    fn fin_arrives(&mut self, from: EndId) {
        self.trace.note(self.now, "fin", from.connection, 0);
        let Some(connection) = self.connections.get_mut(&from.connection) else { return };
        connection.out_mut(from.side).fin_arrived = true;
        connection.reap_orphans();
        let known = connection.end(from.side.other()).life != Life::Dead;
        if known {
            self.notify(from.peer());
        } else {
            self.refuse(from.peer());
        }
    }

    /// Bytes arrived that no process will read, so the sender gets a reset.
    fn refuse(&mut self, end: EndId) {
        let life = self.connections.get(&end.connection).map(|connection| connection.end(end.side).life);
        match life {
            Some(Life::Orphan) => self.reset(end),
            Some(_) => self.launch(end, Payload::Reset),
            None => {}
        }
    }
}

/// Closing and resetting connections.
impl World {
    /// A process closes its socket. Accepted bytes are still sent, but if bytes are unread, the close becomes a reset.
    pub(super) fn close(&mut self, end: EndId) {
        let Some(connection) = self.connections.get_mut(&end.connection) else { return };
        let unread = !connection.out(end.side.other()).arrived.is_empty();
        let unconnected = end.side == ConnectionEnd::Client && connection.connected != Some(Ok(()));
        let failed = connection.end(end.side).error.is_some();
        if failed || unconnected {
            self.forget(end);
        } else if unread {
            self.reset(end);
        } else {
            self.trace.note(self.now, "close", end.connection, 0);
            let closing = connection.end_mut(end.side);
            closing.life = Life::Orphan;
            closing.owner = None;
            connection.out_mut(end.side).finishing = true;
            connection.reap_orphans();
            self.pump(end);
        }
        self.sweep(end.connection);
    }

    /// A process aborts its socket.
    pub(super) fn abort(&mut self, end: EndId) {
        let Some(connection) = self.connections.get(&end.connection) else { return };
        let connected = end.side == ConnectionEnd::Server || connection.connected == Some(Ok(()));
        if connection.end(end.side).error.is_some() || !connected {
            self.forget(end);
        } else {
            self.reset(end);
        }
        self.sweep(end.connection);
    }

    /// Ends this end and resets the peer, after what is in flight.
    pub(super) fn reset(&mut self, end: EndId) {
        self.trace.note(self.now, "reset", end.connection, 0);
        self.forget(end);
        self.launch(end, Payload::Reset);
        self.sweep(end.connection);
    }

    /// Ends this end without telling the peer.
    pub(super) fn forget(&mut self, end: EndId) {
        let Some(connection) = self.connections.get_mut(&end.connection) else { return };
        let dying = connection.end_mut(end.side);
        dying.life = Life::Dead;
        dying.owner = None;
        connection.out_mut(end.side).drop_unsent();
        connection.out_mut(end.side.other()).arrived.clear();
    }

    /// The host loses its power: its state is lost, and it sends nothing more.
    pub(super) fn vanish(&mut self, end: EndId) {
        self.forget(end);
        if let Some(connection) = self.connections.get_mut(&end.connection) {
            connection.out_mut(end.side).drop_undelivered();
        }
        self.sweep(end.connection);
    }

    /// The connection fails at this end, and its process is notified if there is one.
    pub(super) fn fail(&mut self, end: EndId, why: ErrorKind) {
        let Some(connection) = self.connections.get_mut(&end.connection) else { return };
        self.trace.note(self.now, "fail", end.connection, u64::from(why == ErrorKind::TimedOut));
        let failing = connection.end_mut(end.side);
        match failing.life {
            Life::Open | Life::Embryo => failing.error = failing.error.or(Some(why)),
            Life::Orphan => failing.life = Life::Dead,
            Life::Dead => {}
        }
        connection.out_mut(end.side).drop_undelivered();
        self.notify(end);
        self.sweep(end.connection);
    }

    /// Nothing gets through: a FIN waits, and a reset is lost.
    fn stall(&mut self, from: EndId) {
        let stall = self.next_serial();
        let timeout = Duration::from_nanos(self.faults.stall_timeout_ns);
        let Some(connection) = self.connections.get_mut(&from.connection) else { return };
        let pipe = connection.out_mut(from.side);
        pipe.flight.retain(|segment| !matches!(segment.payload, Payload::Reset));
        if !pipe.flight.is_empty() {
            pipe.stall = Some(stall);
            self.trace.note(self.now, "stall", from.connection, 0);
            self.plan(self.now + timeout, Occurrence::StallExpires(from, stall));
        }
        self.sweep(from.connection);
    }

    pub(super) fn stall_expires(&mut self, from: EndId, stall: u64) {
        let stalled = self.connections.get(&from.connection).and_then(|connection| connection.out(from.side).stall);
        if stalled == Some(stall) {
            self.fail(from, ErrorKind::TimedOut);
        }
    }

    /// The path works again: what was in flight is sent again.
    pub(super) fn resume(&mut self, from: EndId) {
        let Some(connection) = self.connections.get_mut(&from.connection) else { return };
        let pipe = connection.out_mut(from.side);
        pipe.stall = None;
        let again: Vec<Payload> = std::iter::from_fn(|| pipe.land()).collect();
        for payload in again {
            self.launch(from, payload);
        }
    }

    /// Removes a connection that no process can observe any more.
    fn sweep(&mut self, id: u64) {
        if self.connections.get(&id).is_some_and(Connection::is_over) {
            self.connections.remove(&id);
            self.trace.note(self.now, "over", id, 0);
        }
    }
}
