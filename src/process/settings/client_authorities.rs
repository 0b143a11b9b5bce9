//! Reads from files the authorities that sign client certificates of callers.

use std::path::Path;
use std::sync::Arc;

use crate::base::SecretHash;
use crate::config::{CallerName, ClientAuthorityConfig, ConfigError, read_named};
use crate::identity::{CertificateName, ClientAuthority};
use crate::process::settings::callers::fault;
use crate::tls::{Roots, client_verifier};

/// The longest file of authorities, in bytes.
const CA_FILE_LEN_MAX: usize = 1 << 20;
/// The longest file of revoked certificates, in bytes. An entry takes about 40.
const CRL_FILE_LEN_MAX: usize = 32 << 20;

/// An authority as it was read. It stays the same as long as its settings and files do, and with it what it has verified.
pub(super) struct KnownAuthority {
    pub(super) authority: Arc<ClientAuthority>,
    config: ClientAuthorityConfig,
    /// The hashes of its files.
    files: [Option<SecretHash>; 2],
}

impl KnownAuthority {
    /// Reads an authority, or takes it from those that are known.
    ///
    /// # Errors
    ///
    /// If a file cannot be used. `table` is that of the configuration.
    pub(super) fn read(
        config: &ClientAuthorityConfig,
        table: &str,
        known: &[KnownAuthority],
    ) -> Result<KnownAuthority, ConfigError> {
        let read = |key: &str, file: &Path, len_max| {
            read_named(file, len_max).map_err(|error| fault(table, key, error.to_string()))
        };
        let certificates = read("ca_file", &config.ca_file, CA_FILE_LEN_MAX)?;
        let file = config.crl_file.as_deref();
        let revoked = file.map(|file| read("crl_file", file, CRL_FILE_LEN_MAX)).transpose()?;
        let files = [Some(SecretHash::of_bytes(&certificates)), revoked.as_deref().map(SecretHash::of_bytes)];
        if let Some(same) = known.iter().find(|known| known.config == *config && known.files == files) {
            return Ok(KnownAuthority { authority: Arc::clone(&same.authority), config: config.clone(), files });
        }
        let mut roots = Roots::new();
        let added = roots.add_pem(&config.ca_file.display().to_string(), &certificates);
        added.map_err(|error| fault(table, "ca_file", error.to_string()))?;
        let name = file.map(|file| file.display().to_string());
        let verifier = client_verifier(&roots, name.as_deref().zip(revoked.as_deref()));
        let key = if file.is_some() { "crl_file" } else { "ca_file" };
        let verifier = verifier.map_err(|error| fault(table, key, error.to_string()))?;
        let named_by = match config.name_from {
            CallerName::Uri => CertificateName::Uri,
            CallerName::Dns => CertificateName::Dns,
            CallerName::Email => CertificateName::Email,
            CallerName::CommonName => CertificateName::CommonName,
            CallerName::Subject => CertificateName::Subject,
        };
        let authority = Arc::new(ClientAuthority::new(&config.name.0, verifier, named_by));
        Ok(KnownAuthority { authority, config: config.clone(), files })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod,
        KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
    };
    use rustls_pki_types::CertificateDer;

    use super::*;
    use crate::base::HostPattern;
    use crate::config::{CallerAuth, CallerTerms, ClientCertificate, IdentityConfig, Millis, TokenText};
    use crate::identity::{CertificateRefusal, RouteAuth, ShownCertificates, TokenRefusal, VerifiedTokens};
    use crate::process::settings::callers::CallerReader;

    /// In the year 2026.
    const NOW: Duration = Duration::from_secs(1_780_000_000);
    const YEAR: Duration = Duration::from_secs(366 * 24 * 3_600);

    struct Files {
        dir: tempfile::TempDir,
        ca: Issuer<'static, KeyPair>,
    }

