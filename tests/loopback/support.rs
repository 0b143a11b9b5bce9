//! A small tunnel in this process, on real sockets: for the tests that need edge and connector themselves.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use adit::base::{
    BreakerOverrides, BreakerTerms, ConcurrencyOverrides, ConcurrencyTerms, DeadlineOverrides, DeadlineTerms,
    GuardMode, Secret, SharedMap, Traffic, TunnelId,
};
use adit::connector::{
    Connector, ConnectorCommand, ConnectorRoute, ConnectorSettings, ConnectorTables, EdgeTls, LinkTransport,
    RouteIdentity, Sealing,
};
use adit::dial::Resolver;
use adit::edge::{Edge, EdgeCommand, EdgeEvent, EdgeSettings, EdgeTables, PlainHttp, Seals, TunnelEntry};
use adit::engine::ladder::DriverChoice;
use adit::engine::{Cores, EngineSettings, MailSender, Reservation, mailbox};
use adit::identity::RouteAuth;
use adit::policy::{Admission, ToolPolicy};
use adit::route::{Route, RouteEntry, RouteOverrides, RouteTable};
use adit::tls::{
    ALPN_HTTP1, ALPN_HTTP2, ALPN_LINK, Authority, CallerAuthorities, CertSet, ClientConfig, ClientSettings, Clients,
    ReloadingCerts, Roots, ServerConfig, ServerSettings, WallClock, client_config, server_config,
};
use adit::upstream::UpstreamSettings;
use adit::wire::quic::QuicKeys;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

pub(crate) const HOST: &str = "mcp.test";
/// The name in the certificate of the edge.
pub(crate) const EDGE_NAME: &str = "edge.test";
/// The instance of the first connector.
const FIRST_INSTANCE: u64 = 2;
/// How long either side waits for somebody who takes nothing.
const PATIENCE: Duration = Duration::from_secs(60);
const TOOL_CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo","arguments":{}}}"#;

/// Edge and connector on the same cores.
pub(crate) struct Tunnel {
    pub(crate) edge: Arc<Edge>,
    pub(crate) connector: Arc<Connector>,
    others: Vec<Arc<Connector>>,
    pub(crate) agents: SocketAddr,
    authority: Authority,
    cores: Cores,
    _listeners: [Reservation; 2],
}

/// How the links of a tunnel go.
enum LinkPath<'a> {
    Tcp,
    Quic,
    /// Over TCP without TLS, to the address that this says when it is told that of the edge.
    Tapped(&'a dyn Fn(SocketAddr) -> SocketAddr),
}

impl Tunnel {
    /// Starts both on `cores` cores, with `links` links (0: as many as the edge has cores), to carry calls so. `on_core` is
    /// called on each core's thread first.
    pub(crate) fn start(
        driver: DriverChoice,
        traffic: Traffic,
        cores: usize,
        links: u16,
        on_core: impl Fn() + Clone + Send + Sync + 'static,
    ) -> Tunnel {
        let upstreams = [upstream_at(serve_upstream())];
        Tunnel::start_with(driver, traffic, (cores, links), on_core, (PATIENCE, &upstreams), &LinkPath::Tcp)
    }

    /// The same with a connector for each of these upstreams.
    pub(crate) fn with_upstreams(
        driver: DriverChoice,
        traffic: Traffic,
        (cores, links): (usize, u16),
        upstreams: &[SocketAddr],
    ) -> Tunnel {
        let upstreams: Vec<_> = upstreams.iter().copied().map(upstream_at).collect();
        Tunnel::start_with(driver, traffic, (cores, links), || {}, (PATIENCE, &upstreams), &LinkPath::Tcp)
    }

    /// On one core, with one link, to an upstream with these settings.
    pub(crate) fn with_upstream(driver: DriverChoice, traffic: Traffic, upstream: UpstreamSettings) -> Tunnel {
        Tunnel::start_with(driver, traffic, (1, 1), || {}, (PATIENCE, &[upstream]), &LinkPath::Tcp)
    }

