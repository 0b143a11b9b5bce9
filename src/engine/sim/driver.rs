use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::base::Time;
use crate::engine::driver::{
    Address, Close, Driver, DriverEvent, DriverKind, RawSocket, SocketOptions, Token, Wait, Wake,
};
use crate::engine::sim::connection::{EndId, Owner};
use crate::engine::sim::net::{DriverId, SimNet};
use crate::engine::sim::sim_socket::SimSocket;
use crate::engine::sim::transport::Arrival;
use crate::engine::sim::world::{Listener, Occurrence, WakeFlag, World};
use crate::engine::{BATCH_LEN_MAX, BoundDatagrams, Class, DatagramBatch, Lease, Pool, SMALL_LEN, push_packed};

/// How many leases one socket may fill in one turn.
const LEASES_PER_TURN_MAX: usize = 4;
/// How many datagrams one batch may have, in both directions.
const SEGMENTS_MAX: usize = 64;

/// The driver of a simulated core.
///
/// A turn never blocks: it reports what is due at the current virtual time and returns. Waiting is done by the code
/// that steps the cores ([`crate::engine::sim::Simulation`]), by advancing the clock. Dropping the driver closes its
/// sockets, as the end of a process does.
pub struct SimDriver {
    net: SimNet,
    id: DriverId,
    host: IpAddr,
    pool: Pool,
    /// The same pool, for sockets that carry links.
    link_pool: Pool,
    flag: Arc<WakeFlag>,
    sockets: BTreeMap<u32, Socket>,
    /// Sockets without a buffer; every turn retries them.
    starved: BTreeSet<u32>,
}

/// What a token refers to.
struct Socket {
    token: Token,
    closing: Option<Close>,
    armed: bool,
    role: Role,
}

enum Role {
    Datagrams(u64, VecDeque<DatagramBatch>),
    Listener(u64),
    Stream(Stream),
}

/// A connected socket, with its queue.
struct Stream {
    end: EndId,
    connecting: bool,
    queue: VecDeque<Lease>,
    finish: bool,
    send_failed: bool,
    receive_ended: bool,
    /// Set once the peer's end was reported early, while bytes were left to receive; true if it was a failure.
    told_end: Option<bool>,
    detaching: bool,
    /// It carries a link.
    serves_link: bool,
}

impl Stream {
    fn new(end: EndId, connecting: bool) -> Stream {
        Stream {
            end,
            connecting,
            queue: VecDeque::new(),
            finish: false,
            send_failed: false,
            receive_ended: false,
            told_end: None,
            detaching: false,
            serves_link: false,
        }
    }
}

impl SimDriver {
    pub(super) fn new(net: SimNet, id: DriverId, host: IpAddr, pool: Pool, flag: Arc<WakeFlag>) -> SimDriver {
        let link_pool = pool.for_links();
        SimDriver { net, id, host, pool, link_pool, flag, sockets: BTreeMap::new(), starved: BTreeSet::new() }
    }

    /// The id of this driver in its network.
    #[must_use]
    pub fn id(&self) -> DriverId {
        self.id
    }

    /// The host of its sockets.
    #[must_use]
    pub fn host(&self) -> IpAddr {
        self.host
    }

    fn owner(&self, token: Token) -> Owner {
        Owner { driver: self.id.0, index: token.index }
    }

    /// The socket of `token`, scheduled for the next turn.
    fn touch(&mut self, token: Token) -> Option<&mut Socket> {
        let owner = self.owner(token);
        let socket = self.sockets.get_mut(&token.index).filter(|socket| socket.token == token)?;
        self.net.world.borrow_mut().notify_owner(owner);
        Some(socket)
    }

    /// A stream that is not being closed.
    fn stream(&mut self, token: Token) -> Option<&mut Stream> {
        let socket = self.touch(token).filter(|socket| socket.closing.is_none())?;
        match &mut socket.role {
            Role::Stream(stream) => Some(stream),
            Role::Datagrams(..) | Role::Listener(_) => None,
        }
    }

