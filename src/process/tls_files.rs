//! The certificate and key files of an edge.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use rustls_pki_types::UnixTime;

use crate::config::{ConfigErrors, EdgeConfig};
use crate::control::DataDir;
use crate::tls::{Authority, CertError, CertSet, ServerCert};

/// A certificate chain and its key, both PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TlsFiles<'a> {
    /// The chain, beginning with the end-entity certificate.
    pub(super) cert_file: Cow<'a, Path>,
    /// The private key of the certificate.
    pub(super) key_file: Cow<'a, Path>,
    /// The setting that names the certificate file.
    key: &'static str,
}

/// The data directory of an edge, if it has one.
pub(super) fn data_dir(config: &EdgeConfig) -> Option<DataDir> {
    config.data_dir.as_ref().map(|path| DataDir::new(&path.0))
}

impl<'a> TlsFiles<'a> {
    /// The certificate for agents; `None` means plain HTTP.
    pub(super) fn for_agents(config: &'a EdgeConfig) -> Option<TlsFiles<'a>> {
        named("edge.agents_cert_file", config.agents_cert_file.as_ref(), config.agents_key_file.as_ref())
    }

    /// The certificate for connectors: the configured one, or that of the data directory. It is `None` only under
    /// [`Purpose::Up`](crate::config::Purpose::Up).
    pub(super) fn for_connectors(config: &'a EdgeConfig) -> Option<TlsFiles<'a>> {
        const KEY: &str = "edge.connectors_cert_file";
        let own =
            |dir: DataDir| TlsFiles { cert_file: dir.edge_cert().into(), key_file: dir.edge_key().into(), key: KEY };
        named(KEY, config.connectors_cert_file.as_ref(), config.connectors_key_file.as_ref())
            .or_else(|| data_dir(config).map(own))
    }

    /// The configured certificate for connectors of cloudflared.
    pub(super) fn for_cloudflared(config: &'a EdgeConfig) -> Option<TlsFiles<'a>> {
        let (cert, key) = (config.cloudflared_cert_file.as_ref(), config.cloudflared_key_file.as_ref());
        named("edge.cloudflared_cert_file", cert, key)
    }

    /// The edge's own authority, if it has one: the configured one, or that of the data directory.
    pub(super) fn of_authority(config: &'a EdgeConfig) -> Option<TlsFiles<'a>> {
        const KEY: &str = "edge.connectors_ca_file";
        let own = |dir: DataDir| TlsFiles { cert_file: dir.ca_cert().into(), key_file: dir.ca_key().into(), key: KEY };
        named(KEY, config.connectors_ca_file.as_ref(), config.connectors_ca_key_file.as_ref())
            .or_else(|| data_dir(config).map(own))
    }

    /// Reads the certificate and its key.
    ///
    /// # Errors
    ///
    /// Why they cannot be used.
    pub(super) fn load(&self) -> Result<CertSet, ConfigErrors> {
        let certs = ServerCert::load(&self.cert_file, &self.key_file, UnixTime::now());
        certs.and_then(|cert| CertSet::new([cert])).map_err(|error: CertError| ConfigErrors::of(self.key, error))
    }

    /// Reads the authority and its key.
    ///
    /// # Errors
    ///
    /// Why they cannot be used.
    pub(super) fn load_authority(&self) -> Result<Authority, ConfigErrors> {
        let authority = Authority::load(&self.cert_file, &self.key_file, UnixTime::now());
        authority.map_err(|error| ConfigErrors::of(self.key, error))
    }
}

fn named<'a>(key: &'static str, cert: Option<&'a PathBuf>, private: Option<&'a PathBuf>) -> Option<TlsFiles<'a>> {
    Some(TlsFiles { cert_file: cert?.as_path().into(), key_file: private?.as_path().into(), key })
}
