//! Readings of a role's state, in one form for both roles.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::base::{CoreId, Count};
use crate::engine::PoolUse;
use crate::latency::{BreakerReading, CallFilter, CallLine, ForcedState, Label, QueueReading, Snapshot, TaskSnapshot};

/// The role of a process, or of a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoleKind {
    /// The public side, which agents call.
    Edge,
    /// The private side, which dials out.
    Connector,
}

impl RoleKind {
    /// The name, as metrics and JSON spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            RoleKind::Edge => "edge",
            RoleKind::Connector => "connector",
        }
    }
}

/// The name of a connector: the number by which its links belong together.
pub(super) fn connector_name(number: u64) -> String {
    format!("{number:016x}")
}

/// How one core of a role is.
#[derive(Clone, Debug, Default)]
pub struct CoreReading {
    /// The number of the core.
    pub core: CoreId,
    /// Calls in flight on this core.
    pub calls_open: usize,
    /// Connections of agents (on an edge).
    pub agents_open: usize,
    /// Sockets and listeners that are open.
    pub sockets_open: usize,
    /// The number of tasks on the core.
    pub tasks_open: usize,
    /// The use of its buffers.
    pub pool: PoolUse,
    /// How long ago a call last went through the whole path.
    pub last_good_call: Option<Duration>,
}

/// How one link is.
#[derive(Clone, Debug)]
pub struct LinkReading {
    /// Its number, unlike that of any other link of the same role.
    pub id: u64,
    /// The core that carries it.
    pub core: CoreId,
    /// The id of its tunnel.
    pub tunnel: String,
    /// The credential that it came in with (on an edge).
    pub credential: Option<String>,
    /// The connector's software, as it reports it (on an edge), or the edge's address (on a connector).
    pub peer: String,
    /// The connector at its other end (on an edge).
    pub connector: Option<String>,
    /// The hosts for which the connector has routes, if it has said so (on an edge).
    pub hosts: Option<Vec<String>>,
    /// Streams that are open.
    pub streams: usize,
    /// Its own round trip, when it was measured.
    pub round_trip: Option<Duration>,
    /// For how long it has been there.
    pub age: Duration,
    /// For how long it has had no call (on an edge).
    pub idle: Option<Duration>,
    /// Whether it takes no new streams.
    pub draining: bool,
}

/// A tunnel that has links (on an edge).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelReading {
    /// The id of the tunnel.
    pub id: String,
    /// Its hosts, and which connectors serve each.
    pub hosts: Vec<HostReading>,
}

/// A host of a tunnel, and the connectors that have a route for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostReading {
    /// The host, or `*.` and a host.
    pub host: String,
    /// The connectors that have a route for it, as links name them.
    pub connectors: Vec<String>,
    /// Whether no connector has one, so that calls for the host fail.
    pub unserved: bool,
}

impl TunnelReading {
    /// The hosts for which no connector has a route.
    pub fn unserved(&self) -> impl Iterator<Item = &str> {
        self.hosts.iter().filter(|host| host.unserved).map(|host| &*host.host)
    }
}

/// How the upstream of one route is (on a connector), all cores together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UpstreamReading {
    /// The name of the route.
    pub route: String,
    /// The URL of the upstream.
    pub upstream: String,
    /// Connections to it, in use or kept.
    pub connections_open: usize,
    /// Those of HTTP/2 among them.
    pub http2_connections_open: usize,
    /// Calls that these carry, each on a stream.
    pub http2_streams_open: usize,
    /// Whether the last attempt to connect to it failed.
    pub failing: bool,
    /// Why, and what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A certificate that a role uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificateReading {
    /// Its use: `agents`, `connectors` or `authority` (on an edge).
    pub of: String,
    /// Its names and addresses.
    pub names: Vec<String>,
    /// The name of the authority that signed it.
    pub issuer: String,
    /// For how many seconds it is still valid; negative after its end.
    pub expires_in_s: i64,
    /// Whether it should have been renewed already.
    pub renewal_due: bool,
}

/// Whether an edge certified a connector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CertificateState {
    /// The connector has a certificate of the edge.
    Certified,
    /// The edge has no authority: the secret alone is enough.
    Uncertified,
    /// The edge did not answer yet.
    #[default]
    Unknown,
}