    /// Nothing can be opened on a host that was killed.
    fn check_alive(&self) -> io::Result<()> {
        let alive = self.net.world.borrow().drivers[self.id.0].alive;
        if alive { Ok(()) } else { Err(io::Error::other("the simulated host was killed")) }
    }

    /// An entry may be reused only after the last event of its token.
    fn check_free(&self, token: Token) -> io::Result<()> {
        self.check_alive()?;
        if self.sockets.contains_key(&token.index) { Err(io::ErrorKind::AlreadyExists.into()) } else { Ok(()) }
    }

    fn place(&mut self, token: Token, role: Role) {
        self.sockets.insert(token.index, Socket { token, closing: None, armed: false, role });
    }

    /// Advances one socket; removes it after its last event.
    fn progress(&mut self, index: u32, events: &mut Vec<DriverEvent>) {
        let Some(socket) = self.sockets.get_mut(&index) else { return };
        let mut world = self.net.world.borrow_mut();
        let mut turn = Turn {
            world: &mut world,
            pool: &self.pool,
            link_pool: &self.link_pool,
            starved: &mut self.starved,
            events,
        };
        if turn.look_at(socket) {
            self.sockets.remove(&index);
        }
    }
}

impl Driver for SimDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Sim
    }

    fn now(&self) -> Time {
        self.net.now()
    }

    fn listen(&mut self, listener: Token, address: &Address) -> io::Result<Address> {
        self.check_free(listener)?;
        let mut world = self.net.world.borrow_mut();
        let address = bind(&mut world, self.host, address)?;
        let id = world.next_serial();
        let owner = Owner { driver: self.id.0, index: listener.index };
        let entry = Listener { host: self.host, address: address.clone(), owner, backlog: VecDeque::new() };
        world.listeners.insert(id, entry);
        drop(world);
        self.place(listener, Role::Listener(id));
        Ok(address)
    }

    fn accept(&mut self, listener: Token, armed: bool) {
        self.receive(listener, armed);
    }

    fn connect(&mut self, socket: Token, address: &Address, options: SocketOptions) -> io::Result<()> {
        self.check_free(socket)?;
        let owner = self.owner(socket);
        let mut world = self.net.world.borrow_mut();
        let end = world.connect(owner, address);
        world.set_silence_max(end, options.silence_max);
        drop(world);
        self.place(socket, Role::Stream(Stream::new(end, true)));
        Ok(())
    }

    fn adopt(&mut self, socket: Token, raw: RawSocket, options: SocketOptions) -> io::Result<()> {
        let RawSocket::Sim(raw) = raw else { return Err(io::ErrorKind::InvalidInput.into()) };
        self.check_free(socket)?;
        self.check_free(socket)?;
        let owner = self.owner(socket);
        let mut world = self.net.world.borrow_mut();
        let end = world.unpark(raw.id, owner).ok_or(io::ErrorKind::NotConnected)?;
        world.set_silence_max(end, options.silence_max);
        drop(world);
        self.place(socket, Role::Stream(Stream::new(end, false)));
        Ok(())
    }

    fn receive(&mut self, socket: Token, armed: bool) {
        if let Some(socket) = self.touch(socket) {
            socket.armed = armed;
        }
    }

    fn serve_link(&mut self, socket: Token) {
        if let Some(stream) = self.stream(socket) {
            stream.serves_link = true;
        }
    }

    fn bind(&mut self, socket: Token, address: SocketAddr) -> io::Result<BoundDatagrams> {
        self.check_free(socket)?;
        let owner = self.owner(socket);
        let (id, address) = self.net.world.borrow_mut().bind_datagrams(owner, address)?;
        self.place(socket, Role::Datagrams(id, VecDeque::new()));
        Ok(BoundDatagrams { address, segments_max: SEGMENTS_MAX })
    }

    fn send_datagrams(&mut self, socket: Token, batch: DatagramBatch) {
        if let Some(Socket { role: Role::Datagrams(_, queue), closing: None, .. }) = self.touch(socket)
            && !batch.bytes.is_empty()
        {
            queue.push_back(batch);
        }
    }

    // The simulated network has no delayed acknowledgements.
    fn acknowledge(&mut self, _socket: Token) {}

    fn send(&mut self, socket: Token, lease: Lease) {
        if let Some(stream) = self.stream(socket)
            && !stream.send_failed
            && !stream.finish
            && !stream.detaching
        {
            push_packed(&mut stream.queue, 0, lease);
        }
    }

    fn unacknowledged_bytes(&self, socket: Token) -> usize {
        match self.sockets.get(&socket.index) {
            Some(Socket { token, role: Role::Stream(stream), .. }) if *token == socket => {
                self.net.world.borrow().unacknowledged_bytes(stream.end)
            }
            _ => 0,
        }
    }

    fn in_flight_bytes(&self, socket: Token) -> usize {
        match self.sockets.get(&socket.index) {
            Some(Socket { token, role: Role::Stream(stream), .. }) if *token == socket => {
                self.net.world.borrow().in_flight_bytes(stream.end)
            }
            _ => 0,
        }
    }

    fn is_over(&self, socket: Token) -> bool {
        match self.sockets.get(&socket.index) {
            Some(Socket { token, role: Role::Stream(stream), .. }) if *token == socket => {
                self.net.world.borrow().failure(stream.end).is_some()
            }
            _ => false,
        }
    }

    fn has_pending_input(&self, socket: Token) -> bool {
        match self.sockets.get(&socket.index) {
            Some(Socket { token, role: Role::Stream(stream), .. }) if *token == socket => {
                !matches!(self.net.world.borrow().arrival_at(stream.end), Arrival::Nothing)
            }
            _ => false,
        }
    }

    fn shutdown(&mut self, socket: Token) {
        if let Some(stream) = self.stream(socket) {
            stream.finish = true;
        }
    }

    fn close(&mut self, token: Token, how: Close) {
        if let Some(socket) = self.touch(token) {
            // An abort replaces a flush, never the other way round.
            if socket.closing != Some(Close::Abort) {
                socket.closing = Some(how);
            }
        }
    }

    fn detach(&mut self, socket: Token) {
        if let Some(stream) = self.stream(socket) {
            stream.detaching = true;
        }
    }

    fn wake(&self) -> Arc<dyn Wake> {
        Arc::clone(&self.flag) as Arc<dyn Wake>
    }

    fn flush(&mut self, _events: &mut Vec<DriverEvent>) -> bool {
        false
    }

    fn turn(&mut self, wait: Wait, events: &mut Vec<DriverEvent>) -> io::Result<()> {
        let before = events.len();
        self.check_alive()?;
        let ready = {
            let mut world = self.net.world.borrow_mut();
            world.run_due();
            let starved = std::mem::take(&mut self.starved);
            world.take_ready(self.id.0, starved)
        };
        for index in ready {
            self.progress(index, events);
        }
        let mut world = self.net.world.borrow_mut();
        for event in &events[before..] {
            let (what, bytes) = name(event);
            world.note(what, self.id.0 as u64, bytes);
        }
        world.end_turn(self.id.0, wait, events.len() > before);
        Ok(())
    }
}

