//! One core of an edge.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use crate::base::{Budget, Clock, CoreId, CredentialId, LinkId, Time, TunnelId};
use crate::edge::core_tables::CoreTables;
use crate::edge::credential::{Proof, Standing};
use crate::edge::gate::Gate;
use crate::edge::message::{CoreMessage, EdgeCommand, EdgeEvent, Reviewed};
use crate::edge::resealed::IdleSessions;
use crate::edge::shared::Edge;
use crate::edge::usage::{EndedUsage, LinkUsage, UsageLine};
use crate::edge::{agents, connectors, passthrough};
use crate::engine::driver::Address;
use crate::engine::{Core, Listener, MailReceiver, MailSender, PoolUse, Signal};
use crate::exchange::{Course, DRAIN_STALL_MAX};
use crate::latency::{Recorder, SlowCalls};
use crate::link::{Link, LinkStream};
use crate::route::{CoreSet, LinkChoice, LinkLoad, choose_link};
use crate::wire::mux::Fault;

/// What one core keeps of heads and handshakes that are not whole, in bytes; beyond it those that would keep more are refused.
const GREETING_MEMORY_MAX: usize = 16 * 1024 * 1024;
/// How much of its own each may keep besides, so that ordinary ones do not fail for the long ones of others.
const GREETING_LEN_FREE: usize = 4 * 1024;

/// What the tasks of one core of an edge share.
pub(super) struct EdgeCore {
    pub(super) core: Core,
    pub(super) edge: Arc<Edge>,
    pub(super) tables: CoreTables,
    events: MailSender<EdgeEvent>,
    links: RefCell<HashMap<TunnelId, Vec<KnownLink>>>,
    /// Raised when a link has come, gone, or begun to drain.
    pub(super) link_news: Signal,
    /// Raised once, when the core is told to end.
    pub(super) drain: Signal,
    pub(super) recorder: RefCell<Recorder>,
    pub(super) slow_calls: RefCell<SlowCalls>,
    pub(super) gate: Gate,
    /// For what is kept of those who have not said all that they are here for: heads of requests, and TLS handshakes.
    pub(super) greetings: Budget,
    pub(super) idle_sessions: IdleSessions,
    pub(super) agents_open: Cell<usize>,
    pub(super) calls_open: Cell<usize>,
    /// Raised when a call or a connection ends while draining.
    pub(super) ended: Signal,
    ended_usage: RefCell<EndedUsage>,
    last_good_call: Cell<Option<Time>>,
    links_made: Cell<u64>,
    calls_made: Cell<u64>,
}

/// A link that takes streams, and where its calls are counted.
#[derive(Clone)]
pub(super) struct Chosen {
    pub(super) link: Link,
    pub(super) usage: Rc<LinkUsage>,
}

struct KnownLink {
    link: Link,
    proof: Proof,
    usage: Rc<LinkUsage>,
    software: Box<str>,
    since: Time,
}

/// How one core of an edge is.
#[derive(Clone)]
pub struct CoreReport {
    /// Which core.
    pub core: CoreId,
    /// Its links.
    pub links: Vec<LinkReport>,
    /// Connections of agents.
    pub agents_open: usize,
    /// Calls in flight.
    pub calls_open: usize,
    /// Sockets and listeners.
    pub sockets_open: usize,
    /// Tasks.
    pub tasks_open: usize,
    /// Its buffers.
    pub pool: PoolUse,
    /// How long ago a call last went through the whole path.
    pub last_good_call: Option<Duration>,
}

/// How one link is.
#[derive(Clone, Debug)]
pub struct LinkReport {
    /// Which link.
    pub id: LinkId,
    /// On which core.
    pub core: CoreId,
    /// Whose.
    pub tunnel: TunnelId,
    /// The credential that it came in with.
    pub credential: CredentialId,
    /// Streams that are open.
    pub streams: usize,
    /// Its own round trip, when it was measured.
    pub round_trip: Option<Duration>,
    /// What the connector says that it runs.
    pub software: Box<str>,
    /// For how long it has been there.
    pub age: Duration,
    /// Whether it takes no new streams.
    pub draining: bool,
}

