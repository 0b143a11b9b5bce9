//! What crosses the link, with the link's own TLS left out so that it can be looked at.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use adit::base::{Secret, Traffic, TunnelId};
use adit::connector::{
    Connector, ConnectorCommand, ConnectorRoute, ConnectorSettings, ConnectorTables, EdgeAddress, Sealing,
};
use adit::edge::{Edge, EdgeCommand, EdgeEvent, EdgeSettings, EdgeTables, Seals, TunnelEntry};
use adit::engine::ladder::DriverChoice;
use adit::engine::{Cores, EngineSettings, mailbox};
use adit::latency::{LatencySettings, SlowCallSettings};
use adit::policy::{Admission, AllowedUpstreams};
use adit::route::{Route, RouteEntry, RouteTable};
use adit::tls::{
    ALPN_HTTP1, Authority, CallerAuthorities, CertSet, ClientSettings, Clients, ReloadingCerts, Roots, ServerConfig,
    ServerSettings, WallClock, client_config, server_config,
};
use adit::upstream::{Resolver, UpstreamSettings};
use adit::wire::mux;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{ClientConnection, StreamOwned};

use crate::site::{HOST, call, drivers, serve_upstream};

/// What went over the link, both ways.
type Record = Arc<Mutex<Vec<u8>>>;

/// Edge and connector in this process, and who listens between them.
struct Bed {
    edge: Arc<Edge>,
    connector: Arc<Connector>,
    cores: Cores,
    agents: SocketAddr,
    /// Who vouches for whom agents speak with.
    authority: Authority,
    record: Record,
}

impl Bed {
    fn start(driver: DriverChoice, traffic: Traffic) -> Bed {
        let authority = Authority::new("adit test", UnixTime::now(), 1).unwrap();
        let record = Record::default();
        let (agents, connectors) = (free_address(), free_address());
        let (told, mut events) = mailbox(64);
        let edge = edge(&authority, traffic, (agents, connectors));
        let edge = Edge::new(edge.0, edge.1, 1, 1, &told);
        let connector = connector(&authority, traffic, tap(connectors, &record));
        let engine = EngineSettings { driver, cores: 1, pin: false, ..EngineSettings::default() };
        let roles = (Arc::clone(&edge), Arc::clone(&connector));
        let cores = Cores::start(&engine, move |core| {
            let (edge, connector) = roles.clone();
            let resolver = Resolver::Table(Rc::new(|_, _| Vec::new()));
            async move {
                futures_lite::future::zip(edge.run(core.clone()), connector.run(core, resolver)).await;
            }
        });
        while !matches!(futures_lite::future::block_on(events.recv()).unwrap(), EdgeEvent::Linked { .. }) {}
        Bed { edge, connector, cores: cores.unwrap(), agents, authority, record }
    }

    fn agent(&self) -> StreamOwned<ClientConnection, TcpStream> {
        let settings = ClientSettings {
            roots: roots(&self.authority),
            alpn: vec![ALPN_HTTP1.to_vec()],
            ..ClientSettings::default()
        };
        let session = ClientConnection::new(client_config(settings).unwrap(), ServerName::try_from(HOST).unwrap());
        StreamOwned::new(session.unwrap(), TcpStream::connect(self.agents).unwrap())
    }

    fn end(self) {
        self.edge.command(|| EdgeCommand::Drain);
        self.connector.command(|| ConnectorCommand::Drain);
        self.cores.join().unwrap();
    }
}

fn roots(authority: &Authority) -> Roots {
    let mut roots = Roots::new();
    roots.add_der(authority.cert_der().clone()).unwrap();
    roots
}

fn server(authority: &Authority, clients: Clients) -> Arc<ServerConfig> {
    let cert = authority.issue(&[HOST]).unwrap().server_cert(UnixTime::now()).unwrap();
    let certs = ReloadingCerts::new(CertSet::new([cert]).unwrap());
    let settings = ServerSettings { alpn: vec![ALPN_HTTP1.to_vec()], clients, ..ServerSettings::default() };
    server_config(certs, &settings).unwrap()
}

fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

fn tunnel() -> TunnelId {
    "tnl_test".parse().unwrap()
}

