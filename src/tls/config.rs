use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, ResolvesClientCert, Resumption, WebPkiServerVerifier,
};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

use super::caller::CallerAuthorities;
use super::certs::{CertError, read_chain};
use super::clock::WallClock;
use super::error::TlsError;
use super::pin::{Fingerprint, PinnedAuthority};
use super::provider::provider;
use super::shown_key::ShownKey;
use super::untrusted::NamesIssuer;

/// The ALPN protocol of agents in HTTP/1.1.
pub const ALPN_HTTP1: &[u8] = b"http/1.1";
/// The ALPN protocol of agents in HTTP/2 (RFC 9113, section 3.2).
pub const ALPN_HTTP2: &[u8] = b"h2";
/// The ALPN protocol of a link between connector and edge.
pub const ALPN_LINK: &[u8] = b"adit/1";
/// The ALPN protocol with which a connector gets a certificate from an edge.
pub const ALPN_ENROL: &[u8] = b"adit-enrol/1";
/// The ALPN protocol of cloudflared over QUIC. Over TCP it has none.
pub const ALPN_CLOUDFLARED: &[u8] = b"argotunnel";
/// The most servers whose sessions a client remembers; each with up to 8 tickets.
pub const SESSION_SERVERS_MAX: usize = 256;

/// The TLS versions that a side supports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Versions {
    /// TLS 1.3 only: for links, and for upstreams that support it.
    #[default]
    Tls13,
    /// TLS 1.3, and TLS 1.2 with AEAD suites: for older agents and upstreams.
    Tls12And13,
}

/// The settings of a TLS server.
#[derive(Clone, Debug, Default)]
pub struct ServerSettings {
    /// Application protocols, the preferred one first. A client that offers only others is refused.
    pub alpn: Vec<Vec<u8>>,
    /// The TLS versions that are accepted.
    pub versions: Versions,
    /// Whether clients are asked for a certificate. If they are, sessions are not resumed: each connection must prove
    /// its certificate.
    pub clients: Clients,
    /// The clock by which clients' certificates are checked.
    pub clock: WallClock,
}

/// Which certificates a server asks clients for.
#[derive(Clone, Debug, Default)]
pub enum Clients {
    /// Clients are not asked for a certificate.
    #[default]
    Anyone,
    /// A certificate that one of these authorities signed. The caller decides whether a client may have none.
    Known(Roots),
    /// Any certificate, or none: only that the client has its key is proven.
    Asked,
    /// The certificate of an edge; required.
    Edges(Arc<CallerAuthorities>),
}

/// The settings of a TLS client.
#[derive(Clone, Default)]
pub struct ClientSettings {
    /// The authorities whose signature on a server's certificate is trusted.
    pub roots: Roots,
    /// The application protocols to offer, the preferred one first.
    pub alpn: Vec<Vec<u8>>,
    /// The TLS versions that are offered.
    pub versions: Versions,
    /// Where sessions are remembered; without it every connection makes a full handshake.
    pub sessions: Option<SessionMemory>,
    /// The certificate for servers that ask for one.
    pub identity: Option<Arc<dyn ResolvesClientCert>>,
    /// The clock by which the server's certificate is checked.
    pub clock: WallClock,
}

/// Remembers sessions with servers, so that the next connection to a server is cheaper.
///
/// Clones share what is remembered, so give one to every core.
#[derive(Clone)]
pub struct SessionMemory(Arc<dyn ClientSessionStore>);

impl Default for SessionMemory {
    fn default() -> SessionMemory {
        SessionMemory::new(SESSION_SERVERS_MAX)
    }
}

impl SessionMemory {
    /// Remembers the sessions of up to `servers` servers; the one that was added first is forgotten first.
    #[must_use]
    pub fn new(servers: usize) -> SessionMemory {
        // The cache counts tickets, up to eight for each server.
        SessionMemory(Arc::new(ClientSessionMemoryCache::new(servers.saturating_mul(8))))
    }
}

/// The authorities that a side trusts.
#[derive(Clone, Debug)]
pub struct Roots {
    store: RootCertStore,
    /// For a client: used instead of the store.
    pin: Option<Fingerprint>,
}

impl Default for Roots {
    fn default() -> Roots {
        Roots { store: RootCertStore::empty(), pin: None }
    }
}

impl Roots {
    /// Trusts no authority until some are added.
    #[must_use]
    pub fn new() -> Roots {
        Roots::default()
    }

    /// Trusts a single authority, identified by its fingerprint. A server must send that authority's certificate.
    #[must_use]
    pub fn pinned(pin: Fingerprint) -> Roots {
        Roots { pin: Some(pin), ..Roots::default() }
    }

    /// Adds the certificates of a PEM file; `file` names it in errors.
    ///
    /// # Errors
    ///
    /// If it holds no certificate, or one that cannot be read.
    pub fn add_pem(&mut self, file: &str, pem: &[u8]) -> Result<(), CertError> {
        let mut any = false;
        for cert in read_chain(file, pem)? {
            self.store
                .add(cert)
                .map_err(|cause| CertError::BadCertificate { file: file.to_owned(), cause: cause.to_string() })?;
            any = true;
        }
        if any { Ok(()) } else { Err(CertError::NoCertificate { file: file.to_owned() }) }
    }

