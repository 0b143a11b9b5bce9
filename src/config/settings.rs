//! The checked configuration as what each module of the lower floors can be told.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::UnixTime;

use crate::config::fault::{Fault, Faults, Origin};
use crate::config::load::{Config, TlsFiles};
use crate::config::table::{ConnectConfig, EdgeConfig, EngineConfig};
use crate::config::values::{Driver, Spin};
use crate::connector::{ConnectorRoute, ConnectorSettings, ConnectorTables, EdgeAddress, LINKS_MAX};
use crate::edge::{EdgeSettings, EdgeTables, TunnelEntry};
use crate::engine::EngineSettings;
use crate::engine::ladder::DriverChoice;
use crate::latency::{LatencySettings, SlowCallSettings};
use crate::route::{HostPattern, ROUTE_NAME_LEN_MAX, Route, RouteEntry, RouteName, RouteTable};
use crate::tls::{
    ALPN_HTTP1, ALPN_LINK, CertError, CertSet, ClientConfig, ClientSettings, ReloadingCerts, Roots, ServerCert,
    ServerConfig, ServerSettings, SessionMemory, Versions, client_config, server_config,
};
use crate::upstream::UpstreamSettings;
use crate::wire::mux;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long dialling an edge may take, TLS included.
const EDGE_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls that one core of a connector carries at once.
const CALLS_PER_CORE_MAX: usize = 65_536;
/// How long a call may wait for a connection while all that may be made to its upstream are in use.
const UPSTREAM_QUEUE_TIMEOUT: Duration = Duration::from_secs(10);
/// At most so many lines about slow calls in a second, on each core.
const SLOW_CALL_LINES_PER_S: u32 = 10;

/// Where an edge listens and what it shows there: what is decided only when it starts.
#[derive(Clone)]
pub struct EdgeListeners {
    /// Where agents call.
    pub agents: SocketAddr,
    /// What agents are shown; without it they speak plain HTTP.
    pub agents_certs: Option<Arc<ReloadingCerts>>,
    /// Where connectors dial in.
    pub connectors: SocketAddr,
    /// What connectors are shown.
    pub connectors_certs: Arc<ReloadingCerts>,
}

impl Config {
    /// Every file that is read again when it changes, or when a reload is asked for; not the configuration's own.
    pub fn watched_files(&self) -> impl Iterator<Item = PathBuf> {
        let files: BTreeSet<PathBuf> = self.files.iter().map(|file| file.path.clone()).collect();
        files.into_iter()
    }
}

impl EngineConfig {
    /// What the cores are told.
    #[must_use]
    pub fn settings(&self) -> EngineSettings {
        EngineSettings {
            driver: match self.driver {
                Driver::Auto => DriverChoice::Auto,
                Driver::Uring => DriverChoice::Uring,
                Driver::Epoll => DriverChoice::Epoll,
            },
            cores: self.cores as usize,
            pin: self.pin,
            spin: match self.spin_us {
                Spin::Auto => None,
                Spin::Micros(us) => Some(Duration::from_micros(us)),
            },
            buffer_memory_max: usize::try_from(self.buffer_memory_max_bytes.0).unwrap_or(usize::MAX),
        }
    }
}

impl EdgeConfig {
    /// What an edge on so many cores is told.
    ///
    /// # Errors
    ///
    /// When the TLS library refuses what is asked of it.
    pub fn settings(&self, listeners: &EdgeListeners, cores: usize) -> Result<EdgeSettings, Faults> {
        let for_agents = ServerSettings { alpn: vec![ALPN_HTTP1.to_vec()], versions: Versions::Tls12And13 };
        let for_connectors = ServerSettings { alpn: vec![ALPN_LINK.to_vec()], versions: Versions::Tls13 };
        let tls = |key: &str, certs: &Arc<ReloadingCerts>, settings: &ServerSettings| {
            server_config(Arc::<ReloadingCerts>::clone(certs), settings).map_err(|error| fault(key, error))
        };
        let agents_tls: Option<Arc<ServerConfig>> = match &listeners.agents_certs {
            Some(certs) => Some(tls("edge.agents_cert_file", certs, &for_agents)?),
            None => None,
        };
        let streams_max = self.streams_per_link_max;
        Ok(EdgeSettings {
            agents_listen: listeners.agents,
            agents_tls,
            plain_http_anywhere: self.allow_plain_http_off_loopback,
            connectors_listen: listeners.connectors,
            connectors_tls: Some(tls("edge.connectors_cert_file", &listeners.connectors_certs, &for_connectors)?),
            link: mux::Settings { streams_max, ..mux::Settings::default() }.bounded(),
            allowed_origins: self.allowed_origins.iter().map(|origin| origin.as_str().to_owned()).collect(),
            connections_max: (self.connections_max as usize).div_ceil(cores.max(1)),
            handshake_timeout: HANDSHAKE_TIMEOUT,
            header_timeout: self.header_timeout_ms.into(),
            idle_timeout: self.idle_timeout_ms.into(),
            first_byte_timeout: unless_zero(self.first_byte_timeout_ms.into()),
            offline_wait: self.offline_wait_ms.into(),
            drain_timeout: self.drain_timeout_ms.into(),
            latency: LatencySettings::default(),
            slow_calls: SlowCallSettings {
                slow_call_ms: Some(self.slow_call_ms.0).filter(|ms| *ms > 0),
                lines_per_second_max: SLOW_CALL_LINES_PER_S,
            },
        })
    }

