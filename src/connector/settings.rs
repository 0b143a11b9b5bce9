use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{BreakerTerms, ConcurrencyTerms, DeadlineTerms, HostSet, Secret, Traffic, TunnelId};
use crate::connector::cloudflared_settings::CloudflaredSettings;
use crate::connector::edge_tls::EdgeTls;
use crate::connector::identity::RouteIdentity;
use crate::dial::Proxy;
use crate::engine::LocalEntry;
use crate::exchange::OriginRules;
use crate::identity::RouteAuth;
use crate::latency::{TaskSettings, TraceQueue};
use crate::policy::{SafeRequests, ToolPolicy};
use crate::route::{Hostname, IngressTable, RouteName, RouteTable, ToolOverrides};
use crate::serve::AuditLog;
use crate::tls::{ServerConfig, WallClock};
use crate::upstream::UpstreamSettings;
use crate::wire::mux;
use crate::wire::quic::QuicKeys;

/// The most links to one edge.
pub const LINKS_MAX: u16 = 256;

/// The address at which an edge accepts links.
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

/// The transport of links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkTransport {
    /// QUIC, or TCP where QUIC does not answer at once.
    Auto,
    /// Always QUIC, without TCP.
    Quic,
    /// Always TCP, without QUIC.
    Tcp,
}

/// The settings of a connector, which cannot change while it runs.
#[derive(Clone)]
pub struct ConnectorSettings {
    /// The edges. Each gets links of its own.
    pub edges: Vec<EdgeAddress>,
    /// The proxies through which edges are reached, by index in `edges`; an edge without one is reached directly.
    pub proxies: Vec<Option<Proxy>>,
    /// Another port of each edge, which is tried when the first does not answer.
    pub edge_fallback_port: Option<u16>,
    /// TLS towards the `edges`. Without it links are plain, for the simulation.
    pub edge_tls: Option<Arc<EdgeTls>>,
    /// The transport of links. Plain links and those through a proxy use TCP.
    pub transport: LinkTransport,
    /// The keys of QUIC.
    pub quic: QuicKeys,
    /// The name that an edge's certificate must contain; by default the dialled host.
    pub edge_name: Option<Box<str>>,
    /// The tunnel that the connector serves.
    pub tunnel: TunnelId,
    /// The secret of that tunnel.
    pub secret: Secret,
    /// Name and version of this software, which the edge displays.
    pub software: String,
    /// The number of links to each edge, at most [`LINKS_MAX`]. Zero for one per core of the edge, and at least one per
    /// core of this connector.
    pub links: u16,
    /// The first wait before a lost link is dialled again.
    pub backoff_min: Duration,
    /// The longest wait before a lost link is dialled again.
    pub backoff_max: Duration,
    /// The time limit for dialling an edge, for all of its addresses together, including TLS.
    pub connect_timeout: Duration,
    /// The settings of the link protocol.
    pub link: mux::Settings,
    /// The most calls in flight on one core; further ones are reset as overloaded.
    pub calls_max: usize,
    /// How long calls in flight may take after a drain began.
    pub drain_timeout: Duration,
    /// How long an upstream may stop reading a request before the call is ended.
    pub write_timeout: Duration,
    /// How long the head of a request on an inner TLS session may take from its first byte.
    pub header_timeout: Duration,
    /// How long an inner TLS session may be idle.
    pub idle_timeout: Duration,
    /// After how much silence a comment is sent on an event stream to an agent whose TLS ends here; none to send none.
    pub sse_keepalive: Option<Duration>,
    /// Which web pages may call if their TLS ends here, and the CORS fields for their browsers.
    pub origins: Arc<OriginRules>,
    /// How many of the last calls of each kind are kept on each core, see [`CallLog`](crate::latency::CallLog).
    pub calls_kept: usize,
    /// The most retries of a request on another connection.
    pub retries_max: u32,
    /// How calls are added up by task, for agents whose TLS ends here.
    pub tasks: TaskSettings,
    /// The audit log for calls, if there is one.
    pub audit: Option<AuditLog>,
    /// The calls whose spans are exported, if traces are.
    pub traces: Option<Arc<TraceQueue>>,
    /// The ways to an edge of this process, one for each core. They are used in place of its address.
    pub local_edge: Option<Arc<[LocalEntry]>>,
    /// The wall clock for checking tokens.
    pub clock: WallClock,
    /// How the connector registers with edges of cloudflared; none for edges of this project.
    pub cloudflared: Option<Arc<CloudflaredSettings>>,
}

#[cfg(feature = "internals")]
impl ConnectorSettings {
    /// Settings for tests and benches, with links to one edge and without TLS.
    #[must_use]
    pub fn for_tests(edge: std::net::SocketAddr, tunnel: TunnelId, secret: Secret) -> ConnectorSettings {
        ConnectorSettings {
            edges: vec![EdgeAddress { host: edge.ip().to_string().into(), port: edge.port() }],
            proxies: Vec::new(),
            edge_fallback_port: None,
            edge_tls: None,
            transport: LinkTransport::Tcp,
            quic: QuicKeys::draw(|bytes| bytes.fill(0)),
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
            traces: None,
            local_edge: None,
            clock: WallClock::default(),
            cloudflared: None,
        }
    }
}