impl Drop for SimDriver {
    fn drop(&mut self) {
        let mut world = self.net.world.borrow_mut();
        if !std::mem::replace(&mut world.drivers[self.id.0].alive, false) {
            return;
        }
        for socket in self.sockets.values() {
            match &socket.role {
                Role::Datagrams(id, _) => drop(world.datagram_sockets.remove(id)),
                Role::Listener(id) => world.unlisten(*id),
                Role::Stream(stream) => world.close(stream.end),
            }
        }
    }
}

/// The parts of the driver that advancing a socket needs.
struct Turn<'a> {
    world: &'a mut World,
    pool: &'a Pool,
    link_pool: &'a Pool,
    starved: &'a mut BTreeSet<u32>,
    events: &'a mut Vec<DriverEvent>,
}

impl Turn<'_> {
    /// Advances a socket. Returns true if it is gone.
    fn look_at(&mut self, socket: &mut Socket) -> bool {
        let Socket { token, closing, armed, role } = socket;
        match role {
            Role::Datagrams(id, queue) => self.look_at_datagrams(*token, *id, queue, *closing, *armed),
            Role::Listener(id) => self.look_at_listener(*token, *id, *closing, armed),
            Role::Stream(stream) => self.look_at_stream(*token, stream, *closing, *armed),
        }
    }

    fn look_at_listener(&mut self, listener: Token, id: u64, closing: Option<Close>, armed: &mut bool) -> bool {
        if closing.is_some() {
            self.world.unlisten(id);
            self.events.push(DriverEvent::Closed { token: listener });
            return true;
        }
        while *armed {
            let fails = self.world.faults.accept_fail_chance;
            let waits = self.world.listeners.get(&id).is_some_and(|listener| !listener.backlog.is_empty());
            if waits && fails > 0.0 && self.world.rng.chance(fails) {
                *armed = false;
                let error = io::Error::other("out of descriptors");
                self.events.push(DriverEvent::AcceptFailed { listener, error });
                break;
            }
            let Some((socket, held, peer)) = self.world.accept(id) else { break };
            let socket = RawSocket::Sim(SimSocket::new(socket, held));
            self.events.push(DriverEvent::Accepted { listener, socket, peer });
        }
        false
    }

    fn look_at_datagrams(
        &mut self,
        socket: Token,
        id: u64,
        queue: &mut VecDeque<DatagramBatch>,
        closing: Option<Close>,
        armed: bool,
    ) -> bool {
        if closing.is_some() {
            self.world.datagram_sockets.remove(&id);
            self.events.push(DriverEvent::Closed { token: socket });
            return true;
        }
        self.send_datagrams(socket, id, queue);
        if armed {
            self.receive_datagrams(socket, id);
        }
        false
    }

    /// Sends as much as the host's buffer holds in one turn.
    fn send_datagrams(&mut self, socket: Token, id: u64, queue: &mut VecDeque<DatagramBatch>) {
        let mut sent = 0;
        while sent < self.world.faults.send_buffer_bytes
            && let Some(batch) = queue.pop_front()
        {
            let bytes = batch.bytes.len();
            let mut result = Ok(());
            for datagram in batch.datagrams() {
                result = self.world.send_datagram(id, batch.peer, batch.local, batch.ecn, datagram);
            }
            match result {
                Ok(()) => sent += bytes,
                Err(why) => self.events.push(DriverEvent::DatagramsDropped { socket, bytes, error: why.into() }),
            }
        }
        if sent > 0 {
            self.events.push(DriverEvent::Sent { socket, bytes: sent });
        }
        if !queue.is_empty() {
            self.starved.insert(socket.index);
        }
    }

    /// Receives what has arrived. Datagrams of one peer that are alike come in one batch.
    fn receive_datagrams(&mut self, socket: Token, id: u64) {
        loop {
            let Some(arrived) = self.world.datagram_sockets.get_mut(&id).map(|found| &mut found.arrived) else {
                return;
            };
            let Some(first) = arrived.front() else { return };
            let class = Class::for_len(first.payload.len());
            let Some(mut bytes) = self.link_pool.take_for_receive(class) else {
                self.starved.insert(socket.index);
                return;
            };
            let (peer, to, ecn, segment_len) = (first.from, first.to, first.ecn, first.payload.len());
            let mut count = 0;
            while let Some(next) = arrived.front()
                && count < SEGMENTS_MAX
                && (next.from, next.to, next.ecn) == (peer, to, ecn)
                && next.payload.len() <= segment_len.min(bytes.tailroom())
                && bytes.len() + next.payload.len() <= BATCH_LEN_MAX
            {
                let is_last = next.payload.len() < segment_len;
                bytes.append(&next.payload);
                arrived.pop_front();
                count += 1;
                if is_last {
                    break;
                }
            }
            let batch = DatagramBatch { peer, local: Some(to.ip()), ecn, segment_len, bytes };
            self.events.push(DriverEvent::DatagramsReceived { socket, batch });
        }
    }

    fn look_at_stream(&mut self, socket: Token, stream: &mut Stream, closing: Option<Close>, armed: bool) -> bool {
        if closing == Some(Close::Abort) {
            stream.queue.clear();
            self.world.abort(stream.end);
            self.events.push(DriverEvent::Closed { token: socket });
            return true;
        }
        if stream.connecting {
            self.look_for_connection(socket, stream);
        }
        if !stream.connecting {
            self.send(socket, stream);
            if armed && closing.is_none() && !stream.receive_ended {
                self.receive(socket, stream);
            }
            if !armed && closing.is_none() && !stream.receive_ended {
                self.tell_end(socket, stream);
            }
        }
        let nothing_to_send = stream.queue.is_empty();
        if closing == Some(Close::Flush) && nothing_to_send {
            self.world.close(stream.end);
            self.events.push(DriverEvent::Closed { token: socket });
            return true;
        }
        stream.detaching && !stream.connecting && nothing_to_send && self.detach(socket, stream)
    }

    fn look_for_connection(&mut self, socket: Token, stream: &mut Stream) {
        let Some(connection) = self.world.connections.get(&stream.end.connection) else { return };
        let Some(connected) = connection.connected else { return };
        stream.connecting = false;
        if connected.is_err() {
            stream.queue.clear();
            stream.send_failed = true;
            stream.receive_ended = true;
        }
        self.events.push(DriverEvent::Connected { socket, result: connected.map_err(io::Error::from) });
    }

    /// Gives the host as many queued bytes as it accepts.
    fn send(&mut self, socket: Token, stream: &mut Stream) {
        let mut sent = 0;
        while let Some(lease) = stream.queue.front_mut() {
            let chance = self.world.faults.short_write_chance;
            let short = chance > 0.0 && lease.len() > 1 && self.world.rng.chance(chance);
            let offer = if short { self.world.rng.between(1, lease.len() as u64 - 1) as usize } else { lease.len() };
            match self.world.write(stream.end, &lease[..offer]) {
                Ok(n) => {
                    sent += n;
                    lease.advance(n);
                    if lease.is_empty() {
                        stream.queue.pop_front();
                    } else {
                        if n == offer {
                            self.world.notify(stream.end);
                        }
                        break;
                    }
                }
                Err(why) => {
                    stream.queue.clear();
                    stream.send_failed = true;
                    self.events.push(DriverEvent::SendFailed { socket, error: why.into() });
                }
            }
        }
        if sent > 0 {
            self.events.push(DriverEvent::Sent { socket, bytes: sent });
        }
        if stream.finish && stream.queue.is_empty() && !stream.send_failed {
            self.world.finish(stream.end);
        }
    }

    /// Reads what has arrived, as far as there are buffers.
    fn receive(&mut self, socket: Token, stream: &mut Stream) {
        let chance = self.world.faults.slow_read_chance;
        if chance > 0.0 && self.world.rng.chance(chance) {
            let wait = self.world.rng.between(1, self.world.faults.slow_read_ns_max.max(1));
            self.world.plan(self.world.now + Duration::from_nanos(wait), Occurrence::Nudge(stream.end));
            return;
        }
        let mut taken = 0;
        for _ in 0..LEASES_PER_TURN_MAX {
            if taken > self.pool.allowance() && !stream.serves_link {
                break;
            }
            match self.world.arrival_at(stream.end) {
                Arrival::Nothing => return,
                Arrival::Bytes(bytes) => {
                    let pool = if stream.serves_link { self.link_pool } else { self.pool };
                    let Some(lease) = lease_for(pool, bytes) else {
                        self.starved.insert(socket.index);
                        return;
                    };
                    taken += self.fill(socket, stream.end, lease);
                }
                Arrival::End => {
                    stream.receive_ended = true;
                    self.events.push(DriverEvent::ReceiveEnded { socket, result: Ok(()) });
                    return;
                }
                Arrival::Failed(why) => {
                    stream.receive_ended = true;
                    self.events.push(DriverEvent::ReceiveEnded { socket, result: Err(why.into()) });
                    return;
                }
            }
        }
        self.world.notify(stream.end);
    }

    /// Reports the end of a peer while nothing is being received from it.
    fn tell_end(&mut self, socket: Token, stream: &mut Stream) {
        let has_failed = self.world.failure(stream.end).is_some() && !stream.finish;
        let is_news = stream.told_end.is_none_or(|failed| has_failed && !failed);
        if is_news && (has_failed || self.world.is_ended(stream.end)) {
            stream.told_end = Some(has_failed);
            self.events.push(DriverEvent::PeerEnded { socket, has_failed });
        }
    }

    fn fill(&mut self, socket: Token, end: EndId, mut lease: Lease) -> usize {
        let mut n = lease.tailroom();
        let chance = self.world.faults.short_read_chance;
        if chance > 0.0 && self.world.rng.chance(chance) {
            n = self.world.rng.between(1, n as u64) as usize;
        }
        let n = self.world.read(end, &mut lease.spare_mut()[..n]);
        lease.filled(n);
        self.events.push(DriverEvent::Received { socket, lease });
        n
    }

    /// Detaches the socket, or drops it if it failed.
    fn detach(&mut self, socket: Token, stream: &Stream) -> bool {
        if self.world.failure(stream.end).is_some() {
            self.world.close(stream.end);
            self.events.push(DriverEvent::Closed { token: socket });
        } else {
            let (id, held) = self.world.park(stream.end);
            let raw = RawSocket::Sim(SimSocket::new(id, held));
            self.events.push(DriverEvent::Detached { socket, raw });
        }
        true
    }
}

