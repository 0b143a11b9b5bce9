use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::certs::{CertError, read_chain};

/// A certificate should be renewed when this many days are left.
const RENEWAL_DUE_DAYS: i64 = 14;
const DAY_S: i64 = 24 * 3_600;

/// What operators want to know about a certificate: names, issuer and validity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertInfo {
    /// Host names and addresses, in the order of the certificate.
    pub names: Vec<String>,
    /// The issuer's distinguished name.
    pub issuer: String,
    /// The first second of its validity, in seconds since 1970.
    pub not_before_unix_s: i64,
    /// The last second of its validity, in seconds since 1970.
    pub not_after_unix_s: i64,
}

impl CertInfo {
    /// Reads a certificate, whether valid now or not; `None` if it is damaged.
    #[must_use]
    pub fn of_der(cert: &CertificateDer<'_>) -> Option<CertInfo> {
        read(cert).ok()
    }

    /// Reads the first certificate of a PEM file, whether valid now or not. The file name is for errors.
    ///
    /// # Errors
    ///
    /// If there is no certificate, or none that can be read.
    pub fn of_pem((file, pem): (&str, &[u8])) -> Result<CertInfo, CertError> {
        let chain = read_chain(file, pem)?;
        let cert = chain.first().ok_or_else(|| CertError::NoCertificate { file: file.to_owned() })?;
        read(cert).map_err(|cause| CertError::BadCertificate { file: file.to_owned(), cause })
    }

    /// The first of its DNS names that is no wildcard.
    #[must_use]
    pub fn dns_name(&self) -> Option<&str> {
        let is_dns = |name: &&String| !name.starts_with('*') && name.parse::<std::net::IpAddr>().is_err();
        self.names.iter().find(is_dns).map(String::as_str)
    }

    /// The seconds until it expires; negative once it has.
    #[must_use]
    pub fn expires_in_s(&self, now: UnixTime) -> i64 {
        self.not_after_unix_s.saturating_sub(unix_s(now))
    }

    /// The whole days until it expires; negative once it has.
    #[must_use]
    pub fn expires_in_days(&self, now: UnixTime) -> i64 {
        self.expires_in_s(now).div_euclid(DAY_S)
    }

    /// Whether its validity has not begun yet.
    #[must_use]
    pub fn is_not_yet_valid(&self, now: UnixTime) -> bool {
        unix_s(now) < self.not_before_unix_s
    }

    /// Whether it should have been renewed already: 14 days before its end, or in the last third of a short validity.
    #[must_use]
    pub fn is_renewal_due(&self, now: UnixTime) -> bool {
        let lifetime_days = (self.not_after_unix_s - self.not_before_unix_s) / DAY_S;
        self.expires_in_days(now) < RENEWAL_DUE_DAYS.min(lifetime_days / 3)
    }
}

fn read(cert: &CertificateDer<'_>) -> Result<CertInfo, String> {
    let (_, cert) = X509Certificate::from_der(cert).map_err(|error| error.to_string())?;
    let alternatives = cert.subject_alternative_name().map_err(|error| error.to_string())?;
    let names = alternatives.iter().flat_map(|names| &names.value.general_names).filter_map(name).collect();
    Ok(CertInfo {
        names,
        issuer: cert.issuer().to_string(),
        not_before_unix_s: cert.validity().not_before.timestamp(),
        not_after_unix_s: cert.validity().not_after.timestamp(),
    })
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    use std::net::IpAddr;
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

fn unix_s(now: UnixTime) -> i64 {
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::pem::PemObject;

    use super::*;
    use crate::tls::Authority;

    #[test]
    fn names_issuer_and_validity_are_read_from_der_and_from_pem() {
        let authority = Authority::new("the test's own", UnixTime::now(), 90).unwrap();
        let names = ["edge.test", "*.edge.test", "127.0.0.1", "::1"];
        let pem = authority.issue(&names).unwrap().cert_pem;
        let info = CertInfo::of_der(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
        assert_eq!(info.names, names);
        assert_eq!(info.dns_name(), Some("edge.test"));
        let nameless = CertInfo { names: vec!["*.edge.test".to_owned(), "::1".to_owned()], ..info.clone() };
        assert_eq!(nameless.dns_name(), None);
        assert!(info.issuer.contains("the test's own"));
        assert!(info.not_before_unix_s < info.not_after_unix_s);
        assert_eq!(CertInfo::of_pem(("edge.pem", pem.as_bytes())).unwrap(), info);
        assert_eq!(CertInfo::of_der(&CertificateDer::from(vec![1, 2, 3])), None);
        assert!(CertInfo::of_pem(("none", b"no pem")).is_err());
    }

    #[test]
    fn renewal_is_due_two_weeks_before_the_end_or_in_the_last_third_of_a_short_life() {
        let at = |unix_s: i64| UnixTime::since_unix_epoch(std::time::Duration::from_secs(unix_s.unsigned_abs()));
        let end = 1_800_000_000;
        let info = |lifetime_days: i64| CertInfo {
            names: Vec::new(),
            issuer: String::new(),
            not_before_unix_s: end - lifetime_days * DAY_S,
            not_after_unix_s: end,
        };
        assert!(info(90).is_renewal_due(at(end - RENEWAL_DUE_DAYS * DAY_S + 1)));
        assert!(!info(90).is_renewal_due(at(end - RENEWAL_DUE_DAYS * DAY_S)));
        assert!(info(9).is_renewal_due(at(end - 3 * DAY_S + 1)) && !info(9).is_renewal_due(at(end - 3 * DAY_S)));
        assert!(!info(1).is_renewal_due(at(end - 600)) && info(1).is_renewal_due(at(end + 1)));
        assert_eq!(info(1).expires_in_s(at(end + 1)), -1);
        assert!(info(1).is_not_yet_valid(at(end - DAY_S - 1)) && !info(1).is_not_yet_valid(at(end)));
    }
}