    /// Adds one certificate to those that are trusted.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn add_der(&mut self, cert: CertificateDer<'static>) -> Result<(), CertError> {
        self.store.add(cert).map_err(|cause| CertError::BadCertificate {
            file: "the given certificate".to_owned(),
            cause: cause.to_string(),
        })
    }

    /// Adds the authorities that the system trusts. Certificates that cannot be read are skipped, because every
    /// platform has some.
    ///
    /// # Errors
    ///
    /// If the system trusts no authority.
    pub fn add_platform(&mut self) -> Result<usize, CertError> {
        let found = rustls_native_certs::load_native_certs();
        let (added, _) = self.store.add_parsable_certificates(found.certs);
        if added == 0 {
            let cause = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
            return Err(CertError::NoPlatformRoots { cause });
        }
        Ok(added)
    }

    /// The number of authorities.
    #[must_use]
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.store.len() + usize::from(self.pin.is_some())
    }

    /// Whether no authority is trusted.
    #[must_use]
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Creates the configuration of a server, which all cores share.
///
/// Early data is not accepted: it can be replayed, and a tool call must not be.
///
/// # Errors
///
/// If the provider does not support the settings, or the operating system provides no random bytes.
pub fn server_config(
    certs: Arc<dyn ResolvesServerCert>,
    settings: &ServerSettings,
) -> Result<Arc<ServerConfig>, TlsError> {
    server_config_with(provider(), certs, settings)
}

/// Creates the configuration of a client, which all cores share.
///
/// # Errors
///
/// If the provider does not support the settings.
pub fn client_config(settings: ClientSettings) -> Result<Arc<ClientConfig>, TlsError> {
    client_config_with(provider(), settings)
}

/// Copies a client's configuration without the offer of HTTP/2.
#[must_use]
pub fn without_http2(config: &ClientConfig) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.alpn_protocols.retain(|protocol| protocol != ALPN_HTTP2);
    Arc::new(config)
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
        Clients::Asked => builder.with_client_cert_verifier(Arc::new(ShownKey)).with_cert_resolver(certs),
        Clients::Edges(callers) => {
            builder.with_client_cert_verifier(Arc::<CallerAuthorities>::clone(callers)).with_cert_resolver(certs)
        }
    };
    config.alpn_protocols.clone_from(&settings.alpn);
    if matches!(settings.clients, Clients::Anyone) {
        config.ticketer = Ticketer::new().map_err(refused)?;
    } else {
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
    }
    // The server's order has the cheapest suite first; a client's order is usually the default of a library.
    config.ignore_client_order = true;
    // The record layer of this crate takes over the keys after the handshake.
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
    let verifier: Option<Arc<dyn ServerCertVerifier>> = match settings.roots.pin {
        Some(pin) => Some(Arc::new(PinnedAuthority::new(pin, provider))),
        None if settings.roots.store.is_empty() => None,
        None => {
            let roots = Arc::new(settings.roots.store);
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
            Some(verifier.map_err(|error| TlsError::Config(error.to_string()))?)
        }
    };
    // Each verifier checks as usual, the pinned one once it has learnt the certificate of its authority.
    let builder = match verifier {
        Some(verifier) => builder.dangerous().with_custom_certificate_verifier(Arc::new(NamesIssuer(verifier))),
        None => builder.with_root_certificates(RootCertStore::empty()),
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

/// The verifier of client certificates, which accepts clients without one.
fn clients_of(roots: &Roots, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = Arc::new(roots.store.clone());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).allow_unauthenticated().build();
    verifier.map_err(|error| TlsError::Config(error.to_string()))
}

/// A verifier of certificates that these authorities have signed for clients. With lists of revoked certificates (PEM), one is
/// refused if no list covers it, or an authority between it and these; and so are all once their list is too old. The name of their file is for errors.
///
/// # Errors
///
/// If there are no authorities, or the lists cannot be read.
pub fn client_verifier(
    authorities: &Roots,
    revoked: Option<(&str, &[u8])>,
) -> Result<Arc<dyn ClientCertVerifier>, CertError> {
    let failed = |file: &str, cause: String| CertError::BadCertificate { file: file.to_owned(), cause };
    let roots = Arc::new(authorities.store.clone());
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
    if let Some((file, pem)) = revoked {
        let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
        let lists = lists.map_err(|error| failed(file, error.to_string()))?;
        if lists.is_empty() {
            return Err(failed(file, "it holds no list of revoked certificates (`X509 CRL`)".to_owned()));
        }
        builder = builder.with_crls(lists).enforce_revocation_expiration();
    }
    builder.build().map_err(|error| failed(revoked.map_or("the authorities", |(file, _)| file), error.to_string()))
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

    #[test]
    fn roots_need_a_certificate() {
        let mut roots = Roots::new();
        let error = roots.add_pem("ca.pem", b"nothing here").expect_err("no PEM in it");
        assert_eq!(error, CertError::NoCertificate { file: "ca.pem".to_owned() });
        assert!(roots.is_empty());
    }
}
