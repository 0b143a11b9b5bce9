use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;

use super::tool_settings::tools_of;
use super::{allowed_origins, own_origin, unless_zero};
use crate::base::{
    BreakerOverrides, BreakerTerms, ConcurrencyOverrides, ConcurrencyTerms, DeadlineOverrides, DeadlineTerms, SharedMap,
};
use crate::config::{
    Bytes, CallerTerms, ConfigError, ConfigErrors, EdgeConfig, Hedge, HostConfig, HttpUrl, Origin, TunnelConfig,
};
use crate::edge::{
    AgentRoutes, Certifier, CertifyRequest, CloudflaredListener, EdgeSettings, EdgeTables, PlainHttp, Seals,
    TunnelEntry,
};
use crate::engine::MailSender;
use crate::exchange::OriginRules;
use crate::latency::{LatencySettings, SlowCallSettings, TaskSettings};
use crate::policy::{Admission, PinMode, ToolPolicy};
use crate::process::random::fill_random;
use crate::process::settings::policies::{PolicyReader, PolicySource};
use crate::route::{HostPattern, PublicUrl, Route, RouteEntry, RouteFault, RouteName, RouteOverrides, RouteTable};
use crate::tls::{
    ALPN_ENROL, ALPN_HTTP1, ALPN_HTTP2, ALPN_LINK, Authority, Clients, ReloadingCerts, Roots, ServerConfig,
    ServerSettings, Versions, WallClock, read_chain, server_config,
};
use crate::wire::mux;
use crate::wire::quic::QuicKeys;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The most log lines about slow calls per second, on each core.
const SLOW_CALL_LINES_PER_S: u32 = 10;

/// Where an edge listens, and its certificates there; known only when it starts.
#[derive(Clone)]
pub(crate) struct EdgeListeners {
    /// The address that agents connect to.
    pub(crate) agents: SocketAddr,
    /// The certificate for agents; without it they use plain HTTP.
    pub(crate) agents_certs: Option<Arc<ReloadingCerts>>,
    /// The address that connectors connect to.
    pub(crate) connectors: SocketAddr,
    /// The certificate for connectors.
    pub(crate) connectors_certs: Arc<ReloadingCerts>,
    /// Where connectors of cloudflared connect, and the certificate for them.
    pub(crate) cloudflared: Option<(SocketAddr, Arc<ReloadingCerts>)>,
    /// How connectors obtain certificates. Without this, a connector needs only its secret.
    pub(crate) certifying: Option<Certifying>,
}

/// How connectors obtain certificates.
#[derive(Clone)]
pub(crate) struct Certifying {
    /// The authority that signs them, which the edge also trusts.
    pub(crate) authority: Arc<Authority>,
    /// Where the cores send certificate requests.
    pub(crate) requests: MailSender<CertifyRequest>,
}

