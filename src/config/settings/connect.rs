use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{fault, route_name};
use crate::base::{AuthorityPin, Secret, Traffic, TunnelToken, pin_of};
use crate::config::checks::token;
use crate::config::fault::{Fault, Faults, Origin};
use crate::config::networks::UpstreamNetwork;
use crate::config::table::{ConnectConfig, RouteConfig};
use crate::config::values::SecretText;
use crate::connector::{ConnectorRoute, ConnectorSettings, ConnectorTables, EdgeAddress, EdgeTls, LINKS_MAX};
use crate::route::{HostPattern, RouteEntry, RouteName, RouteTable};
use crate::tls::{
    ALPN_HTTP1, ClientConfig, ClientSettings, Fingerprint, Roots, SessionMemory, Versions, WallClock, client_config,
};
use crate::upstream::UpstreamSettings;
use crate::wire::mux;

/// How long dialling an edge may take, TLS included.
const EDGE_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls that one core of a connector carries at once.
const CALLS_PER_CORE_MAX: usize = 65_536;
/// How long a call may wait for a connection while all that may be made to its upstream are in use.
const UPSTREAM_QUEUE_TIMEOUT: Duration = Duration::from_secs(10);

impl ConnectConfig {
    /// What a connector is told. `edges` are those of the configuration, unless the caller knows better.
    ///
    /// # Errors
    ///
    /// When the TLS library refuses what is asked of it.
    pub fn settings(
        &self,
        edges: Vec<EdgeAddress>,
        roots: Roots,
        TunnelToken { id, secret }: TunnelToken,
    ) -> Result<ConnectorSettings, Faults> {
        let tls = EdgeTls::new(roots, WallClock::default(), edges.len());
        let tls = tls.map_err(|error| fault("connect.edge_ca_file", error))?;
        let tls = self.with_kept(tls, &edges, &id)?;
        Ok(ConnectorSettings {
            edges,
            edge_tls: Some(Arc::new(tls)),
            edge_name: self.edge_name.map(|name| name.as_str().trim_matches(['[', ']']).into()),
            tunnel: id,
            secret,
            software: concat!("adit/", env!("CARGO_PKG_VERSION")).to_owned(),
            links: u16::try_from(self.links).unwrap_or(LINKS_MAX),
            backoff_min: self.backoff_min_ms.into(),
            backoff_max: self.backoff_max_ms.into(),
            connect_timeout: EDGE_CONNECT_TIMEOUT,
            link: mux::Settings::default(),
            calls_max: CALLS_PER_CORE_MAX,
            drain_timeout: self.drain_timeout_ms.into(),
            write_timeout: self.write_timeout_ms.into(),
            allowed_origins: self.allowed_origins.iter().map(|origin| origin.as_str().to_owned()).collect(),
        })
    }

    /// What the connector proves itself by; with a provisioning key, what that was traded for. A file is read now.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is no secret or token.
    pub fn credentials(&self) -> Result<TunnelToken, Faults> {
        if self.provisioning_source().is_some() {
            let kept = self.identity_dir()?.map(|dir| dir.token()).transpose()?.flatten();
            return kept.ok_or_else(|| fault("connect.provisioning_key", "it was not traded for a tunnel yet"));
        }
        if let Some(source) = self.token_source() {
            let read = source.read().map_err(|error| fault("connect.token_file", error))?;
            return token(&SecretText(read)).map_err(|error| fault("connect.token_file", error));
        }
        let source = self.secret_source().ok_or_else(|| fault("connect.secret", "missing"))?;
        let secret = source.read().map_err(|error| fault("connect.secret_file", error))?;
        let id = self.tunnel.clone().ok_or_else(|| fault("connect.tunnel", "missing"))?;
        Ok(TunnelToken { id, secret })
    }

    /// The edges that are dialled.
    #[must_use]
    pub fn edge_addresses(&self) -> Vec<EdgeAddress> {
        self.edge.iter().map(|edge| EdgeAddress { host: edge.host.clone(), port: edge.port }).collect()
    }