    /// Starts both on one core, with one link that goes through `tap`, which is told where the edge is and says where the
    /// connector is to dial. The link has no TLS of its own, so that all of it can be looked at.
    pub(crate) fn tapped(driver: DriverChoice, traffic: Traffic, tap: &dyn Fn(SocketAddr) -> SocketAddr) -> Tunnel {
        Tunnel::start_with(
            driver,
            traffic,
            (1, 1),
            || {},
            (PATIENCE, &[upstream_at(serve_upstream())]),
            &LinkPath::Tapped(tap),
        )
    }

    /// Starts both on so many cores, with so many links over QUIC.
    pub(crate) fn over_quic(driver: DriverChoice, traffic: Traffic, (cores, links): (usize, u16)) -> Tunnel {
        let upstreams = [upstream_at(serve_upstream())];
        Tunnel::start_with(driver, traffic, (cores, links), || {}, (PATIENCE, &upstreams), &LinkPath::Quic)
    }

    /// Starts both on one core, with so much patience for agents that take nothing.
    pub(crate) fn with_write_timeout(driver: DriverChoice, write_timeout: Duration) -> Tunnel {
        Tunnel::impatient(driver, Traffic::Plain, write_timeout, serve_upstream())
    }

    /// The same, with calls that are carried so to this upstream.
    pub(crate) fn impatient(
        driver: DriverChoice,
        traffic: Traffic,
        write_timeout: Duration,
        upstream: SocketAddr,
    ) -> Tunnel {
        Tunnel::start_with(driver, traffic, (1, 1), || {}, (write_timeout, &[upstream_at(upstream)]), &LinkPath::Tcp)
    }

    fn start_with(
        driver: DriverChoice,
        traffic: Traffic,
        (cores, links): (usize, u16),
        on_core: impl Fn() + Clone + Send + Sync + 'static,
        (write_timeout, upstreams): (Duration, &[UpstreamSettings]),
        path: &LinkPath<'_>,
    ) -> Tunnel {
        let authority = Authority::new("adit test", UnixTime::now(), 1).unwrap();
        let (events_sender, mut events) = mailbox(64);
        let link_tls = !matches!(path, LinkPath::Tapped(_));
        // Held as long as the tunnel runs: a test that runs beside this one could be given a port that is only named.
        let listeners = [(); 2].map(|()| Reservation::new((Ipv4Addr::LOCALHOST, 0).into()).unwrap());
        let [agents, connectors] = [listeners[0].address(), listeners[1].address()];
        let edge = edge(&authority, traffic, (link_tls, write_timeout), (agents, connectors), cores, &events_sender);
        let dialled = if let LinkPath::Tapped(tap) = path { tap(connectors) } else { connectors };
        let transport = if let LinkPath::Quic = path { LinkTransport::Quic } else { LinkTransport::Tcp };
        let connectors: Vec<Arc<Connector>> = (FIRST_INSTANCE..)
            .zip(upstreams)
            .map(|(instance, upstream)| {
                let link = link_tls.then_some(transport);
                connector(&authority, traffic, link, (cores, links), dialled, (upstream.clone(), instance))
            })
            .collect();
        let engine = EngineSettings { driver, cores, pin: false, ..EngineSettings::default() };
        let roles = (Arc::clone(&edge), connectors.clone());
        let running = Cores::start(&engine, move |core| {
            on_core();
            let (edge, connectors) = roles.clone();
            async move {
                let running: Vec<_> = connectors
                    .into_iter()
                    .map(|connector| {
                        let resolver = Resolver::Table(Rc::new(|_, _| Vec::new()));
                        core.spawn_held(connector.run(core.clone(), resolver))
                    })
                    .collect();
                edge.run(core).await;
                for connector in running {
                    connector.await;
                }
            }
        });
        let mut listening = 0;
        while listening < cores {
            match futures_lite::future::block_on(events.recv()) {
                Some(EdgeEvent::Listening(_)) => listening += 1,
                Some(EdgeEvent::Failed(core, why)) => panic!("core {core}: {why}"),
                // The first core may have a link before the last one listens.
                Some(_) => {}
                None => panic!("the edge ended while starting"),
            }
        }
        let mut connectors = connectors.into_iter();
        let connector = connectors.next().expect("one at least");
        let (others, cores) = (connectors.collect(), running.unwrap());
        Tunnel { edge, connector, others, agents, authority, cores, _listeners: listeners }
    }

