//! One edge, two connectors, and a server behind each.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use adit::base::{BreakerTerms, ConcurrencyTerms, DeadlineOverrides, DeadlineTerms, Secret, SharedMap, Time, Traffic};
use adit::connector::{
    Connector, ConnectorCommand, ConnectorEvent, ConnectorRoute, ConnectorSettings, ConnectorTables,
};
use adit::dial::Resolver;
use adit::edge::{CoreReport, Edge, EdgeCommand, EdgeEvent, EdgeTables, HostService, TunnelEntry, UsageLine};
use adit::engine::sim::{Death, Faults, MemberId, SimNet, Simulation};
use adit::engine::{BUFFER_MEMORY_DEFAULT, Core, MailReceiver, MailSender, mailbox};
use adit::latency::{CallFilter, CallLine};
use adit::policy::Admission;
use adit::route::{Route, RouteEntry, RouteOverrides, RouteTable};
use adit::tls::ALPN_HTTP1;
use adit::upstream::UpstreamSettings;
use adit::wire::mux;

use super::client::Client;
use super::server::Server;
use crate::roles::{AGENTS, EDGE, add_core, connector_settings, edge_settings};
use crate::sealed::Sealed;

/// The servers by the connectors in front of them.
pub(crate) const SERVERS: [&str; 2] = ["alpha", "beta"];
const SECRET: &str = "the secret of a simulated tunnel";
const MEMORY: usize = 8 << 20;
/// The buffers of a narrow connection, in bytes.
const NARROW: usize = 16 * 1024;

/// How many cores the edge has, and how many links each connector opens (0: one for each core).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) cores: u16,
    pub(crate) links: u16,
}

/// What each side is configured to serve.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    /// The hosts, each with the number of its tunnel.
    pub(crate) hosts: Vec<(&'static str, usize)>,
    /// The tunnel of each connector, and the hosts for which it has routes.
    pub(crate) routes: [(usize, Vec<&'static str>); 2],
}

pub(crate) struct Bed {
    sim: Simulation,
    pub(crate) servers: [Rc<Server>; 2],
    server_members: [MemberId; 2],
    edge: Arc<Edge>,
    agents: Core,
    place: Place,
    link: mux::Settings,
    served: Served,
    /// Unless calls are plain.
    sealed: Option<Sealed>,
    connectors: [Option<Process>; 2],
    _events: MailReceiver<EdgeEvent>,
}

/// A connector that runs.
struct Process {
    member: MemberId,
    connector: Arc<Connector>,
    _events: MailReceiver<ConnectorEvent>,
}

/// What a client has come to.
pub(crate) struct Running<T>(Rc<RefCell<Option<T>>>);

impl<T> Running<T> {
    /// What it returned, if it has ended.
    pub(crate) fn take(self) -> Option<T> {
        self.0.take()
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.borrow().is_some()
    }
}

/// The host of a connector.
pub(crate) fn connector_host(nth: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 1, nth as u8 + 1))
}

/// Nothing goes wrong, and each way takes 1 ms.
fn steady() -> Faults {
    let delay = Duration::from_millis(1).as_nanos() as u64;
    Faults { delay_ns_min: delay, delay_ns_max: delay, ..Faults::none() }
}

pub(super) fn server_at(nth: usize) -> SocketAddr {
    (Ipv4Addr::new(10, 0, 2, nth as u8 + 1), 8000).into()
}

