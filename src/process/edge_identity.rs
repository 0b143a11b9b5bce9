//! The certificates of an edge, and the authority that signs certificates of connectors.

use std::sync::Arc;

use crate::base::AuthorityPin;
use crate::config::{ConfigErrors, EdgeConfig};
use crate::control::{EdgeRole, ReloadingAuthority};
use crate::edge::Seals;
use crate::process::runtime::AbortOnDrop;
use crate::process::tls_files::TlsFiles;
use crate::tls::{Authority, CALLER_LIFE, CertInfo, CertSet, Fingerprint, ReloadingCerts, WallClock, read_chain};

/// The certificates that an edge presents to agents, to connectors and inside sealed sessions. All of them can be
/// replaced while the edge runs.
pub(super) struct EdgeTlsIdentity {
    /// The certificate for agents; `None` means plain HTTP.
    pub(super) agents: Option<Arc<ReloadingCerts>>,
    /// The certificate for connectors.
    pub(super) connectors: Arc<ReloadingCerts>,
    /// The authority that signs certificates of connectors. Without one, a connector needs only its secret.
    pub(super) authority: Option<Arc<ReloadingAuthority>>,
    /// The edge's certificate inside sealed sessions, and the authorities of connectors.
    pub(super) seals: Arc<Seals>,
}

/// Both certificates, as the files contain them now.
pub(super) struct EdgeCerts {
    agents: Option<CertSet>,
    connectors: CertSet,
}

impl EdgeCerts {
    pub(super) fn load(config: &EdgeConfig) -> Result<EdgeCerts, ConfigErrors> {
        let agents = TlsFiles::for_agents(config).map(|files| files.load()).transpose()?;
        let connectors = TlsFiles::for_connectors(config).expect("a checked configuration of an edge alone has them");
        Ok(EdgeCerts { agents, connectors: connectors.load()? })
    }
}

impl EdgeTlsIdentity {
    /// Reads all files. Logs if the edge has no authority.
    pub(super) fn load(config: &EdgeConfig) -> Result<EdgeTlsIdentity, ConfigErrors> {
        let certs = EdgeCerts::load(config)?;
        let authority = load_authority(config)?;
        if authority.is_none() {
            tracing::warn!(
                "connectors authenticate by secret only: set connectors_ca_file and connectors_ca_key_file to give them \
                 certificates"
            );
        }
        Ok(EdgeTlsIdentity {
            agents: certs.agents.map(ReloadingCerts::new),
            connectors: ReloadingCerts::new(certs.connectors),
            authority: authority.map(|authority| ReloadingAuthority::new(Arc::new(authority))),
            seals: Arc::default(),
        })
    }

    /// Uses one certificate for agents and connectors, and an authority that exists only while the process runs.
    pub(super) fn temporary(certs: Arc<ReloadingCerts>, authority: Arc<Authority>) -> EdgeTlsIdentity {
        EdgeTlsIdentity {
            agents: Some(Arc::clone(&certs)),
            connectors: certs,
            authority: Some(ReloadingAuthority::new(authority)),
            seals: Arc::default(),
        }
    }

    /// Uses these certificates for new handshakes from now on.
    pub(super) fn replace_certs(&self, fresh: EdgeCerts) {
        if let (Some(agents), Some(fresh)) = (&self.agents, fresh.agents) {
            agents.reload(fresh);
        }
        self.connectors.reload(fresh.connectors);
    }

    /// Renews the edge's certificate for sealed sessions, now and again before it expires.
    pub(super) fn keep_seals_fresh(&self) -> Option<AbortOnDrop> {
        let (authority, seals) = (Arc::clone(self.authority.as_ref()?), Arc::clone(&self.seals));
        let certs = Arc::clone(&self.connectors);
        renew_seal_identity(&seals, &authority.current(), &certs);
        Some(AbortOnDrop(tokio::spawn(async move {
            loop {
                tokio::time::sleep(CALLER_LIFE / 2).await;
                renew_seal_identity(&seals, &authority.current(), &certs);
            }
        })))
    }

    /// Makes the role report the current certificates.
    pub(super) fn report_in(&self, mut role: EdgeRole) -> EdgeRole {
        let certs = [("agents", self.agents.clone()), ("connectors", Some(Arc::clone(&self.connectors)))];
        for (of, certs) in certs.into_iter().filter_map(|(of, certs)| Some((of, certs?))) {
            role = role.with_certificate(of, move || certs.shown());
        }
        if let Some(authority) = self.authority.clone() {
            role = role.with_certificate("authority", move || Some(authority.current().cert_der().clone()));
        }
        role
    }
}

/// The edge's own authority, if it has one.
pub(super) fn load_authority(config: &EdgeConfig) -> Result<Option<Authority>, ConfigErrors> {
    TlsFiles::of_authority(config).map(|files| files.load_authority()).transpose()
}

/// Issues the edge's certificate for sealed sessions, with the name by which connectors dial the edge.
pub(super) fn renew_seal_identity(seals: &Seals, authority: &Authority, connectors: &ReloadingCerts) {
    let name = connectors.shown().and_then(|cert| CertInfo::of_der(&cert)?.dns_name().map(str::to_owned));
    if let Err(error) = seals.identity().renew(authority, name.as_deref(), WallClock::default().now()) {
        tracing::error!(%error, "the edge's certificate for sealed sessions cannot be issued");
    }
}

/// The pin that secrets contain for the edge's authority. There is one only if the authority's certificate is part of
/// the chain that connectors receive.
pub(super) fn authority_pin(config: &EdgeConfig, authority: &Authority) -> Option<AuthorityPin> {
    let files = TlsFiles::for_connectors(config)?;
    let chain = std::fs::read(&files.cert_file).ok()?;
    let fingerprint = Fingerprint::of(authority.cert_der());
    let chain = read_chain(&files.cert_file.display().to_string(), &chain).ok()?;
    let shown = chain.iter().any(|cert| Fingerprint::of(cert) == fingerprint);
    shown.then_some(AuthorityPin(*fingerprint.as_bytes()))
}