    /// What becomes of calls that miss their deadline, whose breaker is open, or that are beyond the limit of their route.
    pub(crate) fn set_guards(&self, mode: GuardMode) {
        let mut tables = EdgeTables::clone(&self.edge.tables());
        let routes = tables.routes.iter().map(|(host, route)| {
            let deadlines = DeadlineOverrides { mode: Some(mode), ..DeadlineOverrides::default() };
            let breaker = BreakerOverrides { mode: Some(mode) };
            let concurrency = ConcurrencyOverrides { mode: Some(mode), max: None };
            let own = RouteOverrides { deadlines, breaker, concurrency, ..RouteOverrides::default() };
            RouteEntry { host: host.to_string(), place: String::new(), target: Route { own, ..route.clone() } }
        });
        tables.routes = RouteTable::new(routes.collect::<Vec<_>>()).unwrap().into();
        self.edge.reload(tables);
        // Those of agents whose TLS ends in the connector, and what their owner lets run twice.
        let tables = self.connector.tables();
        let routes = tables.routes.iter().map(|(host, route)| {
            let target = ConnectorRoute {
                deadlines: DeadlineTerms { mode, ..route.deadlines },
                breaker: BreakerTerms { mode, ..route.breaker },
                concurrency: ConcurrencyTerms { mode, ..route.concurrency },
                resend: (mode == GuardMode::Enforce).then(Arc::default),
                ..route.clone()
            };
            RouteEntry { host: host.to_string(), place: String::new(), target }
        });
        let routes = RouteTable::new(routes.collect::<Vec<_>>()).unwrap();
        self.connector.reload(ConnectorTables { routes, sealing: tables.sealing.clone(), ingress: None });
    }

    /// Enforces a limit of so many calls in flight, at the edge and for agents whose TLS ends in the connector.
    pub(crate) fn limit_calls(&self, max: u32) {
        let mut tables = EdgeTables::clone(&self.edge.tables());
        let concurrency = ConcurrencyOverrides { mode: Some(GuardMode::Enforce), max: Some(max) };
        let routes = tables.routes.iter().map(|(host, route)| {
            let own = RouteOverrides { concurrency, ..RouteOverrides::default() };
            RouteEntry { host: host.to_string(), place: String::new(), target: Route { own, ..route.clone() } }
        });
        tables.routes = RouteTable::new(routes.collect::<Vec<_>>()).unwrap().into();
        self.edge.reload(tables);
        let tables = self.connector.tables();
        let routes = tables.routes.iter().map(|(host, route)| {
            let concurrency = ConcurrencyTerms { mode: GuardMode::Enforce, max, ..route.concurrency };
            let target = ConnectorRoute { concurrency, ..route.clone() };
            RouteEntry { host: host.to_string(), place: String::new(), target }
        });
        let routes = RouteTable::new(routes.collect::<Vec<_>>()).unwrap();
        self.connector.reload(ConnectorTables { routes, sealing: tables.sealing.clone(), ingress: None });
    }

    /// Tries slow calls of tools that only read a second time.
    pub(crate) fn hedge(&self) {
        let mut tables = EdgeTables::clone(&self.edge.tables());
        let routes = tables.routes.iter().map(|(host, route)| {
            let own = RouteOverrides { hedge: true, ..RouteOverrides::default() };
            RouteEntry { host: host.to_string(), place: String::new(), target: Route { own, ..route.clone() } }
        });
        tables.routes = RouteTable::new(routes.collect::<Vec<_>>()).unwrap().into();
        self.edge.reload(tables);
    }