/// The settings of an edge with this many cores.
///
/// # Errors
///
/// If the TLS library rejects the settings.
pub(crate) fn edge_settings(
    config: &EdgeConfig,
    listeners: &EdgeListeners,
    cores: usize,
) -> Result<EdgeSettings, ConfigErrors> {
    let alpn = [ALPN_HTTP2, ALPN_HTTP1].into_iter().skip(usize::from(!config.http2)).map(<[u8]>::to_vec).collect();
    let for_agents = ServerSettings { alpn, versions: Versions::Tls12And13, ..ServerSettings::default() };
    let asking = ServerSettings { clients: Clients::Asked, ..for_agents.clone() };
    let agents_tls = |settings: &ServerSettings| {
        let tls = listeners.agents_certs.as_ref().map(|certs| server_config(certs.clone(), settings));
        tls.transpose().map_err(|error| ConfigErrors::of("edge.agents_cert_file", error))
    };
    let authority = listeners.certifying.as_ref().map(|with| &*with.authority);
    let connectors_tls = connectors_tls_config(&listeners.connectors_certs, authority)?;
    let streams_max = config.streams_per_link_max;
    let bytes = |window: Bytes| u32::try_from(window.0).unwrap_or(u32::MAX);
    let (stream_window, link_window) = (bytes(config.stream_window_bytes), bytes(config.link_window_bytes));
    Ok(EdgeSettings {
        agents_listen: listeners.agents,
        agents_tls: agents_tls(&for_agents)?,
        agents_tls_asking: agents_tls(&asking)?,
        plain_http: plain_http(config),
        http2: config.http2,
        connectors_listen: listeners.connectors,
        connectors_on_agents_listen: config.connectors_on_agents_listen,
        cloudflared: listeners.cloudflared.as_ref().map(cloudflared_listener).transpose()?,
        quic: config.quic.then(|| QuicKeys::draw(fill_random)),
        connectors_tls: Some(connectors_tls),
        certifier: listeners.certifying.as_ref().map(|with| Certifier::Control(with.requests.clone())),
        clock: WallClock::default(),
        link: mux::Settings { streams_max, stream_window, link_window, ..mux::Settings::default() }.bounded(),
        origins: Arc::new(OriginRules {
            allowed_origins: allowed_origins(&config.allowed_origins),
            own_origin: own_origin(config.own_origin),
            cors: config.cors,
        }),
        public: config.public_url.as_ref().map(HttpUrl::as_str).and_then(PublicUrl::of),
        trusted_proxies: config.trusted_proxies.iter().copied().collect(),
        connections_max: (config.connections_max as usize).div_ceil(cores.max(1)),
        handshake_timeout: HANDSHAKE_TIMEOUT,
        header_timeout: config.header_timeout_ms.into(),
        idle_timeout: config.idle_timeout_ms.into(),
        deadlines: DeadlineTerms {
            mode: config.deadline,
            floor: config.deadline_floor_ms.into(),
            ceiling: unless_zero(config.first_byte_timeout_ms.into()),
            progress_max: config.progress_max_ms.into(),
        },
        breaker: BreakerTerms {
            mode: config.breaker,
            failed_percent: config.breaker_failed_percent,
            slow_percent: config.breaker_slow_percent,
            calls_min: config.breaker_calls_min,
            open_for: config.breaker_open_ms.into(),
        },
        concurrency: ConcurrencyTerms {
            mode: config.concurrency_limit,
            min: config.concurrency_min,
            max: config.concurrency_max,
            queue_max: config.concurrency_queue_max,
            queue_time: config.concurrency_queue_ms.into(),
            agent_share_percent: config.agent_share_percent,
        },
        sse_keepalive: Some(config.sse_keepalive_ms.into()).filter(|silence: &Duration| !silence.is_zero()),
        offline_wait: config.offline_wait_ms.into(),
        restart_wait: config.restart_wait_ms.into(),
        stalled_connector_timeout: config.stalled_connector_timeout_ms.into(),
        session_idle_timeout: config.session_idle_timeout_ms.into(),
        drain_timeout: config.drain_timeout_ms.into(),
        write_timeout: config.write_timeout_ms.into(),
        latency: LatencySettings::default(),
        slow_calls: SlowCallSettings {
            slow_call_ms: Some(config.slow_call_ms.0).filter(|ms| *ms > 0),
            lines_per_second_max: SLOW_CALL_LINES_PER_S,
        },
        calls_kept: config.calls_kept as usize,
        retries_max: config.retries_max,
        tasks: TaskSettings {
            tasks_max: config.tasks_max as usize,
            header: config.task_header.as_ref().map(|name| name.0.as_str().into()),
            price_per_million_tokens: config.price_per_million_tokens.0,
        },
        audit: None,
        traces: None,
        local_links: None,
    })
}

/// Connectors of cloudflared offer no application protocol (ALPN).
fn cloudflared_listener(
    (address, certs): &(SocketAddr, Arc<ReloadingCerts>),
) -> Result<CloudflaredListener, ConfigErrors> {
    let settings = ServerSettings { alpn: Vec::new(), versions: Versions::Tls13, ..ServerSettings::default() };
    let tls = server_config(Arc::<ReloadingCerts>::clone(certs), &settings);
    let tls = tls.map_err(|error| ConfigErrors::of("edge.cloudflared_cert_file", error))?;
    Ok(CloudflaredListener { address: *address, tls })
}

/// With the operator's own certificates only HTTPS is served, unless the settings allow more.
fn plain_http(config: &EdgeConfig) -> PlainHttp {
    if config.allow_plain_http_off_loopback {
        PlainHttp::Anywhere
    } else if config.agents_cert_file.is_none() || config.allow_plain_http_on_loopback {
        PlainHttp::Loopback
    } else {
        PlainHttp::Never
    }
}

