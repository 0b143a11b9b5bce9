//! Both sides of a connection in memory: this implementation with itself and with rustls's own record layer.

mod certificates;
mod clients;
mod faults;
mod interop;
mod streams;

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::{CipherSuite, ClientConfig, ServerConfig, SupportedCipherSuite};
use rustls_pki_types::{ServerName, UnixTime};

use super::config::{client_config_with, server_config_with};
use super::*;
use crate::base::Rng;
use crate::engine::{Class, LARGE_LEN, Pool, SMALL_LEN};

const NAME: &str = "edge.example.com";

/// An authority, and configurations that agree with each other.
struct World {
    authority: Authority,
    certs: Arc<ReloadingCerts>,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

fn now() -> UnixTime {
    UnixTime::now()
}

fn issue(authority: &Authority, names: &[&str]) -> ServerCert {
    authority.issue(names).unwrap().server_cert(now()).unwrap()
}

fn roots_of(authority: &Authority) -> Roots {
    let mut roots = Roots::new();
    roots.add_pem("ca.pem", authority.cert_pem().as_bytes()).unwrap();
    roots
}

fn name() -> ServerName<'static> {
    ServerName::try_from(NAME).unwrap()
}

impl World {
    fn new(versions: Versions) -> World {
        World::with(provider(), versions)
    }

    /// A world that speaks one suite only.
    fn of_suite(suite: SupportedCipherSuite) -> World {
        World::with(
            Arc::new(CryptoProvider { cipher_suites: vec![suite], ..(*provider()).clone() }),
            Versions::Tls12And13,
        )
    }

    fn with(provider: Arc<CryptoProvider>, versions: Versions) -> World {
        let authority = Authority::new("test authority", now(), 2).unwrap();
        let certs = ReloadingCerts::new(CertSet::new([issue(&authority, &[NAME])]).unwrap());
        let settings = ServerSettings {
            alpn: vec![ALPN_LINK.to_vec(), ALPN_HTTP1.to_vec()],
            versions,
            ..ServerSettings::default()
        };
        let server = server_config_with(Arc::clone(&provider), Arc::clone(&certs) as _, &settings).unwrap();
        let client = ClientSettings {
            roots: roots_of(&authority),
            alpn: vec![ALPN_HTTP1.to_vec()],
            versions: if provider.cipher_suites.len() == 1 { suite_versions(&provider) } else { versions },
            sessions: Some(SessionMemory::default()),
            ..ClientSettings::default()
        };
        let client = client_config_with(provider, client).unwrap();
        World { authority, certs, server, client }
    }

    fn our_client(&self) -> Ours {
        Ours::new(Session::client(Arc::clone(&self.client), name()).unwrap())
    }

    fn our_server(&self) -> Ours {
        Ours::new(Session::server(Arc::clone(&self.server)).unwrap())
    }

    fn their_client(&self) -> Theirs {
        Theirs::new(rustls::ClientConnection::new(Arc::clone(&self.client), name()).unwrap().into())
    }

    fn their_server(&self) -> Theirs {
        Theirs::new(rustls::ServerConnection::new(Arc::clone(&self.server)).unwrap().into())
    }

    /// A pair that has completed its handshake.
    fn open(&self) -> (Ours, Ours) {
        let (mut client, mut server) = (self.our_client(), self.our_server());
        exchange(&mut client, &mut server, &mut Rng::new(1)).unwrap();
        assert!(!client.session.is_handshaking() && !server.session.is_handshaking());
        (client, server)
    }
}

fn suite_versions(provider: &CryptoProvider) -> Versions {
    match provider.cipher_suites[0] {
        SupportedCipherSuite::Tls13(_) => Versions::Tls13,
        SupportedCipherSuite::Tls12(_) => Versions::Tls12And13,
    }
}

/// One end of a connection in memory.
trait Side {
    /// Takes bytes in, cut where `rng` says.
    fn feed(&mut self, bytes: &[u8], rng: &mut Rng) -> Result<(), TlsError>;
    /// What is to be sent.
    fn outgoing(&mut self) -> Vec<u8>;
    /// Seals `bytes`; they are then outgoing.
    fn write(&mut self, bytes: &[u8], rng: &mut Rng);
    /// All plaintext so far.
    fn plain(&self) -> &[u8];
}

struct Ours {
    session: Session,
    pool: Pool,
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

impl Ours {
    fn new(session: Session) -> Ours {
        Ours { session, pool: Pool::new(0), plain: Vec::new(), sealed: Vec::new() }
    }

    fn read(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(LARGE_LEN) {
            let mut lease = self.pool.take(Class::Large).unwrap();
            lease.append(part);
            self.session.read(lease);
        }
    }

