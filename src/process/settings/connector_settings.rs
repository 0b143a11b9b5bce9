use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustls_pki_types::UnixTime;

use super::route_identity::route_identity;
use super::tool_settings::tools_of;
use super::{allowed_origins, own_origin, unless_zero};
use crate::base::{
    AuthorityPin, BreakerOverrides, BreakerTerms, ConcurrencyOverrides, ConcurrencyTerms, DeadlineOverrides,
    DeadlineTerms, Secret, TunnelId, TunnelToken, pin_of,
};
use crate::config::{
    Bridge, Bytes, CallerTerms, ChildSharing, ChildStart, ConfigError, ConfigErrors, ConnectConfig, FolderPath,
    HostPort, Origin, ProxyScheme, ProxyUrl, Resend, RouteConfig, SecretText, TokenText, Transport, UpstreamNetwork,
};
use crate::connector::{
    ConnectorRoute, ConnectorSettings, ConnectorTables, EdgeAddress, EdgeTls, LINKS_MAX, LinkTransport,
};
use crate::control::StateDir;
use crate::dial::Proxy;
use crate::exchange::OriginRules;
use crate::latency::TaskSettings;
use crate::policy::SafeRequests;
use crate::process::random::fill_random;
use crate::process::settings::policies::{PolicyReader, PolicySource};
use crate::route::{HostPattern, RouteEntry, RouteName, RouteTable};
use crate::stdio::{Confinement, RestartTerms, StdioLimits, StdioSettings, StdioSharing, StdioUpstream};
use crate::tls::{
    ALPN_HTTP1, ALPN_HTTP2, ClientConfig, ClientSettings, Fingerprint, Roots, SessionMemory, Versions, WallClock,
    client_config,
};
use crate::upstream::{EraBridge, UpstreamSettings};
use crate::wire::forward_proxy::{ProxyLogin, ProxyProtocol};
use crate::wire::mux;
use crate::wire::quic::QuicKeys;

/// How long dialling an edge may take, TLS included.
pub(super) const EDGE_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The most calls that one core of a connector carries at once.
pub(super) const CALLS_PER_CORE_MAX: usize = 65_536;
/// How long a call may wait for a connection while its upstream has as many as allowed.
pub(super) const UPSTREAM_QUEUE_TIMEOUT: Duration = Duration::from_secs(10);

/// The settings of a connector. `edges` are usually those of the configuration.
///
/// # Errors
///
/// If the TLS library rejects the settings.
pub(crate) fn connector_settings(
    config: &ConnectConfig,
    edges: Vec<EdgeAddress>,
    roots: Roots,
    TunnelToken { id, secret }: TunnelToken,
) -> Result<ConnectorSettings, ConfigErrors> {
    let tls = EdgeTls::new(roots, WallClock::default(), edges.len());
    let tls = tls.map_err(|error| ConfigErrors::of("connect.edge_ca_file", error))?;
    let tls = with_kept_identities(config, tls, &edges, &id)?;
    Ok(ConnectorSettings {
        proxies: edges.iter().map(|edge| proxy_for(config, edge)).collect(),
        edges,
        edge_fallback_port: fallback_port(config),
        edge_tls: Some(Arc::new(tls)),
        transport: link_transport(config.transport),
        quic: QuicKeys::draw(fill_random),
        edge_name: config.edge_name.map(|name| name.as_str().trim_matches(['[', ']']).into()),
        tunnel: id,
        secret,
        software: concat!("adit/", env!("CARGO_PKG_VERSION")).to_owned(),
        links: u16::try_from(config.links).unwrap_or(LINKS_MAX),
        backoff_min: config.backoff_min_ms.into(),
        backoff_max: config.backoff_max_ms.into(),
        connect_timeout: EDGE_CONNECT_TIMEOUT,
        link: mux::Settings::default(),
        calls_max: CALLS_PER_CORE_MAX,
        drain_timeout: config.drain_timeout_ms.into(),
        write_timeout: config.write_timeout_ms.into(),
        header_timeout: config.header_timeout_ms.into(),
        idle_timeout: config.idle_timeout_ms.into(),
        sse_keepalive: Some(config.sse_keepalive_ms.into()).filter(|silence: &Duration| !silence.is_zero()),
        origins: Arc::new(OriginRules {
            allowed_origins: allowed_origins(&config.allowed_origins),
            own_origin: own_origin(config.own_origin),
            cors: config.cors,
        }),
        calls_kept: config.calls_kept as usize,
        retries_max: config.retries_max,
        tasks: TaskSettings {
            tasks_max: config.tasks_max as usize,
            header: config.task_header.as_ref().map(|name| name.0.as_str().into()),
            price_per_million_tokens: config.price_per_million_tokens.0,
        },
        audit: None,
        traces: None,
        local_edge: None,
        clock: WallClock::default(),
        cloudflared: None,
    })
}

