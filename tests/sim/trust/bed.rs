//! An edge with an authority, connectors that enrol with it, agents and an upstream, on one simulated network with TLS; and
//! wall clocks that go with the simulated time, or wrong.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use adit::base::{BreakerTerms, ConcurrencyTerms, CoreId, DeadlineTerms, Secret, SharedMap, Time, Traffic, TunnelId};
use adit::connector::{
    Connector, ConnectorEvent, ConnectorRoute, ConnectorSettings, ConnectorTables, EdgeTls, LinkTransport,
    RouteIdentity,
};
use adit::control::{ReloadingAuthority, Signing};
use adit::dial::Resolver;
use adit::edge::{CertSubject, Certifier, Edge, EdgeEvent, EdgeSettings, EdgeTables, TunnelEntry};
use adit::engine::driver::{Address, SocketOptions};
use adit::engine::sim::{Death, Faults, MemberId, SimNet, Simulation};
use adit::engine::{ByteStream, Core, MailReceiver, Pool, Socket, mailbox};
use adit::policy::{Admission, Rate};
use adit::route::{Route, RouteEntry, RouteTable};
use adit::tls::{
    ALPN_ENROL, ALPN_LINK, Authority, CertSet, Clients, Identity, KeyRequest, ReloadingCerts, Roots, ServerSettings,
    WallClock, server_config,
};
use adit::upstream::UpstreamSettings;
use adit::wire::mux;
use adit::wire::quic::QuicKeys;

pub(crate) const EDGE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const AGENTS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const UPSTREAM: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3));
const AGENTS_AT: SocketAddr = SocketAddr::new(EDGE, 80);
const CONNECTORS_AT: SocketAddr = SocketAddr::new(EDGE, 7844);
const UPSTREAM_AT: SocketAddr = SocketAddr::new(UPSTREAM, 9000);
pub(crate) const EDGE_NAME: &str = "edge.test";
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);
const HOST: &str = "mcp.test";
const SECRET: &str = "a secret of the first tunnel";
const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// How long a step of the wall clocks is, at most: while something is waited for, and while time passes.
const CLOCK_STEP: Duration = Duration::from_secs(1);
const CLOCK_STRIDE: Duration = Duration::from_secs(30);

pub(crate) fn tunnel() -> TunnelId {
    "tnl_a".parse().unwrap()
}

/// What one connector does, and may do otherwise than it should.
#[derive(Clone)]
pub(crate) struct ConnectorPlan {
    pub(crate) secret: &'static str,
    /// What the edge's certificate must bear.
    pub(crate) edge_name: &'static str,
    /// By how much its wall clock is wrong.
    pub(crate) clock_off: i64,
    /// Whether it believes another authority than the one that made the edge's certificate.
    pub(crate) believes_other: bool,
    pub(crate) transport: LinkTransport,
}

impl Default for ConnectorPlan {
    fn default() -> ConnectorPlan {
        ConnectorPlan {
            secret: SECRET,
            edge_name: EDGE_NAME,
            clock_off: 0,
            believes_other: false,
            transport: LinkTransport::Tcp,
        }
    }
}

/// A role that runs on one core.
pub(crate) struct Role<H, E> {
    pub(crate) handle: Arc<H>,
    member: MemberId,
    events: MailReceiver<E>,
}

impl<H, E> Role<H, E> {
    /// What it has told since it was last asked.
    pub(crate) fn events(&mut self) -> Vec<E> {
        let mut all = Vec::new();
        while let Poll::Ready(Some(event)) = self.events.poll_recv(&mut Context::from_waker(Waker::noop())) {
            all.push(event);
        }
        all
    }
}

pub(crate) type ConnectorSide = Role<Connector, ConnectorEvent>;

/// The network and all on it.
pub(crate) struct Bed {
    pub(crate) net: SimNet,
    sim: Simulation,
    agents: Core,
    /// Vouches for the edge's certificate.
    server_authority: Authority,
    /// Vouches for connectors.
    pub(crate) authority: Arc<Authority>,
    /// How long certificates of connectors live.
    pub(crate) lifetime: Duration,
    /// By how much the wall clocks of edge and connectors differ from this machine's: they go with the simulated time.
    edge_clock: Arc<AtomicI64>,
    clocks: Vec<Arc<AtomicI64>>,
    not_ticked_ns: Cell<u64>,
    pub(crate) edge: Option<Role<Edge, EdgeEvent>>,
    pub(crate) answered: Rc<Cell<u32>>,
    instances: u64,
    /// What the tests of the edge's certificate change.
    pub(crate) edge_certificate_off: i64,
}

