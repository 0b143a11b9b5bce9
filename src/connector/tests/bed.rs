//! Three hosts: an edge and an upstream that a test scripts, and the connector.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use crate::base::{BreakerTerms, ConcurrencyTerms, CoreId, DeadlineTerms, LinkId, Secret, Time, Traffic};
use crate::connector::{
    Connector, ConnectorCommand, ConnectorEvent, ConnectorReport, ConnectorRoute, ConnectorSettings, ConnectorTables,
    RouteIdentity,
};
use crate::dial::Resolver;
use crate::engine::driver::{Address, SocketOptions};
use crate::engine::sim::{Faults, MemberId, SimNet, Simulation};
use crate::engine::{ByteStream, Core, MailReceiver, Pool, Signal, Socket, StreamError, mailbox};
use crate::latency::{CallFilter, CallLine};
use crate::link::{Link, LinkStream};
use crate::policy::AllowedUpstreams;
use crate::route::{RouteEntry, RouteTable};
use crate::tls::Connection;
use crate::upstream::UpstreamSettings;
use crate::wire::mux::{self, Cause, EdgeIdentity, Open, RegistrationRefusal};

pub(super) const EDGE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
pub(super) const CONNECTOR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
pub(super) const UPSTREAM: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3));
pub(super) const UPSTREAM_PORT: u16 = 9000;
/// The only name that resolves.
pub(super) const NAMED: &str = "upstream.test";
pub(super) const EDGE_PORT: u16 = 7844;
const LONGEST: Duration = Duration::from_secs(600);
const INSTANCE: u64 = 4711;

pub(super) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(super) const fn us(n: u64) -> Duration {
    Duration::from_micros(n)
}

/// The script of the upstream for one connection.
pub(super) type Script = Rc<dyn Fn(Peer) -> Pin<Box<dyn Future<Output = ()>>>>;

/// A script from an async closure.
pub(super) fn script<F: Future<Output = ()> + 'static>(play: impl Fn(Peer) -> F + 'static) -> Script {
    Rc::new(move |peer| Box::pin(play(peer)))
}

/// One connection at the upstream.
pub(super) struct Peer {
    pub(super) talk: Talk<Socket>,
    /// Which connection it is, from 0.
    pub(super) nth: usize,
    pub(super) core: Core,
}

/// A byte stream with the operations of a test script.
pub(super) struct Talk<S> {
    pub(super) stream: S,
    heard: Vec<u8>,
    pool: Pool,
}

impl<S: ByteStream> Talk<S> {
    pub(super) fn new(stream: S, core: &Core) -> Talk<S> {
        Talk { stream, heard: Vec::new(), pool: core.pool().clone() }
    }

    /// Sends, and ignores an error if the peer is gone.
    pub(super) async fn write(&self, text: impl AsRef<[u8]>) {
        for piece in text.as_ref().chunks(8192) {
            if self.stream.ready().await.is_err() {
                return;
            }
            let around = self.stream.headroom() + self.stream.tailroom();
            let mut lease = self.pool.lease_for(piece.len() + around).await;
            lease.reserve_headroom(self.stream.headroom());
            lease.append(piece);
            let _ = self.stream.send(lease);
        }
    }

