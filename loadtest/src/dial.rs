//! Connections to the target: name resolution, dialling and trust.

use std::fs;
use std::future::pending;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use adit::engine::Core;
use adit::engine::driver::SocketOptions;
use adit::tls::{
    ALPN_HTTP1, CertError, ClientConfig, ClientSettings, Connection, HandshakeError, Roots, ServerName, SessionMemory,
    TlsError, Versions, client_config, provider,
};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

use crate::load::{Target, Trust};

/// The TLS configuration for a target, and its server name.
pub(crate) type TlsTarget = (Arc<ClientConfig>, ServerName<'static>);

/// Makes connections to one target. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Dialer {
    addresses: Arc<[SocketAddr]>,
    tls: Option<TlsTarget>,
    timeout: Duration,
}

/// Why a target cannot be dialled at all.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The file of authorities cannot be used.
    #[error("the authorities of --ca-file cannot be used: {0}")]
    CaFile(CertError),
    /// The file of authorities cannot be read.
    #[error("--ca-file {} cannot be read ({error}): check the path", path.display())]
    CaFileRead {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system.
        error: io::Error,
    },
    /// This machine trusts no authority.
    #[error("this machine trusts no authorities ({0}): give --ca-file, or --insecure")]
    Platform(CertError),
    /// The host name cannot be resolved.
    #[error(
        "the host {host} cannot be resolved ({reason}): check its spelling and this machine's DNS, or give --resolve-to"
    )]
    Resolve {
        /// The host name that was looked up.
        host: String,
        /// The error of the resolver.
        reason: String,
    },
    /// The name is not valid in a certificate.
    #[error("'{0}' is not a valid name for a certificate: give --server-name")]
    ServerName(String),
    /// The TLS configuration is not valid.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Why a connection could not be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum DialError {
    /// The connection could not be made.
    #[error("{address} accepted no connection ({reason}): check that it listens there")]
    Connect {
        /// The address that was dialled.
        address: SocketAddr,
        /// The error of the system.
        reason: String,
    },
    /// The TLS handshake failed.
    #[error("no TLS with {address}: {error}{}", remedy(.error))]
    Tls {
        /// The address that was dialled.
        address: SocketAddr,
        /// The error of the handshake.
        error: HandshakeError,
    },
    /// It took too long.
    #[error("{address} accepted no connection within {} ms", timeout.as_millis())]
    Timeout {
        /// The address that was dialled.
        address: SocketAddr,
        /// The time limit for the connection, TLS included.
        timeout: Duration,
    },
}

/// What the user can do about this error.
fn remedy(error: &HandshakeError) -> &'static str {
    match error {
        HandshakeError::Tls(TlsError::UnknownIssuer) => " (--ca-file), or trust any certificate (--insecure)",
        HandshakeError::Tls(TlsError::UntrustedIssuer { .. }) => {
            "; --ca-file names that file, --insecure trusts any certificate"
        }
        HandshakeError::Tls(TlsError::WrongName { .. }) => "; --server-name sets the expected name",
        _ => "",
    }
}

impl Dialer {
    /// Resolves the target's name and loads the trusted authorities. Blocks.
    pub(crate) fn new(target: &Target, timeout: Duration) -> Result<Dialer, TargetError> {
        let addresses = match target.resolve_to {
            Some(address) => vec![address],
            None => resolve(target.host_name(), target.port())?,
        };
        let tls = target.is_tls().then(|| tls(target)).transpose()?;
        Ok(Dialer { addresses: addresses.into(), tls, timeout })
    }

    /// A dialer without TLS, for a target whose address is known.
    #[cfg(test)]
    pub(crate) fn plain(address: SocketAddr, timeout: Duration) -> Dialer {
        Dialer { addresses: Arc::new([address]), tls: None, timeout }
    }

    /// The TLS configuration for the target; `None` without TLS.
    pub(crate) fn tls(&self) -> Option<&TlsTarget> {
        self.tls.as_ref()
    }

