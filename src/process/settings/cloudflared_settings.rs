//! The settings and the rules of a connector that speaks the protocol of cloudflared.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::connector_settings::{
    CALLS_PER_CORE_MAX, EDGE_CONNECT_TIMEOUT, UPSTREAM_QUEUE_TIMEOUT, UpstreamTrust, link_transport, read_roots,
};
use crate::base::{BreakerTerms, ConcurrencyTerms, DeadlineTerms, Traffic, TunnelId};
use crate::config::{
    CloudflaredConfig, CloudflaredIngress, CloudflaredRule, CloudflaredService, ConfigErrors, IngressFault,
};
use crate::connector::{
    CloudflaredSettings, ConfigPush, ConnectorRoute, ConnectorSettings, ConnectorTables, EdgeAddress, EdgeTls,
    FixedAnswer, IngressTarget, RouteIdentity,
};
use crate::engine::MailSender;
use crate::exchange::OriginRules;
use crate::latency::TaskSettings;
use crate::link::CloudflaredCounts;
use crate::policy::{AllowedUpstreams, Network};
use crate::process::random::fill_random;
use crate::route::{IngressTable, RouteName, RouteTable, UpstreamUrl};
use crate::tls::WallClock;
use crate::upstream::UpstreamSettings;
use crate::wire::cloudflared::TunnelUuid;
use crate::wire::mux;
use crate::wire::quic::QuicKeys;

/// The name that the certificate of an edge must have.
const EDGE_NAME: &str = "h2.cftunnel.com";
/// The waits between two attempts to connect.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(32);
/// How long a server may take to be connected to, and how long a connection to it may be idle, unless a rule says so.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(90);
/// How many connections to a server all cores together may have, at least.
const CONNECTIONS_MAX: u64 = 1_024;
/// How long a peer may stop reading, and how long a server's host may be silent.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
const SILENCE_MAX: Duration = Duration::from_secs(75);
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(5);
/// Limits of sessions with agents, of which there are none here.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// How many of the last calls of each kind are kept on each core, and how often a request is sent again.
const CALLS_KEPT: usize = 1_000;
const RETRIES_MAX: u32 = 2;
/// What the connector supports.
const FEATURES: [&str; 2] = ["allow_remote_config", "serialized_headers"];

/// The answers of rules without a server.
const HELLO_WORLD: &str =
    "<!DOCTYPE html><title>It works</title><h1>It works</h1><p>The tunnel reaches this connector.</p>\n";
const NO_RULES: FixedAnswer = FixedAnswer { status: 503, body: "" };

/// What the process makes for a connector.
pub(in crate::process) struct CloudflaredParts {
    /// The number of the connector.
    pub(in crate::process) connector: TunnelUuid,
    /// What its calls come to.
    pub(in crate::process) counts: Arc<CloudflaredCounts>,
    /// Where new rules of an edge go.
    pub(in crate::process) pushes: MailSender<ConfigPush>,
}

/// The settings of a connector.
///
/// # Errors
///
/// If a file cannot be read, or the TLS library rejects the settings.
pub(in crate::process) fn cloudflared_settings(
    config: &CloudflaredConfig,
    parts: CloudflaredParts,
) -> Result<ConnectorSettings, ConfigErrors> {
    let (roots, _) = read_roots("cacert", config.ca_file.as_deref())?;
    let tls = EdgeTls::cloudflared(roots, config.edges.len());
    let tls = tls.map_err(|error| ConfigErrors::of("cacert", error))?;
    let tunnel = config.credentials.tunnel;
    let id: TunnelId = tunnel.to_string().parse().map_err(|error| ConfigErrors::of("token", error))?;
    let mut features = FEATURES.map(str::to_owned).to_vec();
    features.extend(config.features.iter().cloned());
    let version = concat!("adit/", env!("CARGO_PKG_VERSION"));
    let cloudflared = CloudflaredSettings {
        connections: config.connections,
        account: config.credentials.account.clone(),
        tunnel,
        connector: parts.connector,
        features,
        version: version.to_owned(),
        arch: format!("{}_{}", std::env::consts::OS, arch()),
        config: config.ingress.as_ref().map(|ingress| ingress.json().to_string()).unwrap_or_else(|| "{}".to_owned()),
        counts: parts.counts,
        pushes: parts.pushes,
    };
    Ok(ConnectorSettings {
        edges: config.edges.iter().map(|edge| EdgeAddress { host: edge.host.clone(), port: edge.port }).collect(),
        proxies: Vec::new(),
        edge_fallback_port: None,
        edge_tls: Some(Arc::new(tls)),
        transport: link_transport(config.transport),
        quic: QuicKeys::draw(fill_random),
        edge_name: Some(EDGE_NAME.into()),
        tunnel: id,
        secret: config.credentials.secret.clone(),
        software: version.to_owned(),
        links: config.connections,
        backoff_min: BACKOFF_MIN,
        backoff_max: BACKOFF_MAX,
        connect_timeout: EDGE_CONNECT_TIMEOUT,
        link: mux::Settings::default(),
        calls_max: CALLS_PER_CORE_MAX,
        drain_timeout: config.grace_period,
        write_timeout: WRITE_TIMEOUT,
        header_timeout: HEADER_TIMEOUT,
        idle_timeout: IDLE_TIMEOUT,
        sse_keepalive: None,
        origins: Arc::new(OriginRules::default()),
        calls_kept: CALLS_KEPT,
        retries_max: RETRIES_MAX,
        tasks: TaskSettings::default(),
        audit: None,
        traces: None,
        local_edge: None,
        clock: WallClock::default(),
        cloudflared: Some(Arc::new(cloudflared)),
    })
}

