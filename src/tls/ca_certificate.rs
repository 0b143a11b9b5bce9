//! Parses and checks the certificate of an authority that is about to be registered.

use rustls_pki_types::pem::{PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::signature_algorithm::SignatureAlgorithm;

use super::pin::Fingerprint;

/// The longest PEM text of one certificate, in bytes.
pub const CA_PEM_LEN_MAX: usize = 8_192;
/// The shortest RSA key that is accepted, in bits.
const RSA_BITS_MIN: usize = 2_048;

/// Curves of keys that are accepted: P-256, P-384 and P-521 (RFC 5480 section 2.1.1.1).
const CURVES: [&str; 3] = ["1.2.840.10045.3.1.7", "1.3.132.0.34", "1.3.132.0.35"];
/// Ed25519, as key and as signature (RFC 8410 section 3).
const ED25519: &str = "1.3.101.112";
/// Signatures that are accepted, beside Ed25519 and RSASSA-PSS: ECDSA (RFC 5758 section 3.2) and RSA (RFC 4055 section 5),
/// each with SHA-256, SHA-384 and SHA-512.
const SIGNATURES: [&str; 6] = [
    "1.2.840.10045.4.3.2",
    "1.2.840.10045.4.3.3",
    "1.2.840.10045.4.3.4",
    "1.2.840.113549.1.1.11",
    "1.2.840.113549.1.1.12",
    "1.2.840.113549.1.1.13",
];
/// SHA-256, SHA-384 and SHA-512 as they stand in the parameters of RSASSA-PSS (RFC 4055 section 2.1).
const PSS_HASHES: [&str; 3] = ["2.16.840.1.101.3.4.2.1", "2.16.840.1.101.3.4.2.2", "2.16.840.1.101.3.4.2.3"];

/// Why a certificate is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaFault {
    /// The text is too long.
    #[error("the certificate is longer than {CA_PEM_LEN_MAX} bytes: give one certificate, without those behind it")]
    TooLong,
    /// The text does not hold exactly one certificate and nothing else.
    #[error("give one certificate as PEM, from BEGIN CERTIFICATE to END CERTIFICATE: {0}")]
    NotOne(String),
    /// There is a private key in the text.
    #[error("there is a private key in the text: it was not kept; now that it was sent here, make a new one")]
    PrivateKey,
    /// The certificate cannot be read.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
    /// It is not the certificate of an authority.
    #[error("it is not the certificate of an authority: BasicConstraints must be critical and say CA:TRUE")]
    NoAuthority,
    /// It may not sign certificates.
    #[error("its KeyUsage must have keyCertSign")]
    MayNotSign,
    /// It has no key identifier.
    #[error("it has no SubjectKeyIdentifier, by which the certificates that it signed are found")]
    NoKeyIdentifier,
    /// Its key is too weak or of a kind that is not accepted.
    #[error("its key is not accepted: RSA of {RSA_BITS_MIN} bits or more, ECDSA on P-256, P-384 or P-521, or Ed25519")]
    WeakKey,
    /// Its signature is too weak or of a kind that is not accepted.
    #[error("its signature is not accepted: SHA-256 or better with RSA or ECDSA, or Ed25519")]
    WeakSignature,
    /// It is no longer valid.
    #[error("it expired on {0}: make a new one")]
    Expired(String),
    /// It is not valid yet.
    #[error("it is valid from {0} only: check the clocks")]
    NotYetValid(String),
}

/// A certificate of an authority, a root or an intermediate one, that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaCertificate {
    /// The certificate as PEM, without what stood around it.
    pub pem: String,
    /// SHA-256 of the certificate (DER).
    pub fingerprint: Fingerprint,
    /// The last second of its validity, since 1970.
    pub not_after_unix_s: i64,
}

impl CaCertificate {
    /// Reads and checks the one certificate of a PEM text.
    ///
    /// # Errors
    ///
    /// Why it is not accepted.
    pub fn of_pem(text: &str, now: UnixTime) -> Result<CaCertificate, CaFault> {
        let der = the_only_one(text)?;
        let unreadable = |error: &dyn std::fmt::Display| CaFault::Unreadable(error.to_string());
        let (rest, cert) = X509Certificate::from_der(&der).map_err(|error| unreadable(&error))?;
        if !rest.is_empty() {
            return Err(CaFault::Unreadable("there are bytes after its end".to_owned()));
        }
        check_extensions(&cert)?;
        check_key(&cert)?;
        check_signature(&cert)?;
        let (validity, now) = (cert.validity(), i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        if now > validity.not_after.timestamp() {
            return Err(CaFault::Expired(validity.not_after.to_string()));
        }
        if now < validity.not_before.timestamp() {
            return Err(CaFault::NotYetValid(validity.not_before.to_string()));
        }
        Ok(CaCertificate {
            pem: pem::encode(&pem::Pem::new("CERTIFICATE", der.to_vec())),
            fingerprint: Fingerprint::of(&der),
            not_after_unix_s: validity.not_after.timestamp(),
        })
    }
}

fn the_only_one(text: &str) -> Result<CertificateDer<'static>, CaFault> {
    if text.len() > CA_PEM_LEN_MAX {
        return Err(CaFault::TooLong);
    }
    // This also catches a key that is too damaged to be parsed as one.
    if text.contains("PRIVATE KEY") {
        return Err(CaFault::PrivateKey);
    }
    let sections: Result<Vec<(SectionKind, Vec<u8>)>, _> = PemObject::pem_slice_iter(text.as_bytes()).collect();
    // The text is not quoted in the error, because it may be anything, even a key.
    let mut sections = sections.map_err(|_| CaFault::NotOne("it is not well-formed".to_owned()))?;
    match (sections.pop(), sections.len()) {
        (None, _) => Err(CaFault::NotOne("there is none".to_owned())),
        (Some((SectionKind::Certificate, der)), 0) => Ok(CertificateDer::from(der)),
        (Some(_), 0) => Err(CaFault::NotOne("there is something else".to_owned())),
        (Some(_), more) => Err(CaFault::NotOne(format!("there are {}", more + 1))),
    }
}