    /// Puts a policy into force, at the edge or at the connector.
    pub(crate) fn govern(&self, at_edge: bool, policy: &Arc<ToolPolicy>) {
        if at_edge {
            let mut tables = EdgeTables::clone(&self.edge.tables());
            let routes = tables.routes.iter().map(|(host, route)| {
                let own = RouteOverrides { policy: Some(Arc::clone(policy)), ..RouteOverrides::default() };
                RouteEntry { host: host.to_string(), place: String::new(), target: Route { own, ..route.clone() } }
            });
            tables.routes = RouteTable::new(routes.collect::<Vec<_>>()).unwrap().into();
            return self.edge.reload(tables);
        }
        let tables = self.connector.tables();
        let routes = tables.routes.iter().map(|(host, route)| {
            let target = ConnectorRoute { policy: Some(Arc::clone(policy)), ..route.clone() };
            RouteEntry { host: host.to_string(), place: String::new(), target }
        });
        let routes = RouteTable::new(routes.collect::<Vec<_>>()).unwrap();
        self.connector.reload(ConnectorTables { routes, sealing: tables.sealing.clone(), ingress: None });
    }

    /// Asks callers for tokens, at the edge or at the connector, or for none; beside the policy that is in force there.
    pub(crate) fn authorize(&self, at_edge: bool, auth: Option<&Arc<RouteAuth>>) {
        if at_edge {
            let mut tables = EdgeTables::clone(&self.edge.tables());
            let routes = tables.routes.iter().map(|(host, route)| {
                let own = RouteOverrides { auth: auth.cloned(), ..route.own.clone() };
                RouteEntry { host: host.to_string(), place: String::new(), target: Route { own, ..route.clone() } }
            });
            tables.routes = RouteTable::new(routes.collect::<Vec<_>>()).unwrap().into();
            return self.edge.reload(tables);
        }
        let tables = self.connector.tables();
        let routes = tables.routes.iter().map(|(host, route)| {
            let target = ConnectorRoute { auth: auth.cloned(), ..route.clone() };
            RouteEntry { host: host.to_string(), place: String::new(), target }
        });
        let routes = RouteTable::new(routes.collect::<Vec<_>>()).unwrap();
        self.connector.reload(ConnectorTables { routes, sealing: tables.sealing.clone(), ingress: None });
    }

    /// A new agent's connection.
    pub(crate) fn agent(&self) -> Agent {
        self.agent_on(TcpStream::connect(self.agents).unwrap())
    }

    /// A new connection without TLS.
    pub(crate) fn plain_agent(&self) -> TcpStream {
        TcpStream::connect(self.agents).unwrap()
    }

    /// The same, on a connection to the edge that has been made.
    pub(crate) fn agent_on(&self, socket: TcpStream) -> Agent {
        let config = tls_client(&self.authority, ALPN_HTTP1);
        let session = rustls::ClientConnection::new(config, ServerName::try_from(HOST).unwrap()).unwrap();
        rustls::StreamOwned::new(session, socket)
    }

    /// A new agent's connection on which it shows a certificate, if it is asked.
    pub(crate) fn agent_with(&self, certificate: &Arc<CertifiedKey>) -> Agent {
        let (config, host) = self.tls_with(ALPN_HTTP1, certificate);
        let session = rustls::ClientConnection::new(config, ServerName::try_from(host).unwrap()).unwrap();
        rustls::StreamOwned::new(session, TcpStream::connect(self.agents).unwrap())
    }

    /// As [`Tunnel::tls`], of an agent that shows a certificate, if it is asked.
    pub(crate) fn tls_with(&self, alpn: &[u8], certificate: &Arc<CertifiedKey>) -> (Arc<ClientConfig>, &'static str) {
        let (roots, alpn) = (roots_of(&self.authority), vec![alpn.to_vec()]);
        let identity: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(Arc::clone(certificate)));
        let settings = ClientSettings { roots, alpn, identity: Some(identity), ..ClientSettings::default() };
        (client_config(settings).unwrap(), HOST)
    }

    /// What an agent believes that chooses this protocol, and the name that it asks for.
    pub(crate) fn tls(&self, alpn: &[u8]) -> (Arc<ClientConfig>, &'static str) {
        (tls_client(&self.authority, alpn), HOST)
    }

    /// The authority of the edge.
    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Ends both, after what is in flight.
    pub(crate) fn end(self) {
        self.edge.command(|| EdgeCommand::Drain);
        for connector in self.others.iter().chain([&self.connector]) {
            connector.command(|| ConnectorCommand::Drain);
        }
        self.cores.join().unwrap();
    }
}