/// The transport as the connector has it.
pub(super) fn link_transport(transport: Transport) -> LinkTransport {
    match transport {
        Transport::Auto => LinkTransport::Auto,
        Transport::Quic => LinkTransport::Quic,
        Transport::Tcp => LinkTransport::Tcp,
    }
}

/// The credentials of the connector. With a provisioning key, these are what it was exchanged for. A file is read now.
///
/// # Errors
///
/// If they cannot be read, or are not a valid secret or token.
pub fn credentials(config: &ConnectConfig) -> Result<TunnelToken, ConfigErrors> {
    if config.provisioning_source().is_some() {
        let token = |dir: StateDir| dir.token().map_err(|error| ConfigErrors::of("connect.state_dir", error));
        let kept = open_state_dir(config)?.map(token).transpose()?.flatten();
        return kept
            .ok_or_else(|| ConfigErrors::of("connect.provisioning_key", "it was not exchanged for a tunnel yet"));
    }
    if let Some(source) = config.token_source() {
        let read = source.read().map_err(|error| ConfigErrors::of("connect.token_file", error))?;
        return SecretText(read).token().map_err(|error| ConfigErrors::of("connect.token_file", error));
    }
    let source = config.secret_source().ok_or_else(|| ConfigErrors::of("connect.secret", "missing"))?;
    let secret = source.read().map_err(|error| ConfigErrors::of("connect.secret_file", error))?;
    let id = config.tunnel.clone().ok_or_else(|| ConfigErrors::of("connect.tunnel", "missing"))?;
    Ok(TunnelToken { id, secret })
}

/// The admin token, if there is one. It is required for operations that change something. Its file is read now.
///
/// # Errors
///
/// If the file cannot be read, or does not hold a valid secret.
pub(crate) fn admin_token(config: &ConnectConfig) -> Result<Option<Secret>, ConfigErrors> {
    let token = config.admin_token_source().map(|source| source.read()).transpose();
    token.map_err(|error| ConfigErrors::of("connect.admin_token_file", error))
}

/// The proxy for reaching an edge, if one is configured.
pub(crate) fn proxy_for(config: &ConnectConfig, edge: &EdgeAddress) -> Option<Proxy> {
    let edge = HostPort { host: edge.host.clone(), port: edge.port };
    let ProxyUrl { scheme, at, login } = config.proxy_for(&edge)?;
    let protocol = match scheme {
        ProxyScheme::Http => ProxyProtocol::Http,
        ProxyScheme::Socks5 => ProxyProtocol::Socks5,
    };
    let login = login.clone().map(|(user, password)| ProxyLogin { user, password });
    Some(Proxy { protocol, host: at.host.clone(), port: at.port, login })
}

/// The fallback port of the edges, if one is configured.
pub(crate) fn fallback_port(config: &ConnectConfig) -> Option<u16> {
    u16::try_from(config.edge_fallback).ok().filter(|port| *port != 0)
}

/// The edges to dial.
pub(crate) fn edge_addresses(config: &ConnectConfig) -> Vec<EdgeAddress> {
    config.edge.iter().map(|edge| EdgeAddress { host: edge.host.clone(), port: edge.port }).collect()
}

/// The authorities to trust for an edge: those of the configured file, the one that the secret names, or the public
/// ones.
///
/// # Errors
///
/// If they cannot be read.
pub(crate) fn edge_roots(config: &ConnectConfig, secret: &Secret) -> Result<Roots, ConfigErrors> {
    if let Some(AuthorityPin(pin)) = pin_of(secret).filter(|_| config.edge_ca_file.is_none()) {
        return Ok(Roots::pinned(Fingerprint::from_bytes(pin)));
    }
    read_roots("connect.edge_ca_file", config.edge_ca_file.as_deref()).map(|(roots, _)| roots)
}