fn edge(
    authority: &Authority,
    traffic: Traffic,
    (agents_listen, connectors_listen): (SocketAddr, SocketAddr),
) -> (EdgeSettings, EdgeTables) {
    let settings = EdgeSettings {
        agents_listen,
        agents_tls: Some(server(authority, Clients::Anyone)),
        plain_http_anywhere: false,
        connectors_listen,
        connectors_tls: None,
        certifier: None,
        clock: WallClock::default(),
        link: mux::Settings::default(),
        allowed_origins: Vec::new(),
        connections_max: 100,
        handshake_timeout: Duration::from_secs(10),
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(60),
        first_byte_timeout: Duration::from_secs(60),
        offline_wait: Duration::from_secs(30),
        drain_timeout: Duration::from_secs(5),
        latency: LatencySettings::default(),
        slow_calls: SlowCallSettings::default(),
    };
    let seals = Seals::default();
    seals.identity().renew(authority, UnixTime::now()).unwrap();
    let seal = Some(seals.for_tunnel(vec![authority.cert_der().clone()]).unwrap());
    let entry = TunnelEntry { seal, ..TunnelEntry::of_secret(&Secret::from("0123456789abcdef")) };
    let route = Route { name: "test".parse().unwrap(), tunnel: tunnel(), traffic };
    let routes = [RouteEntry { host: HOST.to_owned(), place: "here".to_owned(), target: route }];
    let tables = EdgeTables {
        routes: RouteTable::new(routes).unwrap(),
        tunnels: HashMap::from([(tunnel(), entry)]),
        admission: Admission::default(),
    };
    (settings, tables)
}

fn connector(authority: &Authority, traffic: Traffic, edge: SocketAddr) -> Arc<Connector> {
    let settings = ConnectorSettings {
        edges: vec![EdgeAddress { host: edge.ip().to_string().into(), port: edge.port() }],
        edge_tls: None,
        edge_name: None,
        tunnel: tunnel(),
        secret: Secret::from("0123456789abcdef"),
        software: "test".to_owned(),
        links: 1,
        backoff_min: Duration::from_millis(10),
        backoff_max: Duration::from_millis(100),
        connect_timeout: Duration::from_secs(10),
        link: mux::Settings::default(),
        calls_max: 100,
        drain_timeout: Duration::from_secs(5),
        allowed_origins: Vec::new(),
    };
    let upstream = UpstreamSettings {
        url: format!("http://{}", serve_upstream()).parse().unwrap(),
        tls: None,
        connections_max: 10,
        connect_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(60),
        queue_timeout: Duration::from_secs(10),
        allowed: Arc::new(AllowedUpstreams::private()),
    };
    let callers = CallerAuthorities::default();
    callers.set(0, authority.cert_der().clone());
    let sealing = Sealing {
        passthrough: server(authority, Clients::Anyone),
        resealed: server(authority, Clients::Edges(Arc::new(callers))),
    };
    let route = ConnectorRoute { name: "test".parse().unwrap(), upstream, traffic };
    let routes = [RouteEntry { host: HOST.to_owned(), place: "here".to_owned(), target: route }];
    let tables = ConnectorTables { routes: RouteTable::new(routes).unwrap(), sealing: Some(sealing) };
    let (events, _) = mailbox(64);
    Connector::new(settings, tables, 1, 2, &events)
}

/// Listens for the connector, passes on to the edge, and puts down all that goes by.
fn tap(edge: SocketAddr, record: &Record) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let record = Arc::clone(record);
    thread::spawn(move || {
        for connector in listener.incoming().flatten() {
            // The edge may not listen yet: the connector then tries again.
            let Ok(edge) = TcpStream::connect(edge) else { continue };
            let ways = [(&connector, &edge), (&edge, &connector)];
            for (from, to) in ways.map(|(from, to)| (from.try_clone().unwrap(), to.try_clone().unwrap())) {
                let record = Arc::clone(&record);
                thread::spawn(move || pass(from, to, &record));
            }
        }
    });
    address
}

fn pass(mut from: TcpStream, mut to: TcpStream, record: &Record) {
    let mut piece = [0; 16 * 1024];
    while let Ok(n) = from.read(&mut piece) {
        record.lock().unwrap().extend_from_slice(&piece[..n]);
        if n == 0 || to.write_all(&piece[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

#[test]
fn nothing_of_a_sealed_call_can_be_read_on_the_link() {
    for driver in drivers() {
        let driver = if driver == "uring" { DriverChoice::Uring } else { DriverChoice::Epoll };
        for traffic in Traffic::ALL {
            let bed = Bed::start(driver, traffic);
            let agent = RefCell::new(bed.agent());
            for n in 0..5 {
                // Each marker comes back in the answer.
                let body = format!("marker-in-a-body {n}");
                let answer = call(&mut *agent.borrow_mut(), HOST, &body);
                assert!(answer.head.starts_with("HTTP/1.1 200 ") && answer.body.ends_with(&body), "{answer:?}");
            }
            drop(agent);
            let record = Arc::clone(&bed.record);
            bed.end();
            let record = record.lock().unwrap();
            let times = |needle: &str| memchr::memmem::find_iter(&record, needle).count();
            // The hostname is what the link tells of any call.
            assert!(times(HOST) > 0);
            for needle in ["marker-in-a-body", "POST /mcp", "HTTP/1.1 200"] {
                assert_eq!(times(needle) > 0, traffic == Traffic::Plain, "{traffic}: {needle:?}");
            }
        }
    }
}
