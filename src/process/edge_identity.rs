//! The certificates of an edge, and the authority that signs certificates of connectors.

use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::UnixTime;

use crate::base::AuthorityPin;
use crate::config::{ConfigErrors, EdgeConfig};
use crate::control::{EdgeRole, ReloadingAuthority};
use crate::edge::Seals;
use crate::process::runtime::AbortOnDrop;
use crate::process::tls_files::TlsFiles;
use crate::tls::{Authority, CALLER_LIFE, CertInfo, CertSet, Fingerprint, ReloadingCerts, WallClock, read_chain};

/// The names that connectors of cloudflared expect: of the edge over HTTP/2, and of the one that they try first.
const CLOUDFLARED_NAMES: [&str; 2] = ["h2.cftunnel.com", "probe.cftunnel.com"];
/// How long a certificate with these names is valid, and after which time it is renewed. A changed authority is then used too.
const CLOUDFLARED_CERT_LIFE: Duration = Duration::from_secs(90 * 24 * 3_600);
const CLOUDFLARED_CERT_RENEWAL: Duration = Duration::from_secs(24 * 3_600);

/// The certificates that an edge presents to agents, to connectors and inside sealed sessions. All of them can be
/// replaced while the edge runs.
pub(super) struct EdgeTlsIdentity {
    /// The certificate for agents; `None` means plain HTTP.
    pub(super) agents: Option<Arc<ReloadingCerts>>,
    /// The certificate for connectors.
    pub(super) connectors: Arc<ReloadingCerts>,
    /// The certificate for connectors of cloudflared, if the edge accepts any.
    pub(super) cloudflared: Option<Arc<ReloadingCerts>>,
    /// The authority that signs certificates of connectors. Without one, a connector needs only its secret.
    pub(super) authority: Option<Arc<ReloadingAuthority>>,
    /// The edge's certificate inside sealed sessions, and the authorities of connectors.
    pub(super) seals: Arc<Seals>,
}

/// Both certificates, as the files contain them now.
pub(super) struct EdgeCerts {
    agents: Option<CertSet>,
    connectors: CertSet,
    /// The certificate for connectors of cloudflared, if it is from a file.
    cloudflared: Option<CertSet>,
}

impl EdgeCerts {
    pub(super) fn load(config: &EdgeConfig) -> Result<EdgeCerts, ConfigErrors> {
        let agents = TlsFiles::for_agents(config).map(|files| files.load()).transpose()?;
        let connectors = TlsFiles::for_connectors(config).expect("a checked configuration of an edge alone has them");
        let cloudflared = config.cloudflared_listen.and_then(|_| TlsFiles::for_cloudflared(config));
        let cloudflared = cloudflared.map(|files| files.load()).transpose()?;
        Ok(EdgeCerts { agents, connectors: connectors.load()?, cloudflared })
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
        let cloudflared = match (certs.cloudflared, &authority) {
            _ if config.cloudflared_listen.is_none() => None,
            (Some(certs), _) => Some(certs),
            // A checked configuration has one of both.
            (None, authority) => authority.as_ref().map(cloudflared_certs).transpose()?,
        };
        Ok(EdgeTlsIdentity {
            agents: certs.agents.map(ReloadingCerts::new),
            connectors: ReloadingCerts::new(certs.connectors),
            cloudflared: cloudflared.map(ReloadingCerts::new),
            authority: authority.map(|authority| ReloadingAuthority::new(Arc::new(authority))),
            seals: Arc::default(),
        })
    }

    /// Uses one certificate for agents and connectors, and an authority that exists only while the process runs.
    pub(super) fn temporary(certs: Arc<ReloadingCerts>, authority: Arc<Authority>) -> EdgeTlsIdentity {
        EdgeTlsIdentity {
            agents: Some(Arc::clone(&certs)),
            connectors: certs,
            cloudflared: None,
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
        if let (Some(cloudflared), Some(fresh)) = (&self.cloudflared, fresh.cloudflared) {
            cloudflared.reload(fresh);
        }
    }

    /// Renews the certificate for connectors of cloudflared, if the edge's authority issues it: now and again before it
    /// expires. `config` says whether there is one.
    pub(super) fn keep_cloudflared_fresh(&self, config: &EdgeConfig) -> Option<AbortOnDrop> {
        let (certs, authority) = (Arc::clone(self.cloudflared.as_ref()?), Arc::clone(self.authority.as_ref()?));
        if TlsFiles::for_cloudflared(config).is_some() {
            return None;
        }
        Some(AbortOnDrop(tokio::spawn(async move {
            loop {
                tokio::time::sleep(CLOUDFLARED_CERT_RENEWAL).await;
                match cloudflared_certs(&authority.current()) {
                    Ok(fresh) => certs.reload(fresh),
                    Err(error) => {
                        tracing::error!(%error, "the certificate for connectors of cloudflared cannot be issued");
                    }
                }
            }
        })))
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
        let certs = [
            ("agents", self.agents.clone()),
            ("connectors", Some(Arc::clone(&self.connectors))),
            ("cloudflared", self.cloudflared.clone()),
        ];
        for (of, certs) in certs.into_iter().filter_map(|(of, certs)| Some((of, certs?))) {
            role = role.with_certificate(of, move || certs.shown());
        }
        if let Some(authority) = self.authority.clone() {
            role = role.with_certificate("authority", move || Some(authority.current().cert_der().clone()));
        }
        role
    }
}

/// The certificate for connectors of cloudflared, by the edge's own authority.
fn cloudflared_certs(authority: &Authority) -> Result<CertSet, ConfigErrors> {
    let names = CLOUDFLARED_NAMES.map(str::to_owned);
    let now = UnixTime::now();
    let issued = authority.issue_chain(&names, now, CLOUDFLARED_CERT_LIFE);
    let certs = issued.and_then(|issued| CertSet::new([issued.server_cert(now)?]));
    certs.map_err(|error| ConfigErrors::of("edge.cloudflared_listen", error))
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