/// The tables of an edge: tunnels, routes and admission. Secrets are read from their files now. `name` gives each host
/// its name in metrics and logs.
///
/// # Errors
///
/// All faults of the configuration.
pub(crate) fn edge_tables(
    config: &EdgeConfig,
    admission: Admission,
    policies: &mut PolicyReader,
    name: impl Fn(&HostPattern) -> RouteName,
) -> Result<EdgeTables, ConfigErrors> {
    let mut faults = Vec::new();
    let hosts = RouteTable::new(host_settings(config, policies, &mut faults)).unwrap_or_else(|found| {
        faults.extend(route_faults(found));
        RouteTable::default()
    });
    let mut tables = EdgeTables { routes: AgentRoutes::default(), hosts, tunnels: SharedMap::default(), admission };
    let mut entries = Vec::new();
    for (index, tunnel) in config.tunnels.iter().enumerate() {
        match tunnel.secret_source().map(|source| source.read()) {
            Some(Ok(secret)) => {
                let connectors_from = tunnel.connectors_from.iter().copied().collect();
                let cloudflared_service = tunnel.cloudflared_service.as_ref().map(|url| url.as_str().into());
                let entry = TunnelEntry { connectors_from, cloudflared_service, ..TunnelEntry::of_secret(&secret) };
                tables.tunnels.insert(tunnel.id.clone(), entry);
            }
            Some(Err(error)) => {
                faults.push(ConfigError::new(
                    Origin::Default,
                    format!("tunnel[{index}].secret_file"),
                    error.to_string(),
                ));
            }
            None => faults.push(ConfigError::new(Origin::Default, format!("tunnel[{index}].secret"), "missing")),
        }
        let place = format!("tunnel[{index}].hosts");
        for host in &tunnel.hosts {
            let mut own = tables.overrides_in(host, &tunnel.id);
            if own.policy.is_none() {
                own.policy = PolicyFiles::of_tunnel(tunnel, index).read(host, PinMode::Off, policies, &mut faults);
                own.policy.iter().for_each(|policy| policy.be_of(tunnel.id.as_str()));
            }
            let target = Route { name: name(host), tunnel: tunnel.id.clone(), traffic: tunnel.traffic, own };
            if target.is_beyond_policy() {
                faults.push(ConfigError::new(Origin::Default, place.clone(), format!("{host} {BEYOND_POLICY}")));
            }
            entries.push(RouteEntry { host: host.to_string(), place: place.clone(), target });
        }
    }
    match RouteTable::new(entries) {
        Ok(routes) => tables.routes = routes.into(),
        Err(found) => faults.extend(route_faults(found)),
    }
    tables.enter_hosts();
    if faults.is_empty() { Ok(tables) } else { Err(ConfigErrors::new(faults)) }
}

fn route_faults(found: Vec<RouteFault>) -> impl Iterator<Item = ConfigError> {
    found.into_iter().map(|fault| ConfigError::new(Origin::Default, fault.place, fault.kind.to_string()))
}

/// The fault of a host whose policy or caller rules cannot be applied.
const BEYOND_POLICY: &str = "has a policy, pin or auth at the edge, which cannot read passthrough traffic: set them in the \
                             [[route]] of its connector, and not in the [[host]] or [[tunnel]] of the edge that it falls under";

/// The settings of single hosts and of their tools.
fn host_settings(
    config: &EdgeConfig,
    policies: &mut PolicyReader,
    faults: &mut Vec<ConfigError>,
) -> Vec<RouteEntry<RouteOverrides>> {
    let mut entries: Vec<(&HostPattern, String, RouteOverrides)> = Vec::new();
    for (index, host) in config.hosts.iter().enumerate() {
        let own = RouteOverrides {
            deadlines: DeadlineOverrides {
                mode: host.deadline,
                floor: host.deadline_floor_ms.map(Into::into),
                ceiling: host.first_byte_timeout_ms.map(|limit| unless_zero(limit.into())),
                progress_max: host.progress_max_ms.map(Into::into),
            },
            breaker: BreakerOverrides { mode: host.breaker },
            concurrency: ConcurrencyOverrides { mode: host.concurrency_limit, max: host.concurrency_max },
            client_timeout: host.client_timeout_ms.map(Into::into),
            tools: tools_of(&config.tools, &host.host),
            public: host.public_url.as_ref().map(HttpUrl::as_str).and_then(PublicUrl::of),
            auth: policies.callers.read(&CallerTerms::of_host(host, index), faults),
            policy: policy_of(host, index, config, policies, faults),
            hedge: host.hedge == Hedge::ReadOnly,
        };
        entries.push((&host.host, format!("host[{index}].host"), own));
    }
    for (index, tool) in config.tools.iter().enumerate() {
        if entries.iter().any(|(host, ..)| **host == tool.host) {
            continue;
        }
        // Apart from its tools, it has the settings of the wildcard table that covers it.
        let covers = |host: &HostPattern| matches!(host, HostPattern::Wildcard(_)) && host.overlaps(&tool.host);
        let above = config.hosts.iter().position(|host| covers(&host.host));
        let above = above.map(|above| entries[above].2.clone()).unwrap_or_default();
        let own = RouteOverrides { tools: tools_of(&config.tools, &tool.host), ..above };
        entries.push((&tool.host, format!("tool[{index}].host"), own));
    }
    let entry = |(host, place, target): (&HostPattern, String, RouteOverrides)| {
        let host = host.to_string();
        RouteEntry { host, place, target }
    };
    entries.into_iter().map(entry).collect()
}