impl Bed {
    /// An edge, and nobody who dials it.
    pub(crate) fn new(seed: u64, lifetime: Duration) -> Bed {
        let net = SimNet::new(seed, Faults::none());
        let mut sim = Simulation::new(net.clone());
        let (agents, _) = add_core(&mut sim, AGENTS);
        let (upstream, _) = add_core(&mut sim, UPSTREAM);
        serve_upstream(&upstream);
        let now = WallClock::default().now();
        let mut bed = Bed {
            net,
            sim,
            agents,
            server_authority: Authority::new("servers", WallClock::off_by_s(-40 * 24 * 3600).now(), 90).unwrap(),
            authority: Arc::new(Authority::new("connectors", now, 90).unwrap()),
            lifetime,
            edge_clock: Arc::default(),
            clocks: Vec::new(),
            not_ticked_ns: Cell::new(0),
            edge: None,
            answered: Rc::default(),
            instances: 0,
            edge_certificate_off: 0,
        };
        bed.start_edge(true);
        bed
    }

    /// Starts the edge, with its authority or without one.
    pub(crate) fn start_edge(&mut self, certifies: bool) {
        assert!(self.edge.is_none(), "one edge at a time");
        let clock = WallClock::set_by(Arc::clone(&self.edge_clock));
        let made = WallClock::off_by_s(self.edge_clock.load(Ordering::Relaxed) + self.edge_certificate_off).now();
        let issued = self.server_authority.issue_chain(&[EDGE_NAME.to_owned()], made, 10 * DAY).unwrap();
        let cert = issued.server_cert(made).unwrap();
        let mut clients = Roots::new();
        clients.add_der(self.authority.cert_der().clone()).unwrap();
        let alpn = if certifies { vec![ALPN_LINK.to_vec(), ALPN_ENROL.to_vec()] } else { vec![ALPN_LINK.to_vec()] };
        let tls = ServerSettings {
            alpn,
            clients: if certifies { Clients::Known(clients) } else { Clients::Anyone },
            clock: clock.clone(),
            ..ServerSettings::default()
        };
        let certs = ReloadingCerts::new(CertSet::new([cert]).unwrap());
        let authority = ReloadingAuthority::new(Arc::clone(&self.authority));
        let signing = Signing { authority, lifetime: self.lifetime, clock: clock.clone(), provisioning: None };
        let certify = move |subject: CertSubject, csr: &[u8]| match subject {
            CertSubject::Tunnel(tunnel) => signing.sign(csr, &tunnel),
            CertSubject::Provisioning { .. } => Err(adit::edge::NotCertified::ProvisioningOff),
        };
        let settings = EdgeSettings {
            // As from a data directory: they stay the same over a restart.
            quic: Some(QuicKeys::of_seed(&[7; 32], fill)),
            connectors_tls: Some(server_config(certs, &tls).unwrap()),
            certifier: certifies.then(|| Certifier::Inline(Arc::new(certify))),
            clock,
            ..edge_settings()
        };
        let (sender, events) = mailbox(8192);
        self.instances += 1;
        let handle = Edge::new(settings, edge_tables(), 1, self.instances, &sender);
        let (core, member) = add_core(&mut self.sim, EDGE);
        core.spawn(Arc::clone(&handle).run(core.clone()));
        self.edge = Some(Role { handle, member, events });
    }

    /// Lets connectors of the tunnel come from these networks only.
    pub(crate) fn pin(&self, networks: &[&str]) {
        let mut tables = edge_tables();
        let connectors_from = networks.iter().map(|network| network.parse().unwrap()).collect();
        let entry = TunnelEntry { connectors_from, ..TunnelEntry::of_secret(&Secret::from(SECRET)) };
        tables.tunnels.insert(tunnel(), entry);
        self.edge.as_ref().expect("it runs").handle.reload(tables);
    }

    /// Withdraws every credential of the tunnel, as a revocation does.
    pub(crate) fn withdraw(&self) {
        let mut tables = edge_tables();
        tables.tunnels.insert(tunnel(), TunnelEntry::default());
        self.edge.as_ref().expect("it runs").handle.reload(tables);
    }

    /// Lets connectors of one source fail to prove themselves so often.
    pub(crate) fn limit_failures(&self, per_minute: u64, burst: u64) {
        let failed_registrations = Rate::new(per_minute, burst);
        let admission = Admission { failed_registrations, ..Admission::default() };
        self.edge.as_ref().expect("it runs").handle.reload(EdgeTables { admission, ..edge_tables() });
    }

    pub(crate) fn kill_edge(&mut self) {
        self.net.kill(EDGE, Death::Processes);
        let edge = self.edge.take().expect("it runs");
        self.sim.remove(edge.member);
    }