impl Edge {
    /// Runs one core of the edge until it was told to drain and has.
    pub async fn run(self: Arc<Edge>, core: Core) {
        let Some(seat) = self.take_seat(core.id()) else { return };
        let here = Rc::new(EdgeCore::new(core, self, seat.events));
        let id = here.core.id();
        let event = match here.listen() {
            Ok((agents, connectors)) => {
                here.tell(EdgeEvent::Listening(id));
                here.run(seat.messages, agents, connectors).await;
                EdgeEvent::Ended(id)
            }
            Err(why) => EdgeEvent::Failed(id, why),
        };
        here.tell(event);
    }
}

impl EdgeCore {
    fn new(core: Core, edge: Arc<Edge>, events: MailSender<EdgeEvent>) -> EdgeCore {
        let recorder = Recorder::new(edge.settings.latency);
        let slow_calls = SlowCalls::new(edge.settings.slow_calls);
        EdgeCore {
            core,
            tables: CoreTables::new(&edge),
            edge,
            events,
            links: RefCell::default(),
            link_news: Signal::default(),
            drain: Signal::default(),
            recorder: RefCell::new(recorder),
            slow_calls: RefCell::new(slow_calls),
            gate: Gate::default(),
            greetings: Budget::new(GREETING_MEMORY_MAX, GREETING_LEN_FREE),
            idle_sessions: IdleSessions::default(),
            agents_open: Cell::new(0),
            calls_open: Cell::new(0),
            ended: Signal::default(),
            ended_usage: RefCell::default(),
            last_good_call: Cell::new(None),
            links_made: Cell::new(0),
            calls_made: Cell::new(0),
        }
    }

    /// Whether the core was told to end.
    pub(super) fn is_draining(&self) -> bool {
        self.drain.count() > 0
    }

    /// How long an agent may take nothing of what waits for it.
    pub(super) fn write_timeout(&self) -> Duration {
        let limit = self.edge.settings.write_timeout;
        if self.is_draining() { limit.min(DRAIN_STALL_MAX) } else { limit }
    }

    /// How an exchange over `stream` stands, apart from its agent.
    pub(super) fn course(&self, stream: &LinkStream, cx: &mut Context<'_>) -> Course {
        match stream.failure(cx) {
            Some(error) => Course::Over(error),
            None if self.is_draining() || stream.holds_up_drain() => Course::Draining,
            None => Course::Open,
        }
    }

    /// Where a call for `tunnel` goes. Another core is only named when the connection may be handed over.
    pub(super) fn choose(&self, tunnel: &TunnelId, may_hand_over: bool) -> (LinkChoice, Option<Chosen>) {
        let links = self.links.borrow();
        let known = links.get(tunnel).map(Vec::as_slice).unwrap_or_default();
        let streams_max = self.edge.settings.link.streams_max;
        let loads = || {
            known.iter().map(|known| LinkLoad {
                id: known.link.id(),
                open_streams: known.link.streams_live() as u32,
                streams_max,
                draining: !known.link.is_open(),
            })
        };
        let mut choice = choose_link(loads(), self.core.id(), CoreSet::EMPTY);
        if may_hand_over && matches!(choice, LinkChoice::Offline(_)) {
            choice = choose_link(loads(), self.core.id(), self.edge.cores_with(tunnel));
        }
        let link = match choice {
            LinkChoice::Here(id) => known.iter().find(|known| known.link.id() == id).map(KnownLink::chosen),
            _ => None,
        };
        (choice, link)
    }

    /// A link takes streams from here on.
    pub(super) fn add_link(&self, tunnel: &TunnelId, link: &Link, software: &str, proof: &Proof) {
        let known = KnownLink {
            link: link.clone(),
            proof: proof.clone(),
            usage: Rc::new(LinkUsage::new(tunnel.clone(), proof.credential.id.clone())),
            software: software.into(),
            since: self.core.now(),
        };
        self.links.borrow_mut().entry(tunnel.clone()).or_default().push(known);
        self.edge.set_usable(tunnel, self.core.id(), true);
        self.link_news.raise();
        let (core, tunnel, software) = (self.core.id(), tunnel.clone(), software.into());
        self.tell(EdgeEvent::Linked { core, link: link.id(), tunnel, software });
    }