/// The route of one host.
#[derive(Clone)]
pub struct ConnectorRoute {
    /// The name of the route in reports and logs. Connections are pooled under this name, so routes with different
    /// upstreams should not share it.
    pub name: RouteName,
    /// The upstream, and the settings of its pool on each core.
    pub upstream: UpstreamSettings,
    /// The traffic of the route. Calls of other traffic are refused.
    pub traffic: Traffic,
    /// How its upstream is addressed, and how it learns the address that agents call.
    pub identity: RouteIdentity,
    /// The limit for the first byte of an answer to a call of an edge; without it only the edge's limit applies.
    pub first_byte_timeout: Option<Duration>,
    /// Whether the rest of the caller's time is sent to the upstream, if known.
    pub sends_timeout: bool,
    /// The caller's time for agents whose TLS ends here that do not state it themselves.
    pub client_timeout: Option<Duration>,
    /// Which POST requests may run twice, if the route trusts its server's hints.
    pub resend: Option<Arc<SafeRequests>>,
    /// The authentication of callers; none if it is left to the server.
    pub auth: Option<Arc<RouteAuth>>,
    /// Which caller may call which tool.
    pub policy: Option<Arc<ToolPolicy>>,
    /// The deadlines of calls of agents whose TLS ends here. Their ceiling is the limit for the first byte of an
    /// answer. A GET, which waits for events, has none.
    pub deadlines: DeadlineTerms,
    /// The terms of the circuit breakers for these calls.
    pub breaker: BreakerTerms,
    /// The limits of these calls in flight.
    pub concurrency: ConcurrencyTerms,
    /// The settings of single tools that differ from these.
    pub tools: Arc<[ToolOverrides]>,
}

impl ConnectorRoute {
    /// The deadlines of these calls, or of those of a tool.
    pub(super) fn deadlines_of(&self, tool: Option<&str>) -> DeadlineTerms {
        self.own(tool).map_or(self.deadlines, |own| self.deadlines.with(&own.deadlines))
    }

    /// The breaker terms of these calls, or of those of a tool.
    pub(super) fn breaker_of(&self, tool: Option<&str>) -> BreakerTerms {
        self.own(tool).map_or(self.breaker, |own| self.breaker.with(&own.breaker))
    }

    /// The price of a call of this tool, in millionths of a unit.
    pub(super) fn price_of(&self, tool: Option<&str>) -> u64 {
        self.own(tool).map_or(0, |own| own.price)
    }

    /// Whether the label of these calls is needed before they are forwarded.
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
    /// The same, for routes that ask agents for a certificate.
    pub passthrough_asking: Arc<ServerConfig>,
    /// Towards edges, which must present a certificate.
    pub resealed: Arc<ServerConfig>,
}

/// The routes of a connector. Replaced as a whole when the configuration is reloaded.
///
/// Connections of a route with unchanged settings are kept. TLS configurations are compared by identity, so a new table
/// must reuse the `Arc`s of what did not change.
#[derive(Default)]
pub struct ConnectorTables {
    /// Which upstream serves which host.
    pub routes: RouteTable<ConnectorRoute>,
    /// Rules that replace the routes; none for most connectors.
    pub ingress: Option<IngressTable<IngressTarget>>,
    /// TLS for routes with inner sessions. Without it their calls are refused.
    pub sealing: Option<Sealing>,
}

/// Where a rule sends its requests.
#[derive(Clone)]
pub enum IngressTarget {
    /// To a server of the operator.
    Server(Box<ConnectorRoute>),
    /// Nowhere: the connector answers itself.
    Answer(FixedAnswer),
}

/// An answer that is the same for all requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedAnswer {
    /// The status of the answer.
    pub status: u16,
    /// The body, which is HTML.
    pub body: &'static str,
}

impl ConnectorTables {
    /// The route of a request for this host and target.
    pub(super) fn route(&self, host: &Hostname, target: &[u8]) -> Option<&ConnectorRoute> {
        let Some(ingress) = &self.ingress else { return self.routes.lookup(host) };
        match ingress.lookup(host, target)? {
            IngressTarget::Server(route) => Some(route),
            IngressTarget::Answer(_) => None,
        }
    }

    /// The answer to a request that no server gets, if the rule for it has one.
    pub(super) fn answer(&self, host: &Hostname, target: &[u8]) -> Option<FixedAnswer> {
        match self.ingress.as_ref()?.lookup(host, target)? {
            IngressTarget::Server(_) => None,
            IngressTarget::Answer(answer) => Some(*answer),
        }
    }

    /// All routes, with those of rules.
    pub(super) fn all(&self) -> impl Iterator<Item = &ConnectorRoute> {
        let of_rules = self.ingress.iter().flat_map(IngressTable::targets).filter_map(|target| match target {
            IngressTarget::Server(route) => Some(&**route),
            IngressTarget::Answer(_) => None,
        });
        self.routes.targets().chain(of_rules)
    }

    /// Whether some requests get an answer of the connector.
    pub(super) fn has_answers(&self) -> bool {
        let targets = self.ingress.iter().flat_map(IngressTable::targets);
        targets.into_iter().any(|target| matches!(target, IngressTarget::Answer(_)))
    }

    /// The hosts for which there are routes.
    pub(super) fn hosts(&self) -> HostSet {
        self.routes.iter().map(|(host, _)| *host).collect()
    }
}