/// The routes of a connector with this many cores. TLS configurations in `trust` are reused. `name` gives each host its
/// name in metrics and logs.
///
/// # Errors
///
/// All faults of the configuration.
pub(crate) fn connector_tables(
    config: &ConnectConfig,
    cores: usize,
    trust: &mut UpstreamTrust,
    name: impl Fn(&HostPattern) -> RouteName,
) -> Result<ConnectorTables, ConfigErrors> {
    let (mut faults, mut entries, mut safe, mut stdio_upstreams) = (Vec::new(), Vec::new(), HashMap::new(), Vec::new());
    let mut bridges = Vec::new();
    let allowed = Arc::new(UpstreamNetwork::allowed(&config.allowed_upstreams));
    for (index, route) in config.routes.iter().enumerate() {
        let key = format!("route[{index}].upstream_ca_file");
        let trusted = || trust.config(&key, route.upstream_ca_file.as_deref(), route.upstream_http2);
        let tls = match route.upstream.is_tls().then(trusted) {
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
            refused_wait: route.upstream_wait_ms.into(),
            idle_timeout: route.idle_timeout_ms.into(),
            silence_max: route.silence_timeout_ms.into(),
            acknowledged_within: route.acknowledge_timeout_ms.into(),
            queue_timeout: UPSTREAM_QUEUE_TIMEOUT,
            allowed: Arc::clone(&allowed),
            stdio: (route.upstream.is_stdio() && !trust.starts_no_children)
                .then(|| trust.stdio_upstream(child_of(route, &name(&route.host)), &mut stdio_upstreams)),
            bridge: None,
            entry: None,
        };
        let bridge = (route.bridge == Bridge::Auto).then(|| trust.bridge(&name(&route.host), &upstream, &mut bridges));
        let upstream = UpstreamSettings { bridge, ..upstream };
        let resend = (route.resend == Resend::McpSafe).then(|| {
            let key = (route.host.to_string(), route.upstream.to_string());
            let known = trust.safe.get(&key).cloned().unwrap_or_default();
            Arc::clone(safe.entry(key).or_insert(known))
        });
        let auth = trust.policies.callers.read(&CallerTerms::of_route(route, index), &mut faults);
        let server = route.upstream.to_string();
        let source = PolicySource {
            host: &route.host,
            file: route.policy_file.as_deref(),
            cedar: route.cedar_file.as_deref(),
            key: format!("route[{index}]"),
            pin: route.pin,
            server: &server,
        };
        let policy = trust.policies.read(source, &mut faults);
        entries.push(RouteEntry {
            host: route.host.to_string(),
            place: format!("route[{index}].host"),
            target: ConnectorRoute {
                name: name(&route.host),
                upstream,
                traffic: config.traffic_of(route),
                identity: route_identity(route),
                first_byte_timeout: route.first_byte_timeout_ms.map(|limit| unless_zero(limit.into())),
                sends_timeout: route.send_request_timeout,
                client_timeout: route.client_timeout_ms.map(Into::into),
                resend,
                auth,
                policy,
                deadlines: deadlines_of(config, route),
                breaker: breaker_of(config, route),
                concurrency: concurrency_of(config, route),
                tools: tools_of(&config.tools, &route.host),
            },
        });
    }
    let routes = RouteTable::new(entries).unwrap_or_else(|found| {
        faults.extend(found.into_iter().map(|f| ConfigError::new(Origin::Default, f.place, f.kind.to_string())));
        RouteTable::default()
    });
    if !faults.is_empty() {
        return Err(ConfigErrors::new(faults));
    }
    trust.safe = safe;
    trust.stdio_upstreams = stdio_upstreams.iter().map(Arc::downgrade).collect();
    trust.bridges = bridges;
    Ok(ConnectorTables { routes, ingress: None, sealing: None })
}

/// How the child process of a route is started.
pub(crate) fn child_of(route: &RouteConfig, name: &RouteName) -> StdioSettings {
    StdioSettings {
        route: name.to_string(),
        command: route.command.0.clone(),
        env: route.env.0.clone(),
        cwd: route.cwd.as_ref().map(|folder| folder.0.clone()),
        // This program, even if its file has been replaced.
        guard: "/proc/self/exe".into(),
        sessions: match route.sessions {
            ChildSharing::Shared => StdioSharing::Shared,
            ChildSharing::PerSession => StdioSharing::PerSession,
            ChildSharing::PerIdentity => StdioSharing::PerIdentity,
        },
        starts_at_boot: route.child_start == ChildStart::Boot,
        limits: child_limits(route),
        confinement: confinement(route),
        #[cfg(feature = "internals")]
        simulated: None,
    }
}

