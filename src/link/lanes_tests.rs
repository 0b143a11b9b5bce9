//! Links over QUIC between two simulated hosts.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::Duration;

use rustls::pki_types::UnixTime;

use crate::base::{CoreId, LinkId, Secret, Time, Traffic};
use crate::engine::ladder::{self, DriverChoice};
use crate::engine::sim::{Faults, SimNet, Simulation};
use crate::engine::{ByteStream, Core, Pool, send_bytes};
use crate::link::{Link, LinkEnded, LinkStream};
use crate::quic::{QuicEndpoint, QuicRoles, quic_client};
use crate::tls::{
    ALPN_LINK, Authority, CertSet, ClientSettings, ReloadingCerts, Roots, ServerSettings, client_config, server_config,
};
use crate::wire::mux::{Cause, EdgeIdentity, Fault, Hello, Open, Settings};
use crate::wire::quic::{QuicKeys, QuicSettings};

const EDGE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 7844);
const CONNECTOR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const PATIENCE: Duration = Duration::from_secs(120);

struct Bed {
    sim: Simulation,
    net: SimNet,
    ends: Ends,
}

/// Both ends of one link, on any driver.
#[derive(Clone)]
struct Ends {
    /// Both ends of the link, once it is up.
    links: Rc<RefCell<Vec<Link>>>,
    ended: Rc<RefCell<Vec<LinkEnded>>>,
    echoed: Rc<Cell<usize>>,
    edge: Core,
}

fn keys() -> QuicKeys {
    QuicKeys::draw(|bytes| aws_lc_rs::rand::fill(bytes).unwrap())
}

fn roles(tls: impl Fn() -> Option<std::sync::Arc<crate::tls::ServerConfig>> + 'static) -> QuicRoles {
    QuicRoles { admits: Box::new(|_| true), server_tls: Box::new(tls), on_stranger: Box::new(|_| {}), elsewhere: None }
}

impl Bed {
    /// An edge and a connector whose link is up.
    fn new(seed: u64, faults: Faults) -> Bed {
        let net = SimNet::new(seed, faults);
        let mut sim = Simulation::new(net.clone());
        let mut core = |host: IpAddr| {
            let pool = Pool::new(16 << 20);
            let driver = net.driver(host, pool.clone());
            let id = driver.id();
            let core = Core::new(CoreId(0), Box::new(driver), pool, Duration::ZERO);
            sim.add(id, core.clone());
            core
        };
        let (edge, connector) = (core(EDGE.ip()), core(CONNECTOR));
        let mut bed = Bed { sim, net, ends: Ends::start(&edge, EDGE, &connector) };
        let links = Rc::clone(&bed.ends.links);
        bed.until(|| links.borrow().len() == 2);
        bed
    }

    #[track_caller]
    fn until(&mut self, done: impl FnMut() -> bool) {
        let deadline = self.net.now() + PATIENCE;
        self.sim.run(deadline, done).unwrap();
    }

    #[track_caller]
    fn until_echoed(&mut self, calls: usize) {
        let echoed = Rc::clone(&self.ends.echoed);
        self.until(|| echoed.get() == calls);
    }
}

impl Ends {
    /// An edge at `at`, and a connector that dials it.
    fn start(edge: &Core, at: SocketAddr, connector: &Core) -> Ends {
        let authority = Authority::new("test", UnixTime::now(), 1).unwrap();
        let certificate = authority.issue(&["edge.test"]).unwrap().server_cert(UnixTime::now()).unwrap();
        let alpn = vec![ALPN_LINK.to_vec()];
        let server = ServerSettings { alpn: alpn.clone(), ..ServerSettings::default() };
        let server = server_config(ReloadingCerts::new(CertSet::new([certificate]).unwrap()), &server).unwrap();
        let mut roots = Roots::new();
        roots.add_der(authority.cert_der().clone()).unwrap();
        let client = client_config(ClientSettings { roots, alpn, ..ClientSettings::default() }).unwrap();
        let (links, ended, echoed) = (Rc::default(), Rc::default(), Rc::default());
        let ends = Ends { links, ended, echoed, edge: edge.clone() };
        ends.start_edge(at, roles(move || Some(server.clone())));
        ends.start_connector(connector, at, client);
        ends
    }

