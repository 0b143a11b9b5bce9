//! Server certificates: loaded from PEM, checked, chosen by name, and replaced while connections are open.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::InconsistentKeys;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::provider::provider;
use crate::base::{PlainTextError, plain_text, shell_word};
use crate::private::{self, PrivateError};

/// The longest key file, in bytes: room for a key of any kind, and a chain beside it.
pub(super) const KEY_FILE_LEN_MAX: usize = 256 * 1024;

/// Why a certificate or key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertError {
    /// The file cannot be read.
    #[error("cannot read {file}: {cause}; check that it exists and that this user may read it")]
    Unreadable {
        /// The path of the file.
        file: String,
        /// The error of the system.
        cause: String,
    },
    /// The file of a key cannot be read, or others than its owner could read or change it.
    #[error("the private key: {0}")]
    KeyFile(#[from] PrivateError),
    /// There is no certificate in the file.
    #[error("{file} holds no certificate: it must be PEM, with a BEGIN CERTIFICATE line")]
    NoCertificate {
        /// The path of the file.
        file: String,
    },
    /// There is no private key in the file.
    #[error("{file} holds no private key: it must be PEM, unencrypted, with a BEGIN PRIVATE KEY line")]
    NoKey {
        /// The path of the file.
        file: String,
    },
    /// The key in the file is protected by a passphrase.
    #[error(
        "the key in {file} is encrypted: decrypt it first, with `openssl pkey -in {} -out key.pem`",
        shell_word(file)
    )]
    EncryptedKey {
        /// The path of the file.
        file: String,
    },
    /// The file is damaged.
    #[error("{file} is not well-formed PEM: {cause}")]
    BadPem {
        /// The path of the file.
        file: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A certificate is damaged or of an unknown kind.
    #[error("a certificate in {file} cannot be used: {cause}")]
    BadCertificate {
        /// The path of the file.
        file: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The key is damaged or of an unknown kind.
    #[error("the private key in {file} cannot be used: {cause}")]
    BadKey {
        /// The path of the file.
        file: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The key belongs to another certificate.
    #[error(
        "the key in {key_file} does not belong to the first certificate in {cert_file}: one of them is of another pair"
    )]
    Mismatch {
        /// The file of the certificate.
        cert_file: String,
        /// The file of the key.
        key_file: String,
    },
    /// The certificate has expired.
    #[error("the certificate in {file} expired on {not_after}: renew it, or set this machine's clock")]
    Expired {
        /// The path of the file.
        file: String,
        /// The last second of its validity, as text in UTC.
        not_after: String,
    },
    /// The certificate is not valid yet.
    #[error("the certificate in {file} is valid from {not_before} only: check this machine's clock")]
    NotYetValid {
        /// The path of the file.
        file: String,
        /// The first second of its validity, as text in UTC.
        not_before: String,
    },
    /// A set of certificates is empty.
    #[error("no certificate is given: a TLS listener needs at least one")]
    Empty,
    /// The system's store of trusted authorities is empty.
    #[error("this machine has no store of trusted authorities ({cause}): install ca-certificates, or give a PEM file")]
    NoPlatformRoots {
        /// What the system reported.
        cause: String,
    },
    /// A certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Making(String),
    /// A certificate request does not prove that the sender has the key.
    #[error("the certificate request proves no usable key: {cause}")]
    KeyUnproven {
        /// What is wrong with it.
        cause: String,
    },
}

/// A checked certificate chain of a server, with its key.
#[derive(Clone, Debug)]
pub struct ServerCert {
    key: Arc<CertifiedKey>,
    names: Vec<String>,
}

