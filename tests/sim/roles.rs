//! The two roles as the simulations start them, and where everybody is.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use adit::base::{BreakerTerms, ConcurrencyTerms, CoreId, DeadlineTerms, Secret, SharedMap, Traffic, TunnelId};
use adit::connector::{ConnectorRoute, ConnectorSettings, ConnectorTables, RouteIdentity};
use adit::edge::{EdgeSettings, EdgeTables, TunnelEntry};
use adit::engine::sim::{MemberId, Simulation};
use adit::engine::{Core, Pool};
use adit::policy::Admission;
use adit::route::{Route, RouteEntry, RouteOverrides, RouteTable};
use adit::upstream::UpstreamSettings;
use adit::wire::mux;

pub(crate) const AGENTS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
pub(crate) const EDGE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
pub(crate) const CONNECTOR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3));
pub(crate) const UPSTREAM: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 4));
/// How long calls in flight may take after a role was told to end.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the edge keeps an agent's connection that lies unused; it may be that of an agent whose last word was lost.
pub(crate) const EDGE_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) const AGENTS_AT: SocketAddr = SocketAddr::new(EDGE, 80);
pub(crate) const UPSTREAM_AT: SocketAddr = SocketAddr::new(UPSTREAM, 8000);
const CONNECTORS_AT: SocketAddr = SocketAddr::new(EDGE, 7000);
pub(crate) const HOST: &str = "mcp.example";
const TUNNEL: &str = "tunnel";
const SECRET: &str = "the secret of a simulated tunnel";

/// A core on a host of the simulated network.
pub(crate) fn add_core(sim: &mut Simulation, host: IpAddr, id: u16, buffer_memory: usize) -> (Core, MemberId) {
    let pool = Pool::new(buffer_memory);
    let driver = sim.net().driver(host, pool.clone());
    let driver_id = driver.id();
    let core = Core::new(CoreId(id), Box::new(driver), pool, Duration::ZERO);
    let member = sim.add(driver_id, core.clone());
    (core, member)
}

/// An edge without TLS.
pub(crate) fn edge_settings(link: mux::Settings) -> EdgeSettings {
    EdgeSettings {
        link,
        idle_timeout: EDGE_IDLE_TIMEOUT,
        drain_timeout: DRAIN_TIMEOUT,
        ..EdgeSettings::for_tests(AGENTS_AT, CONNECTORS_AT)
    }
}

/// One route, one tunnel.
pub(crate) fn edge_tables() -> EdgeTables {
    edge_tables_with(RouteOverrides::default())
}

/// The same, with settings of the route's own.
pub(crate) fn edge_tables_with(own: RouteOverrides) -> EdgeTables {
    edge_tables_of([(HOST, "route", own)])
}

/// Routes of one tunnel, by their hosts and names.
pub(crate) fn edge_tables_of<const N: usize>(routes: [(&str, &str, RouteOverrides); N]) -> EdgeTables {
    let tunnel: TunnelId = TUNNEL.parse().expect("an id");
    let entries = routes.map(|(host, name, own)| {
        let name = name.parse().expect("a name");
        let target = Route { name, tunnel: tunnel.clone(), traffic: Traffic::Plain, own };
        RouteEntry { host: host.to_owned(), place: "here".to_owned(), target }
    });
    let routes = RouteTable::new(entries).unwrap_or_else(|_| panic!("good routes"));
    let tunnels = SharedMap::from([(tunnel, TunnelEntry::of_secret(&Secret::from(SECRET)))]);
    let mut tables =
        EdgeTables { routes: routes.into(), hosts: RouteTable::default(), tunnels, admission: Admission::default() };
    tables.enter_hosts();
    tables
}

/// A connector without TLS.
pub(crate) fn connector_settings(link: mux::Settings) -> ConnectorSettings {
    let plain = ConnectorSettings::for_tests(CONNECTORS_AT, TUNNEL.parse().expect("an id"), Secret::from(SECRET));
    ConnectorSettings { link, drain_timeout: DRAIN_TIMEOUT, ..plain }
}

/// One route, one upstream.
pub(crate) fn connector_tables() -> ConnectorTables {
    connector_tables_with(|_| {})
}

/// The same, with a route that was changed.
pub(crate) fn connector_tables_with(change: impl FnOnce(&mut ConnectorRoute)) -> ConnectorTables {
    connector_tables_of(&[HOST], 64, change)
}

/// Routes of these hosts, one upstream, with so many connections to it for each, and changed so.
pub(crate) fn connector_tables_of(
    hosts: &[&str],
    connections_max: usize,
    change: impl FnOnce(&mut ConnectorRoute),
) -> ConnectorTables {
    let upstream = UpstreamSettings {
        connections_max,
        ..UpstreamSettings::for_tests(format!("http://{UPSTREAM_AT}").parse().expect("a URL"))
    };
    let mut target = ConnectorRoute {
        name: "route".parse().expect("a name"),
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
    change(&mut target);
    let entry = |host: &&str| RouteEntry { host: (*host).to_owned(), place: "here".to_owned(), target: target.clone() };
    let routes = RouteTable::new(hosts.iter().map(entry)).unwrap_or_else(|_| panic!("good routes"));
    ConnectorTables { routes, ingress: None, sealing: None }
}