/// The connector's status at one edge, without its links.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EdgeReading {
    /// Which edge, as it is dialled.
    pub edge: String,
    /// Whether the edge certified the connector.
    pub standing: CertificateState,
    /// For how many seconds the connector's certificate is still valid, if it has one.
    pub expires_in_s: Option<u64>,
    /// In how many seconds the next one is asked for.
    pub renews_in_s: Option<u64>,
    /// By how many seconds this machine's clock is ahead of the edge's; less than none when it is behind; null as long as
    /// the edge did not say.
    pub clock_ahead_s: Option<i64>,
    /// The last trouble with it since a link to it was last up.
    pub trouble: Option<String>,
    /// Hosts of routes that the tunnel does not have there, so that no calls come for them.
    pub hosts_missing: Vec<String>,
}

/// How a role is: what its cores answered, put together.
#[derive(Clone)]
pub struct RoleReading {
    /// The role that was asked.
    pub kind: RoleKind,
    /// How many cores there are; fewer may have answered.
    pub cores_asked: usize,
    /// The cores that answered.
    pub cores: Vec<CoreReading>,
    /// The links that are up.
    pub links: Vec<LinkReading>,
    /// The tunnels that have links (on an edge).
    pub tunnels: Vec<TunnelReading>,
    /// The upstreams that were called.
    pub upstreams: Vec<UpstreamReading>,
    /// The certificates that it uses (on an edge).
    pub certificates: Vec<CertificateReading>,
    /// Its status at each edge (on a connector).
    pub edges: Vec<EdgeReading>,
    /// Its breakers that have seen calls.
    pub breakers: Vec<BreakerReading>,
    /// The concurrency limits of its routes that have had calls, by the names of these.
    pub limits: Vec<(String, QueueReading)>,
    /// Its counters, all cores together.
    pub counts: Vec<Count>,
}

impl RoleReading {
    /// A reading to which nothing was added yet.
    #[must_use]
    pub fn new(kind: RoleKind, cores_asked: usize) -> RoleReading {
        RoleReading {
            kind,
            cores_asked,
            cores: Vec::new(),
            links: Vec::new(),
            tunnels: Vec::new(),
            upstreams: Vec::new(),
            certificates: Vec::new(),
            edges: Vec::new(),
            breakers: Vec::new(),
            limits: Vec::new(),
            counts: Vec::new(),
        }
    }

    /// Whether every core answered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.cores.len() == self.cores_asked
    }

    /// How long ago a call last went through the whole path, on whichever core.
    #[must_use]
    pub fn last_good_call(&self) -> Option<Duration> {
        self.cores.iter().filter_map(|core| core.last_good_call).min()
    }
}

/// One line of the routes that are shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RouteLine {
    /// The host that agents call.
    pub host: String,
    /// Its name in metrics.
    pub name: String,
    /// The tunnel that serves it (on an edge).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<String>,
    /// Where calls go (on a connector).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
}

/// An answer that comes later.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A running role, as the control thread sees it.
pub trait Role: Send + Sync {
    /// The role that this is.
    fn kind(&self) -> RoleKind;

    /// Tells every core to finish what is in flight and end.
    fn drain(&self);

    /// Asks every core how it is, and waits at most `wait` for the answers.
    fn read(&self, wait: Duration) -> BoxFuture<'_, RoleReading>;

    /// Asks every core for the times of calls, and waits at most `wait` for the answers. If a core is late, the times are those
    /// of the last reading. None from a role that keeps none.
    fn latency(&self, wait: Duration) -> BoxFuture<'_, Option<Arc<Snapshot>>>;

    /// Asks every core for the last calls that `filter` names, and waits at most `wait` for the answers.
    fn calls(&self, filter: Arc<CallFilter>, wait: Duration) -> BoxFuture<'_, Vec<CallLine>>;

    /// Forces it, or leaves it to the calls again. Returns how it is then.
    fn force_breaker(&self, label: &Label, forced: Option<ForcedState>) -> Option<BreakerReading>;

    /// Totals of the tool calls of each task; none from a role that does not count them.
    fn tasks(&self) -> Option<TaskSnapshot> {
        None
    }

    /// What is served now.
    fn routes(&self) -> Vec<RouteLine>;

    /// The tunnels, without secrets.
    fn tunnels(&self) -> Vec<String>;
}
