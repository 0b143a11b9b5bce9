//! A whole call, from an agent over TLS through edge, link and connector to an upstream, allocates nothing on a core's
//! thread, once the connections are warm.
//!
//! Counted on the core's thread by an allocator of this test's own; agent and upstream are on other threads.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use adit::base::{Secret, TunnelId};
use adit::connector::{Connector, ConnectorCommand, ConnectorRoute, ConnectorSettings, ConnectorTables, EdgeAddress};
use adit::edge::{Edge, EdgeCommand, EdgeEvent, EdgeSettings, EdgeTables, TunnelEntry};
use adit::engine::ladder::DriverChoice;
use adit::engine::{Cores, EngineSettings, MailSender, mailbox};
use adit::latency::{LatencySettings, SlowCallSettings};
use adit::route::{Route, RouteEntry, RouteTable};
use adit::tls::{
    ALPN_HTTP1, ALPN_LINK, Authority, CertSet, ClientSettings, ReloadingCerts, Roots, ServerConfig, ServerSettings,
    Versions, client_config, server_config,
};
use adit::upstream::{Resolver, UpstreamSettings};
use adit::wire::mux;
use rustls::pki_types::{ServerName, UnixTime};

thread_local! {
    /// Where this thread's allocations are counted; nowhere, for most threads.
    static COUNTER: Cell<Option<&'static AtomicU64>> = const { Cell::new(None) };
}

static ON_CORE: AtomicU64 = AtomicU64::new(0);