fn lease_for(pool: &Pool, bytes: usize) -> Option<Lease> {
    let wanted = if bytes > 2 * SMALL_LEN { Class::Large } else { Class::Small };
    let large = if pool.class_to_receive(wanted) == Class::Large { pool.take_for_receive(Class::Large) } else { None };
    large.or_else(|| pool.take_for_receive(Class::Small))
}

/// The address of a new listener, with its own port if it asked for port 0.
fn bind(world: &mut World, host: IpAddr, address: &Address) -> io::Result<Address> {
    match address {
        Address::Unix(path) if world.unix_path_taken(host, path) => Err(io::ErrorKind::AddrInUse.into()),
        Address::Unix(_) => Ok(address.clone()),
        Address::Tcp(at) if !(at.ip().is_loopback() || at.ip().is_unspecified() || at.ip() == host) => {
            Err(io::ErrorKind::AddrNotAvailable.into())
        }
        Address::Tcp(at) if at.port() == 0 => Ok(Address::Tcp(SocketAddr::new(at.ip(), world.free_port(host)))),
        Address::Tcp(_) => Ok(address.clone()),
    }
}

/// The name and size of an event, for the trace.
fn name(event: &DriverEvent) -> (&'static str, u64) {
    match event {
        DriverEvent::Accepted { .. } => ("accepted", 0),
        DriverEvent::AcceptFailed { .. } => ("accept-failed", 0),
        DriverEvent::Connected { result, .. } => ("connect-ended", u64::from(result.is_ok())),
        DriverEvent::Received { lease, .. } => ("received", lease.len() as u64),
        DriverEvent::ReceiveEnded { result, .. } => ("receive-ended", u64::from(result.is_ok())),
        DriverEvent::PeerEnded { has_failed, .. } => ("peer-ended", u64::from(*has_failed)),
        DriverEvent::Sent { bytes, .. } => ("sent", *bytes as u64),
        DriverEvent::SendFailed { .. } => ("send-failed", 0),
        DriverEvent::DatagramsReceived { batch, .. } => ("datagrams-received", batch.bytes.len() as u64),
        DriverEvent::DatagramsDropped { bytes, .. } => ("datagrams-dropped", *bytes as u64),
        DriverEvent::Closed { .. } => ("closed", 0),
        DriverEvent::Detached { .. } => ("detached", 0),
    }
}
