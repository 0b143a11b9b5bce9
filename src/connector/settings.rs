use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{BreakerTerms, ConcurrencyTerms, DeadlineTerms, HostSet, Secret, Traffic, TunnelId};
use crate::connector::edge_tls::EdgeTls;
use crate::connector::identity::RouteIdentity;
use crate::dial::Proxy;
use crate::exchange::OriginRules;
use crate::identity::RouteAuth;
use crate::latency::TaskSettings;
use crate::policy::{SafeRequests, ToolPolicy};
use crate::route::{RouteName, RouteTable, ToolOverrides};
use crate::serve::AuditLog;
use crate::tls::{ServerConfig, WallClock};
use crate::upstream::UpstreamSettings;
use crate::wire::mux;

/// The most links to one edge.
pub const LINKS_MAX: u16 = 256;

/// Where an edge accepts links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeAddress {
    /// A name or an address; IPv6 without brackets.
    pub host: Box<str>,
    /// The TCP port for connectors.
    pub port: u16,
}

impl fmt::Display for EdgeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The settings of a connector, which cannot change while it runs.
#[derive(Clone)]
pub struct ConnectorSettings {
    /// The edges. Each gets links of its own.
    pub edges: Vec<EdgeAddress>,
    /// The proxies through which edges are reached, by their place in `edges`; an edge without one is reached directly.
    pub proxies: Vec<Option<Proxy>>,
    /// Another port of each edge, which is tried when its own does not answer.
    pub edge_fallback_port: Option<u16>,
    /// TLS towards edges, for as many as there are in `edges`. Without it links are plain: for the simulation.
    pub edge_tls: Option<Arc<EdgeTls>>,
    /// The name that an edge's certificate must bear; the host that is dialled when none is given.
    pub edge_name: Option<Box<str>>,
    /// The tunnel that the connector serves.
    pub tunnel: TunnelId,
    /// The secret of that tunnel.
    pub secret: Secret,
    /// Name and version, as the edge shows them.
    pub software: String,
    /// How many links to each edge, at most [`LINKS_MAX`]. Zero for as many as the edge has cores, and at least one for
    /// each core here.
    pub links: u16,
    /// The first wait before a lost link is dialled again.
    pub backoff_min: Duration,
    /// The longest wait before a lost link is dialled again.
    pub backoff_max: Duration,
    /// How long dialling an edge may take, TLS included, all its addresses together.
    pub connect_timeout: Duration,
    /// The settings of the link protocol.
    pub link: mux::Settings,
    /// Calls that one core carries at once; what comes beyond is reset as overloaded.
    pub calls_max: usize,
    /// How long calls in flight may take after the connector was told to end.
    pub drain_timeout: Duration,
    /// How long an upstream may take nothing of what waits to be sent to it, before the call is ended.
    pub write_timeout: Duration,
    /// How long the head of a request on an inner TLS session may take from its first byte.
    pub header_timeout: Duration,
    /// How long an inner TLS session may lie unused.
    pub idle_timeout: Duration,
    /// After how much silence a comment is sent on an event stream to an agent whose TLS ends here; never, if none.
    pub sse_keepalive: Option<Duration>,
    /// Which web pages may call where their TLS ends here, and what their browsers are told.
    pub origins: Arc<OriginRules>,
    /// How many of the last calls of each kind are kept on each core, see [`CallLog`](crate::latency::CallLog).
    pub calls_kept: usize,
    /// How often a request is sent again on another connection, at the most.
    pub retries_max: u32,
    /// How the calls of agents whose TLS ends here are added up by their tasks.
    pub tasks: TaskSettings,
    /// Where calls are written, if they are.
    pub audit: Option<AuditLog>,
    /// The clock by which tokens are checked.
    pub clock: WallClock,
}

#[cfg(feature = "internals")]
impl ConnectorSettings {
    /// A connector for tests and benches, which opens links to one edge, without TLS.
    #[must_use]
    pub fn for_tests(edge: std::net::SocketAddr, tunnel: TunnelId, secret: Secret) -> ConnectorSettings {
        ConnectorSettings {
            edges: vec![EdgeAddress { host: edge.ip().to_string().into(), port: edge.port() }],
            proxies: Vec::new(),
            edge_fallback_port: None,
            edge_tls: None,
            edge_name: None,
            tunnel,
            secret,
            software: "test".to_owned(),
            links: 0,
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            link: mux::Settings::default(),
            calls_max: 1_000,
            drain_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(60),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(120),
            sse_keepalive: None,
            origins: Arc::default(),
            calls_kept: 1_000,
            retries_max: 2,
            tasks: TaskSettings { tasks_max: 1_000, ..TaskSettings::default() },
            audit: None,
            clock: WallClock::default(),
        }
    }
}

