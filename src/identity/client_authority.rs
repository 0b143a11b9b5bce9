//! Client certificates of callers (RFC 5280): which authority has signed them, and which caller they name.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, Error};
use rustls_pki_types::{CertificateDer, UnixTime};
use serde_json::{Map, Value};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::base::{hex, sha256};
use crate::identity::certificate_subject::{attributes, subject_text};
use crate::policy::{AgentIdentity, IdentityProof};

/// The most names of one kind that are read from a certificate.
const LISTED_MAX: usize = 64;
/// The longest accepted name of a caller, in bytes.
const NAME_LEN_MAX: usize = 1_024;
/// The prefix of the issuer of an identity that a certificate proves. It keeps these apart from token issuers.
const ISSUER_PREFIX: &str = "x509:";

/// Certificates that a caller has presented in its TLS handshake, with proof of the key of the first.
pub struct ShownCertificates {
    chain: Vec<CertificateDer<'static>>,
    digest: [u8; 32],
    /// The SHA-256 digest of the first certificate, to which tokens are bound (RFC 8705 section 3.1).
    pub(super) thumbprint: [u8; 32],
}

/// The state of a caller's client certificate.
#[derive(Clone, Default)]
pub enum CallerCertificate {
    /// The connection has no TLS, or its TLS ends elsewhere.
    #[default]
    Unknown,
    /// The caller was not asked for one: its connection was made for another host.
    NotAsked,
    /// The caller was asked, and has presented these certificates or none.
    Asked(Option<Arc<ShownCertificates>>),
}

/// The name in a certificate that identifies the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateName {
    /// The URI in the subject alternative names, such as a SPIFFE id.
    Uri,
    /// The DNS name in the subject alternative names.
    Dns,
    /// The e-mail address in the subject alternative names.
    Email,
    /// The common name of the subject.
    CommonName,
    /// The whole subject, formatted as in RFC 4514.
    Subject,
}

/// An authority that signs certificates of callers.
pub struct ClientAuthority {
    /// The name in the configuration and the log.
    pub name: Box<str>,
    issuer: Arc<str>,
    verifier: Arc<dyn ClientCertVerifier>,
    named_by: CertificateName,
}

/// The requirements of a route for client certificates.
#[derive(Clone)]
pub struct CertificateTerms {
    /// Whether every caller must present a certificate.
    pub is_required: bool,
    /// The accepted authorities. If several have signed a certificate, the first one counts.
    pub authorities: Box<[Arc<ClientAuthority>]>,
}

/// Why a client certificate is refused. The caller receives the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateRefusal {
    /// No accepted authority has signed it.
    #[error("no authority that is accepted here has signed it")]
    Authority,
    /// The certificate has expired.
    #[error("it has expired")]
    Expired,
    /// The certificate is not valid yet.
    #[error("it is not valid yet")]
    NotYet,
    /// Its authority has revoked the certificate.
    #[error("it was revoked")]
    Revoked,
    /// The revocation status cannot be determined.
    #[error("the revocation list of its authority has expired, or does not cover it")]
    Unlisted,
    /// The certificate is malformed, or not for TLS clients.
    #[error("it is not a certificate for TLS clients")]
    Unfit,
    /// The certificate has none or several of the names that identify callers.
    #[error("it does not contain exactly one name of the required kind")]
    Name,
}

impl ShownCertificates {
    /// The certificates that a client has presented, its own first; `None` if the list is empty.
    #[must_use]
    pub fn of(chain: &[CertificateDer<'static>]) -> Option<Arc<ShownCertificates>> {
        let thumbprint = sha256(chain.first()?);
        // The zero byte keeps these names apart from those of tokens.
        let mut all = b"x509\0".to_vec();
        for certificate in chain {
            all.extend_from_slice(&(certificate.len() as u64).to_be_bytes());
            all.extend_from_slice(certificate);
        }
        Some(Arc::new(ShownCertificates { chain: chain.to_vec(), digest: sha256(&all), thumbprint }))
    }

    /// The digest of all certificates.
    pub(super) fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Their total length in bytes.
    pub(super) fn len(&self) -> usize {
        self.chain.iter().map(|certificate| certificate.len()).sum()
    }
}

impl CallerCertificate {
    /// The value for callers whose TLS does not end here.
    pub const UNKNOWN: &'static CallerCertificate = &CallerCertificate::Unknown;
    /// The value for callers that were not asked.
    pub const NOT_ASKED: &'static CallerCertificate = &CallerCertificate::NotAsked;
}

impl ClientAuthority {
    /// An authority with this name. The verifier has its certificate and its revocation list.
    #[must_use]
    pub fn new(name: &str, verifier: Arc<dyn ClientCertVerifier>, named_by: CertificateName) -> ClientAuthority {
        let issuer = format!("{ISSUER_PREFIX}{name}").into();
        ClientAuthority { name: name.into(), issuer, verifier, named_by }
    }

