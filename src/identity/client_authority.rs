//! Client certificates of callers (RFC 5280): whose authority has signed them, and whom they name.

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

/// The most names of one kind that are read of a certificate.
const LISTED_MAX: usize = 64;
/// The longest name of a caller that is accepted, in bytes.
const NAME_LEN_MAX: usize = 1_024;
/// What the issuer of an identity begins with that a certificate proves, so that no issuer of tokens is taken for it.
const ISSUER_PREFIX: &str = "x509:";

/// Certificates that a caller has shown in its TLS handshake, in which it has proven that it has the key of the first.
pub struct ShownCertificates {
    chain: Vec<CertificateDer<'static>>,
    digest: [u8; 32],
    /// The SHA-256 digest of the first, by which tokens are bound to it (RFC 8705 section 3.1).
    pub(super) thumbprint: [u8; 32],
}

/// What is known of the certificate of a caller.
#[derive(Clone, Default)]
pub enum CallerCertificate {
    /// Its TLS does not end here, or it uses none.
    #[default]
    Unknown,
    /// It was not asked for one, as its connection was made for another host.
    NotAsked,
    /// It was asked, and has shown these or none.
    Asked(Option<Arc<ShownCertificates>>),
}

/// Which name in a certificate is that of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateName {
    /// The URI of the subject's alternative names, such as a SPIFFE id.
    Uri,
    /// The DNS name of the same.
    Dns,
    /// The e-mail address of the same.
    Email,
    /// The common name of the subject.
    CommonName,
    /// The whole subject, as RFC 4514 writes it.
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

/// What a route asks of the certificates of its callers.
#[derive(Clone)]
pub struct CertificateTerms {
    /// Whether every caller must show one.
    pub is_required: bool,
    /// Who may have signed it. If several have, the first one counts.
    pub authorities: Box<[Arc<ClientAuthority>]>,
}

/// Why a certificate proves nobody. The sentences are told to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateRefusal {
    /// None of the authorities has signed it.
    #[error("no authority that is accepted here has signed it")]
    Authority,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// Its time has not come.
    #[error("it is not valid yet")]
    NotYet,
    /// Its authority has revoked it.
    #[error("it was revoked")]
    Revoked,
    /// It is unknown whether its authority has revoked it.
    #[error("its authority's list of revoked certificates is too old, or does not cover it")]
    Unlisted,
    /// It is damaged, or not for clients.
    #[error("it is not a certificate for TLS clients")]
    Unfit,
    /// It has none or several of the names by which callers are told apart.
    #[error("it does not name its owner exactly once in the way that is asked for here")]
    Name,
}

impl ShownCertificates {
    /// Certificates that a client has shown, its own first; none if there are none.
    #[must_use]
    pub fn of(chain: &[CertificateDer<'static>]) -> Option<Arc<ShownCertificates>> {
        let thumbprint = sha256(chain.first()?);
        // No token is read as this, as it has a zero byte.
        let mut all = b"x509\0".to_vec();
        for certificate in chain {
            all.extend_from_slice(&(certificate.len() as u64).to_be_bytes());
            all.extend_from_slice(certificate);
        }
        Some(Arc::new(ShownCertificates { chain: chain.to_vec(), digest: sha256(&all), thumbprint }))
    }

    /// The digest of all of them.
    pub(super) fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// How many bytes they have.
    pub(super) fn len(&self) -> usize {
        self.chain.iter().map(|certificate| certificate.len()).sum()
    }
}

impl CallerCertificate {
    /// That of a caller whose TLS does not end here.
    pub const UNKNOWN: &'static CallerCertificate = &CallerCertificate::Unknown;
    /// That of a caller who was not asked.
    pub const NOT_ASKED: &'static CallerCertificate = &CallerCertificate::NotAsked;
}

impl ClientAuthority {
    /// An authority of this name. The verifier knows what it has signed and revoked.
    #[must_use]
    pub fn new(name: &str, verifier: Arc<dyn ClientCertVerifier>, named_by: CertificateName) -> ClientAuthority {
        let issuer = format!("{ISSUER_PREFIX}{name}").into();
        ClientAuthority { name: name.into(), issuer, verifier, named_by }
    }

    /// Who has shown these certificates, and until when they hold.
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
    /// Who has shown these certificates, and until when they hold.
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

/// What a certificate says of its owner, by the names that roles use.
fn claims_of(
    certificate: &X509Certificate<'_>,
    shown: &ShownCertificates,
) -> Result<Map<String, Value>, CertificateRefusal> {
    let mut claims = Map::new();
    let mut add = |name: &str, value: &str| {
        let list = claims.entry(name).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list
            // One more than is read, so that it is not taken for all of them.
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

/// Terms are the same if their authorities are the same objects.
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
