//! An authority as issuer of certificates for connectors, which prove that they have the key.

use std::path::Path;
use std::time::Duration;

use rcgen::string::Ia5String;
use rcgen::{CertificateSigningRequestParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, UnixTime};

use super::authority::{Authority, params_until};
use super::certs::{CertError, KEY_FILE_LEN_MAX, check_pair, check_validity, pem_text, read_chain, read_file};
use super::clock::date_s;
use super::identity::TUNNEL_URI;
use crate::base::TunnelId;
use crate::private;

/// A connector's certificate, as issued.
pub struct ClientCert {
    /// The certificate and the authority's certificate after it; DER.
    pub chain: Vec<CertificateDer<'static>>,
    /// The validity from the moment when it was issued.
    pub lifetime: Duration,
}

impl Authority {
    /// An existing authority, from its certificate and key (PEM). The file names are for errors.
    ///
    /// # Errors
    ///
    /// If one cannot be read, they do not belong together, or the certificate is not valid at `now`.
    pub fn from_pem(
        (cert_file, cert_pem): (&str, &[u8]),
        (key_file, key_pem): (&str, &[u8]),
        now: UnixTime,
    ) -> Result<Authority, CertError> {
        let chain = read_chain(cert_file, cert_pem)?;
        let cert = chain.into_iter().next().ok_or_else(|| CertError::NoCertificate { file: cert_file.to_owned() })?;
        let not_after = check_validity(cert_file, &cert, now)?;
        let bad_key = |cause: String| CertError::BadKey { file: key_file.to_owned(), cause };
        // The cause is not repeated, because it can quote a line of the key.
        let text = std::str::from_utf8(pem_text(key_file, key_pem)?)
            .map_err(|_| bad_key("it is not well-formed PEM".to_owned()))?;
        let key =
            KeyPair::from_pem(text).map_err(|_| bad_key("it is not a private key in PEM (PKCS #8)".to_owned()))?;
        check_pair((cert_file, &cert), (key_file, key.serialize_der()))?;
        let issuer = Issuer::from_ca_cert_der(&cert, key)
            .map_err(|error| CertError::BadCertificate { file: cert_file.to_owned(), cause: error.to_string() })?;
        Ok(Authority::of(issuer, cert, now, u64::try_from(not_after).unwrap_or_default()))
    }

    /// An existing authority, read from its two PEM files.
    ///
    /// # Errors
    ///
    /// As for [`Authority::from_pem`]; also if a file cannot be read, or others than the owner can read or change the
    /// key's.
    pub fn load(cert: &Path, key: &Path, now: UnixTime) -> Result<Authority, CertError> {
        let cert_pem = read_file(cert)?;
        let key_pem = private::read(key, KEY_FILE_LEN_MAX)?;
        Authority::from_pem((&cert.display().to_string(), &cert_pem), (&key.display().to_string(), &key_pem), now)
    }

    /// Issues a client certificate for the key of a certificate request (PKCS #10, DER), valid for `lifetime` and at
    /// most as long as the authority itself.
    ///
    /// # Errors
    ///
    /// [`CertError::KeyUnproven`] if the request is malformed or its signature is not valid; otherwise why the
    /// certificate could not be made.
    pub fn certify(
        &self,
        csr: &[u8],
        tunnel: &TunnelId,
        lifetime: Duration,
        now: UnixTime,
    ) -> Result<ClientCert, CertError> {
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr));
        let request = request.map_err(|error| CertError::KeyUnproven { cause: error.to_string() })?;
        let last = self.not_after_unix_s();
        let lifetime = lifetime.min(Duration::from_secs(last.saturating_sub(now.as_secs())));
        if lifetime < Duration::from_secs(1) {
            let not_after = date_s(i64::try_from(last).unwrap_or(i64::MAX));
            return Err(CertError::Expired { file: "the edge's authority".to_owned(), not_after });
        }
        let failed = |error: rcgen::Error| CertError::Making(error.to_string());
        let mut params = params_until(tunnel.as_str(), now, lifetime);
        let uri = Ia5String::try_from(format!("{TUNNEL_URI}{tunnel}")).map_err(failed)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let cert = params.signed_by(&request.public_key, self.issuer()).map_err(failed)?;
        Ok(ClientCert { chain: vec![cert.der().clone(), self.cert_der().clone()], lifetime })
    }
}