    impl Files {
        fn new() -> Files {
            let dir = tempfile::tempdir().unwrap();
            let (mut params, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            std::fs::write(dir.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
            Files { dir, ca: Issuer::new(params, key) }
        }

        fn certified(&self, serial: u64) -> CertificateDer<'static> {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, format!("agent {serial}"));
            params.serial_number = Some(SerialNumber::from(serial));
            params.signed_by(&KeyPair::generate().unwrap(), &self.ca).unwrap().der().clone()
        }

        /// An authority with this serial number below the first one.
        fn below(&self, serial: u64) -> (Issuer<'static, KeyPair>, CertificateDer<'static>) {
            let (mut params, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
            params.distinguished_name.push(DnType::CommonName, "an authority below");
            params.serial_number = Some(SerialNumber::from(serial));
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            let certificate = params.signed_by(&key, &self.ca).unwrap().der().clone();
            (Issuer::new(params, key), certificate)
        }

        fn revoke(&self, serials: &[u64]) {
            std::fs::write(self.dir.path().join("crl.pem"), Files::list(&self.ca, serials)).unwrap();
        }

        /// A list of this authority.
        fn list(of: &Issuer<'static, KeyPair>, serials: &[u64]) -> String {
            let revoked = |serial: &u64| RevokedCertParams {
                serial_number: SerialNumber::from(*serial),
                revocation_time: date_time_ymd(2026, 1, 1),
                reason_code: None,
                invalidity_date: None,
            };
            let params = CertificateRevocationListParams {
                this_update: date_time_ymd(2026, 1, 1),
                next_update: date_time_ymd(2027, 1, 1),
                crl_number: SerialNumber::from(1),
                issuing_distribution_point: None,
                revoked_certs: serials.iter().map(revoked).collect(),
                key_identifier_method: KeyIdMethod::Sha256,
            };
            params.signed_by(of).unwrap().pem().unwrap()
        }

        fn config(&self, crl: Option<&str>) -> IdentityConfig {
            let authority = ClientAuthorityConfig {
                name: TokenText("partners".into()),
                ca_file: self.dir.path().join("ca.pem"),
                name_from: CallerName::CommonName,
                crl_file: crl.map(|name| self.dir.path().join(name)),
            };
            IdentityConfig {
                refresh_ms: Millis(600_000),
                offline_grace_ms: Millis(600_000),
                unknown_key_ms: Millis(15_000),
                providers: Vec::new(),
                authorities: vec![authority],
                exchanges: Vec::new(),
                trusted_edges: Vec::new(),
                edge_authorities: Vec::new(),
                edge_issuer: None,
            }
        }
    }

    fn read(reader: &mut CallerReader, config: &IdentityConfig) -> Result<Arc<RouteAuth>, String> {
        reader.read_issuers(config).map_err(|faults| faults.to_string())?;
        let host: HostPattern = "a.test".parse().unwrap();
        let terms = CallerTerms {
            table: "host[0]".to_owned(),
            host: &host,
            auth: CallerAuth::Passthrough,
            providers: &[],
            auth_resource: None,
            public_url: None,
            scopes: &[],
            authorization_file: None,
            token_exchange: None,
            identity_header: None,
            forwards: None,
            forwarded_identity: crate::config::ForwardedIdentity::Off,
            trusted_edges: &[],
            edge_authorities: &[],
            client_certificate: ClientCertificate::Required,
            client_authorities: &[],
        };
        let auth = reader.read(&terms, &mut Vec::new()).unwrap();
        reader.put_in_force();
        Ok(auth)
    }

    fn subject(
        auth: &Arc<RouteAuth>,
        certificate: &CertificateDer<'static>,
        now: Duration,
    ) -> Result<String, TokenRefusal> {
        let shown = ShownCertificates::of(std::slice::from_ref(certificate)).unwrap();
        let found = VerifiedTokens::default().identify_by_certificate(auth, &shown, now);
        found.map(|shown| shown.identity.subject.to_string())
    }

    #[test]
    fn a_caller_is_refused_if_an_authority_between_was_revoked_or_is_on_no_list() {
        let (files, mut reader) = (Files::new(), CallerReader::default());
        let (below, between) = files.below(50);
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "agent 1");
        let own = params.signed_by(&KeyPair::generate().unwrap(), &below).unwrap().der().clone();
        let shown = ShownCertificates::of(&[own, between]).unwrap();
        let mut check = |lists: &[String]| {
            std::fs::write(files.dir.path().join("crl.pem"), lists.concat()).unwrap();
            let auth = read(&mut reader, &files.config(Some("crl.pem"))).unwrap();
            let found = VerifiedTokens::default().identify_by_certificate(&auth, &shown, NOW);
            found.map(|shown| shown.identity.subject.to_string())
        };
        let [of_first, revoked] = [&[7][..], &[50]].map(|serials| Files::list(&files.ca, serials));
        let of_below = Files::list(&below, &[8]);
        let refused = |why| Err(TokenRefusal::Certificate(why));
        assert_eq!(check(&[of_first, of_below.clone()]), Ok("agent 1".to_owned()));
        assert_eq!(check(&[revoked, of_below.clone()]), refused(CertificateRefusal::Revoked));
        assert_eq!(check(&[of_below]), refused(CertificateRefusal::Unlisted));
    }

    #[test]
    fn a_certificate_that_its_authority_has_revoked_is_refused_and_so_are_all_once_the_list_is_old() {
        let files = Files::new();
        let [one, other] = [1, 2].map(|serial| files.certified(serial));
        let mut reader = CallerReader::default();
        let unlisted = read(&mut reader, &files.config(None)).unwrap();
        assert_eq!(subject(&unlisted, &one, NOW + YEAR), Ok("agent 1".to_owned()));
        files.revoke(&[7]);
        let listed = read(&mut reader, &files.config(Some("crl.pem"))).unwrap();
        assert_eq!(subject(&listed, &one, NOW), Ok("agent 1".to_owned()));
        let refused = |why| Err(TokenRefusal::Certificate(why));
        assert_eq!(subject(&listed, &one, NOW + YEAR), refused(CertificateRefusal::Unlisted));
        files.revoke(&[7, 1]);
        let renewed = read(&mut reader, &files.config(Some("crl.pem"))).unwrap();
        assert_eq!(subject(&renewed, &one, NOW), refused(CertificateRefusal::Revoked));
        assert_eq!(subject(&renewed, &other, NOW), Ok("agent 2".to_owned()));
        // What has not changed stays the same object, and what cannot be read changes nothing.
        assert_eq!(renewed, read(&mut reader, &files.config(Some("crl.pem"))).unwrap());
        assert!(listed != renewed);
        let faults = read(&mut reader, &files.config(Some("ca.pem"))).unwrap_err();
        assert!(faults.contains("client_authority[0].crl_file") && faults.contains("X509 CRL"), "{faults}");
        std::fs::write(files.dir.path().join("ca.pem"), "nothing").unwrap();
        let faults = read(&mut reader, &files.config(None)).unwrap_err();
        assert!(faults.contains("client_authority[0].ca_file"), "{faults}");
    }
}
