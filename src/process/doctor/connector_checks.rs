use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HOST, HeaderMap, HeaderValue};
use reqwest::{Client, ClientBuilder};
use rustls_pki_types::UnixTime;
use tokio::time::{sleep, timeout};

use crate::base::{Clock, Secret, TunnelId, TunnelToken};
use crate::config::{Config, ConnectConfig, HostPort, RouteConfig, Transport, UpstreamNetwork};
use crate::connector::{Connector, ConnectorCommand, ConnectorEvent, ConnectorTables, EdgeAddress, EdgeView};
use crate::control::{micros, serve_resolves};
use crate::engine::{Cores, EngineSettings, MonotonicClock, mailbox};
use crate::policy::AllowedUpstreams;
use crate::process::connector_process::PreparedConnector;
use crate::process::doctor::certificate::{check_certificate, shake_hands};
use crate::process::doctor::client::http_client;
use crate::process::doctor::clock::check_clock_skew;
use crate::process::doctor::finding::Findings;
use crate::process::doctor::limits::file_limit;
use crate::process::doctor::mcp::{McpTarget, check_mcp, check_origin};
use crate::process::doctor::reach::{check_dns, check_tcp, check_udp};
use crate::process::error::RunError;
use crate::process::random::random_number;
use crate::process::settings::{
    UpstreamTrust, child_of, connector_settings, connector_tables, credentials, edge_addresses, edge_roots,
    engine_settings, fallback_port, route_addresses, seal_ca, sealing,
};
use crate::process::stdio_confinement::check_confinement;
use crate::route::{RouteName, UpstreamAddr};
use crate::tls::{ALPN_LINK, CertInfo, ClientSettings, Versions, client_config};
use crate::wire::http1::OriginEdit;

/// How long a link may take to come up, including all steps before it.
const LINK_TIMEOUT: Duration = Duration::from_secs(15);
/// How long an edge may take to send the tunnel's hosts, once a link is up.
const HOSTS_TIMEOUT: Duration = Duration::from_secs(5);
/// How often to check whether the hosts have arrived.
const HOSTS_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The MCP server of a route, as called from this machine.
pub(super) struct RouteUpstream {
    pub(super) host: String,
    pub(super) client: Client,
    pub(super) url: String,
}

/// Checks everything that a connector depends on, and returns the upstreams that can be called.
pub(super) async fn check_connector(
    findings: &mut Findings,
    connect: &ConnectConfig,
    config: &Config,
    mcp_path: &str,
) -> Vec<RouteUpstream> {
    let connections = connect.routes.iter().map(|route| u64::from(route.upstream_connections_max)).sum();
    file_limit(findings, connections);
    match credentials(connect) {
        Ok(credentials) => edges(findings, connect, config, credentials).await,
        Err(faults) => findings.add_faults("edge.link", &faults),
    }
    seal(findings, connect);
    let allowed = UpstreamNetwork::allowed(&connect.allowed_upstreams);
    let mut upstreams = Vec::new();
    for route in &connect.routes {
        upstreams.extend(upstream(findings, route, &allowed, mcp_path).await);
    }
    upstreams
}

/// Checks the certificate for sealed routes, or the authority that signs it.
fn seal(findings: &mut Findings, connect: &ConnectConfig) {
    const CHECK: &str = "seal.certificate";
    if connect.sealed_hosts().next().is_none() {
        return;
    }
    let own = seal_ca(connect);
    let Some(file) = connect.seal_cert_file.as_ref().or(own.as_ref()) else { return };
    if own.is_some() && !file.exists() {
        return findings.ok(CHECK, format!("{} is made when the connector starts", file.display()));
    }
    let cert = std::fs::read(file).ok().and_then(|pem| CertInfo::of_pem((&file.display().to_string(), &pem)).ok());
    match cert {
        // The certificate of an authority has no hosts, so the hosts that it signs for are reported.
        Some(cert) if own.is_some() => {
            let cert = CertInfo { names: connect.sealed_hosts().collect(), ..cert };
            check_certificate(findings, CHECK, &file.display().to_string(), &cert, UnixTime::now());
        }
        Some(cert) => check_certificate(findings, CHECK, &file.display().to_string(), &cert, UnixTime::now()),
        None => {
            findings.fail_without_remedy(CHECK, format!("{} holds no certificate that can be read", file.display()))
        }
    }
}

