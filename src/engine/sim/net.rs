use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

use crate::base::{Clock, Time};
use crate::engine::Pool;
use crate::engine::sim::connection::{ConnectionEnd, Life};
use crate::engine::sim::driver::SimDriver;
use crate::engine::sim::faults::Faults;
use crate::engine::sim::world::World;

/// Identifies a driver of a simulated network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DriverId(pub(super) usize);

/// The way in which a host dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// Its processes are killed: the host closes their sockets, as an operating system does, and stays up.
    Processes,
    /// Its power fails: it sends nothing more, not even a reset, until it is started again.
    Power,
}

/// A network in memory, with its own time. Cheap to clone; all clones are the same network.
#[derive(Clone)]
pub struct SimNet {
    pub(super) world: Rc<RefCell<World>>,
}

impl SimNet {
    /// A network whose random choices all follow from `seed`.
    #[must_use]
    pub fn new(seed: u64, faults: Faults) -> SimNet {
        SimNet { world: Rc::new(RefCell::new(World::new(seed, faults))) }
    }

    /// A driver for one more core on `host`, which is started if it is not up.
    #[must_use]
    pub fn driver(&self, host: IpAddr, pool: Pool) -> SimDriver {
        let (id, flag) = self.world.borrow_mut().add_driver(host);
        SimDriver::new(self.clone(), DriverId(id), host, pool, flag)
    }

    /// The current virtual time.
    #[must_use]
    pub fn now(&self) -> Time {
        self.world.borrow().now
    }

    /// When the next event of the network itself happens, if anything is in progress.
    #[must_use]
    pub fn next_event_at(&self) -> Option<Time> {
        self.world.borrow().next_at()
    }

    /// Advances the clock to `to`, and runs the events that are due. A time in the past changes nothing.
    pub fn advance_to(&self, to: Time) {
        self.world.borrow_mut().advance_to(to);
    }

    /// The time until which a driver's core has nothing to do, if no event occurs; `None` if it has something to do
    /// now.
    ///
    /// A core has something to do if its last turn reported an event or was not allowed to wait, if one of its sockets
    /// has news, or if it was woken.
    #[must_use]
    pub fn idle_until(&self, driver: DriverId) -> Option<Time> {
        self.world.borrow().idle_until(driver.0)
    }

    /// A random number below `bound`, for the code that drives the simulation.
    #[must_use]
    pub fn draw_below(&self, bound: u64) -> u64 {
        self.world.borrow_mut().rng.below(bound)
    }

    /// Uses these faults from now on. Existing connections keep the size of their buffers.
    pub fn set_faults(&self, faults: Faults) {
        let mut world = self.world.borrow_mut();
        world.faults = faults;
        world.redraw_paths();
    }

    /// From now on there are no faults, and all partitions are healed.
    pub fn calm(&self) {
        self.set_faults(Faults::none());
        self.world.borrow_mut().heal_all();
    }

    /// Partitions two hosts. Segments in flight between them stall.
    pub fn partition(&self, a: IpAddr, b: IpAddr) {
        self.world.borrow_mut().cut(a, b);
    }

    /// Ends the partition of two hosts.
    pub fn heal(&self, a: IpAddr, b: IpAddr) {
        self.world.borrow_mut().heal(a, b);
    }

    /// Kills what runs on a host. The turns of its drivers fail from now on. [`SimNet::driver`] starts the host again.
    pub fn kill(&self, host: IpAddr, how: Death) {
        let mut world = self.world.borrow_mut();
        world.note("kill", u64::from(how == Death::Power), 0);
        for driver in &mut world.drivers {
            if driver.host == host {
                driver.alive = false;
            }
        }
        let listeners: Vec<u64> =
            world.listeners.iter().filter(|(_, listener)| listener.host == host).map(|(id, _)| *id).collect();
        world.datagram_sockets.retain(|_, socket| socket.host != host);
        match how {
            Death::Processes => {
                listeners.iter().for_each(|id| world.unlisten(*id));
                let open = world.ends_of(host, |life| life == Life::Open);
                open.iter().for_each(|end| world.close(*end));
            }
            Death::Power => {
                world.stop_host(host);
                listeners.iter().for_each(|id| drop(world.listeners.remove(id)));
                let known = world.ends_of(host, |life| life != Life::Dead);
                known.iter().for_each(|end| world.vanish(*end));
            }
        }
    }

    /// How many connections the processes on `host` hold open, including those that wait to be accepted.
    #[must_use]
    pub fn open_sockets(&self, host: IpAddr) -> usize {
        self.world.borrow().ends_of(host, |life| life == Life::Open).len()
    }

    /// How many listeners there are on `host`.
    #[must_use]
    pub fn listeners(&self, host: IpAddr) -> usize {
        self.world.borrow().listeners.values().filter(|listener| listener.host == host).count()
    }

    /// How many connections any host still keeps state for.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.world.borrow().connections.len()
    }

    /// Bytes that were sent and not yet read.
    #[must_use]
    pub fn bytes_in_flight(&self) -> usize {
        let world = self.world.borrow();
        let held = |side| world.connections.values().map(move |connection| connection.out(side).held()).sum::<usize>();
        ConnectionEnd::BOTH.into_iter().map(held).sum()
    }

    /// A hash over all events so far and their times.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.world.borrow().trace.hash()
    }

    /// Passes every further event to `sink` as a line: the time in nanoseconds, the event, its subject, its size.
    pub fn show_trace_to(&self, sink: impl FnMut(&str) + 'static) {
        self.world.borrow_mut().trace.show_to(Box::new(sink));
    }

    /// Adds an event of the caller to the trace, so that the hash covers it.
    pub fn note(&self, what: &str, subject: u64, detail: u64) {
        self.world.borrow_mut().note(what, subject, detail);
    }
}

impl Clock for SimNet {
    fn now(&self) -> Time {
        SimNet::now(self)
    }
}
