//! The identity of a connector: its own key, and the certificate that an edge's authority issued for it.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::certs::{CertError, pem_text, read_chain, read_key};
use super::provider::provider;
use crate::base::{Secret, TunnelId};

/// The prefix of the URI in a connector's certificate; the tunnel's id follows.
pub const TUNNEL_URI: &str = "adit://tunnel/";

/// The name of the certificate's source in errors about an enrolment.
const ENROLLED: &str = "the edge's answer";

/// A new key and the certificate request for it.
pub struct KeyRequest {
    key: KeyPair,
    csr: Vec<u8>,
}

impl KeyRequest {
    /// Creates a key (ECDSA on P-256).
    ///
    /// # Errors
    ///
    /// If the operating system provides no random bytes.
    pub fn new() -> Result<KeyRequest, CertError> {
        KeyRequest::of(KeyPair::generate().map_err(making)?)
    }

    /// Uses a stored key, in the format of [`KeyRequest::key_pem`].
    ///
    /// # Errors
    ///
    /// If it is not a valid key.
    pub fn from_pem(file: &str, pem: &[u8]) -> Result<KeyRequest, CertError> {
        // The cause is not repeated, because it can quote a line of the key.
        let bad = || CertError::BadKey { file: file.to_owned(), cause: "it is not a key that adit made".to_owned() };
        let text = std::str::from_utf8(pem_text(file, pem)?).map_err(|_| bad())?;
        KeyRequest::of(KeyPair::from_pem(text).map_err(|_| bad())?)
    }

    fn of(key: KeyPair) -> Result<KeyRequest, CertError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let csr = params.serialize_request(&key).map_err(making)?.der().to_vec();
        Ok(KeyRequest { key, csr })
    }

    /// The key as PEM. Store it where only its owner can read it.
    #[must_use]
    pub fn key_pem(&self) -> Secret {
        Secret::new(self.key.serialize_pem().into_bytes())
    }

    /// The certificate request, signed with the key (PKCS #10, DER).
    #[must_use]
    pub fn csr(&self) -> &[u8] {
        &self.csr
    }

    /// Combines the key with the chain that was issued for it, the connector's certificate first.
    ///
    /// # Errors
    ///
    /// If the chain is not for this key, or not for a tunnel.
    pub fn into_identity(self, chain: Vec<CertificateDer<'static>>) -> Result<Identity, CertError> {
        let key_pem = self.key_pem();
        let key = PrivateKeyDer::Pkcs8(self.key.serialize_der().into());
        Identity::new((ENROLLED, chain), key, key_pem)
    }
}

fn making(error: rcgen::Error) -> CertError {
    CertError::Making(error.to_string())
}

/// A connector's key and certificate.
pub struct Identity {
    key: Arc<CertifiedKey>,
    key_pem: Secret,
    tunnel: TunnelId,
    not_before: i64,
    not_after: i64,
}

impl Identity {
    fn new(
        (file, chain): (&str, Vec<CertificateDer<'static>>),
        key: PrivateKeyDer<'static>,
        key_pem: Secret,
    ) -> Result<Identity, CertError> {
        let first = chain.first().ok_or_else(|| CertError::NoCertificate { file: file.to_owned() })?;
        let tunnel = tunnel_of(first)?;
        let (not_before, not_after) = validity(first)?;
        let key = CertifiedKey::from_der(chain, key, &provider())
            .map_err(|error| CertError::BadKey { file: file.to_owned(), cause: error.to_string() })?;
        Ok(Identity { key: Arc::new(key), key_pem, tunnel, not_before, not_after })
    }

    /// Reads a PEM file with the chain and the key, in the format of [`Identity::to_pem`].
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is not an identity.
    pub fn from_pem(file: &str, pem: &[u8]) -> Result<Identity, CertError> {
        let chain = read_chain(file, pem)?;
        let key = read_key(file, pem)?;
        let begin = memchr::memmem::find(pem, b"-----BEGIN PRIVATE KEY-----").unwrap_or(pem.len());
        Identity::new((file, chain), key, Secret::new(pem[begin..].to_vec()))
    }

    /// The chain and the key as one PEM file. Store it where only its owner can read it.
    #[must_use]
    pub fn to_pem(&self) -> Secret {
        let chain: String =
            self.key.cert.iter().map(|cert| pem::encode(&pem::Pem::new("CERTIFICATE", cert.as_ref()))).collect();
        Secret::new([chain.as_bytes(), self.key_pem.expose()].concat())
    }

    /// The certificate of the authority, if the chain has it.
    #[must_use]
    pub fn authority(&self) -> Option<&CertificateDer<'static>> {
        self.key.cert.get(1..)?.last()
    }