/// Checks whether the edges can be reached and accept this connector.
async fn edges(findings: &mut Findings, connect: &ConnectConfig, config: &Config, credentials: TunnelToken) {
    let mut reachable = false;
    for edge in &connect.edge {
        reachable |= reach(findings, connect, edge, &credentials.secret).await;
    }
    if reachable {
        link(findings, connect, config, credentials).await;
    }
}

/// Checks whether an edge can be reached and has a trusted certificate.
async fn reach(findings: &mut Findings, connect: &ConnectConfig, edge: &HostPort, secret: &Secret) -> bool {
    if let Some(proxy) = connect.proxy_for(edge) {
        // The proxy resolves and dials the edge, so neither can be tested from here. The link test uses the proxy.
        findings.ok("edge.proxy", format!("{edge} is reached through the proxy {proxy}"));
        return true;
    }
    let addresses = check_dns(findings, "edge.dns", &edge.host, edge.port).await;
    if addresses.is_empty() {
        return false;
    }
    let mut address = check_tcp(findings, "edge.tcp", &addresses).await;
    check_udp(findings, "edge.udp", address.unwrap_or(addresses[0])).await;
    if let Some(port) = fallback_port(connect).filter(|port| address.is_none() && *port != edge.port) {
        let others: Vec<SocketAddr> = addresses.iter().map(|address| SocketAddr::new(address.ip(), port)).collect();
        address = check_tcp(findings, "edge.fallback", &others).await;
    }
    let Some(address) = address else { return false };
    let roots = match edge_roots(connect, secret) {
        Ok(roots) => roots,
        Err(faults) => {
            findings.add_faults("edge.certificate", &faults);
            return false;
        }
    };
    let alpn = vec![ALPN_LINK.to_vec()];
    let settings = ClientSettings { roots, alpn, versions: Versions::Tls13, ..ClientSettings::default() };
    let name = connect.edge_name.map_or_else(|| edge.host.to_string(), |name| name.as_str().to_owned());
    let handshake = match client_config(settings) {
        Ok(config) => shake_hands(address, name.trim_matches(['[', ']']), config).await,
        Err(error) => Err(error.to_string()),
    };
    match handshake {
        Ok(handshake) => {
            let what = format!("{edge} as {name}, {}", handshake.version);
            check_certificate(findings, "edge.certificate", &what, &handshake.cert, UnixTime::now());
        }
        Err(why) => findings.fail_without_remedy("edge.certificate", format!("{edge} as {name}: {why}")),
    }
    true
}

/// Opens one link to each edge, as the connector does, to see whether it is accepted. Calls that arrive on it are
/// served.
async fn link(findings: &mut Findings, connect: &ConnectConfig, config: &Config, credentials: TunnelToken) {
    let mut trust = UpstreamTrust::default();
    if let Err(faults) = trust.policies.begin(&config.identity) {
        return findings.add_faults("identity", &faults);
    }
    let ready = match ready(connect, &mut trust, credentials) {
        Ok(ready) => ready,
        Err(error) => return findings.add_error("edge.link", &error),
    };
    let one = EngineSettings { cores: 1, pin: false, ..engine_settings(&config.engine) };
    trust.policies.put_in_force();
    let cores = match Cores::start(&one, ready.on_core()) {
        Ok(cores) => cores,
        Err(error) => return findings.fail_without_remedy("edge.link", error.to_string()),
    };
    let PreparedConnector { connector, mut events, resolves, .. } = ready;
    let resolving = tokio::spawn(serve_resolves(resolves));
    let began = MonotonicClock.now();
    let mut waiting = connect.edge.len();
    let mut linked = Vec::new();
    let reported = timeout(LINK_TIMEOUT, async {
        while waiting > 0
            && let Some(event) = events.recv().await
        {
            if let ConnectorEvent::Linked { edge, .. } = &event {
                linked.push(edge.clone());
            }
            waiting -= usize::from(add_event(findings, connector.tunnel(), event, MonotonicClock.now() - began));
        }
    });
    if reported.await.is_err() {
        findings.fail("edge.link", "no link was established in time", "look at the log of the edge");
    }
    for view in connector.edges() {
        if let Some(skew) = view.clock_skew {
            check_clock_skew(findings, "edge.clock", &view.edge.to_string(), skew.ahead, skew.by);
        }
    }
    // An edge sends the tunnel's hosts right after the handshake.
    let all_hosts = async {
        let is_told = |view: &EdgeView| view.missing.is_some() || !linked.contains(&view.edge);
        while !connector.edges().iter().all(is_told) {
            sleep(HOSTS_POLL_INTERVAL).await;
        }
    };
    // Edges that have sent nothing by then are reported below.
    let _ = timeout(HOSTS_TIMEOUT, all_hosts).await;
    for view in connector.edges().iter().filter(|view| linked.contains(&view.edge)) {
        hosts(findings, connect, connector.tunnel(), view);
    }
    transports(findings, connect, &connector).await;
    connector.command(|| ConnectorCommand::Drain);
    let ended = tokio::task::spawn_blocking(move || cores.join()).await;
    if !matches!(ended, Ok(Ok(()))) {
        findings.warn("edge.link", "the trial link was not closed cleanly", "look at the log of the edge");
    }
    resolving.abort();
}