/// The policy of a host with a table, if it has one. One of the table goes before one of its tunnel.
fn policy_of(
    host: &HostConfig,
    index: usize,
    config: &EdgeConfig,
    policies: &mut PolicyReader,
    faults: &mut Vec<ConfigError>,
) -> Option<Arc<ToolPolicy>> {
    let own = PolicyFiles {
        lists: host.policy_file.as_deref(),
        cedar: host.cedar_file.as_deref(),
        key: format!("host[{index}]"),
    };
    let of_tunnel = || {
        let at = config.tunnels.iter().position(|tunnel| tunnel.hosts.contains(&host.host))?;
        Some(PolicyFiles::of_tunnel(&config.tunnels[at], at))
    };
    let files = if own.is_empty() { of_tunnel().filter(|files| !files.is_empty()).unwrap_or(own) } else { own };
    files.read(&host.host, host.pin, policies, faults)
}

/// The files of a policy, and the table that names them.
struct PolicyFiles<'a> {
    lists: Option<&'a Path>,
    cedar: Option<&'a Path>,
    key: String,
}

impl<'a> PolicyFiles<'a> {
    fn of_tunnel(tunnel: &'a TunnelConfig, index: usize) -> PolicyFiles<'a> {
        let (lists, cedar) = (tunnel.policy_file.as_deref(), tunnel.cedar_file.as_deref());
        PolicyFiles { lists, cedar, key: format!("tunnel[{index}]") }
    }

    fn is_empty(&self) -> bool {
        self.lists.is_none() && self.cedar.is_none()
    }

    /// The policy of a host by these files; none if there are none, and its tools are not looked at.
    fn read(
        self,
        host: &HostPattern,
        pin: PinMode,
        policies: &mut PolicyReader,
        faults: &mut Vec<ConfigError>,
    ) -> Option<Arc<ToolPolicy>> {
        let PolicyFiles { lists, cedar, key } = self;
        // The edge knows its connectors, and not what is behind them.
        let source = PolicySource { host, file: lists, cedar, key: key.clone(), pin, server: "" };
        let policy = policies.read(source, faults)?;
        if policy.uses_annotations() && matches!(host, HostPattern::Wildcard(_)) {
            let why = "its rules depend on annotations of tools, which differ from server to server: write a [[host]] for each host";
            faults.push(ConfigError::new(Origin::Default, format!("{key}.policy_file"), why));
        }
        Some(policy)
    }
}

/// The TLS configuration for connectors: the edge's certificate, and the authority that signs theirs, if there is one.
///
/// # Errors
///
/// If the TLS library rejects the settings.
pub(crate) fn connectors_tls_config(
    certs: &Arc<ReloadingCerts>,
    authority: Option<&Authority>,
) -> Result<Arc<ServerConfig>, ConfigErrors> {
    let mut settings =
        ServerSettings { alpn: vec![ALPN_LINK.to_vec()], versions: Versions::Tls13, ..ServerSettings::default() };
    if let Some(authority) = authority {
        let mut clients = Roots::new();
        let added = clients.add_der(authority.cert_der().clone());
        added.map_err(|error| ConfigErrors::of("edge.connectors_ca_file", error))?;
        settings.alpn.push(ALPN_ENROL.to_vec());
        settings.clients = Clients::Known(clients);
    }
    let config = server_config(Arc::<ReloadingCerts>::clone(certs), &settings);
    config.map_err(|error| ConfigErrors::of("edge.connectors_cert_file", error))
}

/// Like [`edge_tables`] with the default names, and with the authorities of connectors for resealed traffic, which are
/// read from their files now.
///
/// # Errors
///
/// All faults of the configuration.
pub(crate) fn sealed_edge_tables(
    config: &EdgeConfig,
    admission: Admission,
    policies: &mut PolicyReader,
    seals: &Seals,
) -> Result<EdgeTables, ConfigErrors> {
    let mut tables = edge_tables(config, admission, policies, RouteName::of_host)?;
    let mut faults = Vec::new();
    for (index, tunnel) in config.tunnels.iter().enumerate() {
        let Some(file) = tunnel.seal_ca_file.as_deref() else { continue };
        let key = format!("tunnel[{index}].seal_ca_file");
        match read_authorities(file).and_then(|found| seals.for_tunnel(found).map_err(|error| error.to_string())) {
            Ok(seal) => {
                if let Some(entry) = tables.tunnels.get_mut(&tunnel.id) {
                    entry.seal = Some(seal);
                }
            }
            Err(why) => faults.push(ConfigError::new(Origin::Default, key, why)),
        }
    }
    if faults.is_empty() { Ok(tables) } else { Err(ConfigErrors::new(faults)) }
}

fn read_authorities(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = std::fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let found = read_chain(&file.display().to_string(), &pem).map_err(|error| error.to_string())?;
    if found.is_empty() { Err(format!("{} holds no certificate", file.display())) } else { Ok(found) }
}