    /// The tunnel that the certificate names.
    #[must_use]
    pub fn tunnel(&self) -> &TunnelId {
        &self.tunnel
    }

    /// The last second of its validity, in seconds since 1970.
    #[must_use]
    pub fn not_after_unix_s(&self) -> i64 {
        self.not_after
    }

    /// The whole validity, from the first second to the last.
    #[must_use]
    pub fn span(&self) -> Duration {
        Duration::from_secs(self.not_after.saturating_sub(self.not_before).max(0).unsigned_abs())
    }

    /// The rest of the validity from `now` on; zero if the certificate is not valid at `now`.
    #[must_use]
    pub fn left(&self, now: UnixTime) -> Duration {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let left = if now < self.not_before { 0 } else { self.not_after.saturating_sub(now).max(0) };
        Duration::from_secs(left.unsigned_abs())
    }
}

/// Identities are equal if they have the same certificate.
impl PartialEq for Identity {
    fn eq(&self, other: &Identity) -> bool {
        self.key.cert == other.key.cert
    }
}

impl Eq for Identity {}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("tunnel", &self.tunnel)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// The certificate that the connector shows to one edge. It can be replaced while links are up: new handshakes use the
/// new certificate, and links that are up are not affected.
#[derive(Default)]
pub struct CurrentIdentity(RwLock<Option<Arc<CertifiedKey>>>);

impl CurrentIdentity {
    /// Shows this certificate from now on; `None` shows none.
    pub fn replace(&self, identity: Option<&Identity>) {
        let key = identity.map(|identity| Arc::clone(&identity.key));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = key;
    }

    fn key(&self) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl std::fmt::Debug for CurrentIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("CurrentIdentity").field(&self.has_certs()).finish()
    }
}

impl ResolvesClientCert for CurrentIdentity {
    /// The authorities that the edge names are ignored: if it does not know this one, it must refuse the certificate
    /// itself.
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.key()
    }

    fn has_certs(&self) -> bool {
        self.key().is_some()
    }
}

/// The tunnel that a connector's certificate is for.
///
/// # Errors
///
/// If it names no tunnel, or more than one.
pub fn tunnel_of(cert: &CertificateDer<'_>) -> Result<TunnelId, CertError> {
    let uri = only_uri(cert)?;
    let id = uri.as_deref().and_then(|uri| uri.strip_prefix(TUNNEL_URI));
    id.and_then(|id| id.parse().ok()).ok_or_else(|| bad(format!("it has no name {TUNNEL_URI}ID")))
}

/// The URI among a certificate's names, if there is exactly one.
pub(super) fn only_uri(cert: &CertificateDer<'_>) -> Result<Option<String>, CertError> {
    let cert = parse(cert)?;
    let names = cert.subject_alternative_name().map_err(|error| bad(error.to_string()))?;
    let mut uris = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let (uri, other) = (uris.next(), uris.next());
    Ok(uri.filter(|_| other.is_none()).map(str::to_owned))
}

/// The first and the last second of a certificate's validity, in seconds since 1970.
pub(super) fn validity(cert: &CertificateDer<'_>) -> Result<(i64, i64), CertError> {
    let cert = parse(cert)?;
    let validity = cert.validity();
    Ok((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

fn parse<'a>(cert: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CertError> {
    X509Certificate::from_der(cert).map(|(_, cert)| cert).map_err(|error| bad(error.to_string()))
}

fn bad(cause: String) -> CertError {
    CertError::BadCertificate { file: "the connector's certificate".to_owned(), cause }
}