/// Says which transport each trial link uses, and what is known of its path.
async fn transports(findings: &mut Findings, connect: &ConnectConfig, connector: &Connector) {
    const CHECK: &str = "edge.transport";
    let (sender, mut reports) = mailbox(1);
    connector.command(|| ConnectorCommand::Report(sender.clone()));
    drop(sender);
    let Ok(Some(report)) = timeout(HOSTS_TIMEOUT, reports.recv()).await else { return };
    let is_behind_proxy = |edge: &EdgeAddress| {
        connect.edge.iter().any(|of| {
            (of.host.to_string(), of.port) == (edge.host.to_string(), edge.port) && connect.proxy_for(of).is_some()
        })
    };
    for link in &report.links {
        let edge = &link.edge;
        match link.quic {
            Some(path) => findings.ok(
                CHECK,
                format!(
                    "{edge} over QUIC: round trip {:.1} ms, {} of {} packets lost, datagrams of {} bytes, {} ECN",
                    path.round_trip.as_secs_f64() * 1e3,
                    path.packets_lost,
                    path.packets_sent,
                    path.mtu,
                    if path.has_ecn { "with" } else { "without" }
                ),
            ),
            None if connect.transport == Transport::Auto && !is_behind_proxy(edge) => findings.warn(
                CHECK,
                format!("{edge} over TCP, because QUIC did not answer at once"),
                "allow UDP to this port, or set `connect.transport = \"tcp\"`",
            ),
            None => findings.ok(CHECK, format!("{edge} over TCP")),
        }
    }
}

/// Checks whether the tunnel has the host of each route, as an edge reports it.
fn hosts(findings: &mut Findings, connect: &ConnectConfig, tunnel: &TunnelId, view: &EdgeView) {
    const CHECK: &str = "edge.hosts";
    let edge = &view.edge;
    let Some(missing) = &view.missing else {
        let found = format!("{edge} has not said which hosts {tunnel} has");
        return findings.warn(CHECK, found, "run the same version of adit on both sides");
    };
    if missing.left_out > 0 {
        return findings.ok(CHECK, format!("{tunnel} has too many hosts at {edge} to compare them with the routes"));
    }
    for route in &connect.routes {
        let host = route.host.to_string();
        if missing.hosts.iter().any(|missing| missing == host) {
            findings.fail(
                CHECK,
                format!("{tunnel} does not have the host {host} at {edge}, so no calls come for its route"),
                missing.remedy.clone(),
            );
        } else {
            findings.ok(CHECK, format!("{tunnel} has the host {host} at {edge}"));
        }
    }
}

/// Prepares a connector of one core with one link to each edge. It enrols for a certificate of its own, which also
/// tests the enrolment and leaves the real connector's certificates alone.
fn ready(
    connect: &ConnectConfig,
    trust: &mut UpstreamTrust,
    credentials: TunnelToken,
) -> Result<PreparedConnector, RunError> {
    let sealed = connect;
    let connect = ConnectConfig { state_dir: None, ..connect.clone() };
    let roots = edge_roots(&connect, &credentials.secret)?;
    let mut settings = connector_settings(&connect, edge_addresses(&connect), roots, credentials)?;
    settings.links = 1;
    settings.drain_timeout = LINK_TIMEOUT;
    let callers = settings.edge_tls.as_ref().map(|tls| Arc::clone(tls.callers())).unwrap_or_default();
    // A second one beside that of the real connector might do harm.
    trust.starts_no_children = true;
    // Calls may arrive while the trial link is up.
    let sealing = sealing(sealed, &callers)?;
    let tables = ConnectorTables { sealing, ..connector_tables(&connect, 1, trust, RouteName::of_host)? };
    Ok(PreparedConnector::new(settings, tables, 1, random_number()?))
}

