use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{BreakerTerms, ConcurrencyTerms, DeadlineTerms, HostSet, SharedMap, TunnelId};
use crate::edge::agent_routes::AgentRoutes;
use crate::edge::certify::Certifier;
use crate::edge::credential::TunnelEntry;
use crate::engine::LocalEntry;
use crate::engine::driver::SocketOptions;
use crate::exchange::OriginRules;
use crate::latency::{LatencySettings, SlowCallSettings, TaskSettings, TraceQueue};
use crate::policy::{Admission, Networks};
use crate::route::{HostPattern, PublicUrl, RouteOverrides, RouteTable};
use crate::serve::AuditLog;
use crate::tls::{ServerConfig, WallClock};
use crate::wire::mux;
use crate::wire::quic::QuicKeys;

/// Which agents may use plain HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainHttp {
    /// Plain HTTP is refused from everywhere.
    Never,
    /// Only connections over loopback are allowed, even if a proxy there names another address.
    Loopback,
    /// Plain HTTP is allowed from everywhere.
    Anywhere,
}

/// Where connectors connect in the protocol of cloudflared.
#[derive(Clone)]
pub struct CloudflaredListener {
    /// The address at which they connect.
    pub address: SocketAddr,
    /// TLS towards them, with a certificate for the names that they expect.
    pub tls: Arc<ServerConfig>,
}

/// The settings of an edge, which cannot change while it runs.
#[derive(Clone)]
pub struct EdgeSettings {
    /// The address at which agents connect. Port 0 is not possible, because every core listens on the same port.
    pub agents_listen: SocketAddr,
    /// TLS towards agents. Without it only plain HTTP is served.
    pub agents_tls: Option<Arc<ServerConfig>>,
    /// The same for hosts whose agents are asked for a certificate.
    pub agents_tls_asking: Option<Arc<ServerConfig>>,
    /// Which agents may use plain HTTP.
    pub plain_http: PlainHttp,
    /// Whether agents may use HTTP/2: with TLS by ALPN, without TLS by its preface.
    pub http2: bool,
    /// The address at which connectors connect.
    pub connectors_listen: SocketAddr,
    /// Whether they may also connect to the agents' port. They are recognised by ALPN.
    pub connectors_on_agents_listen: bool,
    /// Where connectors connect in the protocol of cloudflared, if they may.
    pub cloudflared: Option<CloudflaredListener>,
    /// The keys of QUIC, if connectors may also connect over QUIC, at the same port.
    pub quic: Option<QuicKeys>,
    /// TLS towards connectors at the start. Without it links are plain, for the simulation.
    pub connectors_tls: Option<Arc<ServerConfig>>,
    /// Issues certificates for connectors. With it every link requires one; without it the secret is enough.
    pub certifier: Option<Certifier>,
    /// The wall clock, sent to connectors in case theirs is wrong.
    pub clock: WallClock,
    /// The settings of the link protocol.
    pub link: mux::Settings,
    /// Which web pages may call, and the CORS fields for browsers.
    pub origins: Arc<OriginRules>,
    /// The public URL of the edge; none if it is that of the agents' connections.
    pub public: Option<PublicUrl>,
    /// The proxies whose `X-Forwarded-Proto` and `X-Forwarded-Host` are trusted.
    pub trusted_proxies: Networks,
    /// The most agents' connections of one core.
    pub connections_max: usize,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// How long a request's head may take from its first byte.
    pub header_timeout: Duration,
    /// How long a connection of an agent may be idle.
    pub idle_timeout: Duration,
    /// The deadlines of calls. Their ceiling is the limit for the first byte of an answer. A GET, which waits for
    /// events, has none.
    pub deadlines: DeadlineTerms,
    /// The terms of the circuit breakers.
    pub breaker: BreakerTerms,
    /// The limits of a route's calls in flight.
    pub concurrency: ConcurrencyTerms,
    /// After how much silence a comment is sent on an event stream; none to send none.
    pub sse_keepalive: Option<Duration>,
    /// How long a call waits for a connector that is offline.
    pub offline_wait: Duration,
    /// How long it waits before that while a connector drains.
    pub restart_wait: Duration,
    /// After how long without a sign of life from a connector its waiting passthrough connections are ended, if another
    /// connector responds.
    pub stalled_connector_timeout: Duration,
    /// How long an MCP session may be idle before the edge forgets its connector.
    pub session_idle_timeout: Duration,
    /// How long calls in flight may take after a drain began.
    pub drain_timeout: Duration,
    /// How long an agent may stop reading its answer, or stop sending its body, before its call is ended.
    pub write_timeout: Duration,
    /// How the times of calls are recorded.
    pub latency: LatencySettings,
    /// Which calls are logged as slow.
    pub slow_calls: SlowCallSettings,
    /// How many of the last calls of each kind are kept on each core, see [`CallLog`](crate::latency::CallLog).
    pub calls_kept: usize,
    /// The most retries of a call that a connector did not pass on.
    pub retries_max: u32,
    /// How the calls of a task are recognised, and their prices.
    pub tasks: TaskSettings,
    /// The audit log for calls, if there is one.
    pub audit: Option<AuditLog>,
    /// The calls whose spans are exported, if traces are.
    pub traces: Option<Arc<TraceQueue>>,
    /// The ways in for a connector of this process, one for each core.
    pub local_links: Option<Arc<[LocalEntry]>>,
}