fn child_limits(route: &RouteConfig) -> StdioLimits {
    let len = |bytes: Bytes| usize::try_from(bytes.0).unwrap_or(usize::MAX);
    StdioLimits {
        children_max: route.children_max as usize,
        child_idle: route.child_idle_ms.into(),
        sessions_max: route.child_sessions_max as usize,
        calls_max: route.child_calls_max as usize,
        line_len_max: len(route.child_line_max_bytes),
        answer_len_max: len(route.child_answer_max_bytes),
        start_timeout: route.child_start_timeout_ms.into(),
        restarts: RestartTerms {
            pause_min: route.child_restart_min_ms.into(),
            pause_max: route.child_restart_max_ms.into(),
            failures_max: route.child_failures_max,
            open_for: route.child_breaker_open_ms.into(),
        },
    }
}

fn confinement(route: &RouteConfig) -> Confinement {
    let paths = |paths: &[FolderPath]| paths.iter().map(|path| path.0.clone()).collect();
    let text = |text: &Option<TokenText>| text.as_ref().map(|text| text.0.clone());
    Confinement {
        stop_grace: route.child_stop_grace_ms.into(),
        memory_max: route.child_memory_max_bytes.map(|bytes| bytes.0),
        cpu_percent: route.child_cpu_percent,
        cpu_time_s: route.child_cpu_time_ms.map(|time| Duration::from(time).as_secs()),
        files_max: route.child_files_max.map(Into::into),
        processes_max: route.child_processes_max.map(Into::into),
        cgroup: route.child_cgroup.as_ref().map(|path| path.0.clone()),
        user: text(&route.child_user),
        group: text(&route.child_group),
        may_gain_privileges: route.child_new_privileges,
        read_paths: paths(&route.child_read_paths),
        write_paths: paths(&route.child_write_paths),
    }
}

/// The deadline terms of agents' calls on a route.
fn deadlines_of(config: &ConnectConfig, route: &RouteConfig) -> DeadlineTerms {
    let of_all = DeadlineTerms {
        mode: config.deadline,
        floor: config.deadline_floor_ms.into(),
        ceiling: unless_zero(config.first_byte_timeout_ms.into()),
        progress_max: config.progress_max_ms.into(),
    };
    of_all.with(&DeadlineOverrides {
        mode: route.deadline,
        floor: route.deadline_floor_ms.map(Into::into),
        ceiling: route.first_byte_timeout_ms.map(|limit| unless_zero(limit.into())),
        progress_max: route.progress_max_ms.map(Into::into),
    })
}

/// The breaker terms of agents' calls on a route.
fn breaker_of(config: &ConnectConfig, route: &RouteConfig) -> BreakerTerms {
    let of_all = BreakerTerms {
        mode: config.breaker,
        failed_percent: config.breaker_failed_percent,
        slow_percent: config.breaker_slow_percent,
        calls_min: config.breaker_calls_min,
        open_for: config.breaker_open_ms.into(),
    };
    of_all.with(&BreakerOverrides { mode: route.breaker })
}

/// How many of agents' calls on a route may be in flight at one time.
fn concurrency_of(config: &ConnectConfig, route: &RouteConfig) -> ConcurrencyTerms {
    let of_all = ConcurrencyTerms {
        mode: config.concurrency_limit,
        min: config.concurrency_min,
        max: config.concurrency_max,
        queue_max: config.concurrency_queue_max,
        queue_time: config.concurrency_queue_ms.into(),
        agent_share_percent: config.agent_share_percent,
    };
    of_all.with(&ConcurrencyOverrides { mode: route.concurrency_limit, max: route.concurrency_max })
}

/// The state directory, if there is one. It is created if it does not exist.
///
/// # Errors
///
/// If the directory cannot be used.
pub(crate) fn open_state_dir(config: &ConnectConfig) -> Result<Option<StateDir>, ConfigErrors> {
    let Some(dir) = state_dir(config) else { return Ok(None) };
    dir.init().map_err(|error| ConfigErrors::of("connect.state_dir", error))?;
    Ok(Some(dir))
}

/// The state directory of the configuration, which may not exist yet.
pub(crate) fn state_dir(config: &ConnectConfig) -> Option<StateDir> {
    config.state_dir.as_ref().map(|path| StateDir::new(&path.0))
}

/// Starts with the stored certificate of each edge.
fn with_kept_identities(
    config: &ConnectConfig,
    mut tls: EdgeTls,
    edges: &[EdgeAddress],
    tunnel: &TunnelId,
) -> Result<EdgeTls, ConfigErrors> {
    let Some(dir) = open_state_dir(config)? else { return Ok(tls) };
    for (index, edge) in edges.iter().enumerate() {
        if let Some(identity) = dir.identity(edge, tunnel, UnixTime::now()) {
            tls = tls.with_kept(index, identity);
        }
    }
    Ok(tls)
}