    fn start_edge(&self, at: SocketAddr, roles: QuicRoles) {
        let core = &self.edge;
        let endpoint = QuicEndpoint::bind(core, at, QuicSettings::default(), &keys(), roles).unwrap();
        core.spawn(endpoint.clone().run());
        let (on, links, ended) = (core.clone(), Rc::clone(&self.links), Rc::clone(&self.ended));
        core.spawn(async move {
            let connection = Rc::new(endpoint.accept().await);
            let link = Link::edge(&on, LinkId(1), Settings::default());
            let running = link.clone();
            on.spawn(async move {
                let how = running.run_quic(&connection, true).await;
                ended.borrow_mut().push(how);
            });
            link.hello().await.unwrap();
            link.welcome(EdgeIdentity { instance: 1, core: CoreId(0), cores: 1 });
            links.borrow_mut().push(link);
            std::future::pending::<()>().await;
        });
    }

    fn start_connector(&self, core: &Core, at: SocketAddr, tls: std::sync::Arc<crate::tls::ClientConfig>) {
        let any = if at.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let any = SocketAddr::new(any, 0);
        let endpoint = QuicEndpoint::bind(core, any, QuicSettings::default(), &keys(), roles(|| None)).unwrap();
        core.spawn(endpoint.clone().run());
        let (on, links, ended) = (core.clone(), Rc::clone(&self.links), Rc::clone(&self.ended));
        core.spawn(async move {
            let crypto = quic_client(&tls).unwrap();
            let deadline = on.turn_time() + PATIENCE;
            let connection = Rc::new(endpoint.connect(crypto, at, "edge.test", deadline).await.unwrap());
            let hello = Hello {
                tunnel: "tnl_test".parse().unwrap(),
                secret: Secret::from("a secret of the tunnel"),
                instance: 7,
                software: "test".to_owned(),
                link_index: 0,
            };
            let link = Link::connector(&on, LinkId(2), Settings::default(), hello).unwrap();
            let running = link.clone();
            on.spawn(async move {
                let how = running.run_quic(&connection, false).await;
                ended.borrow_mut().push(how);
            });
            link.welcomed().await.unwrap();
            links.borrow_mut().push(link.clone());
            while let Some(stream) = link.accept().await {
                let echoing = on.clone();
                on.spawn(async move { echo(&echoing, &stream).await });
            }
        });
    }

    /// Opens calls that send so many bytes each, and counts those whose bytes came back.
    fn call(&self, calls: usize, len: usize) {
        let edge = self.edge_link();
        for n in 0..calls {
            let (link, core, echoed) = (edge.clone(), self.edge.clone(), Rc::clone(&self.echoed));
            self.edge.spawn(async move {
                let stream = link.open(&open()).unwrap();
                let bytes = vec![n as u8; len];
                let sending = async {
                    send_bytes(&stream, core.pool(), &bytes).await.unwrap();
                    stream.finish();
                    std::future::pending::<Vec<u8>>().await
                };
                let back = futures_lite::future::or(read_all(&stream), sending).await;
                assert!(back == bytes, "{} bytes of {len}", back.len());
                echoed.set(echoed.get() + 1);
            });
        }
    }

    fn edge_link(&self) -> Link {
        self.links.borrow().iter().find(|link| link.id() == LinkId(1)).unwrap().clone()
    }
}

fn open<'a>() -> Open<'a> {
    Open { route: "mcp.test", call: 1, traffic: Traffic::Plain, peer: None, until: None }
}

async fn read_all(stream: &LinkStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(lease) = stream.recv().await.unwrap() {
        bytes.extend_from_slice(&lease);
    }
    bytes
}

async fn echo(core: &Core, stream: &LinkStream) {
    while let Ok(Some(lease)) = stream.recv().await {
        if send_bytes(stream, core.pool(), &lease).await.is_err() {
            return;
        }
    }
    stream.finish();
    let _ = stream.flushed().await;
}

fn rough(seed: u64) -> Faults {
    Faults {
        delay_ns_min: 3_000_000,
        delay_ns_max: 3_000_000,
        datagram_bytes_max: 1_472,
        datagram_loss_chance: 0.02,
        datagram_double_chance: 0.02,
        datagram_late_chance: 0.1,
        datagram_late_ns_max: 9_000_000,
        datagram_rebind_chance: if seed.is_multiple_of(2) { 0.005 } else { 0.0 },
        ..Faults::none()
    }
}