impl EdgeSettings {
    /// The options of an agent's socket. A host that does not respond at all has a quarter more time than an agent that
    /// does not read, so that the two can be distinguished.
    pub(super) fn agent_socket(&self) -> SocketOptions {
        SocketOptions { silence_max: Some(self.write_timeout * 5 / 4), ..SocketOptions::default() }
    }
}

#[cfg(feature = "internals")]
impl EdgeSettings {
    /// Settings for tests and benches, with these addresses, without TLS, and with plain HTTP from anywhere.
    #[must_use]
    pub fn for_tests(agents_listen: SocketAddr, connectors_listen: SocketAddr) -> EdgeSettings {
        EdgeSettings {
            agents_listen,
            agents_tls: None,
            agents_tls_asking: None,
            plain_http: PlainHttp::Anywhere,
            http2: true,
            connectors_listen,
            connectors_on_agents_listen: false,
            cloudflared: None,
            quic: None,
            connectors_tls: None,
            certifier: None,
            clock: WallClock::default(),
            link: mux::Settings::default(),
            origins: Arc::default(),
            public: None,
            trusted_proxies: Networks::default(),
            connections_max: 1_000,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            deadlines: DeadlineTerms::default(),
            breaker: BreakerTerms::default(),
            concurrency: ConcurrencyTerms::default(),
            sse_keepalive: None,
            offline_wait: Duration::from_secs(2),
            restart_wait: Duration::from_secs(30),
            stalled_connector_timeout: Duration::from_secs(5),
            session_idle_timeout: Duration::from_secs(3_600),
            drain_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(60),
            latency: LatencySettings::default(),
            slow_calls: SlowCallSettings::default(),
            calls_kept: 1_000,
            retries_max: 2,
            tasks: TaskSettings { tasks_max: 1_000, ..TaskSettings::default() },
            audit: None,
            traces: None,
            local_links: None,
        }
    }
}

/// The tables of an edge. Each version replaces the previous one as a whole; versions share unchanged parts.
#[derive(Clone)]
pub struct EdgeTables {
    /// Which tunnel serves which host.
    pub routes: AgentRoutes,
    /// Settings of hosts that differ from those of the edge, for any route of the host.
    pub hosts: RouteTable<RouteOverrides>,
    /// The tunnels by their ids, and how connectors may register for them.
    pub tunnels: SharedMap<TunnelId, TunnelEntry>,
    /// The admission rules for agents and connectors.
    pub admission: Admission,
}

impl EdgeTables {
    /// The settings of a host that differ from those of the edge.
    #[must_use]
    pub fn overrides(&self, host: &HostPattern) -> RouteOverrides {
        let found = match host {
            HostPattern::Exact(host) => self.hosts.lookup(host),
            HostPattern::Wildcard(_) => self.hosts.get(host),
        };
        found.cloned().unwrap_or_default()
    }

    /// Like [`EdgeTables::overrides`], for a host of this tunnel.
    #[must_use]
    pub fn overrides_in(&self, host: &HostPattern, tunnel: &TunnelId) -> RouteOverrides {
        let found = self.overrides(host);
        if let Some(policy) = &found.policy {
            policy.be_of(tunnel.as_str());
        }
        found
    }

    /// Enters the hosts of the routes with their tunnels.
    pub fn enter_hosts(&mut self) {
        let mut by_tunnel: HashMap<&TunnelId, Vec<HostPattern>> = HashMap::new();
        for (host, route) in self.routes.iter() {
            by_tunnel.entry(&route.tunnel).or_default().push(*host);
        }
        for (tunnel, hosts) in by_tunnel {
            if let Some(entry) = self.tunnels.get_mut(tunnel) {
                entry.hosts = hosts.into_iter().collect();
            }
        }
    }

    /// The service for connectors of cloudflared of a tunnel, if this edge sends it.
    pub(super) fn cloudflared_service(&self, tunnel: &TunnelId) -> Option<&Arc<str>> {
        self.tunnels.get(tunnel)?.cloudflared_service.as_ref()
    }

    /// The hosts of a tunnel.
    pub(super) fn hosts_of(&self, tunnel: &TunnelId) -> HostSet {
        self.tunnels.get(tunnel).map(|entry| entry.hosts.clone()).unwrap_or_default()
    }
}
