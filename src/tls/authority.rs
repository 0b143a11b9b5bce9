//! A certificate authority. Either it exists only while the process runs, for `adit up` and for tests, or it is kept in files.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::certs::{CertError, ServerCert};
use crate::base::{Secret, hex};

/// How far in the past a certificate begins, so that a peer whose clock is a little slow accepts it.
const BACKDATE: Duration = Duration::from_secs(3600);
const DAY_S: u64 = 24 * 3600;
/// The longest validity of a certificate of this authority, in days.
pub const VALID_DAYS_MAX: u32 = 90;

/// An authority with its key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cert_pem: String,
    cert_der: CertificateDer<'static>,
    from: UnixTime,
    /// The last second of its validity, in seconds since 1970.
    not_after: u64,
}

/// A certificate that an [`Authority`] issued, with its key.
pub struct Issued {
    /// The certificate as PEM.
    pub cert_pem: String,
    /// Its private key as PEM (PKCS #8).
    pub key_pem: Secret,
}

impl Authority {
    /// Creates an authority with a new key, valid for `valid_days` days (at most [`VALID_DAYS_MAX`]) from `now`.
    ///
    /// # Errors
    ///
    /// If the operating system provides no random bytes.
    pub fn new(name: &str, now: UnixTime, valid_days: u32) -> Result<Authority, CertError> {
        let valid_days = valid_days.min(VALID_DAYS_MAX);
        let key = KeyPair::generate().map_err(failed)?;
        // The name is unique, so that the certificate of an earlier authority is not mistaken for this one's.
        let mark: String = key.public_key_raw().iter().rev().take(4).map(|byte| hex(&[*byte])).collect();
        let not_after = now.as_secs() + u64::from(valid_days) * DAY_S;
        let mut params = params(&format!("{name} {mark}"), now, not_after);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert = params.self_signed(&key).map_err(failed)?;
        let cert_der = cert.der().clone();
        Ok(Authority { issuer: Issuer::new(params, key), cert_pem: cert.pem(), cert_der, from: now, not_after })
    }

    /// An authority from its stored parts.
    pub(super) fn of(
        issuer: Issuer<'static, KeyPair>,
        cert_der: CertificateDer<'static>,
        from: UnixTime,
        not_after: u64,
    ) -> Authority {
        let cert_pem = pem::encode(&pem::Pem::new("CERTIFICATE", cert_der.as_ref()));
        Authority { issuer, cert_pem, cert_der, from, not_after }
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// The last second of its validity, in seconds since 1970.
    #[must_use]
    pub fn not_after_unix_s(&self) -> u64 {
        self.not_after
    }

    /// The certificate of the authority as PEM, for those who are to trust it.
    #[must_use]
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The certificate of the authority as DER.
    #[must_use]
    pub fn cert_der(&self) -> &CertificateDer<'static> {
        &self.cert_der
    }

    /// Issues a server certificate for host names (including wildcards) and addresses, valid as long as the authority.
    ///
    /// # Errors
    ///
    /// If a name is not valid, or the operating system provides no random bytes.
    pub fn issue(&self, names: &[&str]) -> Result<Issued, CertError> {
        let named = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let mut params = params(names.first().copied().unwrap_or("adit"), self.from, self.not_after);
        params.subject_alt_names = named.map_err(failed)?.subject_alt_names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(failed)?;
        let cert = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Issued { cert_pem: cert.pem(), key_pem: Secret::new(key.serialize_pem().into_bytes()) })
    }
}

impl Issued {
    /// The certificate in the form that a server uses.
    ///
    /// # Errors
    ///
    /// If it is not valid at `now`.
    pub fn server_cert(&self, now: UnixTime) -> Result<ServerCert, CertError> {
        let (cert, key) = (self.cert_pem.as_bytes(), self.key_pem.expose());
        ServerCert::from_pem(("the issued certificate", cert), ("the issued key", key), now)
    }
}

fn params(name: &str, now: UnixTime, not_after: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(now.as_secs()) - BACKDATE;
    params.not_after = epoch + Duration::from_secs(not_after);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// The common parameters of certificates that are requested.
pub(super) fn params_until(name: &str, now: UnixTime, lifetime: Duration) -> CertificateParams {
    params(name, now, now.as_secs() + lifetime.as_secs())
}

pub(super) fn failed(error: rcgen::Error) -> CertError {
    CertError::Making(error.to_string())
}