#[test]
fn calls_come_back_whole_whatever_happens_to_datagrams() {
    for seed in 1..=4 {
        let mut bed = Bed::new(seed, if seed == 1 { Faults::none() } else { rough(seed) });
        bed.ends.call(30, 2_000);
        bed.ends.call(2, 300_000);
        bed.until_echoed(32);
        bed.ends.call(1, 1);
        bed.until_echoed(33);
        assert!(bed.ends.ended.borrow().is_empty(), "seed {seed}: {:?}", bed.ends.ended.borrow());
    }
}

#[test]
fn nothing_of_a_call_is_left_after_its_end() {
    let mut bed = Bed::new(5, Faults::none());
    for round in 1..=3 {
        bed.ends.call(20, 500);
        bed.until_echoed(20 * round);
        let until = bed.net.now() + Duration::from_secs(1);
        bed.sim.run_until(until).unwrap();
        assert!(bed.ends.links.borrow().iter().all(|link| link.streams_live() == 0 && link.streams_held() == 0));
    }
}

#[test]
fn a_reset_reaches_the_other_side_with_its_cause() {
    let mut bed = Bed::new(6, Faults::none());
    let stream = bed.ends.edge_link().open(&open()).unwrap();
    // The connector echoes nothing of a stream that is reset before it ended.
    let broken = Rc::new(Cell::new(None));
    let (seen, core) = (Rc::clone(&broken), bed.ends.edge.clone());
    bed.ends.edge.spawn(async move {
        send_bytes(&stream, core.pool(), b"begun").await.unwrap();
        let first = stream.recv().await.unwrap();
        assert_eq!(first.as_deref(), Some(&b"begun"[..]));
        stream.reset(Cause::NotNeeded);
        seen.set(stream.reset_cause());
    });
    bed.until(|| broken.get().is_some());
    let until = bed.net.now() + Duration::from_secs(1);
    bed.sim.run_until(until).unwrap();
    assert!(bed.ends.links.borrow().iter().all(|link| link.streams_live() == 0 && link.streams_held() == 0));
    assert!(bed.ends.ended.borrow().is_empty());
}

#[test]
fn a_close_is_told_with_its_reason_and_silence_is_noticed() {
    let mut bed = Bed::new(7, Faults::none());
    bed.ends.edge_link().close(Fault::Revoked);
    let ended = Rc::clone(&bed.ends.ended);
    bed.until(|| ended.borrow().len() == 2);
    assert!(bed.ends.ended.borrow().iter().all(|ended| ended.fault == Fault::Revoked), "{:?}", bed.ends.ended.borrow());

    let mut bed = Bed::new(8, Faults::none());
    bed.net.set_faults(Faults { datagram_loss_chance: 1.0, ..Faults::none() });
    let ended = Rc::clone(&bed.ends.ended);
    bed.until(|| ended.borrow().len() == 2);
    assert!(bed.net.now() < Time::ZERO + Duration::from_secs(30));
}

#[test]
fn calls_go_over_real_sockets_on_each_driver() {
    for (choice, at) in [
        (DriverChoice::Epoll, IpAddr::from(Ipv4Addr::LOCALHOST)),
        (DriverChoice::Auto, Ipv4Addr::LOCALHOST.into()),
        (DriverChoice::Auto, Ipv6Addr::LOCALHOST.into()),
    ] {
        // Free a moment ago, and nobody else asks for UDP ports here.
        let at = UdpSocket::bind((at, 0)).unwrap().local_addr().unwrap();
        let pool = Pool::new(16 << 20);
        let core = Core::new(CoreId(0), ladder::start(choice, &pool).unwrap().driver, pool, Duration::ZERO);
        let ends = Ends::start(&core, at, &core);
        let watched = core.clone();
        core.run(async move {
            while ends.links.borrow().len() < 2 {
                watched.sleep(Duration::from_millis(1)).await;
            }
            ends.call(20, 3_000);
            ends.call(1, 1_000_000);
            while ends.echoed.get() < 21 {
                watched.sleep(Duration::from_millis(1)).await;
            }
            assert!(ends.ended.borrow().is_empty());
        })
        .unwrap();
    }
}
