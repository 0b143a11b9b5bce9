use std::sync::{Arc, OnceLock};

use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::caller::CallerAuthorities;
use super::certs::CertError;
use super::clock::WallClock;
use super::error::TlsError;
use super::pin::{Fingerprint, PinnedAuthority};

/// The application protocol of agents.
pub const ALPN_HTTP1: &[u8] = b"http/1.1";
/// The application protocol of a link between connector and edge.
pub const ALPN_LINK: &[u8] = b"adit/1";
/// The application protocol by which a connector gets a certificate from an edge.
pub const ALPN_ENROL: &[u8] = b"adit-enrol/1";
/// Servers that a client remembers sessions of, at most; each with up to 8 tickets.
pub const SESSION_SERVERS_MAX: usize = 256;

/// Which versions of TLS a side speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Versions {
    /// TLS 1.3 only: links, and upstreams that can.
    #[default]
    Tls13,
    /// TLS 1.3, and TLS 1.2 with the AEAD suites: agents and upstreams that are older.
    Tls12And13,
}

/// What a TLS server can be told.
#[derive(Clone, Debug, Default)]
pub struct ServerSettings {
    /// Application protocols, the most wanted first; a client that offers others only is refused.
    pub alpn: Vec<Vec<u8>>,
    /// The TLS versions that are accepted.
    pub versions: Versions,
    /// Whether clients are asked for a certificate. No session is resumed then: each connection proves its certificate anew.
    pub clients: Clients,
    /// By what clock their certificates are judged.
    pub clock: WallClock,
}

/// Which certificates a server asks clients for.
#[derive(Clone, Debug, Default)]
pub enum Clients {
    /// Clients are not asked for a certificate.
    #[default]
    Anyone,
    /// One that these authorities vouch for; whether a client may show none is for the caller to decide.
    Known(Roots),
    /// That of an edge, which must be shown.
    Edges(Arc<CallerAuthorities>),
}

/// What a TLS client can be told.
#[derive(Clone, Default)]
pub struct ClientSettings {
    /// Authorities whose signature on a server's certificate is believed.
    pub roots: Roots,
    /// Application protocols offered, the most wanted first.
    pub alpn: Vec<Vec<u8>>,
    /// The TLS versions that are offered.
    pub versions: Versions,
    /// Where sessions are remembered; none means that every connection makes a full handshake.
    pub sessions: Option<SessionMemory>,
    /// The certificate that is shown to a server which asks for one.
    pub identity: Option<Arc<dyn ResolvesClientCert>>,
    /// By what clock the server's certificate is judged.
    pub clock: WallClock,
}

/// Remembers the sessions of servers, so that the next connection to one is cheaper.
///
/// A handle: give clones of one to every core, and they share what is remembered.
#[derive(Clone)]
pub struct SessionMemory(Arc<dyn ClientSessionStore>);

impl Default for SessionMemory {
    fn default() -> SessionMemory {
        SessionMemory::new(SESSION_SERVERS_MAX)
    }
}

impl SessionMemory {
    /// Remembers up to `servers` servers; the one added first is forgotten first.
    #[must_use]
    pub fn new(servers: usize) -> SessionMemory {
        // The cache counts tickets, eight to a server.
        SessionMemory(Arc::new(ClientSessionMemoryCache::new(servers.saturating_mul(8))))
    }
}

/// The authorities that a side believes.
#[derive(Clone, Debug)]
pub struct Roots {
    store: RootCertStore,
    /// Instead of the store, for a client.
    pin: Option<Fingerprint>,
}

impl Default for Roots {
    fn default() -> Roots {
        Roots { store: RootCertStore::empty(), pin: None }
    }
}

impl Roots {
    /// None yet: every server is refused until some are added.
    #[must_use]
    pub fn new() -> Roots {
        Roots::default()
    }

    /// One authority, known by its fingerprint alone, and no other. A server must send its certificate.
    #[must_use]
    pub fn pinned(pin: Fingerprint) -> Roots {
        Roots { pin: Some(pin), ..Roots::default() }
    }

    /// Adds the certificates of a PEM file; `file` names it in errors.
    ///
    /// # Errors
    ///
    /// When it holds no certificate, or one that cannot be read.
    pub fn add_pem(&mut self, file: &str, pem: &[u8]) -> Result<(), CertError> {
        let mut any = false;
        for cert in CertificateDer::pem_slice_iter(pem) {
            let cert = cert.map_err(|cause| CertError::BadPem { file: file.to_owned(), cause: cause.to_string() })?;
            self.store
                .add(cert)
                .map_err(|cause| CertError::BadCertificate { file: file.to_owned(), cause: cause.to_string() })?;
            any = true;
        }
        if any { Ok(()) } else { Err(CertError::NoCertificate { file: file.to_owned() }) }
    }

