//! One core of a connector.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Clock, CoreId, LinkId, Rng, Time};
use crate::connector::message::{ConnectorCommand, ConnectorEvent, CoreMessage};
use crate::connector::settings::EdgeAddress;
use crate::connector::shared::{Connector, Seat};
use crate::connector::upstreams::Upstreams;
use crate::connector::workers::Workers;
use crate::engine::{Core, PoolUse, Signal};
use crate::latency::{LatencySettings, Recorder};
use crate::link::Link;
use crate::route::RouteName;
use crate::upstream::Resolver;
use crate::wire::mux::Fault;

/// How long links may take to say goodbye at the end.
const GOODBYE: Duration = Duration::from_secs(1);

/// What the tasks of one core of a connector share.
pub(super) struct ConnectorCore {
    pub(super) core: Core,
    pub(super) connector: Arc<Connector>,
    pub(super) resolver: Resolver,
    pub(super) upstreams: Upstreams,
    pub(super) workers: Workers,
    pub(super) rng: RefCell<Rng>,
    links: RefCell<Vec<KnownLink>>,
    /// Raised when a link has gone.
    link_gone: Signal,
    /// For each edge, raised when a link to it is up.
    pub(super) edge_up: Vec<Signal>,
    /// For each edge, raised when it may have changed how the connector stands with it.
    pub(super) standing_news: Vec<Signal>,
    /// For each edge, up to which index this core has opened its links.
    pub(super) links_opened: RefCell<Vec<u16>>,
    /// Raised once, when the core is told to end.
    pub(super) drain: Signal,
    links_made: Cell<u64>,
    /// The times of calls whose agents' TLS ends here: nobody else can tell them.
    pub(super) recorder: RefCell<Recorder>,
    /// Sealed sessions that wait for their next call.
    pub(super) sessions_idle: Cell<usize>,
}

struct KnownLink {
    link: Link,
    edge: usize,
    since: Time,
}

/// How one core of a connector is.
#[derive(Clone, Debug)]
pub struct ConnectorReport {
    /// Which core.
    pub core: CoreId,
    /// Its links.
    pub links: Vec<LinkReport>,
    /// The upstreams that were called, by the name of their route.
    pub upstreams: Vec<UpstreamReport>,
    /// Calls in flight.
    pub calls_open: usize,
    /// Sockets.
    pub sockets_open: usize,
    /// Tasks.
    pub tasks_open: usize,
    /// Its buffers.
    pub pool: PoolUse,
}

/// How one link is.
#[derive(Clone, Debug)]
pub struct LinkReport {
    /// Which link, on this side.
    pub id: LinkId,
    /// To which edge.
    pub edge: EdgeAddress,
    /// What it does.
    pub state: LinkState,
    /// Streams that are open.
    pub streams: usize,
    /// Its own round trip, when it was measured.
    pub round_trip: Option<Duration>,
    /// For how long it has been up.
    pub age: Duration,
}

/// What a link does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// It takes calls.
    Open,
    /// It finishes those that it has.
    Draining,
}

/// How the upstream of one route is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamReport {
    /// Which route.
    pub route: RouteName,
    /// The upstream's URL.
    pub upstream: String,
    /// Connections to it, in use or idle.
    pub connections_open: usize,
    /// Why it took no connection when it was last asked to, if it did not.
    pub failing: Option<String>,
}

impl Connector {
    /// Runs one core of the connector until it was told to drain and has.
    pub async fn run(self: Arc<Connector>, core: Core, resolver: Resolver) {
        let Some(messages) = self.take_seat(core.id()) else { return };
        let here = Rc::new(ConnectorCore::new(core, self, resolver));
        here.run(messages).await;
        here.connector.tell(ConnectorEvent::Ended(here.core.id()));
    }
}

impl ConnectorCore {
    fn new(core: Core, connector: Arc<Connector>, resolver: Resolver) -> ConnectorCore {
        let (tables, version) = (connector.tables(), connector.tables_version());
        let rng = Rng::new(connector.instance ^ u64::from(core.id().0).rotate_left(48));
        let edges = connector.edges.len();
        ConnectorCore {
            core,
            resolver,
            upstreams: Upstreams::new(tables, version),
            workers: Workers::default(),
            rng: RefCell::new(rng),
            links: RefCell::default(),
            link_gone: Signal::default(),
            edge_up: (0..edges).map(|_| Signal::default()).collect(),
            standing_news: (0..edges).map(|_| Signal::default()).collect(),
            links_opened: RefCell::new(vec![0; edges]),
            drain: Signal::default(),
            links_made: Cell::new(0),
            recorder: RefCell::new(Recorder::new(LatencySettings::default())),
            sessions_idle: Cell::new(0),
            connector,
        }
    }