fn check_extensions(cert: &X509Certificate<'_>) -> Result<(), CaFault> {
    let unreadable = |error: x509_parser::error::X509Error| CaFault::Unreadable(error.to_string());
    let constraints = cert.basic_constraints().map_err(unreadable)?;
    if !constraints.is_some_and(|constraints| constraints.critical && constraints.value.ca) {
        return Err(CaFault::NoAuthority);
    }
    let usage = cert.key_usage().map_err(unreadable)?;
    if !usage.is_some_and(|usage| usage.value.key_cert_sign()) {
        return Err(CaFault::MayNotSign);
    }
    let identifier = x509_parser::oid_registry::OID_X509_EXT_SUBJECT_KEY_IDENTIFIER;
    match cert.get_extension_unique(&identifier).map_err(unreadable)? {
        Some(_) => Ok(()),
        None => Err(CaFault::NoKeyIdentifier),
    }
}

fn check_key(cert: &X509Certificate<'_>) -> Result<(), CaFault> {
    let key = cert.public_key();
    let parsed = key.parsed().map_err(|_| CaFault::WeakKey)?;
    let curve = || key.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok()).map(|oid| oid.to_id_string());
    let fits = match parsed {
        PublicKey::RSA(rsa) => rsa.key_size() >= RSA_BITS_MIN,
        PublicKey::EC(_) => curve().is_some_and(|curve| CURVES.contains(&curve.as_str())),
        _ => key.algorithm.algorithm.to_id_string() == ED25519,
    };
    if fits { Ok(()) } else { Err(CaFault::WeakKey) }
}

fn check_signature(cert: &X509Certificate<'_>) -> Result<(), CaFault> {
    let algorithm = &cert.signature_algorithm;
    let name = algorithm.algorithm.to_id_string();
    let fits = match SignatureAlgorithm::try_from(algorithm) {
        Ok(SignatureAlgorithm::RSASSA_PSS(pss)) => {
            PSS_HASHES.contains(&pss.hash_algorithm_oid().to_id_string().as_str())
        }
        _ => name == ED25519 || SIGNATURES.contains(&name.as_str()),
    };
    if fits { Ok(()) } else { Err(CaFault::WeakSignature) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose, PKCS_ED25519, date_time_ymd};

    use super::*;

    const NOW: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));

    fn params() -> CertificateParams {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2036, 1, 1);
        params
    }

    fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> String {
        let mut params = params();
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    fn read(text: &str) -> Result<CaCertificate, CaFault> {
        CaCertificate::of_pem(text, NOW)
    }

    #[test]
    fn roots_and_intermediates_are_accepted_with_the_usual_keys_and_ed25519() {
        for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
            let (key, below) = (KeyPair::generate_for(algorithm).unwrap(), KeyPair::generate_for(algorithm).unwrap());
            let root = params().self_signed(&key).unwrap();
            let issuer = rcgen::Issuer::new(params(), key);
            let intermediate = params().signed_by(&below, &issuer).unwrap();
            for cert in [root, intermediate] {
                let read = read(&format!("a comment\n{}\n", cert.pem())).unwrap();
                assert_eq!(read.fingerprint, Fingerprint::of(cert.der()));
                assert_eq!(CertificateDer::from_pem_slice(read.pem.as_bytes()).unwrap(), *cert.der());
            }
        }
    }

    #[test]
    fn everything_else_is_refused_by_its_fault() {
        assert_eq!(read(&self_signed(|params| params.is_ca = IsCa::NoCa)), Err(CaFault::NoAuthority));
        let may_not = self_signed(|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
        assert_eq!(read(&may_not), Err(CaFault::MayNotSign));
        let expired = self_signed(|params| params.not_after = date_time_ymd(2026, 2, 1));
        assert!(matches!(read(&expired), Err(CaFault::Expired(_))));
        let early = self_signed(|params| params.not_before = date_time_ymd(2035, 1, 1));
        assert!(matches!(read(&early), Err(CaFault::NotYetValid(_))));
    }

    #[test]
    fn the_text_holds_one_certificate_and_nothing_secret() {
        let one = self_signed(|_| {});
        assert!(read(&one).is_ok());
        assert!(matches!(read(""), Err(CaFault::NotOne(_))));
        assert_eq!(read(&format!("{one}{one}")), Err(CaFault::NotOne("there are 2".to_owned())));
        let with_key = format!("{one}{}", KeyPair::generate().unwrap().serialize_pem());
        assert_eq!(read(&with_key), Err(CaFault::PrivateKey));
        assert_eq!(read(&"x".repeat(CA_PEM_LEN_MAX + 1)), Err(CaFault::TooLong));
        let mangled = one.replace("MII", "M!!");
        assert!(matches!(read(&mangled), Err(CaFault::NotOne(_) | CaFault::Unreadable(_))));
        let other = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(read(other), Err(CaFault::Unreadable(_))));
    }
}