    /// Adds one certificate.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn add_der(&mut self, cert: CertificateDer<'static>) -> Result<(), CertError> {
        self.store.add(cert).map_err(|cause| CertError::BadCertificate {
            file: "the given certificate".to_owned(),
            cause: cause.to_string(),
        })
    }

    /// Adds what this machine trusts. Ones that cannot be read are skipped, as every platform has some.
    ///
    /// # Errors
    ///
    /// When the machine has none at all.
    pub fn add_platform(&mut self) -> Result<usize, CertError> {
        let found = rustls_native_certs::load_native_certs();
        let (added, _) = self.store.add_parsable_certificates(found.certs);
        if added == 0 {
            let cause = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
            return Err(CertError::NoPlatformRoots { cause });
        }
        Ok(added)
    }

    /// How many there are.
    #[must_use]
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.store.len() + usize::from(self.pin.is_some())
    }

    /// Whether there are none.
    #[must_use]
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The cryptography that all of adit uses: aws-lc-rs, AES-128-GCM first, hybrid post-quantum key exchange first.
///
/// Given to every configuration by name; the process-wide default of rustls is neither read nor set.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| {
        Arc::new(CryptoProvider {
            cipher_suites: vec![
                cipher_suite::TLS13_AES_128_GCM_SHA256,
                cipher_suite::TLS13_AES_256_GCM_SHA384,
                cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
                cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
                cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
                cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
                cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
                cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
            ],
            kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1],
            ..aws_lc_rs::default_provider()
        })
    }))
}

/// A server's configuration; one serves every core.
///
/// No early data is accepted: it can be replayed, and a tool call must not be.
///
/// # Errors
///
/// When the provider cannot do what the settings ask, or the system gives no random bytes.
pub fn server_config(
    certs: Arc<dyn ResolvesServerCert>,
    settings: &ServerSettings,
) -> Result<Arc<ServerConfig>, TlsError> {
    server_config_with(provider(), certs, settings)
}

/// A client's configuration; one serves every core.
///
/// # Errors
///
/// When the provider cannot do what the settings ask.
pub fn client_config(settings: ClientSettings) -> Result<Arc<ClientConfig>, TlsError> {
    client_config_with(provider(), settings)
}

pub(super) fn server_config_with(
    provider: Arc<CryptoProvider>,
    certs: Arc<dyn ResolvesServerCert>,
    settings: &ServerSettings,
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_details(Arc::clone(&provider), settings.clock.provider())
        .with_protocol_versions(versions(settings.versions))
        .map_err(refused)?;
    let mut config = match &settings.clients {
        Clients::Anyone => builder.with_no_client_auth().with_cert_resolver(certs),
        Clients::Known(roots) => {
            builder.with_client_cert_verifier(clients_of(roots, provider)?).with_cert_resolver(certs)
        }
        Clients::Edges(callers) => {
            builder.with_client_cert_verifier(Arc::<CallerAuthorities>::clone(callers)).with_cert_resolver(certs)
        }
    };
    config.alpn_protocols.clone_from(&settings.alpn);
    if matches!(settings.clients, Clients::Anyone) {
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(refused)?;
    } else {
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
    }
    // Our order puts the cheapest suite first; clients' lists are mostly a library's default and not a wish.
    config.ignore_client_order = true;
    // Our own record layer takes the keys over when the handshake is done.
    config.enable_secret_extraction = true;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

pub(super) fn client_config_with(
    provider: Arc<CryptoProvider>,
    settings: ClientSettings,
) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_details(Arc::clone(&provider), settings.clock.provider())
        .with_protocol_versions(versions(settings.versions))
        .map_err(refused)?;
    let builder = match settings.roots.pin {
        None => builder.with_root_certificates(settings.roots.store),
        // It checks as the usual verifier does, by an authority that it gets to know later.
        Some(pin) => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(PinnedAuthority::new(pin, provider)))
        }
    };
    let mut config = match settings.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder.with_client_cert_resolver(identity),
    };
    config.alpn_protocols = settings.alpn;
    config.resumption = match settings.sessions {
        Some(SessionMemory(store)) => Resumption::store(store),
        None => Resumption::disabled(),
    };
    config.enable_secret_extraction = true;
    config.enable_early_data = false;
    Ok(Arc::new(config))
}

/// Verifies what clients show, if they show something.
fn clients_of(roots: &Roots, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = Arc::new(roots.store.clone());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).allow_unauthenticated().build();
    verifier.map_err(|error| TlsError::Config(error.to_string()))
}

static TLS13_ONLY: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

fn versions(versions: Versions) -> &'static [&'static SupportedProtocolVersion] {
    match versions {
        Versions::Tls13 => TLS13_ONLY,
        Versions::Tls12And13 => rustls::ALL_VERSIONS,
    }
}

fn refused(cause: rustls::Error) -> TlsError {
    TlsError::Config(cause.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{CipherSuite, NamedGroup};

    #[test]
    fn the_cheapest_suite_and_the_hybrid_exchange_come_first() {
        let provider = provider();
        assert_eq!(provider.cipher_suites[0].suite(), CipherSuite::TLS13_AES_128_GCM_SHA256);
        let groups: Vec<_> = provider.kx_groups.iter().map(|group| group.name()).collect();
        assert_eq!(groups, [NamedGroup::X25519MLKEM768, NamedGroup::X25519, NamedGroup::secp256r1]);
    }

    #[test]
    fn roots_need_a_certificate() {
        let mut roots = Roots::new();
        let error = roots.add_pem("ca.pem", b"nothing here").expect_err("no PEM in it");
        assert_eq!(error, CertError::NoCertificate { file: "ca.pem".to_owned() });
        assert!(roots.is_empty());
    }
}