    /// A link has ended.
    pub(super) fn remove_link(&self, tunnel: &TunnelId, link: &Link) {
        let mut links = self.links.borrow_mut();
        if let Some(known) = links.get_mut(tunnel) {
            if let Some(at) = known.iter().position(|known| known.link.id() == link.id()) {
                let ended = known.swap_remove(at);
                self.ended_usage.borrow_mut().add(&ended.usage, &self.recorder.borrow(), self.core.now());
            }
            if known.is_empty() {
                links.remove(tunnel);
            }
        }
        drop(links);
        self.link_news.raise();
        self.tell(EdgeEvent::Unlinked { core: self.core.id(), link: link.id(), tunnel: tunnel.clone() });
    }

    /// The control thread reads until the last core has ended; news that finds no room there is left out.
    fn tell(&self, event: EdgeEvent) {
        let _ = self.events.send(event);
    }

    /// A name for the next link of this core, unlike that of any other core's.
    pub(super) fn next_link(&self) -> LinkId {
        let n = self.links_made.get();
        self.links_made.set(n + 1);
        LinkId(n * self.edge.core_count() as u64 + u64::from(self.core.id().0))
    }

    /// The number of the next call of this core, unlike that of any other core's.
    pub(super) fn next_call(&self) -> u64 {
        let n = self.calls_made.get() + 1;
        self.calls_made.set(n);
        n * self.edge.core_count() as u64 + u64::from(self.core.id().0)
    }

    /// A call went through the whole path.
    pub(super) fn on_good_call(&self) {
        self.last_good_call.set(Some(self.core.turn_time()));
    }

    fn listen(&self) -> Result<(Listener, Listener), String> {
        let settings = &self.edge.settings;
        let listen = |what: &str, address: std::net::SocketAddr| {
            let listener = self.core.listen(&Address::Tcp(address));
            listener.map_err(|error| format!("cannot listen for {what} at {address}: {error}"))
        };
        Ok((listen("agents", settings.agents_listen)?, listen("connectors", settings.connectors_listen)?))
    }

    async fn run(self: &Rc<EdgeCore>, mut messages: MailReceiver<CoreMessage>, agents: Listener, connectors: Listener) {
        let agents = self.core.spawn_held(agents::accept(Rc::clone(self), agents));
        let connectors = self.core.spawn_held(connectors::accept(Rc::clone(self), connectors));
        while !self.is_draining() {
            match messages.recv().await {
                Some(message) => self.take(message),
                None => break,
            }
        }
        drop((agents, connectors));
        self.finish(messages).await;
    }

    /// Lets what is in flight finish, within the time there is for it, and ends the links.
    async fn finish(self: &Rc<EdgeCore>, mut messages: MailReceiver<CoreMessage>) {
        self.each_link(Link::drain);
        let here = Rc::clone(self);
        // What other cores hand over meanwhile, and reports.
        let reading = self.core.spawn_held(async move {
            while let Some(message) = messages.recv().await {
                here.take(message);
            }
        });
        let idle = async {
            loop {
                let seen = self.ended.count();
                if self.agents_open.get() == 0 {
                    break;
                }
                self.ended.after(seen).await;
            }
        };
        if self.core.timeout(self.edge.settings.drain_timeout, idle).await.is_err() {
            tracing::warn!(core = %self.core.id(), calls = self.calls_open.get(), "the drain ran out of time");
        }
        drop(reading);
        self.each_link(|link| link.close(Fault::Ended));
        // One more turn, so that the links can say goodbye.
        self.core.turn_end().await;
        self.core.sleep(Duration::from_millis(1)).await;
        // Nobody asks any more.
        let mut last = self.usage();
        while !last.is_empty() {
            self.edge.leave_usage(last);
            last = self.usage();
        }
    }

    fn each_link(&self, act: impl Fn(&Link)) {
        let links: Vec<Link> = self.links.borrow().values().flatten().map(|known| known.link.clone()).collect();
        links.iter().for_each(act);
    }