    /// Dials the addresses in turn until a connection is made.
    pub(crate) async fn dial(&self, core: &Core) -> Result<Connection, DialError> {
        let mut last = None;
        for address in self.addresses.iter() {
            let dialled = core.timeout(self.timeout, self.dial_one(core, *address)).await;
            match dialled.unwrap_or(Err(DialError::Timeout { address: *address, timeout: self.timeout })) {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("a dialer has at least one address"))
    }

    async fn dial_one(&self, core: &Core, address: SocketAddr) -> Result<Connection, DialError> {
        let socket = core.connect(&address.into(), SocketOptions::default()).await;
        let socket = socket.map_err(|error| DialError::Connect { address, reason: error.to_string() })?;
        let Some((config, name)) = &self.tls else { return Ok(Connection::plain(socket)) };
        // The TLS handshake shares the time limit for dialling.
        let sealed = Connection::client(socket, config, name.clone(), pending()).await;
        sealed.map_err(|error| DialError::Tls { address, error })
    }
}

fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, TargetError> {
    let failed = |reason: String| TargetError::Resolve { host: host.to_owned(), reason };
    let found = (host, port).to_socket_addrs().map_err(|error| failed(error.to_string()))?;
    let addresses: Vec<SocketAddr> = found.collect();
    if addresses.is_empty() { Err(failed("it has no address".to_owned())) } else { Ok(addresses) }
}

fn tls(target: &Target) -> Result<TlsTarget, TargetError> {
    let name = target.tls_name();
    let server_name = ServerName::try_from(name.clone()).map_err(|_| TargetError::ServerName(name))?;
    let mut roots = Roots::new();
    match &target.trust {
        Trust::Insecure => return Ok((trusting_any_certificate(target.resume)?, server_name)),
        Trust::Platform => {
            roots.add_platform().map_err(TargetError::Platform)?;
        }
        Trust::CaFile(path) => {
            let pem = fs::read(path).map_err(|error| TargetError::CaFileRead { path: path.clone(), error })?;
            roots.add_pem(&path.display().to_string(), &pem).map_err(TargetError::CaFile)?;
        }
    }
    let sessions = target.resume.then(SessionMemory::default);
    let alpn = vec![ALPN_HTTP1.to_vec()];
    let settings = ClientSettings { roots, alpn, versions: Versions::Tls13, sessions, ..ClientSettings::default() };
    Ok((client_config(settings)?, server_name))
}

/// Like `adit::tls::client_config`, but any certificate is trusted.
fn trusting_any_certificate(resume: bool) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13]);
    let builder = builder.map_err(|error| TlsError::Config(error.to_string()))?;
    let mut config =
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer(provider()))).with_no_client_auth();
    config.alpn_protocols = vec![ALPN_HTTP1.to_vec()];
    // The engine's record layer takes over the keys after the handshake.
    config.enable_secret_extraction = true;
    if !resume {
        config.resumption = Resumption::disabled();
    }
    Ok(Arc::new(config))
}

/// Trusts any certificate, but verifies that the server has its key, so that the handshake costs as much as usual.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(target: &str, change: impl FnOnce(&mut Target)) -> String {
        let mut target: Target = target.parse().unwrap();
        change(&mut target);
        Dialer::new(&target, Duration::from_secs(1)).err().expect("the target cannot be dialled").to_string()
    }

    #[test]
    fn a_host_without_address_is_named_with_the_remedy() {
        let error = fault("http://no-such-host.invalid/", |_| {});
        assert!(error.contains("no-such-host.invalid") && error.contains("--resolve-to"), "{error}");
    }

    #[test]
    fn a_file_of_authorities_that_is_none_is_named() {
        let missing = fault("https://127.0.0.1/", |target| target.trust = Trust::CaFile("/nowhere/ca.pem".into()));
        assert!(missing.contains("--ca-file /nowhere/ca.pem"), "{missing}");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        fs::write(&path, "nothing in it").unwrap();
        let empty = fault("https://127.0.0.1/", |target| target.trust = Trust::CaFile(path));
        assert!(empty.contains("ca.pem"), "{empty}");
    }

    #[test]
    fn a_known_address_needs_no_resolver() {
        let mut target: Target = "https://demo.localhost:1/".parse().unwrap();
        target.resolve_to = Some(([127, 0, 0, 1], 2).into());
        target.trust = Trust::Insecure;
        let dialer = Dialer::new(&target, Duration::from_secs(1)).unwrap();
        assert_eq!(dialer.addresses[..], [([127, 0, 0, 1], 2).into()]);
    }
}