    fn take_all(&mut self) -> Result<(), TlsError> {
        while let Some(plain) = self.session.take_plaintext(&self.pool)? {
            assert!(!plain.is_empty());
            assert!(plain.headroom() >= self.session.headroom() && plain.tailroom() >= self.session.tailroom());
            self.plain.extend_from_slice(&plain);
        }
        Ok(())
    }

    fn fetch_outgoing(&mut self) {
        while let Some(lease) = self.session.take_outgoing(&self.pool).unwrap() {
            self.sealed.extend_from_slice(&lease);
        }
    }

    /// Seals a lease whose room is as `rng` says.
    fn seal(&mut self, bytes: &[u8], rng: &mut Rng) -> Result<(), TlsError> {
        let mut lease = self.pool.take(Class::Large).unwrap();
        if rng.chance(0.5) && bytes.len() + 100 < lease.capacity() {
            lease.reserve_headroom(self.session.headroom() + rng.below(3) as usize);
        }
        lease.append(bytes);
        loop {
            match self.session.seal(lease, &self.pool) {
                Ok(Sealed::All(sealed)) => {
                    self.sealed.extend_from_slice(&sealed);
                    return Ok(());
                }
                Ok(Sealed::Part { sealed, rest }) => {
                    self.sealed.extend_from_slice(&sealed);
                    lease = rest;
                }
                Err(Unsealed { error: TlsError::OutgoingFirst, lease: same }) => {
                    self.fetch_outgoing();
                    lease = same;
                }
                Err(Unsealed { error, .. }) => return Err(error),
            }
        }
    }
}

impl Side for Ours {
    fn feed(&mut self, mut bytes: &[u8], rng: &mut Rng) -> Result<(), TlsError> {
        while !bytes.is_empty() {
            let n = (rng.between(1, 40_000) as usize).min(bytes.len());
            let class = if n <= SMALL_LEN { Class::Small } else { Class::Large };
            let mut lease = self.pool.take(class).unwrap();
            lease.append(&bytes[..n]);
            self.session.read(lease);
            bytes = &bytes[n..];
            if rng.chance(0.7) {
                self.take_all()?;
            }
        }
        self.take_all()
    }

    fn outgoing(&mut self) -> Vec<u8> {
        self.fetch_outgoing();
        std::mem::take(&mut self.sealed)
    }

    fn write(&mut self, bytes: &[u8], rng: &mut Rng) {
        for part in bytes.chunks(LARGE_LEN) {
            self.seal(part, rng).unwrap();
        }
    }

    fn plain(&self) -> &[u8] {
        &self.plain
    }
}

struct Theirs {
    connection: rustls::Connection,
    plain: Vec<u8>,
}

impl Theirs {
    fn new(mut connection: rustls::Connection) -> Theirs {
        connection.set_buffer_limit(None);
        Theirs { connection, plain: Vec::new() }
    }
}

impl Side for Theirs {
    fn feed(&mut self, mut bytes: &[u8], _: &mut Rng) -> Result<(), TlsError> {
        while !bytes.is_empty() {
            self.connection.read_tls(&mut bytes).unwrap();
            self.connection.process_new_packets()?;
            // Ends with "would block" when there is no more.
            let _ = self.connection.reader().read_to_end(&mut self.plain);
        }
        Ok(())
    }

    fn outgoing(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut out).unwrap();
        }
        out
    }

    fn write(&mut self, bytes: &[u8], _: &mut Rng) {
        self.connection.writer().write_all(bytes).unwrap();
    }

    fn plain(&self) -> &[u8] {
        &self.plain
    }
}

/// Carries bytes between the two until both are silent. Returns the first error of either.
fn exchange(a: &mut dyn Side, b: &mut dyn Side, rng: &mut Rng) -> Result<(), TlsError> {
    loop {
        let to_b = a.outgoing();
        b.feed(&to_b, rng)?;
        let to_a = b.outgoing();
        a.feed(&to_a, rng)?;
        if to_a.is_empty() && to_b.is_empty() {
            return Ok(());
        }
    }
}

fn random_bytes(n: usize, rng: &mut Rng) -> Vec<u8> {
    (0..n.div_ceil(8)).flat_map(|_| rng.next_u64().to_le_bytes()).take(n).collect()
}

fn suites() -> impl Iterator<Item = SupportedCipherSuite> {
    // The certificates of the tests are ECDSA ones.
    const RSA: [CipherSuite; 3] = [
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ];
    provider().cipher_suites.clone().into_iter().filter(|suite| !RSA.contains(&suite.suite()))
}
