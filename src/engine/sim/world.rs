//! The simulated world: hosts, the paths between them, scheduled events, and the clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::base::{Rng, Time};
use crate::engine::driver::{Address, Wait, Wake};
use crate::engine::sim::connection::{Connection, ConnectionEnd, EndId, Life, Owner};
use crate::engine::sim::datagrams::{SimDatagramSocket, UnderWay};
use crate::engine::sim::faults::Faults;
use crate::engine::sim::trace::Trace;

/// The first port for sockets that do not ask for a particular one.
const EPHEMERAL_PORT_MIN: u16 = 32_768;

/// A scheduled event of the simulated network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Occurrence {
    /// A segment from this end arrives.
    Deliver(EndId),
    /// The client's first packet arrives.
    SynArrives(u64),
    /// The server's answer to the first packet arrives.
    SynAckArrives(u64),
    /// The server's refusal arrives.
    RefusalArrives(u64),
    /// The client gives its connect up.
    ConnectExpires(u64),
    /// This end gives the connection up, if the stall with this number still lasts.
    StallExpires(EndId, u64),
    /// No probe of this end was answered, if the cut with this number still lasts.
    SilenceExpires(EndId, u64),
    /// Something on the path has reset the connection, and this end is told.
    Broken(EndId),
    /// A slow reader reads again.
    Nudge(EndId),
    /// The datagram with this number arrives.
    DatagramArrives(u64),
    /// Two hosts drawn at random are cut off from each other.
    CutBegins,
    /// The cut between two hosts ends, if it is still the one with this number.
    CutEnds(IpAddr, IpAddr, u64),
}

/// A socket that listens on a host.
pub(super) struct Listener {
    pub(super) host: IpAddr,
    pub(super) address: Address,
    pub(super) owner: Owner,
    pub(super) backlog: VecDeque<u64>,
}

/// A simulated machine, which can be up or down.
struct Host {
    up: bool,
    port_next: u16,
}

/// What wakes a simulated core.
pub(super) struct WakeFlag(AtomicBool);