/// Adds the finding for an event. Returns true if nothing more is expected of this edge.
fn add_event(findings: &mut Findings, tunnel: &TunnelId, event: ConnectorEvent, took: Duration) -> bool {
    const CHECK: &str = "edge.link";
    match event {
        ConnectorEvent::Linked { edge, .. } => {
            findings.ok(CHECK, format!("{edge} accepts this connector as {tunnel} ({:.0} µs)", micros(took)));
        }
        ConnectorEvent::Refused { edge, why, .. } => findings.fail(
            CHECK,
            format!("{edge} refuses this connector as {tunnel}: {why}"),
            "compare connect.tunnel and the secret, or the token, with what the edge has; a rotated or revoked secret must be replaced",
        ),
        ConnectorEvent::Failed { edge, why } => findings.fail_without_remedy(CHECK, format!("{edge}: {why}")),
        ConnectorEvent::Certified { edge, lifetime, .. } => {
            findings.ok("edge.enrolment", format!("{edge} issues certificates, each valid for {} s", lifetime.as_secs()));
            return false;
        }
        _ => return false,
    }
    true
}

/// Checks the upstream of a route, and returns it if it can be called.
async fn upstream(
    findings: &mut Findings,
    route: &RouteConfig,
    allowed: &AllowedUpstreams,
    mcp_path: &str,
) -> Option<RouteUpstream> {
    let url = &route.upstream;
    let mut socket = None;
    let mut address: Option<SocketAddr> = None;
    let scheme = if url.is_tls() { "https" } else { "http" };
    let base = format!("{scheme}://{}", url.authority());
    match url.addr() {
        UpstreamAddr::Unix { path } => {
            socket = Some(std::path::PathBuf::from(&**path));
            findings.ok("upstream.address", format!("{url} for {}", route.host));
        }
        // It is not started: what it does at its start is not known.
        UpstreamAddr::Stdio => {
            let child = child_of(route, &RouteName::of_host(&route.host));
            match child.find() {
                Ok(()) => findings.ok("upstream.command", format!("{} for {}", route.command.0.join(" "), route.host)),
                Err(why) => findings.fail_without_remedy("upstream.command", why),
            }
            match check_confinement(&child.confinement) {
                Ok(()) => {
                    findings.ok("upstream.limits", format!("those of the processes for {} can be set", route.host))
                }
                Err(why) => findings.fail_without_remedy("upstream.limits", why),
            }
            return None;
        }
        UpstreamAddr::Tcp { host, port } => {
            let found = check_dns(findings, "upstream.dns", host, *port).await;
            for refused in &found {
                if let Err(why) = allowed.judge(refused.ip()) {
                    findings.fail_without_remedy("upstream.address", format!("{url} at {}: {why}", refused.ip()));
                }
            }
            address = found.into_iter().find(|address| allowed.judge(address.ip()).is_ok());
            address?;
        }
    }
    // Addressed as the connector would call it.
    let addresses = route_addresses(route);
    let host_field: HeaderMap = HeaderValue::from_str(addresses.host()).map(|host| (HOST, host)).into_iter().collect();
    let with_host = |builder: ClientBuilder| {
        let builder = builder.default_headers(host_field);
        match (url.is_http2(), route.upstream_http2) {
            (true, _) => builder.http2_prior_knowledge(),
            (false, true) => builder,
            (false, false) => builder.http1_only(),
        }
    };
    let client = http_client(route.upstream_ca_file.as_deref(), |builder| match (&socket, address, url.addr()) {
        (Some(socket), ..) => with_host(builder.unix_socket(socket.as_path())),
        (None, Some(address), UpstreamAddr::Tcp { host, .. }) => with_host(builder.resolve(host, address)),
        _ => with_host(builder),
    });
    let client = match client {
        Ok(client) => client,
        Err(why) => {
            findings.fail_without_remedy("upstream.mcp", why);
            return None;
        }
    };
    let (host, url) = (route.host.to_string(), format!("{base}{mcp_path}"));
    let target = McpTarget {
        check: "upstream.mcp",
        url: &url,
        what: format!("{url} for {host}"),
        ca_flag: Some("upstream_ca_file"),
        public_host: Some(&host),
        addresses: Some(&addresses),
    };
    let first = check_mcp(findings, &client, &target).await;
    if first.is_some_and(|first| first.status.is_success()) {
        let page = format!("https://{}", host.replace('*', "any"));
        let origin = match addresses.origin() {
            OriginEdit::Keep => Some(page.as_str()),
            OriginEdit::Drop => None,
            OriginEdit::Replace(origin) => Some(origin),
        };
        if let Some(origin) = origin {
            check_origin(findings, &client, &target, origin).await;
        }
    }
    Some(RouteUpstream { host, client, url })
}
