use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{BreakerTerms, ConcurrencyTerms, DeadlineTerms, HostSet, SharedMap, TunnelId};
use crate::edge::agent_routes::AgentRoutes;
use crate::edge::certify::Certifier;
use crate::edge::credential::TunnelEntry;
use crate::engine::driver::SocketOptions;
use crate::exchange::OriginRules;
use crate::latency::{LatencySettings, SlowCallSettings, TaskSettings};
use crate::policy::{Admission, Networks};
use crate::route::{HostPattern, PublicUrl, RouteOverrides, RouteTable};
use crate::serve::AuditLog;
use crate::tls::{ServerConfig, WallClock};
use crate::wire::mux;

/// Which agents may use plain HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainHttp {
    /// Plain HTTP is refused from everywhere.
    Never,
    /// Only agents that connect over loopback, even if a proxy there names another address.
    Loopback,
    /// Plain HTTP is allowed from everywhere.
    Anywhere,
}

/// The settings of an edge, which cannot change while it runs.
#[derive(Clone)]
pub struct EdgeSettings {
    /// Where agents connect. Port 0 is not possible: every core listens at the same port.
    pub agents_listen: SocketAddr,
    /// TLS towards agents. Without it only plain HTTP is spoken.
    pub agents_tls: Option<Arc<ServerConfig>>,
    /// The same for hosts whose agents are asked for a certificate.
    pub agents_tls_asking: Option<Arc<ServerConfig>>,
    /// Which agents may use plain HTTP.
    pub plain_http: PlainHttp,
    /// Whether agents may speak HTTP/2: with TLS as ALPN chooses, without it if they begin so.
    pub http2: bool,
    /// The address at which connectors connect.
    pub connectors_listen: SocketAddr,
    /// Whether they may connect where agents do as well. They are known by the application protocol of their TLS.
    pub connectors_on_agents_listen: bool,
    /// TLS towards connectors at the start. Without it links are plain: for the simulation.
    pub connectors_tls: Option<Arc<ServerConfig>>,
    /// Issues certificates for connectors. With it every link requires one; without it the secret is enough.
    pub certifier: Option<Certifier>,
    /// The wall clock, sent to connectors in case theirs is wrong.
    pub clock: WallClock,
    /// The settings of the link protocol.
    pub link: mux::Settings,
    /// Which web pages may call, and what their browsers are told.
    pub origins: Arc<OriginRules>,
    /// The URL by which agents reach the edge; none if it is that of their connection.
    pub public: Option<PublicUrl>,
    /// The proxies whose `X-Forwarded-Proto` and `X-Forwarded-Host` are trusted.
    pub trusted_proxies: Networks,
    /// Connections of agents that one core serves at once.
    pub connections_max: usize,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// How long a request's head may take from its first byte.
    pub header_timeout: Duration,
    /// How long a connection of an agent may be idle.
    pub idle_timeout: Duration,
    /// The deadlines of calls. Their ceiling is how long the upstream may take to begin an answer; a GET, which waits for events,
    /// is not bounded.
    pub deadlines: DeadlineTerms,
    /// When calls are refused because others fail.
    pub breaker: BreakerTerms,
    /// How many calls of a route may be in flight at one time.
    pub concurrency: ConcurrencyTerms,
    /// After how much silence a comment is sent on an event stream; never, if none.
    pub sse_keepalive: Option<Duration>,
    /// How long a call waits for a connector that is offline.
    pub offline_wait: Duration,
    /// How long it waits, before that, for the end of one that is ending.
    pub restart_wait: Duration,
    /// How long a connector may owe a sign of life before the connections that are passed through to it and wait are ended, if
    /// another connector answers.
    pub stalled_connector_timeout: Duration,
    /// How long an MCP session may be idle until the edge forgets which connector has it.
    pub session_idle_timeout: Duration,
    /// How long calls in flight may take after the edge was told to end.
    pub drain_timeout: Duration,
    /// How long an agent may take nothing of what waits to be sent to it, or send nothing of a body that it has begun, before
    /// its call is ended.
    pub write_timeout: Duration,
    /// How the times of calls are recorded.
    pub latency: LatencySettings,
    /// Which calls are logged as slow.
    pub slow_calls: SlowCallSettings,
    /// How many of the last calls of each kind are kept on each core, see [`CallLog`](crate::latency::CallLog).
    pub calls_kept: usize,
    /// How often a call that a connector did not pass on is opened again, at the most.
    pub retries_max: u32,
    /// How the calls of one task are told, and what they cost.
    pub tasks: TaskSettings,
    /// Where calls are written, if they are.
    pub audit: Option<AuditLog>,
}

impl EdgeSettings {
    /// How the socket of an agent is set up. A host that answers nothing has a quarter more time than one that does not read,
    /// so that the two are told apart.
    pub(super) fn agent_socket(&self) -> SocketOptions {
        SocketOptions { silence_max: Some(self.write_timeout * 5 / 4), ..SocketOptions::default() }
    }
}

#[cfg(feature = "internals")]
impl EdgeSettings {
    /// An edge for tests and benches, which listens so, without TLS and for plain HTTP from anywhere.
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
        }
    }
}

/// What an edge serves. Each version takes the place of the one before as a whole; versions share what they have in common.
#[derive(Clone)]
pub struct EdgeTables {
    /// Which tunnel serves which host.
    pub routes: AgentRoutes,
    /// Settings of hosts that differ from those of the edge, for whatever routes they get.
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

    /// The same of a host of this tunnel.
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

    /// The hosts of a tunnel.
    pub(super) fn hosts_of(&self, tunnel: &TunnelId) -> HostSet {
        self.tunnels.get(tunnel).map(|entry| entry.hosts.clone()).unwrap_or_default()
    }
}
