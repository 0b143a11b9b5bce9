use std::sync::Arc;

use crate::tls::{
    ALPN_CLOUDFLARED, ALPN_ENROL, ALPN_LINK, CallerAuthorities, ClientConfig, ClientSettings, CurrentIdentity,
    Identity, Roots, TlsError, Versions, WallClock, client_config,
};

/// TLS towards edges: the trusted authorities, and this connector's certificate for each edge.
pub struct EdgeTls {
    enrol: Arc<ClientConfig>,
    cloudflared_quic: Option<Arc<ClientConfig>>,
    edges: Vec<OneEdge>,
    callers: Arc<CallerAuthorities>,
    clock: WallClock,
}

struct OneEdge {
    link: Arc<ClientConfig>,
    current: Arc<CurrentIdentity>,
    /// A certificate that was stored by an earlier process.
    kept: Option<Identity>,
}

impl EdgeTls {
    /// TLS for a number of edges, whose certificates `roots` have issued. They are checked against the wall clock `clock`.
    ///
    /// # Errors
    ///
    /// If the TLS library rejects the configuration.
    pub fn new(roots: Roots, clock: WallClock, edges: usize) -> Result<EdgeTls, TlsError> {
        let config = |alpn: &[u8], identity: Option<Arc<CurrentIdentity>>| {
            client_config(ClientSettings {
                roots: roots.clone(),
                alpn: vec![alpn.to_vec()],
                versions: Versions::Tls13,
                // A resumed session would keep the certificate with which it began.
                sessions: None,
                identity: identity.map(|identity| identity as _),
                clock: clock.clone(),
            })
        };
        let one = |_| {
            let current = Arc::new(CurrentIdentity::default());
            Ok(OneEdge { link: config(ALPN_LINK, Some(Arc::clone(&current)))?, current, kept: None })
        };
        let edges = (0..edges).map(one).collect::<Result<_, TlsError>>()?;
        let enrol = config(ALPN_ENROL, None)?;
        Ok(EdgeTls { enrol, cloudflared_quic: None, edges, callers: Arc::default(), clock })
    }

    /// TLS for edges of cloudflared: without certificates of this connector, and over TCP without ALPN.
    ///
    /// # Errors
    ///
    /// If the TLS library rejects the configuration.
    pub fn cloudflared(roots: Roots, edges: usize) -> Result<EdgeTls, TlsError> {
        let quic = client_config(ClientSettings {
            roots: roots.clone(),
            alpn: vec![ALPN_CLOUDFLARED.to_vec()],
            versions: Versions::Tls13,
            ..ClientSettings::default()
        })?;
        let link =
            client_config(ClientSettings { roots, versions: Versions::Tls12And13, ..ClientSettings::default() })?;
        let one = |_| OneEdge { link: Arc::clone(&link), current: Arc::default(), kept: None };
        let (edges, callers) = ((0..edges).map(one).collect(), Arc::default());
        let clock = WallClock::default();
        Ok(EdgeTls { enrol: link, cloudflared_quic: Some(quic), edges, callers, clock })
    }

    /// Starts with a stored certificate for one edge.
    #[must_use]
    pub fn with_kept(mut self, edge: usize, identity: Identity) -> EdgeTls {
        self.show(edge, &identity);
        if let Some(one) = self.edges.get_mut(edge) {
            one.kept = Some(identity);
        }
        self
    }

    /// The authorities whose edges may open inner sessions: those that issued this connector's certificates.
    #[must_use]
    pub fn callers(&self) -> &Arc<CallerAuthorities> {
        &self.callers
    }

    /// Uses this certificate for one edge from now on.
    pub(super) fn show(&self, edge: usize, identity: &Identity) {
        if let Some(one) = self.edges.get(edge) {
            one.current.replace(Some(identity));
        }
        if let Some(authority) = identity.authority() {
            self.callers.set(edge, authority.clone());
        }
    }

    pub(super) fn link(&self, edge: usize) -> Option<&Arc<ClientConfig>> {
        self.edges.get(edge).map(|one| &one.link)
    }

    /// TLS for an edge of cloudflared over QUIC.
    pub(super) fn cloudflared_quic(&self) -> Option<&Arc<ClientConfig>> {
        self.cloudflared_quic.as_ref()
    }

    pub(super) fn enrol(&self) -> &Arc<ClientConfig> {
        &self.enrol
    }

    pub(super) fn kept(&self, edge: usize) -> Option<&Identity> {
        self.edges.get(edge)?.kept.as_ref()
    }

    pub(super) fn clock(&self) -> &WallClock {
        &self.clock
    }
}