impl Served {
    /// With one host, both connectors serve its tunnel; with two, each its own.
    fn all(hosts: &[&'static str]) -> Served {
        let of = |nth: usize| if hosts.len() > 1 { nth } else { 0 };
        let routes = [0, 1].map(|nth| (of(nth), vec![hosts[of(nth)]]));
        Served { hosts: hosts.iter().enumerate().map(|(nth, host)| (*host, nth)).collect(), routes }
    }
}

impl Bed {
    /// Starts all, and waits for the links. With one host, both connectors serve its tunnel; with two, each its own.
    pub(crate) fn start(seed: u64, place: Place, hosts: &[&'static str]) -> Bed {
        Bed::serving(seed, place, Served::all(hosts))
    }

    /// The same as [`Bed::carrying`] on hosts whose systems take so little of what is sent that links are soon full.
    pub(crate) fn narrow(traffic: Traffic, seed: u64, place: Place, hosts: &[&'static str]) -> Bed {
        let narrow = Faults { send_buffer_bytes: NARROW, receive_buffer_bytes: NARROW, ..steady() };
        let sealed = (traffic != Traffic::Plain).then(|| Sealed::new(traffic, hosts));
        Bed::serving_in(seed, place, Served::all(hosts), sealed, (narrow, mux::Settings::default()))
    }

    /// The same as [`Bed::start`] on such a network, over links with such settings.
    pub(crate) fn start_in(seed: u64, place: Place, hosts: &[&'static str], net: (Faults, mux::Settings)) -> Bed {
        Bed::serving_in(seed, place, Served::all(hosts), None, net)
    }

    /// The same with so small a window for each stream that a call of some kilobytes needs an answer of the other side to be sent.
    pub(crate) fn start_windowed(seed: u64, place: Place, hosts: &[&'static str]) -> Bed {
        let link = mux::Settings { stream_window: 2_000, ..mux::Settings::default() };
        Bed::start_in(seed, place, hosts, (steady(), link))
    }

    /// Starts all with such hosts and routes, and waits for the links.
    pub(crate) fn serving(seed: u64, place: Place, served: Served) -> Bed {
        Bed::serving_in(seed, place, served, None, (steady(), mux::Settings::default()))
    }

    /// The same as [`Bed::start`], with calls that are carried so.
    pub(crate) fn carrying(traffic: Traffic, seed: u64, place: Place, hosts: &[&'static str]) -> Bed {
        let sealed = (traffic != Traffic::Plain).then(|| Sealed::new(traffic, hosts));
        Bed::serving_in(seed, place, Served::all(hosts), sealed, (steady(), mux::Settings::default()))
    }

    fn serving_in(
        seed: u64,
        place: Place,
        served: Served,
        sealed: Option<Sealed>,
        net: (Faults, mux::Settings),
    ) -> Bed {
        let (faults, link) = net;
        let mut sim = Simulation::new(SimNet::new(seed, faults));
        let (agents, _) = add_core(&mut sim, AGENTS, 0, BUFFER_MEMORY_DEFAULT);
        let cores = [0, 1].map(|nth| add_core(&mut sim, server_at(nth).ip(), 0, BUFFER_MEMORY_DEFAULT));
        let servers = [0, 1].map(|nth| Server::start(nth, &cores[nth].0));
        let server_members = cores.map(|(_, member)| member);
        let (events_sender, events) = mailbox(64);
        let (mut settings, mut tables) = (edge_settings(link), edge_tables(&served.hosts));
        if let Some(sealed) = &sealed {
            (settings, tables) = (sealed.edge_settings(settings), sealed.edge_tables(tables));
        }
        let edge = Edge::new(settings, tables, usize::from(place.cores), 1, &events_sender);
        for id in 0..place.cores {
            let (core, _) = add_core(&mut sim, EDGE, id, MEMORY);
            core.spawn(Arc::clone(&edge).run(core.clone()));
        }
        let connectors = [None, None];
        let mut bed = Bed {
            sim,
            servers,
            server_members,
            edge,
            agents,
            place,
            link,
            served,
            sealed,
            connectors,
            _events: events,
        };
        bed.start_connector(0);
        bed.start_connector(1);
        bed.pass(Duration::from_secs(2));
        bed
    }

    /// Starts the process of a connector, which has the same number each time.
    pub(crate) fn start_connector(&mut self, nth: usize) {
        let (tunnel, routes) = self.served.routes[nth].clone();
        let (core, member) = add_core(&mut self.sim, connector_host(nth), 0, MEMORY);
        let settings = ConnectorSettings {
            tunnel: tunnel_id(tunnel).parse().expect("an id"),
            links: self.place.links,
            ..connector_settings(self.link)
        };
        let (events_sender, events) = mailbox(4096);
        let mut tables = connector_tables(&routes, server_at(nth));
        if let Some(sealed) = &self.sealed {
            tables = sealed.connector_tables(&tables);
        }
        let connector = Connector::new(settings, tables, 1, nth as u64 + 2, &events_sender);
        core.spawn(Arc::clone(&connector).run(core.clone(), Resolver::Table(Rc::new(|_, _| Vec::new()))));
        self.connectors[nth] = Some(Process { member, connector, _events: events });
    }

    /// A connector gets other routes while it runs.
    pub(crate) fn reroute(&mut self, nth: usize, routes: &[&'static str]) {
        self.served.routes[nth].1 = routes.to_vec();
        let process = self.connectors[nth].as_ref().expect("it runs");
        process.connector.reload(connector_tables(routes, server_at(nth)));
    }

    /// The tunnels get other hosts while the edge runs.
    pub(crate) fn rehost(&mut self, hosts: &[(&'static str, usize)]) {
        self.edge.reload(edge_tables(hosts));
    }

    /// The hosts of the first tunnel, and the servers whose connectors have a route for each, as the edge knows it.
    pub(crate) fn service(&self) -> Vec<(String, Vec<&'static str>)> {
        let (_, hosts) = self.edge.service().into_iter().next().unwrap_or_else(|| panic!("a connector is linked"));
        let named = |of: HostService| (of.host, of.connectors.iter().map(|n| SERVERS[*n as usize - 2]).collect());
        hosts.into_iter().map(named).collect()
    }

    /// The hosts of a connector's routes that the tunnel does not have, as the connector knows it.
    pub(crate) fn missing(&self, nth: usize) -> Vec<String> {
        let edges = self.connectors[nth].as_ref().expect("it runs").connector.edges();
        let missing = edges[0].missing.as_ref().expect("the edge has told its hosts");
        missing.hosts.iter().map(str::to_owned).collect()
    }

    /// The process of a connector is killed.
    pub(crate) fn kill_connector(&mut self, nth: usize) {
        self.sim.net().kill(connector_host(nth), Death::Processes);
        if let Some(process) = self.connectors[nth].take() {
            self.sim.remove(process.member);
        }
    }

    /// No system gives up a connection by itself any more.
    pub(crate) fn have_patient_systems(&self) {
        self.sim.net().set_faults(Faults { stall_timeout_ns: u64::MAX / 4, ..steady() });
    }

    /// The host of a connector loses its power: it says nothing more.
    pub(crate) fn vanish_connector(&mut self, nth: usize) {
        self.sim.net().kill(connector_host(nth), Death::Power);
        if let Some(process) = self.connectors[nth].take() {
            self.sim.remove(process.member);
        }
    }

    /// The process of the server behind a connector is killed: connections to it are refused.
    pub(crate) fn kill_server(&mut self, nth: usize) {
        self.sim.net().kill(server_at(nth).ip(), Death::Processes);
        self.sim.remove(self.server_members[nth]);
    }

    /// The process of a connector is told to end.
    pub(crate) fn drain_connector(&mut self, nth: usize) {
        let process = self.connectors[nth].as_ref().expect("it runs");
        assert_eq!(process.connector.command(|| ConnectorCommand::Drain), 1);
    }

    /// Nothing that edge and connector send each other arrives any more: to either, the other stands still.
    pub(crate) fn cut_off(&self, nth: usize) {
        self.sim.net().partition(EDGE, connector_host(nth));
    }

    /// What they send arrives again.
    pub(crate) fn let_back(&self, nth: usize) {
        self.sim.net().heal(EDGE, connector_host(nth));
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.sim.run_until(self.sim.net().now() + time).expect("no core fails");
    }

    /// Connections that went from one core to another so far.
    pub(crate) fn handed_over(&self) -> u64 {
        self.edge.counters().handed_over.load(Ordering::Relaxed)
    }

    /// Calls that went to another connector so far, because the first one did not pass them on.
    pub(crate) fn calls_moved(&self) -> u64 {
        self.edge.counters().calls_moved.load(Ordering::Relaxed)
    }

    /// How often such calls went on to yet another one.
    pub(crate) fn calls_moved_again(&self) -> u64 {
        self.edge.counters().calls_moved_again.load(Ordering::Relaxed)
    }

    /// An answer of the first host may take so long to begin.
    pub(crate) fn limit_first_byte(&self, limit: Duration) {
        let deadlines = DeadlineOverrides { ceiling: Some(limit), ..DeadlineOverrides::default() };
        self.reload(RouteOverrides { deadlines, ..RouteOverrides::default() });
    }

    /// The routes get other settings while the edge runs.
    pub(crate) fn reload(&self, own: RouteOverrides) {
        let mut tables = edge_tables(&self.served.hosts);
        let routes = tables.routes.iter().map(|(host, route)| {
            let target = Route { own: own.clone(), ..route.clone() };
            RouteEntry { host: host.to_string(), place: "here".to_owned(), target }
        });
        tables.routes = RouteTable::new(routes.collect::<Vec<_>>()).unwrap_or_else(|_| panic!("good routes")).into();
        self.edge.reload(tables);
    }

    /// Calls that were tried twice, those of them that the second try answered, and those that were not tried twice for lack of a
    /// place or of budget.
    pub(crate) fn hedges(&self) -> (u64, u64, u64) {
        let counters = self.edge.counters();
        let [made, won, denied] = [&counters.hedges, &counters.hedges_won, &counters.hedges_denied]
            .map(|counter| counter.load(Ordering::Relaxed));
        (made, won, denied)
    }

    pub(crate) fn now(&self) -> Time {
        self.sim.net().now()
    }

    /// The streams that are open on links of the edge.
    pub(crate) fn streams_open(&mut self) -> usize {
        self.reports().iter().flat_map(|report| &report.links).map(|link| link.streams).sum()
    }

    /// What the buffers of the edge hold.
    pub(crate) fn leased_bytes(&mut self) -> usize {
        self.reports().iter().map(|report| report.pool.leased_bytes).sum()
    }

    fn reports(&mut self) -> Vec<CoreReport> {
        self.ask(EdgeCommand::Report)
    }

    /// The calls of a method that have ended, as the edge tells them.
    pub(crate) fn calls(&mut self, method: &str) -> Vec<CallLine> {
        let filter = Arc::new(CallFilter { limit: 100, ..CallFilter::default() });
        let lines = self.ask(|sender| EdgeCommand::Calls(Arc::clone(&filter), sender)).into_iter().flatten();
        lines.filter(|line: &CallLine| line.label.as_ref().is_some_and(|label| *label.method == *method)).collect()
    }

    /// Calls by the connector over whose link they went.
    pub(crate) fn usage(&mut self) -> u64 {
        self.ask(EdgeCommand::Usage).iter().flatten().map(|line: &UsageLine| line.calls).sum()
    }

    /// What each core of the edge says.
    fn ask<T: 'static>(&mut self, command: impl Fn(MailSender<T>) -> EdgeCommand) -> Vec<T> {
        let (sender, mut answers) = mailbox(usize::from(self.place.cores));
        self.edge.command(|| command(MailSender::clone(&sender)));
        self.pass(Duration::from_millis(1));
        let mut next = || match answers.poll_recv(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(it)) => Some(it),
            _ => None,
        };
        std::iter::from_fn(&mut next).collect()
    }

    /// Links that ended so far.
    pub(crate) fn links_ended(&self) -> u64 {
        self.edge.counters().links_ended.load(Ordering::Relaxed)
    }

    /// Starts a client.
    pub(crate) fn client<T: 'static, F: Future<Output = T>>(
        &self,
        script: impl FnOnce(Client) -> F + 'static,
    ) -> Running<T> {
        let outcome = Rc::new(RefCell::new(None));
        let (core, result) = (self.agents.clone(), Rc::clone(&outcome));
        let door = self.sealed.as_ref().map(|sealed| sealed.door(ALPN_HTTP1)).unwrap_or_default();
        self.agents.spawn(async move {
            let client = Client::new(core, door);
            let ended = script(client).await;
            result.replace(Some(ended));
        });
        Running(outcome)
    }
}

fn tunnel_id(nth: usize) -> &'static str {
    ["tnl_one", "tnl_two"][nth]
}

fn edge_tables(hosts: &[(&str, usize)]) -> EdgeTables {
    let entry = |(host, nth): &(&str, usize)| {
        let (name, tunnel) = (SERVERS[*nth].parse().expect("a name"), tunnel_id(*nth).parse().expect("an id"));
        let target = Route { name, tunnel, traffic: Traffic::Plain, own: RouteOverrides::default() };
        RouteEntry { host: (*host).to_owned(), place: "here".to_owned(), target }
    };
    let routes = RouteTable::new(hosts.iter().map(entry)).unwrap_or_else(|_| panic!("good routes"));
    let tunnel = |nth| (tunnel_id(nth).parse().expect("an id"), TunnelEntry::of_secret(&Secret::from(SECRET)));
    let tunnels = SharedMap::from([tunnel(0), tunnel(1)]);
    let mut tables =
        EdgeTables { routes: routes.into(), hosts: RouteTable::default(), tunnels, admission: Admission::default() };
    tables.enter_hosts();
    tables
}

fn connector_tables(hosts: &[&str], server: SocketAddr) -> ConnectorTables {
    let upstream = UpstreamSettings::for_tests(format!("http://{server}").parse().expect("a URL"));
    let target = ConnectorRoute {
        name: "route".parse().expect("a name"),
        upstream,
        traffic: Traffic::Plain,
        identity: adit::connector::RouteIdentity::default(),
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
    let entry = |host: &&str| RouteEntry { host: (*host).to_owned(), place: "here".to_owned(), target: target.clone() };
    let routes = RouteTable::new(hosts.iter().map(entry)).unwrap_or_else(|_| panic!("good routes"));
    ConnectorTables { routes, sealing: None, ingress: None }
}