    /// Takes another authority for connectors, as if the edge had lost its own.
    pub(crate) fn replace_authority(&mut self) {
        let now = WallClock::set_by(Arc::clone(&self.edge_clock)).now();
        self.authority = Arc::new(Authority::new("connectors again", now, 90).unwrap());
    }

    /// An identity that the edge's authority gave at another time, or to another tunnel.
    pub(crate) fn identity(&self, tunnel: &str, off: i64) -> Identity {
        let request = KeyRequest::new().unwrap();
        let now = WallClock::off_by_s(self.edge_clock.load(Ordering::Relaxed) + off).now();
        let cert = self.authority.certify(request.csr(), &tunnel.parse().unwrap(), self.lifetime, now).unwrap();
        request.into_identity(cert.chain).unwrap()
    }

    /// Starts a connector on a host of its own, perhaps with a certificate from before.
    pub(crate) fn connect(&mut self, plan: &ConnectorPlan, kept: Option<Identity>) -> ConnectorSide {
        self.instances += 1;
        let n = u8::try_from(self.instances % 250).unwrap();
        let host = IpAddr::V4(Ipv4Addr::new(10, 1, u8::try_from(self.instances / 250).unwrap(), n));
        let clock = Arc::new(AtomicI64::new(self.edge_clock.load(Ordering::Relaxed) + plan.clock_off));
        self.clocks.push(Arc::clone(&clock));
        let mut roots = Roots::new();
        let believed = if plan.believes_other { &self.authority } else { &self.server_authority };
        roots.add_der(believed.cert_der().clone()).unwrap();
        let mut tls = EdgeTls::new(roots, WallClock::set_by(clock), 1).unwrap();
        if let Some(kept) = kept {
            tls = tls.with_kept(0, kept);
        }
        let settings = ConnectorSettings {
            edge_tls: Some(Arc::new(tls)),
            edge_name: Some(plan.edge_name.into()),
            secret: Secret::from(plan.secret),
            transport: plan.transport,
            quic: quic_keys(),
            ..connector_settings()
        };
        let (sender, events) = mailbox(1024);
        let handle = Connector::new(settings, connector_tables(), 1, self.instances.wrapping_mul(0x9e37_79b9), &sender);
        let (core, member) = add_core(&mut self.sim, host);
        let nobody = Resolver::Table(Rc::new(|_, _| Vec::new()));
        core.spawn(Arc::clone(&handle).run(core.clone(), nobody));
        Role { handle, member, events }
    }