    /// The authorities that may vouch for an edge: those of the file, or the one that the secret names, or the public ones.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub fn edge_roots(&self, secret: &Secret) -> Result<Roots, Faults> {
        if let Some(AuthorityPin(pin)) = pin_of(secret).filter(|_| self.edge_ca_file.is_none()) {
            return Ok(Roots::pinned(Fingerprint::from_bytes(pin)));
        }
        read_roots("connect.edge_ca_file", self.edge_ca_file.as_deref()).map(|(roots, _)| roots)
    }

    /// How the calls of a route are carried.
    #[must_use]
    pub fn traffic_of(&self, route: &RouteConfig) -> Traffic {
        route.traffic.unwrap_or(self.traffic)
    }

    /// Where calls go, from a connector on so many cores. What `trust` knows from before is used again.
    ///
    /// # Errors
    ///
    /// Everything that is wrong.
    pub fn tables(&self, cores: usize, trust: &mut UpstreamTrust) -> Result<ConnectorTables, Faults> {
        self.tables_named(cores, trust, route_name)
    }

    /// The same, with names for the routes of one's own.
    ///
    /// # Errors
    ///
    /// Everything that is wrong.
    pub fn tables_named(
        &self,
        cores: usize,
        trust: &mut UpstreamTrust,
        name: impl Fn(&HostPattern) -> RouteName,
    ) -> Result<ConnectorTables, Faults> {
        let (mut faults, mut entries) = (Vec::new(), Vec::new());
        let allowed = Arc::new(UpstreamNetwork::allowed(&self.allowed_upstreams));
        for (index, route) in self.routes.iter().enumerate() {
            let key = format!("route[{index}].upstream_ca_file");
            let tls = match route.upstream.is_tls().then(|| trust.config(&key, route.upstream_ca_file.as_deref())) {
                Some(Err(found)) => {
                    faults.extend(found.all().iter().cloned());
                    continue;
                }
                Some(Ok(tls)) => Some(tls),
                None => None,
            };
            let upstream = UpstreamSettings {
                url: route.upstream.clone(),
                tls,
                connections_max: (route.upstream_connections_max as usize).div_ceil(cores.max(1)),
                connect_timeout: route.connect_timeout_ms.into(),
                idle_timeout: route.idle_timeout_ms.into(),
                queue_timeout: UPSTREAM_QUEUE_TIMEOUT,
                allowed: Arc::clone(&allowed),
            };
            entries.push(RouteEntry {
                host: route.host.to_string(),
                place: format!("route[{index}].host"),
                target: ConnectorRoute { name: name(&route.host), upstream, traffic: self.traffic_of(route) },
            });
        }
        let routes = RouteTable::new(entries).unwrap_or_else(|found| {
            faults.extend(found.into_iter().map(|f| Fault::new(Origin::Default, f.place, f.kind.to_string())));
            RouteTable::default()
        });
        if faults.is_empty() { Ok(ConnectorTables { routes, sealing: None }) } else { Err(Faults::new(faults)) }
    }
}

/// Whom a connector trusts as upstreams. It remembers what it made, so that a reload which changes nothing about it leaves
/// the connections to an upstream alone.
#[derive(Default)]
pub struct UpstreamTrust {
    known: HashMap<Option<PathBuf>, (Vec<u8>, Arc<ClientConfig>)>,
}

impl UpstreamTrust {
    /// For upstreams that the authorities of a file vouch for, or the well-known ones where there is none.
    fn config(&mut self, key: &str, ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, Faults> {
        let (roots, pem) = read_roots(key, ca_file)?;
        let known = self.known.get(&ca_file.map(Path::to_path_buf));
        if let Some((_, config)) = known.filter(|(of, _)| *of == pem) {
            return Ok(Arc::clone(config));
        }
        let settings = ClientSettings {
            roots,
            alpn: vec![ALPN_HTTP1.to_vec()],
            versions: Versions::Tls12And13,
            sessions: Some(SessionMemory::default()),
            ..ClientSettings::default()
        };
        let config = client_config(settings).map_err(|error| fault(key, error))?;
        self.known.insert(ca_file.map(Path::to_path_buf), (pem, Arc::clone(&config)));
        Ok(config)
    }
}

/// The authorities of a file with its content, or those that this machine trusts.
fn read_roots(key: &str, file: Option<&Path>) -> Result<(Roots, Vec<u8>), Faults> {
    let mut roots = Roots::new();
    let Some(file) = file else {
        roots.add_platform().map_err(|error| fault(key, error))?;
        return Ok((roots, Vec::new()));
    };
    let name = file.display().to_string();
    let pem = std::fs::read(file).map_err(|error| fault(key, format!("cannot read {name}: {error}")))?;
    roots.add_pem(&name, &pem).map_err(|error| fault(key, error))?;
    Ok((roots, pem))
}