    /// Identifies the caller that presented these certificates. Also returns when they expire.
    fn identify(
        &self,
        shown: &ShownCertificates,
        now: Duration,
    ) -> Result<(AgentIdentity, Duration), CertificateRefusal> {
        let (own, others) = shown.chain.split_first().ok_or(CertificateRefusal::Unfit)?;
        let verified = self.verifier.verify_client_cert(own, others, UnixTime::since_unix_epoch(now));
        verified.map_err(|error| refusal_of(&error))?;
        let (rest, certificate) = X509Certificate::from_der(own).map_err(|_| CertificateRefusal::Unfit)?;
        if !rest.is_empty() {
            return Err(CertificateRefusal::Unfit);
        }
        let claims = claims_of(&certificate, shown)?;
        let only = |name: &str| match claims.get(name).and_then(Value::as_array).map(Vec::as_slice) {
            Some([Value::String(only)]) => Some(only.clone()),
            _ => None,
        };
        let subject = match self.named_by {
            CertificateName::Uri => only("uri"),
            CertificateName::Dns => only("dns"),
            CertificateName::Email => only("email"),
            CertificateName::CommonName => only("common_name"),
            CertificateName::Subject => subject_text(certificate.subject()),
        };
        let is_name =
            |name: &String| !name.is_empty() && name.len() <= NAME_LEN_MAX && !name.chars().any(char::is_control);
        let subject = subject.filter(is_name).ok_or(CertificateRefusal::Name)?;
        let until = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or_default();
        let identity = AgentIdentity {
            subject: subject.into(),
            issuer: Some(Arc::clone(&self.issuer)),
            client: None,
            proof: IdentityProof::Certificate,
            scopes: Arc::new([]),
            claims: Arc::new(claims),
        };
        Ok((identity, Duration::from_secs(until)))
    }
}

impl CertificateTerms {
    /// Identifies the caller that presented these certificates. Also returns when they expire.
    pub(super) fn identify(
        &self,
        shown: &ShownCertificates,
        now: Duration,
    ) -> Result<(AgentIdentity, Duration), CertificateRefusal> {
        let mut refusal = CertificateRefusal::Authority;
        for authority in &self.authorities {
            match authority.identify(shown, now) {
                Ok(identified) => return Ok(identified),
                Err(CertificateRefusal::Authority) => {}
                Err(why) => refusal = why,
            }
        }
        Err(refusal)
    }
}

fn refusal_of(error: &Error) -> CertificateRefusal {
    let Error::InvalidCertificate(error) = error else { return CertificateRefusal::Unfit };
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => CertificateRefusal::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => CertificateRefusal::NotYet,
        CertificateError::Revoked => CertificateRefusal::Revoked,
        CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => CertificateRefusal::Unlisted,
        CertificateError::UnknownIssuer | CertificateError::BadSignature => CertificateRefusal::Authority,
        _ => CertificateRefusal::Unfit,
    }
}

/// The claims of a certificate about its owner, by the names that roles use.
fn claims_of(
    certificate: &X509Certificate<'_>,
    shown: &ShownCertificates,
) -> Result<Map<String, Value>, CertificateRefusal> {
    let mut claims = Map::new();
    let mut add = |name: &str, value: &str| {
        let list = claims.entry(name).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list
            // Reads one more than the limit, so that a truncated list is never taken for a whole one.
            && list.len() <= LISTED_MAX
        {
            list.push(value.into());
        }
    };
    let names = certificate.subject_alternative_name().map_err(|_| CertificateRefusal::Unfit)?;
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::URI(uri) => add("uri", uri),
            GeneralName::DNSName(name) => add("dns", name),
            GeneralName::RFC822Name(address) => add("email", address),
            _ => {}
        }
    }
    for (name, value) in attributes(certificate.subject()).ok_or(CertificateRefusal::Unfit)? {
        add(name, value);
    }
    claims.insert("sha256".to_owned(), hex(&shown.thumbprint).into());
    Ok(claims)
}

/// Terms are equal if their authorities are the same objects.
impl PartialEq for CertificateTerms {
    fn eq(&self, other: &CertificateTerms) -> bool {
        self.is_required == other.is_required
            && self.authorities.len() == other.authorities.len()
            && self.authorities.iter().zip(&other.authorities).all(|(own, other)| Arc::ptr_eq(own, other))
    }
}

impl fmt::Debug for ShownCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ShownCertificates").field(&hex(&self.thumbprint)).finish()
    }
}
