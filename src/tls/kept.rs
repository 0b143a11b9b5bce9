//! An authority whose key is stored in files. It also issues the edge's own certificates.

use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use rustls_pki_types::UnixTime;

use super::authority::{Authority, Issued, failed, params_until};
use super::certs::CertError;
use crate::base::{Secret, hex};

/// The validity of a stored authority: ten years.
const AUTHORITY_LIFE: Duration = Duration::from_secs(3_650 * 24 * 3_600);

impl Authority {
    /// Creates an authority with a new key (ECDSA on P-256), to be stored in two files and loaded from them.
    ///
    /// # Errors
    ///
    /// If the operating system provides no random bytes.
    pub fn make(name: &str, now: UnixTime) -> Result<Issued, CertError> {
        let key = KeyPair::generate().map_err(failed)?;
        // The name is unique, so that the authorities of two edges are not mistaken for each other.
        let mark: String = key.public_key_raw().iter().rev().take(4).map(|byte| hex(&[*byte])).collect();
        let mut params = params_until(&format!("{name} {mark}"), now, AUTHORITY_LIFE);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert = params.self_signed(&key).map_err(failed)?;
        Ok(Issued { cert_pem: cert.pem(), key_pem: Secret::new(key.serialize_pem().into_bytes()) })
    }

    /// Issues a server certificate for host names (including wildcards) and addresses. The chain includes the
    /// authority's own certificate, so that a client that knows only the authority's fingerprint can check it.
    ///
    /// # Errors
    ///
    /// If a name is not valid, or the operating system provides no random bytes.
    pub fn issue_chain(&self, names: &[String], now: UnixTime, life: Duration) -> Result<Issued, CertError> {
        let named = CertificateParams::new(names).map_err(failed)?;
        let mut params = params_until(names.first().map_or("adit", String::as_str), now, life);
        params.subject_alt_names = named.subject_alt_names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(failed)?;
        let cert = params.signed_by(&key, self.issuer()).map_err(failed)?;
        let cert_pem = format!("{}{}", cert.pem(), self.cert_pem());
        Ok(Issued { cert_pem, key_pem: Secret::new(key.serialize_pem().into_bytes()) })
    }
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;

    use super::*;
    use crate::tls::{CertInfo, Fingerprint};

    const NOW: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
    const LIFE: Duration = Duration::from_secs(90 * 24 * 3_600);

    fn load(made: &Issued) -> Authority {
        Authority::from_pem(("ca.pem", made.cert_pem.as_bytes()), ("ca.key", made.key_pem.expose()), NOW).unwrap()
    }

    #[test]
    fn a_kept_authority_issues_chains_that_its_fingerprint_names() {
        let made = Authority::make("adit edge", NOW).unwrap();
        let authority = load(&made);
        let names = ["edge.test", "127.0.0.1", "::1"].map(str::to_owned);
        let issued = authority.issue_chain(&names, NOW, LIFE).unwrap();
        assert_eq!(issued.server_cert(NOW).unwrap().names(), ["edge.test"]);
        let chain: Vec<_> = CertificateDer::pem_slice_iter(issued.cert_pem.as_bytes()).map(Result::unwrap).collect();
        assert_eq!(chain.len(), 2);
        assert_eq!(Fingerprint::of(&chain[1]), Fingerprint::of(load(&made).cert_der()));
        let info = CertInfo::of_pem(("edge.pem", issued.cert_pem.as_bytes())).unwrap();
        assert_eq!(info.names, names);
        assert_eq!(info.not_after_unix_s, i64::try_from((NOW.as_secs()) + LIFE.as_secs()).unwrap());
    }

    #[test]
    fn an_authority_outlives_its_certificates() {
        let made = Authority::make("adit edge", NOW).unwrap();
        assert_eq!(load(&made).not_after_unix_s(), NOW.as_secs() + AUTHORITY_LIFE.as_secs());
    }
}