/// A file of authorities, if there is one, and whether HTTP/2 is offered.
type TrustKind = (Option<PathBuf>, bool);

/// What a reload keeps of the upstreams.
#[derive(Default)]
pub(crate) struct UpstreamTrust {
    /// The TLS configurations, by file of authorities and whether HTTP/2 is offered. If the content of the file is
    /// unchanged, so is the configuration, and connections are kept.
    known: HashMap<TrustKind, (Vec<u8>, Arc<ClientConfig>)>,
    /// What upstreams have declared about their tools, by the host of the route and the URL of the upstream.
    safe: HashMap<(String, String), Arc<SafeRequests>>,
    pub(crate) policies: PolicyReader,
    /// Whether calls for child processes fail, and none is started.
    pub(crate) starts_no_children: bool,
    /// The ways to child processes of the tables in force. Only the tables keep them: without a route, a child ends.
    stdio_upstreams: Vec<Weak<StdioUpstream>>,
    /// The era bridges of the tables in force, by the name of their route. Only the tables keep them.
    bridges: Vec<(RouteName, Weak<EraBridge>)>,
}

impl UpstreamTrust {
    /// The way to a child process: the same for routes of one name with equal settings, now and in the tables before.
    fn stdio_upstream(&self, settings: StdioSettings, found: &mut Vec<Arc<StdioUpstream>>) -> Arc<StdioUpstream> {
        let before = self.stdio_upstreams.iter().filter_map(Weak::upgrade);
        let known = found.iter().cloned().chain(before).find(|stdio_upstream| *stdio_upstream.settings() == settings);
        let stdio_upstream = known.unwrap_or_else(|| StdioUpstream::new(settings));
        if !found.iter().any(|other| Arc::ptr_eq(other, &stdio_upstream)) {
            found.push(Arc::clone(&stdio_upstream));
        }
        stdio_upstream
    }

    /// The era bridge of a route: the one of the tables before, with its sessions, if its server is reached in the same way.
    fn bridge(
        &self,
        route: &RouteName,
        upstream: &UpstreamSettings,
        found: &mut Vec<(RouteName, Weak<EraBridge>)>,
    ) -> Arc<EraBridge> {
        let before = self.bridges.iter().filter(|(name, _)| name == route).filter_map(|(_, bridge)| bridge.upgrade());
        let known = before.into_iter().find(|bridge| bridge.settings().connects_as(upstream));
        let bridge = known.unwrap_or_else(|| EraBridge::new(upstream.clone()));
        found.push((route.clone(), Arc::downgrade(&bridge)));
        bridge
    }

    /// The TLS configuration that trusts the authorities of a file, or the public ones without a file.
    pub(super) fn config(
        &mut self,
        key: &str,
        ca_file: Option<&Path>,
        http2: bool,
    ) -> Result<Arc<ClientConfig>, ConfigErrors> {
        let (roots, pem) = read_roots(key, ca_file)?;
        let kind = (ca_file.map(Path::to_path_buf), http2);
        if let Some((_, config)) = self.known.get(&kind).filter(|(of, _)| *of == pem) {
            return Ok(Arc::clone(config));
        }
        let settings = ClientSettings {
            roots,
            alpn: [ALPN_HTTP2, ALPN_HTTP1].into_iter().skip(usize::from(!http2)).map(<[u8]>::to_vec).collect(),
            versions: Versions::Tls12And13,
            sessions: Some(SessionMemory::default()),
            ..ClientSettings::default()
        };
        let config = client_config(settings).map_err(|error| ConfigErrors::of(key, error))?;
        self.known.insert(kind, (pem, Arc::clone(&config)));
        Ok(config)
    }
}

/// The authorities of a file and its content, or those that this machine trusts.
pub(super) fn read_roots(key: &str, file: Option<&Path>) -> Result<(Roots, Vec<u8>), ConfigErrors> {
    let mut roots = Roots::new();
    let Some(file) = file else {
        roots.add_platform().map_err(|error| ConfigErrors::of(key, error))?;
        return Ok((roots, Vec::new()));
    };
    let name = file.display().to_string();
    let pem = std::fs::read(file).map_err(|error| ConfigErrors::of(key, format!("cannot read {name}: {error}")))?;
    roots.add_pem(&name, &pem).map_err(|error| ConfigErrors::of(key, error))?;
    Ok((roots, pem))
}