impl ServerCert {
    /// Reads two PEM files (which may be the same one) from their content. The file names are for errors.
    ///
    /// # Errors
    ///
    /// If one cannot be read, the two do not belong together, or the certificate is not valid at `now`.
    pub fn from_pem(
        (cert_file, cert_pem): (&str, &[u8]),
        (key_file, key_pem): (&str, &[u8]),
        now: UnixTime,
    ) -> Result<ServerCert, CertError> {
        let chain = read_chain(cert_file, cert_pem)?;
        let key = read_key(key_file, key_pem)?;
        let first = chain.first().ok_or_else(|| CertError::NoCertificate { file: cert_file.to_owned() })?;
        let names = inspect(cert_file, first, now)?;
        let key = certified((cert_file, chain), (key_file, key))?;
        Ok(ServerCert { key: Arc::new(key), names })
    }

    /// Reads two PEM files.
    ///
    /// # Errors
    ///
    /// As for [`ServerCert::from_pem`]; also if a file cannot be read, or others than the owner can read or change the
    /// key's.
    pub fn load(cert: &Path, key: &Path, now: UnixTime) -> Result<ServerCert, CertError> {
        let cert_pem = read_file(cert)?;
        let key_pem = private::read(key, KEY_FILE_LEN_MAX)?;
        ServerCert::from_pem((&cert.display().to_string(), &cert_pem), (&key.display().to_string(), &key_pem), now)
    }

    /// The host names of the certificate, in lower case, wildcards as `*.example.com`, without addresses.
    #[must_use]
    #[cfg(test)]
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

/// The certificates of a listener. The first one is the default, for clients that send no name or an unknown one.
#[derive(Debug)]
pub struct CertSet {
    default: Arc<CertifiedKey>,
    by_name: HashMap<String, Arc<CertifiedKey>>,
}

impl CertSet {
    /// Creates a set. If two certificates have the same name, the first one is used.
    ///
    /// # Errors
    ///
    /// If there is no certificate.
    pub fn new(certs: impl IntoIterator<Item = ServerCert>) -> Result<CertSet, CertError> {
        let mut default = None;
        let mut by_name = HashMap::new();
        for cert in certs {
            default.get_or_insert_with(|| Arc::clone(&cert.key));
            for name in cert.names {
                by_name.entry(name).or_insert_with(|| Arc::clone(&cert.key));
            }
        }
        Ok(CertSet { default: default.ok_or(CertError::Empty)?, by_name })
    }

    /// The certificate for `name`: one with this name, otherwise one with the matching wildcard, otherwise the default.
    fn choose(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        let named = name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            self.by_name.get(&name).or_else(|| {
                let (_, parent) = name.split_once('.')?;
                self.by_name.get(&format!("*.{parent}"))
            })
        });
        Arc::clone(named.unwrap_or(&self.default))
    }
}

/// Certificates that can be replaced while connections are open. New handshakes use the new certificates; established
/// connections are not affected.
#[derive(Debug)]
pub struct ReloadingCerts(RwLock<Arc<CertSet>>);

impl ReloadingCerts {
    /// Serves `certs` until the first [`ReloadingCerts::reload`].
    #[must_use]
    pub fn new(certs: CertSet) -> Arc<ReloadingCerts> {
        Arc::new(ReloadingCerts(RwLock::new(Arc::new(certs))))
    }

    /// The default certificate, without its chain.
    #[must_use]
    pub fn shown(&self) -> Option<CertificateDer<'static>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).default.cert.first().cloned()
    }

    /// Replaces all certificates; handshakes that start later use the new ones.
    pub fn reload(&self, certs: CertSet) {
        // The whole set is replaced at once, so a panic elsewhere cannot have left it half changed.
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certs);
    }
}

impl ResolvesServerCert for ReloadingCerts {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certs = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        Some(certs.choose(hello.server_name()))
    }
}

pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, CertError> {
    std::fs::read(path)
        .map_err(|error| CertError::Unreadable { file: path.display().to_string(), cause: error.to_string() })
}

