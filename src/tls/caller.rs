//! Authentication of the edge inside an inner TLS session: the edge shows the connector a certificate.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rcgen::string::Ia5String;
use rcgen::{ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType};
use rustls::client::ResolvesClientCert;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use super::authority::{Authority, failed, params_until};
use super::certs::CertError;
use super::identity::only_uri;
use super::provider::provider;

/// The name in the certificate that an edge shows inside an inner session.
pub const EDGE_URI: &str = "adit://edge";
/// The validity of such a certificate. It is renewed after half of it.
pub const CALLER_LIFE: Duration = Duration::from_secs(24 * 3600);

/// The certificate that the edge shows inside inner sessions. It can be replaced while sessions are open.
#[derive(Default)]
pub struct CallerIdentity(RwLock<Option<Arc<CertifiedKey>>>);

impl CallerIdentity {
    /// Creates a key and a certificate of this authority, and shows the certificate from now on. `name` is the DNS name of the
    /// edge, if it has one.
    ///
    /// # Errors
    ///
    /// If the name is not valid, or the operating system provides no random bytes.
    pub fn renew(&self, authority: &Authority, name: Option<&str>, now: UnixTime) -> Result<(), CertError> {
        let mut params = params_until("adit edge", now, CALLER_LIFE);
        params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(EDGE_URI).map_err(failed)?)];
        if let Some(name) = name {
            params.subject_alt_names.push(SanType::DnsName(Ia5String::try_from(name).map_err(failed)?));
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(failed)?;
        let cert = params.signed_by(&key, authority.issuer()).map_err(failed)?;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let certified = CertifiedKey::from_der(vec![cert.der().clone()], key, &provider())
            .map_err(|error| CertError::Making(error.to_string()))?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(certified));
        Ok(())
    }

    fn key(&self) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl std::fmt::Debug for CallerIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("CallerIdentity").field(&self.has_certs()).finish()
    }
}

impl ResolvesClientCert for CallerIdentity {
    /// The authorities that the connector names are ignored: if it does not know this one, it must refuse the
    /// certificate itself.
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.key()
    }

    fn has_certs(&self) -> bool {
        self.key().is_some()
    }
}

/// The authorities whose edges may call inside an inner session: those that certified this connector, one for each edge
/// that it is linked to. If there are none, nobody may call.
#[derive(Debug, Default)]
pub struct CallerAuthorities(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    by_edge: Vec<Option<CertificateDer<'static>>>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl CallerAuthorities {
    /// Sets the authority of one edge, in place of the previous one.
    pub fn set(&self, edge: usize, authority: CertificateDer<'static>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.by_edge.len() <= edge {
            known.by_edge.resize(edge + 1, None);
        }
        if known.by_edge[edge].as_ref() == Some(&authority) {
            return;
        }
        known.by_edge[edge] = Some(authority);
        let mut roots = RootCertStore::empty();
        // An authority whose certificate cannot be read is not trusted.
        roots.add_parsable_certificates(known.by_edge.iter().flatten().cloned());
        known.verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build().ok();
    }

    fn verifier(&self) -> Option<Arc<dyn ClientCertVerifier>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).verifier.clone()
    }
}

/// What is wrong with the certificate of a caller, apart from its signatures.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the certificate is not an edge's")]
struct NotAnEdge;

impl ClientCertVerifier for CallerAuthorities {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verifier = self.verifier().ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let verified = verifier.verify_client_cert(end_entity, intermediates, now)?;
        // The same authority also certifies connectors, and a connector is not an edge.
        match only_uri(end_entity) {
            Ok(Some(uri)) if uri == EDGE_URI => Ok(verified),
            _ => Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(NotAnEdge))))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::{KeyRequest, WallClock};

    fn shown(authority: &Authority, now: UnixTime) -> CertificateDer<'static> {
        let identity = CallerIdentity::default();
        assert!(!identity.has_certs());
        identity.renew(authority, Some("edge.test"), now).unwrap();
        identity.key().unwrap().cert[0].clone()
    }

    #[test]
    fn only_an_edge_of_the_authority_that_certified_us_may_call() {
        let now = WallClock::default().now();
        let (ours, other) = (Authority::new("ours", now, 2).unwrap(), Authority::new("other", now, 2).unwrap());
        let callers = CallerAuthorities::default();
        let judge = |cert: &CertificateDer<'_>, now| callers.verify_client_cert(cert, &[], now).map(drop);
        let unknown = Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        assert_eq!(judge(&shown(&ours, now), now), unknown, "nobody is known yet");
        callers.set(1, ours.cert_der().clone());
        assert_eq!(judge(&shown(&ours, now), now), Ok(()));
        assert_eq!(judge(&shown(&other, now), now), unknown);
        callers.set(0, other.cert_der().clone());
        assert_eq!(judge(&shown(&other, now), now), Ok(()));
        callers.set(1, other.cert_der().clone());
        assert_eq!(judge(&shown(&ours, now), now), unknown, "its edge has another authority now");

        let request = KeyRequest::new().unwrap();
        let connector = other.certify(request.csr(), &"tnl_a".parse().unwrap(), CALLER_LIFE, now).unwrap();
        let judged = judge(&connector.chain[0], now).unwrap_err().to_string();
        assert!(judged.contains("NotAnEdge"), "{judged}");
        let later =
            UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) + CALLER_LIFE + Duration::from_secs(1));
        assert!(judge(&shown(&other, now), later).is_err());
    }
}