    fn take(self: &Rc<EdgeCore>, message: CoreMessage) {
        match message {
            CoreMessage::Command(EdgeCommand::Drain) => self.drain.raise(),
            CoreMessage::Command(EdgeCommand::Report(reply)) => {
                // Who asked may have gone.
                let _ = reply.send(self.report());
            }
            CoreMessage::Command(EdgeCommand::Figures(index, reply)) => {
                let _ = reply.send(self.recorder.borrow().figures(index));
            }
            CoreMessage::Command(EdgeCommand::Review(reply)) => {
                let _ = reply.send(self.review());
            }
            CoreMessage::Command(EdgeCommand::Usage(reply)) => {
                let _ = reply.send(self.usage());
            }
            CoreMessage::Link(arrived) => connectors::adopt(self, *arrived),
            CoreMessage::Agent(connection, peer) => agents::adopt(self, *connection, peer),
            CoreMessage::Passing(connection, peer) => passthrough::adopt(self, *connection, peer),
        }
    }

    /// Ends the links that would not be let in any more.
    fn review(self: &Rc<EdgeCore>) -> Reviewed {
        let (tables, now) = (self.tables(), self.core.now());
        let mut reviewed = Reviewed { core: self.core.id(), ended: 0, draining: 0 };
        let links = self.links.borrow();
        let standings = links.iter().flat_map(|(tunnel, known)| known.iter().map(move |known| (tunnel, known)));
        let found: Vec<(Link, Standing)> =
            standings.map(|(tunnel, known)| (known.link.clone(), tables.standing(tunnel, &known.proof, now))).collect();
        drop(links);
        // One that has ended is only waiting to be forgotten.
        for (link, standing) in found.into_iter().filter(|(link, _)| link.ended().is_none()) {
            match standing {
                Standing::Good => continue,
                Standing::Withdrawn => reviewed.ended += 1,
                Standing::Ended if link.is_draining() => continue,
                Standing::Ended => reviewed.draining += 1,
            }
            self.withdraw(&link, standing);
        }
        reviewed
    }

    /// Ends a link that would not be let in any more: at once, or after what is under way.
    pub(super) fn withdraw(self: &Rc<EdgeCore>, link: &Link, standing: Standing) {
        match standing {
            Standing::Good => {}
            Standing::Withdrawn => link.close(Fault::Revoked),
            // It was told before.
            Standing::Ended if link.is_draining() => {}
            Standing::Ended => {
                link.drain();
                let (here, link) = (Rc::clone(self), link.clone());
                self.core.spawn(async move {
                    // Drained or not: its time is over.
                    let _ = here.core.timeout(here.edge.settings.drain_timeout, link.drained()).await;
                    link.close(Fault::Revoked);
                });
            }
        }
    }

    fn usage(&self) -> Vec<UsageLine> {
        let links = self.links.borrow();
        let usage = links.values().flatten().map(|known| &*known.usage);
        self.ended_usage.borrow_mut().tell(usage, &self.recorder.borrow(), self.core.now())
    }

    fn report(&self) -> CoreReport {
        let now = self.core.now();
        let links = self.links.borrow();
        let reports = links.iter().flat_map(|(tunnel, known)| {
            known.iter().map(|known| LinkReport {
                id: known.link.id(),
                core: self.core.id(),
                tunnel: tunnel.clone(),
                credential: known.proof.credential.id.clone(),
                streams: known.link.streams_live(),
                round_trip: known.link.round_trip(),
                software: known.software.clone(),
                age: now - known.since,
                draining: known.link.is_draining(),
            })
        });
        CoreReport {
            core: self.core.id(),
            links: reports.collect(),
            agents_open: self.agents_open.get(),
            calls_open: self.calls_open.get(),
            sockets_open: self.core.open_sockets(),
            tasks_open: self.core.open_tasks(),
            pool: self.core.pool().usage(),
            last_good_call: self.last_good_call.get().map(|at| now - at),
        }
    }
}

impl KnownLink {
    fn chosen(&self) -> Chosen {
        Chosen { link: self.link.clone(), usage: Rc::clone(&self.usage) }
    }
}

/// Ends with what it counts.
pub(super) struct Counted<'a> {
    counter: &'a Cell<usize>,
    ended: &'a Signal,
}

impl<'a> Counted<'a> {
    pub(super) fn new(counter: &'a Cell<usize>, ended: &'a Signal) -> Counted<'a> {
        counter.set(counter.get() + 1);
        Counted { counter, ended }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.counter.set(self.counter.get() - 1);
        self.ended.raise();
    }
}