    /// Lets time pass, for the wall clocks too.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.net.now() + time;
        while self.net.now() < end {
            let before = self.net.now();
            let step = CLOCK_STRIDE.min(end - before);
            self.sim.run_until(before + step).unwrap();
            self.tick(self.net.now() - before);
        }
    }

    /// Lets time pass until it is so, and says how long that took.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, within: Duration, mut done: impl FnMut() -> bool) -> Duration {
        let began = self.net.now();
        let deadline = began + within;
        loop {
            let before = self.net.now();
            if self.sim.run((before + CLOCK_STEP).min(deadline), &mut done).is_ok() {
                return self.net.now() - began;
            }
            self.tick(self.net.now() - before);
            assert!(self.net.now() < deadline, "not within {within:?}: {what}");
        }
    }

    fn tick(&self, passed: Duration) {
        let ns = self.not_ticked_ns.get() + u64::try_from(passed.as_nanos()).unwrap();
        self.not_ticked_ns.set(ns % 1_000_000_000);
        let seconds = i64::try_from(ns / 1_000_000_000).unwrap();
        for clock in self.clocks.iter().chain([&self.edge_clock]) {
            clock.fetch_add(seconds, Ordering::Relaxed);
        }
    }

    /// Agents that make a call each `pause` from now on, `calls` each. Every answer is looked at.
    pub(crate) fn start_agents(&mut self, agents: usize, calls: u32, pause: Duration) {
        for _ in 0..agents {
            let (core, answered) = (self.agents.clone(), Rc::clone(&self.answered));
            self.agents.spawn(async move {
                let agent = core.connect(&AGENTS_AT.into(), SocketOptions::default()).await.unwrap();
                for _ in 0..calls {
                    write(&core, &agent, &format!("GET /mcp HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
                    let answer = hear(&agent, "ok").await;
                    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
                    answered.set(answered.get() + 1);
                    core.sleep(pause).await;
                }
            });
        }
    }

    /// One call, which must succeed.
    pub(crate) fn call(&mut self) {
        let wanted = self.answered.get() + 1;
        self.start_agents(1, 1, Duration::ZERO);
        let answered = Rc::clone(&self.answered);
        self.until("the call is answered", Duration::from_secs(5), || answered.get() == wanted);
    }

    /// One call that adit itself answers, and how long that took.
    pub(crate) fn refused_call(&mut self) -> (String, Duration) {
        let heard = Rc::new(RefCell::new(None));
        let (core, shared) = (self.agents.clone(), Rc::clone(&heard));
        self.agents.spawn(async move {
            let agent = core.connect(&AGENTS_AT.into(), SocketOptions::default()).await.unwrap();
            write(&core, &agent, &format!("GET /mcp HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
            let answer = hear(&agent, "}}").await;
            shared.replace(Some(answer));
        });
        let took = self.until("the call is refused", Duration::from_secs(30), || heard.borrow().is_some());
        (heard.take().expect("it was answered"), took)
    }

    pub(crate) fn edge_events(&mut self) -> Vec<EdgeEvent> {
        self.edge.as_mut().expect("it runs").events()
    }

    pub(crate) fn edge_count(&self, pick: fn(&adit::edge::Counters) -> &AtomicU64) -> u64 {
        pick(self.edge.as_ref().expect("it runs").handle.counters()).load(Ordering::Relaxed)
    }

    pub(crate) fn now(&self) -> Time {
        self.net.now()
    }
}

fn add_core(sim: &mut Simulation, host: IpAddr) -> (Core, MemberId) {
    let pool = Pool::new(0);
    let driver = sim.net().driver(host, pool.clone());
    let id = driver.id();
    let core = Core::new(CoreId(0), Box::new(driver), pool, Duration::ZERO);
    let member = sim.add(id, core.clone());
    (core, member)
}

async fn write(core: &Core, socket: &Socket, text: &str) {
    let mut lease = core.pool().lease_for(text.len()).await;
    lease.append(text.as_bytes());
    socket.send(lease).unwrap();
}

/// What comes up to and with `end`; nothing when the peer finished first.
async fn hear(socket: &Socket, end: &str) -> String {
    let mut heard = String::new();
    while !heard.ends_with(end) {
        match socket.recv().await {
            Ok(Some(lease)) => heard.push_str(std::str::from_utf8(&lease).unwrap()),
            _ => return String::new(),
        }
    }
    heard
}

fn serve_upstream(core: &Core) {
    let listener = core.listen(&Address::Tcp(UPSTREAM_AT)).unwrap();
    let here = core.clone();
    core.spawn(async move {
        while let Ok((detached, _)) = listener.accept().await {
            let (core, socket) = (here.clone(), here.adopt(detached, SocketOptions::default()).await.unwrap());
            here.spawn(async move {
                while !hear(&socket, "\r\n\r\n").await.is_empty() {
                    write(&core, &socket, ANSWER).await;
                }
            });
        }
    });
}

fn edge_settings() -> EdgeSettings {
    let plain = EdgeSettings::for_tests(AGENTS_AT, CONNECTORS_AT);
    EdgeSettings { link: rare_pings(), idle_timeout: Duration::from_secs(600), ..plain }
}

fn edge_tables() -> EdgeTables {
    let target = Route {
        name: "route".parse().unwrap(),
        tunnel: tunnel(),
        traffic: Traffic::Plain,
        own: adit::route::RouteOverrides::default(),
    };
    let route = RouteEntry { host: HOST.to_owned(), place: "here".to_owned(), target };
    let entry = TunnelEntry::of_secret(&Secret::from(SECRET));
    let mut tables = EdgeTables {
        hosts: RouteTable::default(),
        routes: RouteTable::new([route]).unwrap().into(),
        tunnels: SharedMap::from([(tunnel(), entry)]),
        admission: Admission::default(),
    };
    tables.enter_hosts();
    tables
}

fn connector_settings() -> ConnectorSettings {
    ConnectorSettings {
        links: 1,
        backoff_max: Duration::from_secs(2),
        connect_timeout: Duration::from_secs(10),
        link: rare_pings(),
        ..ConnectorSettings::for_tests(CONNECTORS_AT, tunnel(), Secret::from(SECRET))
    }
}

fn quic_keys() -> QuicKeys {
    QuicKeys::draw(fill)
}

fn fill(bytes: &mut [u8]) {
    aws_lc_rs::rand::fill(bytes).unwrap();
}

/// Days pass here, which are many pings.
fn rare_pings() -> mux::Settings {
    mux::Settings { ping_interval_ms: 600_000, ..mux::Settings::default() }
}

fn connector_tables() -> ConnectorTables {
    let upstream = UpstreamSettings::for_tests(format!("http://{UPSTREAM_AT}").parse().unwrap());
    let target = ConnectorRoute {
        name: "route".parse().unwrap(),
        upstream,
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
    };
    let route = RouteEntry { host: HOST.to_owned(), place: "here".to_owned(), target };
    ConnectorTables { routes: RouteTable::new([route]).unwrap(), sealing: None, ingress: None }
}
