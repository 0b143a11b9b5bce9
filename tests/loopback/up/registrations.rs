//! Ten thousand registrations that are not as they should be: the edge goes on, and does not grow.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use adit::base::{Rng, Secret};
use adit::tls::{
    ALPN_ENROL, ALPN_LINK, ClientConfig, ClientSettings, CurrentIdentity, Identity, KeyRequest, Roots, ServerName,
    client_config,
};
use adit::wire::enrol::{Credential, EnrolAnswer, EnrolMessage, EnrolReader, EnrolRequest};
use rustls::ClientConnection;

use super::trust::{Site, drivers};

const REGISTRATIONS: u64 = 10_000;
/// As many before memory is looked at for the first time.
const WARM_UP: u64 = 2_000;
/// What ten thousand may leave behind that is not a leak: what the allocator keeps, the system's own noise.
const GROWTH_MAX_KIB: u64 = 6 * 1024;
/// The edge gives a stranger 10 s; who is not done with one after this has forgotten it.
const PATIENCE: Duration = Duration::from_secs(30);
const THREADS: u64 = 4;

/// What is sent: what a connector would send, changed here and there.
struct Seeds {
    edge: SocketAddr,
    link: Arc<ClientConfig>,
    enrol: Arc<ClientConfig>,
    hello: Vec<u8>,
    request: Vec<u8>,
    client_hello: Vec<u8>,
}

impl Seeds {
    fn new(site: &Site, edge: SocketAddr) -> Seeds {
        let config = |alpn: &[u8], identity: Option<Arc<CurrentIdentity>>| {
            let mut roots = Roots::new();
            roots.add_pem("ca.pem", &std::fs::read(site.path("ca.pem")).unwrap()).unwrap();
            let identity = identity.map(|identity| identity as _);
            let settings = ClientSettings { roots, alpn: vec![alpn.to_vec()], identity, ..ClientSettings::default() };
            client_config(settings).unwrap()
        };
        let secret = std::fs::read(site.path("secret")).unwrap();
        let enrol = config(ALPN_ENROL, None);
        let key = KeyRequest::new().unwrap();
        let request = EnrolRequest {
            credential: Credential::Tunnel { id: "tnl_a".parse().unwrap(), secret: Secret::new(secret.clone()) },
            software: "test".to_owned(),
            csr: key.csr().to_vec(),
        };
        let request = request.encode().unwrap().expose().to_vec();
        let identity = Arc::new(CurrentIdentity::default());
        identity.replace(Some(&enrolled(edge, &enrol, &request, key)));
        let link = config(ALPN_LINK, Some(identity));
        let mut first = Vec::new();
        session(&link).write_tls(&mut first).unwrap();
        Seeds { edge, link, enrol, hello: hello(&secret), request, client_hello: first }
    }

    /// One registration, and all that the edge says to it.
    fn register(&self, rng: &mut Rng) {
        match rng.below(6) {
            0 => self.sealed(&self.link, &mutated(&self.hello, rng)),
            1 => self.sealed(&self.enrol, &mutated(&self.request, rng)),
            // The one in the other's place.
            2 => self.sealed(if rng.chance(0.5) { &self.enrol } else { &self.link }, &mutated(&self.hello, rng)),
            3 | 4 => self.plain(&mutated(&self.client_hello, rng)),
            _ => self.plain(&(0..rng.between(0, 600)).map(|_| rng.next_u64() as u8).collect::<Vec<_>>()),
        }
    }

    fn sealed(&self, config: &Arc<ClientConfig>, bytes: &[u8]) {
        let (mut session, mut socket) = (session(config), self.connect());
        // Whatever the edge does about it is right, as long as it does something.
        let sent = rustls::Stream::new(&mut session, &mut socket).write_all(bytes);
        if sent.is_ok() {
            let _ = socket.shutdown(Shutdown::Write);
        }
        to_the_end(&mut socket);
    }