/// The content of a PEM file without a byte order mark, which would hide its first line. Other bytes that are not UTF-8 may
/// stand between the sections (RFC 7468 section 2), and those of another encoding are named.
pub(super) fn pem_text<'a>(file: &str, pem: &'a [u8]) -> Result<&'a [u8], CertError> {
    match plain_text(pem) {
        Ok(text) => Ok(text.as_bytes()),
        Err(PlainTextError::NotUtf8) => Ok(pem.strip_prefix(b"\xef\xbb\xbf").unwrap_or(pem)),
        Err(cause) => Err(CertError::BadPem { file: file.to_owned(), cause: cause.to_string() }),
    }
}

/// All certificates of a PEM file.
///
/// # Errors
///
/// It is damaged, or not text.
pub fn read_chain(file: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertError> {
    CertificateDer::pem_slice_iter(pem_text(file, pem)?)
        .collect::<Result<_, _>>()
        .map_err(|cause| CertError::BadPem { file: file.to_owned(), cause: cause.to_string() })
}

pub(super) fn read_key(file: &str, pem: &[u8]) -> Result<PrivateKeyDer<'static>, CertError> {
    let pem = pem_text(file, pem)?;
    let file = || file.to_owned();
    if memchr::memmem::find(pem, b"BEGIN ENCRYPTED PRIVATE KEY").is_some() {
        return Err(CertError::EncryptedKey { file: file() });
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|cause| match cause {
        rustls_pki_types::pem::Error::NoItemsFound => CertError::NoKey { file: file() },
        // The cause is not repeated, because it can quote a line of the key.
        _ => CertError::BadKey { file: file(), cause: "it is not well-formed PEM".to_owned() },
    })
}

/// Checks that `now` is within a certificate's validity, and returns its last second, in seconds since 1970.
pub(super) fn check_validity(file: &str, cert: &CertificateDer<'_>, now: UnixTime) -> Result<i64, CertError> {
    let (_, cert) = X509Certificate::from_der(cert)
        .map_err(|error| CertError::BadCertificate { file: file.to_owned(), cause: error.to_string() })?;
    let validity = cert.validity();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now > validity.not_after.timestamp() {
        return Err(CertError::Expired { file: file.to_owned(), not_after: validity.not_after.to_string() });
    }
    if now < validity.not_before.timestamp() {
        return Err(CertError::NotYetValid { file: file.to_owned(), not_before: validity.not_before.to_string() });
    }
    Ok(validity.not_after.timestamp())
}

/// Checks that a key (PKCS #8, DER) belongs to a certificate.
pub(super) fn check_pair(
    (cert_file, cert): (&str, &CertificateDer<'static>),
    (key_file, key): (&str, Vec<u8>),
) -> Result<(), CertError> {
    certified((cert_file, vec![cert.clone()]), (key_file, PrivateKeyDer::Pkcs8(key.into()))).map(drop)
}

fn certified(
    (cert_file, chain): (&str, Vec<CertificateDer<'static>>),
    (key_file, key): (&str, PrivateKeyDer<'static>),
) -> Result<CertifiedKey, CertError> {
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            CertError::Mismatch { cert_file: cert_file.to_owned(), key_file: key_file.to_owned() }
        }
        other => CertError::BadKey { file: key_file.to_owned(), cause: other.to_string() },
    })
}

/// The names of a certificate. Fails if `now` is outside its validity.
fn inspect(file: &str, cert: &CertificateDer<'_>, now: UnixTime) -> Result<Vec<String>, CertError> {
    check_validity(file, cert, now)?;
    let bad = |cause: String| CertError::BadCertificate { file: file.to_owned(), cause };
    let (_, cert) = X509Certificate::from_der(cert).map_err(|error| bad(error.to_string()))?;
    let names = cert.subject_alternative_name().map_err(|error| bad(error.to_string()))?;
    let names = names.map_or_else(Vec::new, |names| {
        let dns = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        };
        names.value.general_names.iter().filter_map(dns).collect()
    });
    Ok(names)
}