/// The name of the processor, as Go has it.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The tables of these rules, for a connector with this many cores. Without rules every call is answered with 503.
///
/// # Errors
///
/// The first fault.
pub(in crate::process) fn cloudflared_tables(
    ingress: Option<&CloudflaredIngress>,
    cores: usize,
    trust: &mut UpstreamTrust,
) -> Result<ConnectorTables, IngressFault> {
    let fault = |place: String, why: String| IngressFault { place, why };
    let allowed = Arc::new(allowed());
    let target = |nth: usize, rule: &CloudflaredRule| {
        let place = |key: &str| format!("ingress[{nth}].{key}");
        Ok(match &rule.service {
            CloudflaredService::Status(status) => IngressTarget::Answer(FixedAnswer { status: *status, body: "" }),
            CloudflaredService::HelloWorld => IngressTarget::Answer(FixedAnswer { status: 200, body: HELLO_WORLD }),
            CloudflaredService::Http(url) => {
                let http2 = rule.origin.http2_origin == Some(true);
                let ca_file = rule.origin.ca_pool.as_deref().map(Path::new);
                let tls = url.is_tls().then(|| trust.config("caPool", ca_file, http2)).transpose();
                let tls = tls.map_err(|error| fault(place("originRequest.caPool"), error.to_string()))?;
                let name: RouteName = format!("ingress-{nth}")
                    .parse()
                    .map_err(|_| fault(place("service"), "it has no name".to_owned()))?;
                let upstream = UpstreamSettings { tls, ..upstream(url, rule, cores, &allowed) };
                IngressTarget::Server(Box::new(route(name, rule, upstream)))
            }
        })
    };
    let ingress = match ingress {
        Some(ingress) => ingress.table(target)?,
        None => IngressTable::new(vec![(Default::default(), IngressTarget::Answer(NO_RULES))])
            .map_err(|error| fault("ingress".to_owned(), error.to_string()))?,
    };
    Ok(ConnectorTables { routes: RouteTable::default(), ingress: Some(ingress), sealing: None })
}

fn upstream(
    url: &UpstreamUrl,
    rule: &CloudflaredRule,
    cores: usize,
    allowed: &Arc<AllowedUpstreams>,
) -> UpstreamSettings {
    let origin = &rule.origin;
    let connections = origin.keep_alive_connections.unwrap_or_default().clamp(CONNECTIONS_MAX, 65_536);
    UpstreamSettings {
        url: url.clone(),
        tls: None,
        connections_max: (connections as usize).div_ceil(cores.max(1)),
        connect_timeout: origin.connect_timeout.unwrap_or(CONNECT_TIMEOUT),
        refused_wait: Duration::ZERO,
        idle_timeout: origin.keep_alive_timeout.unwrap_or(KEEP_ALIVE_TIMEOUT),
        silence_max: SILENCE_MAX,
        acknowledged_within: ACKNOWLEDGED_WITHIN,
        queue_timeout: UPSTREAM_QUEUE_TIMEOUT,
        allowed: Arc::clone(allowed),
        stdio: None,
        bridge: None,
        entry: None,
    }
}

/// The route of a rule. Who may call is the edge's matter, and so are deadlines.
fn route(name: RouteName, rule: &CloudflaredRule, upstream: UpstreamSettings) -> ConnectorRoute {
    let upstream_host = rule.origin.http_host_header.as_deref().map(Into::into);
    ConnectorRoute {
        name,
        upstream,
        traffic: Traffic::Plain,
        identity: RouteIdentity { upstream_host, keeps_host: true, ..RouteIdentity::default() },
        first_byte_timeout: None,
        sends_timeout: false,
        client_timeout: None,
        resend: None,
        auth: None,
        policy: None,
        deadlines: DeadlineTerms::default(),
        breaker: BreakerTerms::default(),
        concurrency: ConcurrencyTerms::default(),
        tools: Arc::default(),
    }
}

/// The operator names the servers, so any address is allowed. This does not include metadata services of clouds and the like, which
/// a list has to name.
fn allowed() -> AllowedUpstreams {
    AllowedUpstreams::of(["0.0.0.0/0", "::/0"].into_iter().filter_map(|network| network.parse::<Network>().ok()))
}
