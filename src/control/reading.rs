//! The state of a role at one moment, in one form for both roles.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::base::{CoreId, Count};
use crate::engine::PoolUse;
use crate::latency::{BreakerReading, CallFilter, CallLine, ForcedState, Label, QueueReading, Snapshot, TaskSnapshot};
use crate::wire::quic::QuicPath;

/// The role of a process, or of a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoleKind {
    /// The public side, called by agents.
    Edge,
    /// The private side, which dials edges.
    Connector,
}

impl RoleKind {
    /// The name in metrics and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            RoleKind::Edge => "edge",
            RoleKind::Connector => "connector",
        }
    }
}

/// The name of a connector, which is the number that all of its links share.
pub(super) fn connector_name(number: u64) -> String {
    format!("{number:016x}")
}

/// The state of one core.
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

/// The state of one link.
#[derive(Clone, Debug)]
pub struct LinkReading {
    /// Its number, unique in its role.
    pub id: u64,
    /// The core that carries it.
    pub core: CoreId,
    /// The id of its tunnel.
    pub tunnel: String,
    /// The credential that it registered with (on an edge).
    pub credential: Option<String>,
    /// The connector's software, as it reports it (on an edge), or the edge's address (on a connector).
    pub peer: String,
    /// The connector at its other end (on an edge).
    pub connector: Option<String>,
    /// The hosts for which the connector has routes, if it has sent them (on an edge).
    pub hosts: Option<Vec<String>>,
    /// Streams that are open.
    pub streams: usize,
    /// Its round-trip time, if measured.
    pub round_trip: Option<Duration>,
    /// The path of a link over QUIC; none over TCP.
    pub quic: Option<QuicPath>,
    /// How long it has been up.
    pub age: Duration,
    /// How long it has had no call (on an edge).
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

/// A host of a tunnel, and the connectors with a route for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostReading {
    /// The host, or `*.` and a host.
    pub host: String,
    /// The connectors that have a route for it, by the names that links use.
    pub connectors: Vec<String>,
    /// Whether no connector has a route for it, so that its calls fail.
    pub unserved: bool,
}

impl TunnelReading {
    /// The hosts for which no connector has a route.
    pub fn unserved(&self) -> impl Iterator<Item = &str> {
        self.hosts.iter().filter(|host| host.unserved).map(|host| &*host.host)
    }
}

/// The state of one route's upstream (on a connector), on all cores together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UpstreamReading {
    /// The name of the route.
    pub route: String,
    /// The URL of the upstream.
    pub upstream: String,
    /// Connections to it, in use or idle.
    pub connections_open: usize,
    /// How many of them use HTTP/2.
    pub http2_connections_open: usize,
    /// Calls in flight on HTTP/2 connections, each on a stream.
    pub http2_streams_open: usize,
    /// Whether the last attempt to connect to it failed.
    pub failing: bool,
    /// Why it failed, and what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Its processes, if it is a command (`upstream = "stdio"`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdio: Option<StdioReading>,
}

/// The processes of a route whose upstream is a command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StdioReading {
    /// Processes that run or are about to be started.
    pub children: u64,
    /// Open sessions of agents.
    pub sessions: u64,
    /// What has happened since the start, by family and kind: `starts`, `exits`, `strays` (lines and messages of a process that could
    /// not be used), `dropped` and `refused`.
    pub counts: BTreeMap<String, BTreeMap<String, u64>>,
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
    /// Seconds until it expires; negative once it has.
    pub expires_in_s: i64,
    /// Whether it should have been renewed already.
    pub renewal_due: bool,
}

/// Whether an edge has issued a certificate to a connector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CertificateState {
    /// The connector has a certificate of the edge.
    Certified,
    /// The edge has no authority, and the secret alone is sufficient.
    Uncertified,
    /// The edge has not answered yet.
    #[default]
    Unknown,
}

/// The connector's status at one edge, without its links.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EdgeReading {
    /// The edge, as it is dialled.
    pub edge: String,
    /// Whether the edge has issued a certificate.
    pub standing: CertificateState,
    /// Seconds until the connector's certificate expires, if it has one.
    pub expires_in_s: Option<u64>,
    /// Seconds until the next certificate is requested.
    pub renews_in_s: Option<u64>,
    /// How many seconds this machine's clock is ahead of the edge's; negative if it is behind; null if the edge has not
    /// sent its time.
    pub clock_ahead_s: Option<i64>,
    /// The last error since a link to this edge was last up.
    pub trouble: Option<String>,
    /// Hosts of routes that the tunnel does not have at this edge, so that no calls arrive for them.
    pub hosts_missing: Vec<String>,
}

/// The state of a role, assembled from what its cores report.
#[derive(Clone)]
pub struct RoleReading {
    /// The role that was queried.
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
    /// The breakers that have had calls.
    pub breakers: Vec<BreakerReading>,
    /// The concurrency limits of the routes that have had calls, by route name.
    pub limits: Vec<(String, QueueReading)>,
    /// The counters, for all cores together.
    pub counts: Vec<Count>,
}

impl RoleReading {
    /// A reading without any entries.
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

    /// How long ago a call last went through the whole path, on any core.
    #[must_use]
    pub fn last_good_call(&self) -> Option<Duration> {
        self.cores.iter().filter_map(|core| core.last_good_call).min()
    }
}

/// A route, as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RouteLine {
    /// The host that agents call.
    pub host: String,
    /// The name of the route in metrics.
    pub name: String,
    /// The tunnel that serves it (on an edge).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<String>,
    /// Where calls go (on a connector).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
}

/// A future on the heap, for trait methods.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A running role, as seen by the control thread.
pub trait Role: Send + Sync {
    /// The role that this is.
    fn kind(&self) -> RoleKind;

    /// Makes every core finish its calls in flight and then end.
    fn drain(&self);

    /// Queries the state of every core, and waits at most `wait` for the answers.
    fn read(&self, wait: Duration) -> BoxFuture<'_, RoleReading>;

    /// Queries the durations of calls on every core, and waits at most `wait`. If a core is late, these are the ones of
    /// the last complete reading. `None` if the role keeps none.
    fn latency(&self, wait: Duration) -> BoxFuture<'_, Option<Arc<Snapshot>>>;

    /// Queries every core for the last calls that match `filter`, and waits at most `wait` for the answers.
    fn calls(&self, filter: Arc<CallFilter>, wait: Duration) -> BoxFuture<'_, Vec<CallLine>>;

    /// Forces a breaker, or with `None` hands the decision back to the results. Returns its state.
    fn force_breaker(&self, label: &Label, forced: Option<ForcedState>) -> Option<BreakerReading>;

    /// The totals of each agent task; `None` if the role does not count them.
    fn tasks(&self) -> Option<TaskSnapshot> {
        None
    }

    /// The public keys with which servers verify caller identities, if any are sent.
    fn identity_keys(&self) -> Vec<Value> {
        Vec::new()
    }

    /// The routes served at present.
    fn routes(&self) -> Vec<RouteLine>;

    /// The tunnels, without secrets.
    fn tunnels(&self) -> Vec<String>;
}
