//! An authority that is known only by its fingerprint. The server sends the authority's certificate, which is trusted
//! if the fingerprint matches.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::base::{Hex, sha256, unhex};

/// The SHA-256 fingerprint of a certificate (DER).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

/// The error for a text that is not a valid fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is 64 hexadecimal digits, as `openssl x509 -fingerprint -sha256` prints them (colons may stay)")]
pub struct FingerprintError;

impl Fingerprint {
    /// The SHA-256 fingerprint of this certificate.
    #[must_use]
    pub fn of(cert: &CertificateDer<'_>) -> Fingerprint {
        Fingerprint(sha256(cert))
    }

    /// A fingerprint from the 32 bytes of the SHA-256 hash.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Fingerprint {
        Fingerprint(bytes)
    }

    /// The 32 bytes of the SHA-256 hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Hex(&self.0), f)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Fingerprint, FingerprintError> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        unhex(&digits).map(Fingerprint).ok_or(FingerprintError)
    }
}

/// Verifies servers whose authority has a known fingerprint. The server must send that authority's certificate after
/// its own; the chain is then checked as usual.
#[derive(Debug)]
pub(super) struct PinnedAuthority {
    pin: Fingerprint,
    provider: Arc<CryptoProvider>,
    /// Created when the authority's certificate is first seen.
    verifier: OnceLock<Arc<WebPkiServerVerifier>>,
}

impl PinnedAuthority {
    pub(super) fn new(pin: Fingerprint, provider: Arc<CryptoProvider>) -> PinnedAuthority {
        PinnedAuthority { pin, provider, verifier: OnceLock::new() }
    }

    fn verifier(&self, shown: &[CertificateDer<'_>]) -> Result<&WebPkiServerVerifier, Error> {
        if let Some(known) = self.verifier.get() {
            return Ok(known);
        }
        let authority = shown.iter().find(|cert| Fingerprint::of(cert) == self.pin);
        let authority = authority.ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let made = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider)).build();
        let made = made.map_err(|error| Error::General(error.to_string()))?;
        Ok(self.verifier.get_or_init(|| made))
    }
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verifier = self.verifier(intermediates)?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_openssl_writes_it() {
        let cert = CertificateDer::from(b"abc".to_vec());
        let print = Fingerprint::of(&cert);
        // FIPS 180-2, appendix B.1.
        assert!(print.to_string().starts_with("ba7816bf8f01cfea414140de5dae2223"));
        assert_eq!(print.to_string().parse(), Ok(print));
        let colons: Vec<String> = print.as_bytes().iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(colons.join(":").parse(), Ok(print));
        for bad in ["", "ba78", &"g".repeat(64), &"a".repeat(63), &"é".repeat(32)] {
            assert_eq!(bad.parse::<Fingerprint>(), Err(FingerprintError), "{bad}");
        }
    }
}