fn tls_server(authority: &Authority, alpn: &[&[u8]], clients: Clients) -> Arc<ServerConfig> {
    let cert = authority.issue(&[HOST]).unwrap().server_cert(UnixTime::now()).unwrap();
    let certs = ReloadingCerts::new(CertSet::new([cert]).unwrap());
    server_config(
        certs,
        &ServerSettings { alpn: alpn.iter().map(|name| name.to_vec()).collect(), clients, ..ServerSettings::default() },
    )
    .unwrap()
}

fn tls_client(authority: &Authority, alpn: &[u8]) -> Arc<ClientConfig> {
    let roots = roots_of(authority);
    client_config(ClientSettings { roots, alpn: vec![alpn.to_vec()], ..ClientSettings::default() }).unwrap()
}

fn roots_of(authority: &Authority) -> Roots {
    let mut roots = Roots::new();
    roots.add_der(authority.cert_der().clone()).unwrap();
    roots
}

fn quic_keys() -> QuicKeys {
    QuicKeys::draw(|bytes| aws_lc_rs::rand::fill(bytes).unwrap())
}

fn upstream_at(address: SocketAddr) -> UpstreamSettings {
    UpstreamSettings::for_tests(format!("http://{address}").parse().unwrap())
}

fn tunnel() -> TunnelId {
    "tnl_test".parse().unwrap()
}

fn edge(
    authority: &Authority,
    traffic: Traffic,
    (link_tls, write_timeout): (bool, Duration),
    (agents_listen, connectors_listen): (SocketAddr, SocketAddr),
    cores: usize,
    events: &MailSender<EdgeEvent>,
) -> Arc<Edge> {
    let settings = EdgeSettings {
        agents_tls: Some(tls_server(authority, &[ALPN_HTTP2, ALPN_HTTP1], Clients::Anyone)),
        agents_tls_asking: Some(tls_server(authority, &[ALPN_HTTP2, ALPN_HTTP1], Clients::Asked)),
        plain_http: PlainHttp::Loopback,
        quic: link_tls.then(quic_keys),
        connectors_tls: link_tls.then(|| tls_server(authority, &[ALPN_LINK], Clients::Anyone)),
        offline_wait: Duration::from_secs(30),
        write_timeout,
        drain_timeout: Duration::from_secs(5),
        concurrency: ConcurrencyTerms { queue_time: PATIENCE, ..ConcurrencyTerms::default() },
        ..EdgeSettings::for_tests(agents_listen, connectors_listen)
    };
    let route = Route { name: "test".parse().unwrap(), tunnel: tunnel(), traffic, own: RouteOverrides::default() };
    let entry = RouteEntry { host: HOST.to_owned(), place: "here".to_owned(), target: route };
    let seals = Seals::default();
    seals.identity().renew(authority, Some(EDGE_NAME), UnixTime::now()).unwrap();
    let seal = Some(seals.for_tunnel(vec![authority.cert_der().clone()]).unwrap());
    let served = TunnelEntry { seal, ..TunnelEntry::of_secret(&Secret::from("0123456789abcdef")) };
    let mut tables = EdgeTables {
        hosts: RouteTable::default(),
        routes: RouteTable::new([entry]).unwrap().into(),
        tunnels: SharedMap::from([(tunnel(), served)]),
        admission: Admission::default(),
    };
    tables.enter_hosts();
    Edge::new(settings, tables, cores, 1, events)
}