/// The route of one host.
#[derive(Clone)]
pub struct ConnectorRoute {
    /// The name of the route in reports and logs. The connections are kept under this name: routes with different
    /// upstreams should not share one.
    pub name: RouteName,
    /// The upstream, and how its connections are kept on each core.
    pub upstream: UpstreamSettings,
    /// How its calls are carried. Calls that come otherwise are refused.
    pub traffic: Traffic,
    /// How its upstream is addressed, and what it is told of the address that agents call.
    pub identity: RouteIdentity,
    /// How long the upstream may take to begin its answer to a call of an edge, whose own limit applies without it.
    pub first_byte_timeout: Option<Duration>,
    /// Whether the upstream is told how long the caller still waits, where that is known.
    pub sends_timeout: bool,
    /// How long agents whose TLS ends here wait for an answer that do not say so themselves.
    pub client_timeout: Option<Duration>,
    /// Which POST requests may run twice, if the owner of the route trusts its server in this.
    pub resend: Option<Arc<SafeRequests>>,
    /// What it asks of its callers; none if that is the server's affair.
    pub auth: Option<Arc<RouteAuth>>,
    /// Which caller may call which of its tools.
    pub policy: Option<Arc<ToolPolicy>>,
    /// The deadlines of calls of agents whose TLS ends here. Their ceiling is how long the upstream may take to begin an answer; a
    /// GET, which waits for events, is not bounded.
    pub deadlines: DeadlineTerms,
    /// When calls of these agents are refused because others fail.
    pub breaker: BreakerTerms,
    /// How many of these calls may be in flight at one time.
    pub concurrency: ConcurrencyTerms,
    /// What single tools have in place of these terms.
    pub tools: Arc<[ToolOverrides]>,
}

impl ConnectorRoute {
    /// The deadlines of the calls of agents whose TLS ends here, or of those of a tool.
    pub(super) fn deadlines_of(&self, tool: Option<&str>) -> DeadlineTerms {
        self.own(tool).map_or(self.deadlines, |own| self.deadlines.with(&own.deadlines))
    }

    /// When these are refused because others fail.
    pub(super) fn breaker_of(&self, tool: Option<&str>) -> BreakerTerms {
        self.own(tool).map_or(self.breaker, |own| self.breaker.with(&own.breaker))
    }

    /// The price of a call of this tool, in millionths of a unit.
    pub(super) fn price_of(&self, tool: Option<&str>) -> u64 {
        self.own(tool).map_or(0, |own| own.price)
    }

    /// Whether it has to be known what these calls call before they are passed on.
    pub(super) fn needs_label(&self) -> bool {
        let is_enforced = self.deadlines.is_enforced() || self.breaker.is_enforced();
        is_enforced || self.tools.iter().any(ToolOverrides::needs_label)
    }

    fn own(&self, tool: Option<&str>) -> Option<&ToolOverrides> {
        tool.and_then(|tool| self.tools.iter().find(|own| *own.tool == *tool))
    }
}

/// The TLS configurations for inner sessions.
#[derive(Clone)]
pub struct Sealing {
    /// Towards agents whose TLS ends in this connector.
    pub passthrough: Arc<ServerConfig>,
    /// The same for routes whose agents are asked for a certificate.
    pub passthrough_asking: Arc<ServerConfig>,
    /// Towards edges, which have to show a certificate.
    pub resealed: Arc<ServerConfig>,
}

/// The routes of a connector. Replaced as a whole when the configuration is reloaded.
///
/// The connections of a route whose settings are the same afterwards live on. TLS configurations are compared by
/// identity: whoever makes the new table keeps the `Arc` of what did not change.
#[derive(Default)]
pub struct ConnectorTables {
    /// Which upstream serves which host.
    pub routes: RouteTable<ConnectorRoute>,
    /// TLS for routes with inner sessions; without it their calls are refused.
    pub sealing: Option<Sealing>,
}

impl ConnectorTables {
    /// The hosts for which there are routes.
    pub(super) fn hosts(&self) -> HostSet {
        self.routes.iter().map(|(host, _)| *host).collect()
    }
}