    /// Whether the core was told to end.
    pub(super) fn is_draining(&self) -> bool {
        self.drain.count() > 0
    }

    /// A link is up.
    pub(super) fn add_link(&self, link: &Link, edge: usize) {
        self.links.borrow_mut().push(KnownLink { link: link.clone(), edge, since: self.core.now() });
        if let Some(up) = self.edge_up.get(edge) {
            up.raise();
        }
    }

    /// A link has ended.
    pub(super) fn remove_link(&self, link: &Link) {
        self.links.borrow_mut().retain(|known| known.link.id() != link.id());
        self.link_gone.raise();
    }

    /// A name for the next link of this core, unlike that of any other core's.
    pub(super) fn next_link(&self) -> LinkId {
        let n = self.links_made.get();
        self.links_made.set(n + 1);
        LinkId(n * self.connector.core_count() as u64 + u64::from(self.core.id().0))
    }

    async fn run(self: &Rc<ConnectorCore>, mut messages: Seat) {
        self.keep_certified();
        self.open_links();
        while !self.is_draining() {
            match messages.recv().await {
                Some(message) => self.take(message),
                None => break,
            }
        }
        self.finish(messages).await;
    }

    /// Lets what is in flight finish, within the time there is for it, and ends the links.
    async fn finish(self: &Rc<ConnectorCore>, mut messages: Seat) {
        self.each_link(Link::drain);
        let here = Rc::clone(self);
        let reading = self.core.spawn_held(async move {
            while let Some(message) = messages.recv().await {
                here.take(message);
            }
        });
        let drain_timeout = self.connector.settings.drain_timeout;
        if self.core.timeout(drain_timeout, self.no_links()).await.is_err() {
            tracing::warn!(core = %self.core.id(), calls = self.workers.busy(), "the drain ran out of time");
            self.each_link(|link| link.close(Fault::DrainTimeout));
            // A link that cannot even say so is given up.
            let _ = self.core.timeout(GOODBYE, self.no_links()).await;
        }
        self.workers.close();
        self.upstreams.close_idle();
        drop(reading);
    }

    /// Waits until the last link has ended.
    async fn no_links(&self) {
        loop {
            let seen = self.link_gone.count();
            if self.links.borrow().is_empty() {
                break;
            }
            self.link_gone.after(seen).await;
        }
    }

    fn each_link(&self, act: impl Fn(&Link)) {
        let links: Vec<Link> = self.links.borrow().iter().map(|known| known.link.clone()).collect();
        links.iter().for_each(act);
    }

    fn take(self: &Rc<ConnectorCore>, message: CoreMessage) {
        match message {
            CoreMessage::Command(ConnectorCommand::Drain) => self.drain.raise(),
            CoreMessage::Command(ConnectorCommand::Report(reply)) => {
                // Who asked may have gone.
                let _ = reply.send(self.report());
            }
            CoreMessage::Command(ConnectorCommand::Figures(index, reply)) => {
                let figures = self.recorder.borrow().figures(index);
                let _ = reply.send(figures);
            }
            CoreMessage::MoreLinks if !self.is_draining() => self.open_links(),
            CoreMessage::MoreLinks => {}
            CoreMessage::Standing(edge) => self.standing_news[edge].raise(),
        }
    }

    fn report(&self) -> ConnectorReport {
        let links = self.links.borrow();
        ConnectorReport {
            core: self.core.id(),
            links: links.iter().map(|known| self.report_link(known)).collect(),
            upstreams: self.upstreams.report(),
            calls_open: self.workers.busy() - self.sessions_idle.get(),
            sockets_open: self.core.open_sockets(),
            tasks_open: self.core.open_tasks(),
            pool: self.core.pool().usage(),
        }
    }

    fn report_link(&self, known: &KnownLink) -> LinkReport {
        let KnownLink { link, edge, since } = known;
        LinkReport {
            id: link.id(),
            edge: self.connector.settings.edges[*edge].clone(),
            state: if link.is_draining() { LinkState::Draining } else { LinkState::Open },
            streams: link.streams_live(),
            round_trip: link.round_trip(),
            age: self.core.now() - *since,
        }
    }
}