    /// Everything up to `end`, which must arrive.
    pub(super) async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.heard.windows(end.len()).position(|window| window == end.as_bytes()) {
                let rest = self.heard.split_off(at + end.len());
                return String::from_utf8(std::mem::replace(&mut self.heard, rest)).unwrap();
            }
            match self.stream.recv().await {
                Ok(Some(lease)) => self.heard.extend_from_slice(&lease),
                other => panic!("no {end:?} in {:?}, then {other:?}", String::from_utf8_lossy(&self.heard)),
            }
        }
    }

    /// Waits for the head of a message.
    pub(super) async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    /// A head; none if the peer finishes instead of sending one.
    pub(super) async fn next_head(&mut self) -> Option<String> {
        if self.heard.is_empty() {
            match self.stream.recv().await {
                Ok(Some(lease)) => self.heard.extend_from_slice(&lease),
                _ => return None,
            }
        }
        Some(self.head().await)
    }

    /// Everything to the end, and how it ended.
    pub(super) async fn rest(&mut self) -> (String, Result<(), StreamError>) {
        let ended = loop {
            match self.stream.recv().await {
                Ok(Some(lease)) => self.heard.extend_from_slice(&lease),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        (String::from_utf8(std::mem::take(&mut self.heard)).unwrap(), ended)
    }
}

impl Talk<LinkStream> {
    /// Everything to a clean end.
    pub(super) async fn whole(&mut self) -> String {
        let (text, ended) = self.rest().await;
        assert_eq!(ended, Ok(()), "{text}");
        text
    }

    /// The cause with which the stream was reset.
    pub(super) async fn cause(&mut self) -> Cause {
        match self.rest().await {
            (_, Err(StreamError::ResetWith { .. })) => self.stream.broken().await,
            other => panic!("no reset: {other:?}"),
        }
    }
}

/// The edge, as scripted by a test.
#[derive(Clone)]
pub(super) struct EdgeSide {
    pub(super) core: Core,
    pub(super) net: SimNet,
    /// Every link that was accepted, including ended ones.
    pub(super) links: Rc<RefCell<Vec<Link>>>,
    pub(super) indices: Rc<RefCell<Vec<u16>>>,
    news: Rc<Signal>,
    /// The refusal for the next links, if any.
    pub(super) refuse: Rc<Cell<Option<RegistrationRefusal>>>,
    /// How many cores the edge claims to have.
    pub(super) cores: Rc<Cell<u16>>,
    /// The number of connections that arrived.
    pub(super) dialled: Rc<Cell<usize>>,
}

impl EdgeSide {
    /// A link that takes streams.
    pub(super) async fn link(&self) -> Link {
        loop {
            let seen = self.news.count();
            let open = self.links.borrow().iter().find(|link| link.is_open()).cloned();
            match open {
                Some(link) => return link,
                None => self.news.after(seen).await,
            }
        }
    }

    /// Waits until `n` links were accepted, and returns the last.
    pub(super) async fn nth_link(&self, n: usize) -> Link {
        loop {
            let seen = self.news.count();
            if let Some(link) = self.links.borrow().get(n) {
                return link.clone();
            }
            self.news.after(seen).await;
        }
    }

    /// Opens a stream and sends a request.
    pub(super) async fn call(&self, request: impl AsRef<[u8]>) -> Talk<LinkStream> {
        let link = self.link().await;
        self.call_on(&link, request).await
    }

    pub(super) async fn call_on(&self, link: &Link, request: impl AsRef<[u8]>) -> Talk<LinkStream> {
        let stream =
            link.open(&Open { route: "mcp.test", call: 1, traffic: Traffic::Plain, peer: None, until: None }).unwrap();
        let talk = Talk::new(stream, &self.core);
        talk.write(request).await;
        talk
    }

    /// Makes a call without a body; returns its answer.
    pub(super) async fn get(&self) -> String {
        let mut call = self.call("GET /mcp HTTP/1.1\r\nHost: mcp.test\r\n\r\n").await;
        call.stream.finish();
        call.whole().await
    }

    pub(super) fn now(&self) -> Time {
        self.net.now()
    }

    fn start(&self) {
        let listener = self.core.listen(&Address::Tcp(SocketAddr::new(EDGE, EDGE_PORT))).unwrap();
        let edge = self.clone();
        self.core.spawn(async move {
            while let Ok((detached, _)) = listener.accept().await {
                edge.dialled.set(edge.dialled.get() + 1);
                let socket = edge.core.adopt(detached, SocketOptions::default()).await.unwrap();
                let (core, edge) = (edge.core.clone(), edge.clone());
                core.spawn(async move { edge.take_link(socket).await });
            }
        });
    }

    async fn take_link(&self, socket: Socket) {
        let link = Link::edge(&self.core, LinkId(self.dialled.get() as u64), mux::Settings::default());
        let running = link.clone();
        self.core.spawn(async move {
            running.run(&Connection::plain(socket), None).await;
        });
        let Ok(hello) = link.hello().await else { return };
        assert_eq!((hello.tunnel.as_str(), hello.secret.expose(), hello.instance), ("tnl_t", &b"secret"[..], INSTANCE));
        if let Some(refusal) = self.refuse.get() {
            return link.refuse(refusal, "not today");
        }
        link.welcome(EdgeIdentity { instance: 1, core: CoreId(0), cores: self.cores.get() });
        self.indices.borrow_mut().push(hello.link_index);
        self.links.borrow_mut().push(link);
        self.news.raise();
    }
}

/// The three hosts of a test: the edge, the connector and the upstream.
pub(super) struct Bed {
    pub(super) net: SimNet,
    pub(super) sim: Simulation,
    pub(super) edge: EdgeSide,
    pub(super) edge_member: MemberId,
    pub(super) core: Core,
    pub(super) role: Arc<Connector>,
    pub(super) ended: Rc<Cell<bool>>,
    /// The addresses of [`NAMED`], for one query after another; the last ones stay.
    pub(super) meanings: Rc<RefCell<Vec<Vec<IpAddr>>>>,
    events: MailReceiver<ConnectorEvent>,
}

pub(super) fn settings() -> ConnectorSettings {
    let edge = SocketAddr::new(EDGE, EDGE_PORT);
    let plain = ConnectorSettings::for_tests(edge, "tnl_t".parse().unwrap(), Secret::from("secret"));
    ConnectorSettings { software: "adit/test".to_owned(), calls_max: 100, drain_timeout: ms(30_000), ..plain }
}

fn upstream_settings(url: &str) -> UpstreamSettings {
    let plain = UpstreamSettings::for_tests(url.parse().unwrap());
    UpstreamSettings { connections_max: 8, connect_timeout: ms(2_000), queue_timeout: ms(1_000), ..plain }
}

pub(super) fn tables(routes: &[(&str, &str)]) -> ConnectorTables {
    tables_with(8, routes)
}

/// Tables of a connector that may call only these networks.
pub(super) fn tables_allowing(allowed: AllowedUpstreams, routes: &[(&str, &str)]) -> ConnectorTables {
    let allowed = Arc::new(allowed);
    let upstream = |url: &str| UpstreamSettings { allowed: Arc::clone(&allowed), ..upstream_settings(url) };
    ConnectorTables { routes: RouteTable::new(entries(routes, upstream)).unwrap(), ingress: None, sealing: None }
}

/// Tables with other settings for the one upstream.
pub(super) fn tables_set(set: impl Fn(&mut UpstreamSettings)) -> ConnectorTables {
    tables_at(&format!("http://{UPSTREAM}:{UPSTREAM_PORT}"), set)
}

/// Tables with a limit for the first byte of an answer.
pub(super) fn tables_limited(first_byte_timeout: Duration) -> ConnectorTables {
    let mut entries = entries(&[("mcp.test", &format!("http://{UPSTREAM}:{UPSTREAM_PORT}"))], upstream_settings);
    entries.iter_mut().for_each(|entry| {
        entry.target.first_byte_timeout = Some(first_byte_timeout);
        entry.target.deadlines.ceiling = first_byte_timeout;
    });
    ConnectorTables { routes: RouteTable::new(entries).unwrap(), ingress: None, sealing: None }
}

/// Tables with a route that trusts its upstream's tool hints.
pub(super) fn tables_resending() -> ConnectorTables {
    let mut entries = entries(&[("mcp.test", &format!("http://{UPSTREAM}:{UPSTREAM_PORT}"))], upstream_settings);
    entries.iter_mut().for_each(|entry| entry.target.resend = Some(Arc::default()));
    ConnectorTables { routes: RouteTable::new(entries).unwrap(), ingress: None, sealing: None }
}

/// Tables with another upstream, and other settings for it.
pub(super) fn tables_at(url: &str, set: impl Fn(&mut UpstreamSettings)) -> ConnectorTables {
    let upstream = |url: &str| {
        let mut settings = upstream_settings(url);
        set(&mut settings);
        settings
    };
    ConnectorTables {
        routes: RouteTable::new(entries(&[("mcp.test", url)], upstream)).unwrap(),
        ingress: None,
        sealing: None,
    }
}

/// Tables whose upstreams may have this many connections.
pub(super) fn tables_with(connections_max: usize, routes: &[(&str, &str)]) -> ConnectorTables {
    let upstream = |url: &str| UpstreamSettings { connections_max, ..upstream_settings(url) };
    ConnectorTables { routes: RouteTable::new(entries(routes, upstream)).unwrap(), ingress: None, sealing: None }
}

fn entries(routes: &[(&str, &str)], upstream: impl Fn(&str) -> UpstreamSettings) -> Vec<RouteEntry<ConnectorRoute>> {
    let entry = |(host, url): &(&str, &str)| RouteEntry {
        host: (*host).to_owned(),
        place: (*host).to_owned(),
        target: ConnectorRoute {
            name: host.parse().unwrap(),
            upstream: upstream(url),
            traffic: Traffic::Plain,
            identity: RouteIdentity::default(),
            resend: None,
            auth: None,
            policy: None,
            sends_timeout: false,
            client_timeout: None,
            first_byte_timeout: None,
            deadlines: DeadlineTerms::default(),
            breaker: BreakerTerms::default(),
            concurrency: ConcurrencyTerms::default(),
            tools: Arc::default(),
        },
    };
    routes.iter().map(entry).collect()
}

pub(super) fn standard_tables() -> ConnectorTables {
    tables(&[("mcp.test", &format!("http://{UPSTREAM}:{UPSTREAM_PORT}"))])
}

pub(super) fn add_core(sim: &mut Simulation, host: IpAddr) -> (Core, MemberId) {
    add_core_with(sim, host, 0)
}

/// Adds a core with this much buffer memory, if that is more than the minimum.
fn add_core_with(sim: &mut Simulation, host: IpAddr, buffer_memory: usize) -> (Core, MemberId) {
    let pool = Pool::new(buffer_memory);
    let driver = sim.net().driver(host, pool.clone());
    let id = driver.id();
    let core = Core::new(CoreId(0), Box::new(driver), pool, Duration::ZERO);
    let member = sim.add(id, core.clone());
    (core, member)
}

/// Runs `play` for each connection to the upstream.
pub(super) fn start_upstream(core: &Core, play: Script) {
    let listener = core.listen(&Address::Tcp(SocketAddr::new(UPSTREAM, UPSTREAM_PORT))).unwrap();
    let task_core = core.clone();
    core.spawn(async move {
        let mut nth = 0;
        while let Ok((detached, _)) = listener.accept().await {
            let socket = task_core.adopt(detached, SocketOptions::default()).await.unwrap();
            task_core.spawn(play(Peer { talk: Talk::new(socket, &task_core), nth, core: task_core.clone() }));
            nth += 1;
        }
    });
}

impl Bed {
    pub(super) fn new(play: Script) -> Bed {
        Bed::with(settings(), 1, Faults::none(), Some(play))
    }

    /// A bed whose connector has enough memory to accept everything at once.
    pub(super) fn roomy(play: Script) -> Bed {
        Bed::with_memory(settings(), 1, Faults::none(), Some(play), 64 << 20)
    }

    pub(super) fn with(settings: ConnectorSettings, seed: u64, faults: Faults, play: Option<Script>) -> Bed {
        Bed::with_memory(settings, seed, faults, play, 0)
    }

    fn with_memory(
        settings: ConnectorSettings,
        seed: u64,
        faults: Faults,
        play: Option<Script>,
        buffer_memory: usize,
    ) -> Bed {
        let net = SimNet::new(seed, faults);
        let mut sim = Simulation::new(net.clone());
        let (edge_core, edge_member) = add_core(&mut sim, EDGE);
        let (core, _) = add_core_with(&mut sim, CONNECTOR, buffer_memory);
        let (upstream, _) = add_core(&mut sim, UPSTREAM);
        let edge = EdgeSide {
            core: edge_core,
            net: net.clone(),
            links: Rc::default(),
            indices: Rc::default(),
            news: Rc::default(),
            refuse: Rc::default(),
            cores: Rc::new(Cell::new(1)),
            dialled: Rc::default(),
        };
        edge.start();
        if let Some(play) = play {
            start_upstream(&upstream, play);
        }
        let (sender, events) = mailbox(1024);
        let role = Connector::new(settings, standard_tables(), 1, INSTANCE, &sender);
        let ended = Rc::new(Cell::new(false));
        let meanings: Rc<RefCell<Vec<Vec<IpAddr>>>> = Rc::default();
        let meaning = Rc::clone(&meanings);
        let names = move |name: &str, port| {
            let mut meanings = meaning.borrow_mut();
            let now =
                if meanings.len() > 1 { meanings.remove(0) } else { meanings.first().cloned().unwrap_or_default() };
            now.into_iter().filter(|_| name == NAMED).map(|address| SocketAddr::new(address, port)).collect()
        };
        let (running, task_core, set) = (Arc::clone(&role), core.clone(), Rc::clone(&ended));
        core.spawn(async move {
            running.run(task_core, Resolver::Table(Rc::new(names))).await;
            set.set(true);
        });
        Bed { net, sim, edge, edge_member, core, role, ended, meanings, events }
    }

    /// Runs the script of the edge to its end.
    pub(super) fn run<F: Future<Output = ()> + 'static>(&mut self, play: impl FnOnce(EdgeSide) -> F) {
        let done = Rc::new(Cell::new(false));
        let (set, played) = (Rc::clone(&done), play(self.edge.clone()));
        self.edge.core.spawn(async move {
            played.await;
            set.set(true);
        });
        self.sim.run(self.net.now() + LONGEST, || done.get()).expect("the script comes to its end");
    }

    /// Runs all hosts for this time.
    pub(super) fn pass(&mut self, time: Duration) {
        self.sim.run_until(self.net.now() + time).unwrap();
    }

    /// Runs until the connector has ended; returns how long that took.
    pub(super) fn run_to_end(&mut self) -> Duration {
        let (began, ended) = (self.net.now(), Rc::clone(&self.ended));
        self.sim.run(began + LONGEST, || ended.get()).expect("the connector ends");
        self.net.now() - began
    }

    /// Replaces an edge that was killed.
    pub(super) fn restart_edge(&mut self) {
        self.sim.remove(self.edge_member);
        let (core, member) = add_core(&mut self.sim, EDGE);
        self.edge = EdgeSide { core, links: Rc::default(), news: Rc::default(), ..self.edge.clone() };
        self.edge_member = member;
        self.edge.start();
    }

    pub(super) fn events(&mut self) -> Vec<ConnectorEvent> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut all = Vec::new();
        while let std::task::Poll::Ready(Some(event)) = self.events.poll_recv(&mut cx) {
            all.push(event);
        }
        all
    }

    /// The connector's call log.
    pub(super) fn calls(&mut self) -> Vec<CallLine> {
        let (sender, mut found) = mailbox(1);
        let filter = Arc::new(CallFilter { limit: 100, ..CallFilter::default() });
        assert_eq!(self.role.command(|| ConnectorCommand::Calls(Arc::clone(&filter), sender.clone())), 1);
        self.pass(us(1));
        match found.poll_recv(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(Some(calls)) => calls,
            _ => panic!("no calls"),
        }
    }

    pub(super) fn report(&mut self) -> ConnectorReport {
        let (sender, mut reports) = mailbox(1);
        assert_eq!(self.role.command(|| ConnectorCommand::Report(sender.clone())), 1);
        self.pass(us(1));
        match reports.poll_recv(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(Some(report)) => report,
            _ => panic!("no report"),
        }
    }

    /// Checks that no call left anything behind: no stream, no buffer, no connection in use.
    pub(super) fn assert_clean(&mut self) {
        self.pass(ms(6_000));
        let report = self.report();
        assert_eq!(report.calls_open, 0);
        assert!(report.links.iter().all(|link| link.streams == 0), "{report:?}");
        assert_eq!(report.pool.leased_bytes, 0, "{report:?}");
        assert_eq!(self.edge.core.pool().usage().leased_bytes, 0);
    }
}