impl Wake for WakeFlag {
    fn wake(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The world's state of a driver.
pub(super) struct DriverState {
    pub(super) host: IpAddr,
    pub(super) alive: bool,
    /// Sockets with something to do.
    pub(super) ready: BTreeSet<u32>,
    pub(super) flag: Arc<WakeFlag>,
    /// The time until which its core has nothing to do; `None` if it has something to do now.
    idle_until: Option<Time>,
}

/// The state of the simulated network, shared by all drivers.
pub(super) struct World {
    pub(super) now: Time,
    pub(super) rng: Rng,
    pub(super) faults: Faults,
    pub(super) trace: Trace,
    pub(super) connections: BTreeMap<u64, Connection>,
    pub(super) listeners: BTreeMap<u64, Listener>,
    pub(super) datagram_sockets: BTreeMap<u64, SimDatagramSocket>,
    pub(super) datagrams_under_way: BTreeMap<u64, UnderWay>,
    pub(super) drivers: Vec<DriverState>,
    /// Sockets that no driver holds. The other copy of the handle is with the code that may adopt the socket.
    pub(super) parked: BTreeMap<u64, (EndId, Arc<()>)>,
    agenda: BinaryHeap<Reverse<(Time, u64, Occurrence)>>,
    hosts: BTreeMap<IpAddr, Host>,
    paths: BTreeMap<(IpAddr, IpAddr), u64>,
    cuts: BTreeMap<(IpAddr, IpAddr), u64>,
    serial: u64,
}

impl World {
    pub(super) fn new(seed: u64, faults: Faults) -> World {
        let mut world = World {
            now: Time::from_nanos(1),
            rng: Rng::new(seed),
            faults,
            trace: Trace::new(),
            connections: BTreeMap::new(),
            listeners: BTreeMap::new(),
            datagram_sockets: BTreeMap::new(),
            datagrams_under_way: BTreeMap::new(),
            drivers: Vec::new(),
            parked: BTreeMap::new(),
            agenda: BinaryHeap::new(),
            hosts: BTreeMap::new(),
            paths: BTreeMap::new(),
            cuts: BTreeMap::new(),
            serial: 0,
        };
        world.plan_cut();
        world
    }

    /// Records an event in the trace.
    pub(super) fn note(&mut self, what: &str, subject: u64, detail: u64) {
        self.trace.note(self.now, what, subject, detail);
    }

    /// A number that was not used before.
    pub(super) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Schedules an event for the time `due`.
    pub(super) fn plan(&mut self, due: Time, what: Occurrence) {
        let serial = self.next_serial();
        self.agenda.push(Reverse((due, serial, what)));
    }

    /// The time of the next event.
    pub(super) fn next_at(&self) -> Option<Time> {
        self.agenda.peek().map(|Reverse((due, _, _))| *due)
    }

    /// Runs all events that are due.
    pub(super) fn run_due(&mut self) {
        self.reap_parked();
        while let Some(Reverse((due, _, what))) = self.agenda.peek().copied() {
            if due > self.now {
                return;
            }
            self.agenda.pop();
            self.happen(what);
        }
    }

    /// Advances the clock to `to`, and runs the events that become due.
    pub(super) fn advance_to(&mut self, to: Time) {
        while let Some(due) = self.next_at().filter(|due| *due <= to) {
            self.now = self.now.max(due);
            self.run_due();
        }
        self.now = self.now.max(to);
    }

    fn happen(&mut self, what: Occurrence) {
        match what {
            Occurrence::Deliver(from) => self.deliver(from),
            Occurrence::SynArrives(connection) => self.syn_arrives(connection),
            Occurrence::SynAckArrives(connection) => self.syn_ack_arrives(connection),
            Occurrence::RefusalArrives(connection) => self.connect_ends(connection, ErrorKind::ConnectionRefused),
            Occurrence::ConnectExpires(connection) => self.connect_ends(connection, ErrorKind::TimedOut),
            Occurrence::StallExpires(from, stall) => self.stall_expires(from, stall),
            Occurrence::SilenceExpires(end, cut) => self.silence_expires(end, cut),
            Occurrence::Broken(end) => self.fail(end, ErrorKind::ConnectionReset),
            Occurrence::Nudge(end) => self.notify(end),
            Occurrence::DatagramArrives(number) => self.datagram_arrives(number),
            Occurrence::CutBegins => self.cut_at_random(),
            Occurrence::CutEnds(a, b, cut) => {
                if self.cuts.get(&pair(a, b)) == Some(&cut) {
                    self.heal(a, b);
                }
            }
        }
    }

    /// Schedules the owner of `end` to advance it.
    pub(super) fn notify(&mut self, end: EndId) {
        let owner = self.connections.get(&end.connection).and_then(|connection| connection.end(end.side).owner);
        if let Some(owner) = owner {
            self.notify_owner(owner);
        }
    }

    pub(super) fn notify_owner(&mut self, owner: Owner) {
        let driver = &mut self.drivers[owner.driver];
        if driver.alive {
            driver.ready.insert(owner.index);
        }
    }

    // Hosts.

    /// Adds a host, if it is new, and starts it.
    pub(super) fn start_host(&mut self, host: IpAddr) {
        let entry = self.hosts.entry(host).or_insert(Host { up: true, port_next: EPHEMERAL_PORT_MIN });
        if !entry.up {
            entry.up = true;
            self.trace.note(self.now, "host-up", 0, 0);
            self.resume_where(|from, to| from == host || to == host);
        }
    }

    /// Takes a host off the network.
    pub(super) fn stop_host(&mut self, host: IpAddr) {
        if let Some(entry) = self.hosts.get_mut(&host) {
            entry.up = false;
        }
    }

    pub(super) fn knows_host(&self, host: IpAddr) -> bool {
        self.hosts.contains_key(&host)
    }

    /// The next free port of `host`.
    pub(super) fn free_port(&mut self, host: IpAddr) -> u16 {
        loop {
            let Some(entry) = self.hosts.get_mut(&host) else { return EPHEMERAL_PORT_MIN };
            let port = entry.port_next;
            entry.port_next = port.checked_add(1).unwrap_or(EPHEMERAL_PORT_MIN);
            let taken = self.listeners.values().any(|listener| {
                listener.host == host && matches!(listener.address, Address::Tcp(address) if address.port() == port)
            });
            if !taken {
                return port;
            }
        }
    }

    /// What `address` refers to on `host`, and the address that a client there has.
    pub(super) fn resolve(&mut self, host: IpAddr, address: &Address) -> (IpAddr, Option<SocketAddr>) {
        match address {
            Address::Unix(_) => (host, None),
            Address::Tcp(to) => {
                let port = self.free_port(host);
                let (target, from) = match to.ip() {
                    ip if ip.is_loopback() => (host, ip),
                    ip if ip.is_unspecified() => (host, host),
                    ip => (ip, host),
                };
                (target, Some(SocketAddr::new(from, port)))
            }
        }
    }

    /// The listener at `address` on `host`; one drawn at random if there are several.
    pub(super) fn listener_at(&mut self, host: IpAddr, address: &Address) -> Option<u64> {
        let fits = |listener: &Listener| match (&listener.address, address) {
            (Address::Unix(a), Address::Unix(b)) => a == b,
            (Address::Tcp(a), Address::Tcp(b)) => {
                a.port() == b.port() && (a.ip().is_unspecified() || a.ip() == b.ip() || b.ip().is_unspecified())
            }
            _ => false,
        };
        let group: Vec<u64> = self
            .listeners
            .iter()
            .filter(|(_, listener)| listener.host == host && fits(listener))
            .map(|(id, _)| *id)
            .collect();
        let at = self.rng.below(group.len() as u64) as usize;
        group.get(at).copied()
    }

    /// Whether a listener on `host` uses the Unix socket `path`.
    pub(super) fn unix_path_taken(&self, host: IpAddr, path: &PathBuf) -> bool {
        self.listeners
            .values()
            .any(|listener| listener.host == host && matches!(&listener.address, Address::Unix(other) if other == path))
    }

    /// The ends of connections on `host` in a state that `fits`.
    pub(super) fn ends_of(&self, host: IpAddr, fits: impl Fn(Life) -> bool) -> Vec<EndId> {
        let ends = self.connections.iter().flat_map(|(id, connection)| {
            ConnectionEnd::BOTH.map(|side| (EndId { connection: *id, side }, connection.end(side)))
        });
        ends.filter(|(_, end)| end.host == host && fits(end.life)).map(|(id, _)| id).collect()
    }

    // Paths.

    /// When a segment that is sent now from one host to another arrives.
    pub(super) fn arrival(&mut self, from: IpAddr, to: IpAddr) -> Time {
        let (min, max) = (self.faults.delay_ns_min, self.faults.delay_ns_max);
        let path_ns = match self.paths.get(&(from, to)) {
            Some(ns) => *ns,
            None => {
                let ns = self.rng.between(min, max);
                self.paths.insert((from, to), ns);
                ns
            }
        };
        self.now + self.faults.delay(path_ns, &mut self.rng)
    }

    /// Whether nothing gets from one host to the other at the moment.
    pub(super) fn parted(&self, from: IpAddr, to: IpAddr) -> bool {
        let down = |host: &IpAddr| self.hosts.get(host).is_none_or(|host| !host.up);
        self.cuts.contains_key(&pair(from, to)) || down(&from) || down(&to)
    }

    /// Cuts the network between two hosts, and returns the number of the cut.
    pub(super) fn cut(&mut self, a: IpAddr, b: IpAddr) -> Option<u64> {
        if a == b {
            return None;
        }
        let cut = self.next_serial();
        self.cuts.insert(pair(a, b), cut);
        self.trace.note(self.now, "cut", cut, 0);
        self.plan_silence(a, b, cut);
        Some(cut)
    }

    /// Schedules the failure of ends that probe a silent peer, if the cut lasts long enough.
    fn plan_silence(&mut self, a: IpAddr, b: IpAddr, cut: u64) {
        let mut probing = Vec::new();
        for (id, connection) in &self.connections {
            let hosts = ConnectionEnd::BOTH.map(|side| connection.end(side).host);
            if pair(hosts[0], hosts[1]) == pair(a, b) {
                let ends = ConnectionEnd::BOTH.map(|side| (EndId { connection: *id, side }, connection.end(side)));
                probing.extend(ends.into_iter().filter_map(|(id, end)| Some((id, end.silence_max?))));
            }
        }
        for (end, silence_max) in probing {
            self.plan(self.now + silence_max, Occurrence::SilenceExpires(end, cut));
        }
    }

    fn silence_expires(&mut self, end: EndId, cut: u64) {
        let Some(connection) = self.connections.get(&end.connection) else { return };
        let hosts = ConnectionEnd::BOTH.map(|side| connection.end(side).host);
        if self.cuts.get(&pair(hosts[0], hosts[1])) == Some(&cut) {
            self.fail(end, ErrorKind::TimedOut);
        }
    }

    /// Sets how long the peer of this end may leave probes unanswered.
    pub(super) fn set_silence_max(&mut self, end: EndId, silence_max: Option<Duration>) {
        if let Some(connection) = self.connections.get_mut(&end.connection) {
            connection.end_mut(end.side).silence_max = silence_max;
        }
    }

    /// Ends the cut between two hosts.
    pub(super) fn heal(&mut self, a: IpAddr, b: IpAddr) {
        if let Some(cut) = self.cuts.remove(&pair(a, b)) {
            self.trace.note(self.now, "heal", cut, 0);
            self.resume_where(|from, to| pair(from, to) == pair(a, b));
        }
    }

    /// Ends the cuts between all hosts.
    pub(super) fn heal_all(&mut self) {
        let cuts: Vec<(IpAddr, IpAddr)> = self.cuts.keys().copied().collect();
        for (a, b) in cuts {
            self.heal(a, b);
        }
    }

    /// Forgets the delays that were drawn, so that they are drawn again with the present faults.
    pub(super) fn redraw_paths(&mut self) {
        self.paths.clear();
    }

    fn resume_where(&mut self, fits: impl Fn(IpAddr, IpAddr) -> bool) {
        let mut stalled = Vec::new();
        for (id, connection) in &self.connections {
            for side in ConnectionEnd::BOTH {
                let (from, to) = (connection.end(side).host, connection.end(side.other()).host);
                if connection.out(side).stall.is_some() && fits(from, to) && !self.parted(from, to) {
                    stalled.push(EndId { connection: *id, side });
                }
            }
        }
        for from in stalled {
            self.resume(from);
        }
    }

    fn plan_cut(&mut self) {
        let mean = self.faults.cut_every_ns;
        if mean > 0 {
            let wait = Duration::from_nanos(self.rng.between(1, 2 * mean));
            self.plan(self.now + wait, Occurrence::CutBegins);
        }
    }

    fn cut_at_random(&mut self) {
        if self.faults.cut_every_ns == 0 {
            return;
        }
        let hosts: Vec<IpAddr> = self.hosts.keys().copied().collect();
        let a = self.rng.below(hosts.len() as u64) as usize;
        let b = self.rng.below(hosts.len() as u64) as usize;
        let lasts = Duration::from_nanos(self.rng.between(1, self.faults.cut_ns_max.max(1)));
        if let (Some(a), Some(b)) = (hosts.get(a), hosts.get(b))
            && let Some(cut) = self.cut(*a, *b)
        {
            self.plan(self.now + lasts, Occurrence::CutEnds(*a, *b, cut));
        }
        self.plan_cut();
    }

    // Drivers.

    pub(super) fn add_driver(&mut self, host: IpAddr) -> (usize, Arc<WakeFlag>) {
        self.start_host(host);
        let flag = Arc::new(WakeFlag(AtomicBool::new(false)));
        let state =
            DriverState { host, alive: true, ready: BTreeSet::new(), flag: Arc::clone(&flag), idle_until: None };
        self.drivers.push(state);
        (self.drivers.len() - 1, flag)
    }

    /// Takes the sockets that a driver must check, including `others`, in the order in which it will check them.
    pub(super) fn take_ready(&mut self, driver: usize, mut others: BTreeSet<u32>) -> Vec<u32> {
        others.append(&mut self.drivers[driver].ready);
        let mut ready: Vec<u32> = others.into_iter().collect();
        if self.faults.shuffle {
            for at in (1..ready.len()).rev() {
                let other = self.rng.below(at as u64 + 1) as usize;
                ready.swap(at, other);
            }
        }
        ready
    }

    /// Records whether a core has anything to do after its turn.
    pub(super) fn end_turn(&mut self, driver: usize, wait: Wait, eventful: bool) {
        let now = self.now;
        let state = &mut self.drivers[driver];
        let woken = state.flag.0.swap(false, Ordering::SeqCst);
        state.idle_until = match wait {
            Wait::Until(until) if !eventful && !woken && until > now => Some(until),
            _ => None,
        };
    }

    /// The time until which a driver's core has nothing to do, if no event occurs; `None` if it has something to do
    /// now.
    pub(super) fn idle_until(&self, driver: usize) -> Option<Time> {
        let state = &self.drivers[driver];
        if !state.alive {
            return Some(Time::NEVER);
        }
        let idle = state.ready.is_empty() && !state.flag.0.load(Ordering::SeqCst);
        state.idle_until.filter(|until| idle && *until > self.now)
    }
}

fn pair(a: IpAddr, b: IpAddr) -> (IpAddr, IpAddr) {
    (a.min(b), a.max(b))
}