    /// What an edge serves. Secrets are read from their files now.
    ///
    /// # Errors
    ///
    /// Everything that is wrong.
    pub fn tables(&self) -> Result<EdgeTables, Faults> {
        self.tables_named(route_name)
    }

    /// The same, with names for the routes of one's own.
    ///
    /// # Errors
    ///
    /// Everything that is wrong.
    pub fn tables_named(&self, name: impl Fn(&HostPattern) -> RouteName) -> Result<EdgeTables, Faults> {
        let mut faults = Vec::new();
        let mut tunnels = HashMap::new();
        let mut entries = Vec::new();
        for (index, tunnel) in self.tunnels.iter().enumerate() {
            match tunnel.secret_source().map(|source| source.read()) {
                Some(Ok(secret)) => drop(tunnels.insert(tunnel.id.clone(), TunnelEntry { secret })),
                Some(Err(error)) => {
                    faults.push(Fault::new(Origin::Default, format!("tunnel[{index}].secret_file"), error.to_string()));
                }
                None => faults.push(Fault::new(Origin::Default, format!("tunnel[{index}].secret"), "missing")),
            }
            entries.extend(tunnel.hosts.iter().map(|host| RouteEntry {
                host: host.to_string(),
                place: format!("tunnel[{index}].hosts"),
                target: Route { name: name(host), tunnel: tunnel.id.clone() },
            }));
        }
        let routes = RouteTable::new(entries).unwrap_or_else(|found| {
            faults.extend(found.into_iter().map(|f| Fault::new(Origin::Default, f.place, f.kind.to_string())));
            RouteTable::default()
        });
        if faults.is_empty() { Ok(EdgeTables { routes, tunnels }) } else { Err(Faults::new(faults)) }
    }
}

impl ConnectConfig {
    /// What a connector is told. `edges` are those of the configuration, unless the caller knows better.
    ///
    /// # Errors
    ///
    /// When the secret or the authorities cannot be read, or the TLS library refuses what is asked of it.
    pub fn settings(&self, edges: Vec<EdgeAddress>, roots: Roots) -> Result<ConnectorSettings, Faults> {
        let tls = ClientSettings {
            roots,
            alpn: vec![ALPN_LINK.to_vec()],
            versions: Versions::Tls13,
            sessions: Some(SessionMemory::default()),
        };
        let secret = self.secret_source().ok_or_else(|| fault("connect.secret", "missing"))?;
        Ok(ConnectorSettings {
            edges,
            edge_tls: Some(client_config(tls).map_err(|error| fault("connect.edge_ca_file", error))?),
            edge_name: self.edge_name.map(|name| name.as_str().trim_matches(['[', ']']).into()),
            tunnel: self.tunnel.clone(),
            secret: secret.read().map_err(|error| fault("connect.secret_file", error))?,
            software: concat!("adit/", env!("CARGO_PKG_VERSION")).to_owned(),
            links: u16::try_from(self.links).unwrap_or(LINKS_MAX),
            backoff_min: self.backoff_min_ms.into(),
            backoff_max: self.backoff_max_ms.into(),
            connect_timeout: EDGE_CONNECT_TIMEOUT,
            link: mux::Settings::default(),
            calls_max: CALLS_PER_CORE_MAX,
            drain_timeout: self.drain_timeout_ms.into(),
        })
    }

    /// The edges that are dialled.
    #[must_use]
    pub fn edge_addresses(&self) -> Vec<EdgeAddress> {
        self.edge.iter().map(|edge| EdgeAddress { host: edge.host.clone(), port: edge.port }).collect()
    }

    /// The authorities that may vouch for an edge.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub fn edge_roots(&self) -> Result<Roots, Faults> {
        read_roots("connect.edge_ca_file", self.edge_ca_file.as_deref()).map(|(roots, _)| roots)
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
            };
            entries.push(RouteEntry {
                host: route.host.to_string(),
                place: format!("route[{index}].host"),
                target: ConnectorRoute { name: name(&route.host), upstream },
            });
        }
        let routes = RouteTable::new(entries).unwrap_or_else(|found| {
            faults.extend(found.into_iter().map(|f| Fault::new(Origin::Default, f.place, f.kind.to_string())));
            RouteTable::default()
        });
        if faults.is_empty() { Ok(ConnectorTables { routes }) } else { Err(Faults::new(faults)) }
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

impl TlsFiles<'_> {
    /// The certificate and key that the files hold now. `key` is the setting that names them.
    ///
    /// # Errors
    ///
    /// Why they cannot be used.
    pub fn load(&self, key: &str) -> Result<CertSet, Faults> {
        let certs = ServerCert::load(self.cert_file, self.key_file, UnixTime::now());
        certs.and_then(|cert| CertSet::new([cert])).map_err(|error: CertError| fault(key, error))
    }
}

/// A host's name in metrics and logs.
#[must_use]
pub fn route_name(host: &HostPattern) -> RouteName {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-*".contains(c) { c } else { '_' };
    let name: String = host.to_string().chars().map(plain).take(ROUTE_NAME_LEN_MAX).collect();
    name.parse().expect("it was made of what a name may hold, and a host is not empty")
}

/// A limit of which zero means that there is none.
fn unless_zero(limit: Duration) -> Duration {
    if limit.is_zero() { Duration::MAX } else { limit }
}

fn fault(key: &str, error: impl std::fmt::Display) -> Faults {
    Faults::new(vec![Fault::new(Origin::Default, key, error.to_string())])
}
