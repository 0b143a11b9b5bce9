//! Finds the name of the untrusted authority that signed a refused certificate.

use std::cell::RefCell;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::cert_info::CertInfo;

/// The longest name of an authority that is passed on, in characters. Anyone may have written it.
const ISSUER_LEN_MAX: usize = 160;

thread_local! {
    /// The issuer of the certificate that was refused last on this thread, until it is taken. rustls reports the
    /// refusal without the issuer, but at once and on the thread on which the verifier ran.
    static UNTRUSTED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Takes the issuer of the certificate that has just been refused, if it could be parsed.
pub(super) fn take_issuer() -> Option<String> {
    UNTRUSTED.take()
}

/// Wraps a verifier, and remembers the issuer of a certificate that no trusted authority signed.
#[derive(Debug)]
pub(super) struct NamesIssuer(pub(super) Arc<dyn ServerCertVerifier>);

impl ServerCertVerifier for NamesIssuer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let is_untrusted = matches!(verified, Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)));
        UNTRUSTED.set(if is_untrusted {
            CertInfo::of_der(end_entity).map(|cert| printable(&cert.issuer))
        } else {
            None
        });
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Makes a name fit for a log line: bounded in length, and on one line.
fn printable(name: &str) -> String {
    let visible = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    name.chars().take(ISSUER_LEN_MAX).map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_authority_is_printed_on_one_line_of_bounded_length() {
        assert_eq!(printable("CN=Example\r\nInspection"), "CN=Example\u{fffd}\u{fffd}Inspection");
        assert_eq!(printable(&"é".repeat(1_000)).chars().count(), ISSUER_LEN_MAX);
    }
}