fn count() {
    if let Some(counter) = COUNTER.get() {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator as it came; the counter is a plain thread-local without a
// destructor, so that touching it neither allocates nor fails.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: the caller's promise is the one that `System` asks for.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: the caller's promise is the one that `System` asks for.
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: `place` came from `System` with this layout, as `alloc` passes everything on.
        unsafe { System.dealloc(place, layout) }
    }

    // SAFETY: the caller's promise is the one that `System` asks for.
    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: `place` came from `System` with this layout, as `alloc` passes everything on.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const HOST: &str = "mcp.test";
const TOOL_CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo","arguments":{}}}"#;

#[test]
fn a_call_allocates_nothing_on_a_core() {
    for driver in [DriverChoice::Epoll, DriverChoice::Uring] {
        let (counted, calls) = allocations_of_warm_calls(driver);
        assert_eq!(counted, 0, "{driver:?}: allocations in {calls} calls");
    }
}

fn allocations_of_warm_calls(driver: DriverChoice) -> (u64, u32) {
    let upstream = serve_upstream();
    let authority = Authority::new("adit test", UnixTime::now(), 1).unwrap();
    let (told, mut events) = mailbox(64);
    let (edge, agents, connectors) = edge(&authority, &told);
    let connector = connector(&authority, connectors, upstream);
    let engine = EngineSettings { driver, cores: 1, pin: false, ..EngineSettings::default() };
    let roles = (Arc::clone(&edge), Arc::clone(&connector));
    let cores = Cores::start(&engine, move |core| {
        COUNTER.set(Some(&ON_CORE));
        let (edge, connector) = roles.clone();
        let resolver = Resolver::Table(Rc::new(|_, _| Vec::new()));
        async move {
            futures_lite::future::zip(edge.run(core.clone()), connector.run(core, resolver)).await;
        }
    })
    .unwrap();

    assert!(matches!(futures_lite::future::block_on(events.recv()), Some(EdgeEvent::Listening(_))));
    let mut agent = agent(&authority, agents);
    (0..500).for_each(|_| call(&mut agent));
    let before = ON_CORE.load(Ordering::Relaxed);
    let calls = 1000;
    (0..calls).for_each(|_| call(&mut agent));
    let counted = ON_CORE.load(Ordering::Relaxed) - before;
    drop(agent);
    edge.command(|| EdgeCommand::Drain);
    connector.command(|| ConnectorCommand::Drain);
    cores.join().unwrap();
    (counted, calls)
}

fn tls_server(authority: &Authority, alpn: &[u8]) -> Arc<ServerConfig> {
    let cert = authority.issue(&[HOST]).unwrap().server_cert(UnixTime::now()).unwrap();
    let certs = ReloadingCerts::new(CertSet::new([cert]).unwrap());
    server_config(certs, &ServerSettings { alpn: vec![alpn.to_vec()], versions: Versions::Tls13 }).unwrap()
}

fn tls_client(authority: &Authority, alpn: &[u8]) -> Arc<adit::tls::ClientConfig> {
    let mut roots = Roots::new();
    roots.add_der(authority.cert_der().clone()).unwrap();
    client_config(ClientSettings { roots, alpn: vec![alpn.to_vec()], ..ClientSettings::default() }).unwrap()
}

/// A port that was free a moment ago.
fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

fn tunnel() -> TunnelId {
    "tnl_test".parse().unwrap()
}

fn edge(authority: &Authority, events: &MailSender<EdgeEvent>) -> (Arc<Edge>, SocketAddr, SocketAddr) {
    let (agents_listen, connectors_listen) = (free_address(), free_address());
    let settings = EdgeSettings {
        agents_listen,
        agents_tls: Some(tls_server(authority, ALPN_HTTP1)),
        plain_http_anywhere: false,
        connectors_listen,
        connectors_tls: Some(tls_server(authority, ALPN_LINK)),
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
    let route = Route { name: "test".parse().unwrap(), tunnel: tunnel() };
    let entry = RouteEntry { host: HOST.to_owned(), place: "here".to_owned(), target: route };
    let tables = EdgeTables {
        routes: RouteTable::new([entry]).unwrap(),
        tunnels: HashMap::from([(tunnel(), TunnelEntry { secret: Secret::from("0123456789abcdef") })]),
    };
    (Edge::new(settings, tables, 1, 1, events), agents_listen, connectors_listen)
}

fn connector(authority: &Authority, edge: SocketAddr, upstream: SocketAddr) -> Arc<Connector> {
    let settings = ConnectorSettings {
        edges: vec![EdgeAddress { host: edge.ip().to_string().into(), port: edge.port() }],
        edge_tls: Some(tls_client(authority, ALPN_LINK)),
        edge_name: Some(HOST.into()),
        tunnel: tunnel(),
        secret: Secret::from("0123456789abcdef"),
        software: "test".to_owned(),
        links: 0,
        backoff_min: Duration::from_millis(10),
        backoff_max: Duration::from_millis(100),
        connect_timeout: Duration::from_secs(10),
        link: mux::Settings::default(),
        calls_max: 100,
        drain_timeout: Duration::from_secs(5),
    };
    let upstream = UpstreamSettings {
        url: format!("http://{upstream}").parse().unwrap(),
        tls: None,
        connections_max: 10,
        connect_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(60),
        queue_timeout: Duration::from_secs(10),
    };
    let route = ConnectorRoute { name: "test".parse().unwrap(), upstream };
    let entry = RouteEntry { host: HOST.to_owned(), place: "here".to_owned(), target: route };
    let tables = ConnectorTables { routes: RouteTable::new([entry]).unwrap() };
    let (events, _) = mailbox(64);
    Connector::new(settings, tables, 1, 2, &events)
}

type Agent = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

fn agent(authority: &Authority, edge: SocketAddr) -> Agent {
    let session =
        rustls::ClientConnection::new(tls_client(authority, ALPN_HTTP1), ServerName::try_from(HOST).unwrap()).unwrap();
    rustls::StreamOwned::new(session, TcpStream::connect(edge).unwrap())
}

fn call(agent: &mut Agent) {
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        TOOL_CALL.len()
    );
    agent.write_all(format!("{head}{TOOL_CALL}").as_bytes()).unwrap();
    let answer = read_message(agent);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("Server-Timing: edge;dur="), "{answer}");
    assert!(answer.ends_with("\"result\":{}}"), "{answer}");
}

/// One message with a `Content-Length`, head and body.
fn read_message(from: &mut impl Read) -> String {
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

fn serve_upstream() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            thread::spawn(move || {
                let body = r#"{"jsonrpc":"2.0","id":7,"result":{}}"#;
                let head =
                    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
                while !read_message(&mut socket).is_empty() {
                    socket.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
                }
            });
        }
    });
    address
}