fn connector(
    authority: &Authority,
    traffic: Traffic,
    link: Option<LinkTransport>,
    (cores, links): (usize, u16),
    edge: SocketAddr,
    (upstream, instance): (UpstreamSettings, u64),
) -> Arc<Connector> {
    let settings = ConnectorSettings {
        edge_tls: link.map(|_| Arc::new(EdgeTls::new(roots_of(authority), WallClock::default(), 1).unwrap())),
        transport: link.unwrap_or(LinkTransport::Tcp),
        quic: quic_keys(),
        edge_name: Some(HOST.into()),
        links,
        backoff_min: Duration::from_millis(10),
        backoff_max: Duration::from_millis(100),
        drain_timeout: Duration::from_secs(5),
        ..ConnectorSettings::for_tests(edge, tunnel(), Secret::from("0123456789abcdef"))
    };
    let route = ConnectorRoute {
        name: "test".parse().unwrap(),
        upstream,
        traffic,
        identity: RouteIdentity::default(),
        resend: None,
        auth: None,
        policy: None,
        sends_timeout: false,
        client_timeout: None,
        first_byte_timeout: None,
        deadlines: DeadlineTerms::default(),
        breaker: BreakerTerms::default(),
        concurrency: ConcurrencyTerms { queue_time: PATIENCE, ..ConcurrencyTerms::default() },
        tools: Arc::default(),
    };
    let entry = RouteEntry { host: HOST.to_owned(), place: "here".to_owned(), target: route };
    let callers = CallerAuthorities::default();
    callers.set(0, authority.cert_der().clone());
    let sealing = Sealing {
        passthrough: tls_server(authority, &[ALPN_HTTP2, ALPN_HTTP1], Clients::Anyone),
        passthrough_asking: tls_server(authority, &[ALPN_HTTP2, ALPN_HTTP1], Clients::Asked),
        resealed: tls_server(authority, &[ALPN_HTTP1], Clients::Edges(Arc::new(callers))),
    };
    let tables = ConnectorTables { routes: RouteTable::new([entry]).unwrap(), sealing: Some(sealing), ingress: None };
    let (events, _) = mailbox(64);
    Connector::new(settings, tables, cores, instance, &events)
}

/// An agent's connection, of rustls alone.
pub(crate) type Agent = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

/// One tool call, whose answer must be the upstream's.
pub(crate) fn call(agent: &mut Agent) {
    call_with(agent, "");
}

/// The same with more fields in its head. With `the-session` in them, the upstream names that session in its answer.
pub(crate) fn call_with(agent: &mut Agent, fields: &str) {
    send_call(agent, fields);
    let answer = read_message(agent);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("Server-Timing: "), "{answer}");
    assert!(answer.ends_with("\"result\":{}}"), "{answer}");
}

/// Sends a tool call, and does not wait for its answer.
pub(crate) fn send_call(agent: &mut Agent, fields: &str) {
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n{fields}Content-Length: {}\r\n\r\n",
        TOOL_CALL.len()
    );
    agent.write_all(format!("{head}{TOOL_CALL}").as_bytes()).unwrap();
}

/// One message with a `Content-Length`, head and body.
pub(crate) fn read_message(from: &mut impl Read) -> String {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_ascii_lowercase().split("content-length: ").nth(1).unwrap_or("0").to_owned();
            if body.len() >= length.split("\r\n").next().unwrap().parse().unwrap() {
                return text.into_owned();
            }
        }
        match from.read(&mut piece).unwrap() {
            0 => return String::new(),
            n => bytes.extend_from_slice(&piece[..n]),
        }
    }
}

/// Answers each call; a request for `/bytes/N` with so many bytes.
fn serve_upstream() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            thread::spawn(move || {
                loop {
                    let request = read_message(&mut socket);
                    let Some(path) = request.split(' ').nth(1) else { return };
                    let body = match path.strip_prefix("/bytes/") {
                        Some(len) => "x".repeat(len.parse().unwrap()),
                        None => r#"{"jsonrpc":"2.0","id":7,"result":{}}"#.to_owned(),
                    };
                    let length = body.len();
                    let session = if request.contains("the-session") { "Mcp-Session-Id: the-session\r\n" } else { "" };
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{session}Content-Length: {length}"
                    );
                    // A connection that the call's end has broken is dropped.
                    if socket.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}