    fn plain(&self, bytes: &[u8]) {
        let mut socket = self.connect();
        let _ = socket.write_all(bytes).and_then(|()| socket.shutdown(Shutdown::Write));
        to_the_end(&mut socket);
    }

    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.edge).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }
}

/// Reads until the edge has closed the connection, as it must.
fn to_the_end(socket: &mut TcpStream) {
    let mut piece = [0; 4096];
    loop {
        match socket.read(&mut piece) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                let forgotten = matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
                return assert!(!forgotten, "the edge has forgotten a connection");
            }
        }
    }
}

fn session(config: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(Arc::clone(config), ServerName::try_from("localhost").unwrap()).unwrap()
}

/// Enrols as it should be done.
fn enrolled(edge: SocketAddr, config: &Arc<ClientConfig>, request: &[u8], key: KeyRequest) -> Identity {
    let (mut session, mut socket) = (session(config), TcpStream::connect(edge).unwrap());
    let mut stream = rustls::Stream::new(&mut session, &mut socket);
    stream.write_all(request).unwrap();
    let mut incoming = EnrolReader::<EnrolAnswer>::default();
    let mut piece = [0; 4096];
    let answer = loop {
        let n = stream.read(&mut piece).unwrap();
        if let Some(answer) = incoming.receive(&piece[..n]).unwrap() {
            break answer;
        }
    };
    let EnrolAnswer::Granted(grant) = answer else { panic!("{answer:?}") };
    key.into_identity(grant.chain.into_iter().map(Into::into).collect()).unwrap()
}

/// HELLO, byte by byte as docs/PROTOCOL.md has it.
fn hello(secret: &[u8]) -> Vec<u8> {
    let mut payload = b"adit\0\x01\0\x01\x05tnl_a".to_vec();
    payload.extend((secret.len() as u16).to_be_bytes());
    payload.extend(secret);
    payload.extend([0, 0, 0, 0, 0, 0, 0, 9, 4]);
    payload.extend(b"test\0\0");
    let mut frame = (payload.len() as u16).to_be_bytes().to_vec();
    frame.extend([1, 0, 0, 0, 0, 0]);
    frame.extend(payload);
    frame
}

fn mutated(bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.below(6) {
        let at = rng.below(bytes.len() as u64) as usize;
        match rng.below(6) {
            0 => bytes[at] = rng.next_u64() as u8,
            1 => bytes[at] ^= 1 << rng.below(8),
            2 => bytes.truncate(at + 1),
            3 => bytes.insert(at, rng.next_u64() as u8),
            4 => drop(bytes.splice(at..at, std::iter::repeat_n(0xff, 300))),
            _ => bytes.swap(0, at),
        }
    }
    bytes
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn ten_thousand_registrations_that_are_wrong_do_no_harm() {
    let site = Site::new();
    for driver in drivers() {
        let (edge, _, connectors) = site.edge(&driver, "1h", "127.0.0.1:0");
        let seeds = Seeds::new(&site, connectors.parse().unwrap());
        let many = |count: u64, seed: u64| {
            std::thread::scope(|scope| {
                for thread in 0..THREADS {
                    let (seeds, mut rng) = (&seeds, Rng::new(seed + thread));
                    scope.spawn(move || (0..count / THREADS).for_each(|_| seeds.register(&mut rng)));
                }
            });
        };
        many(WARM_UP, 1);
        let before = resident_kib(edge.pid());
        many(REGISTRATIONS, 100);
        let grown = resident_kib(edge.pid()).saturating_sub(before);
        assert!(grown < GROWTH_MAX_KIB, "{driver}: {grown} KiB more than before");
        // It still does what it is for.
        let connector =
            site.connect(&driver, &connectors, &["--token-file", site.path("adit.token").to_str().unwrap()]);
        connector.event("certified");
        connector.event("linked");
        drop(connector);
        assert_eq!(edge.ended_by("TERM"), Some(0), "no core has panicked");
    }
}
