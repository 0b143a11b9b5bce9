//! `GET /v1/status`: the state of the process.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::control::bodies::{BreakerInfo, LimitInfo};
use crate::control::reading::{CertificateReading, EdgeReading, HostReading, RoleKind, RouteLine, UpstreamReading};

/// The state of the process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StatusBody {
    /// The version of the program.
    pub version: String,
    /// The commit from which it was built.
    pub commit: String,
    /// The roles that run in the process.
    pub roles: Vec<RoleKind>,
    /// Whether the process is draining.
    pub state: ProcessState,
    /// The driver of the cores.
    pub driver: DriverStatus,
    /// The URL that agents call.
    pub agent_url: Option<String>,
    /// The URL without TLS, which agents on this machine can call (`adit up`).
    pub plain_agent_url: Option<String>,
    /// The address for connectors.
    pub connectors_listen: Option<String>,
    /// The URL of the admin API.
    pub admin_url: Option<String>,
    /// Seconds since the start.
    pub uptime_s: f64,
    /// The cores that answered.
    pub cores: Vec<OfRole<CoreStatus>>,
    /// The number of cores that did not answer in time.
    pub cores_silent: u64,
    /// The links that are established.
    pub links: Vec<OfRole<LinkStatus>>,
    /// The certificates in use (on an edge).
    pub certificates: Vec<OfRole<CertificateReading>>,
    /// The connector's status at each edge.
    pub edges: Vec<OfRole<EdgeReading>>,
    /// The upstreams that were called (on a connector).
    pub upstreams: Vec<UpstreamReading>,
    /// The breakers that have seen calls.
    pub breakers: Vec<OfRole<BreakerInfo>>,
    /// The concurrency limits of the routes that have had calls.
    pub limits: Vec<OfRole<LimitInfo>>,
    /// The routes that are served.
    pub routes: Vec<OfRole<RouteLine>>,
    /// The tunnels, with the number of links of each.
    pub tunnels: Vec<OfRole<TunnelLinks>>,
    /// The counters, by role and by name.
    pub counts: BTreeMap<String, BTreeMap<String, u64>>,
    /// The results of reloads of the configuration.
    pub reload: ReloadStatus,
}

/// An object with the role that it belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OfRole<T> {
    /// The role that it belongs to.
    pub role: RoleKind,
    /// The object, whose members are beside `role`.
    #[serde(flatten)]
    pub of: T,
}

/// Whether a process is draining.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProcessState {
    /// The process takes calls.
    Running,
    /// It finishes the calls in flight.
    Draining,
}

/// The driver of the cores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DriverStatus {
    /// Its name: `uring` or `epoll`.
    pub name: String,
    /// Why this driver was chosen.
    pub why: String,
}

/// The state of one core.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CoreStatus {
    /// The number of the core.
    pub core: u16,
    /// Calls in flight on this core.
    pub calls_open: u64,
    /// Connections of agents (on an edge).
    pub agents_open: u64,
    /// Sockets and listeners that are open.
    pub sockets_open: u64,
    /// The number of tasks on the core.
    pub tasks_open: u64,
    /// The use of its buffers.
    pub buffers: BuffersStatus,
    /// The time since the last successful call, in seconds.
    pub last_good_call_s: Option<f64>,
}

/// The buffers of one core, in bytes unless stated otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BuffersStatus {
    /// Bytes in buffers that are in use.
    pub leased_bytes: u64,
    /// Bytes in use or free.
    pub allocated_bytes: u64,
    /// Bytes in use for receiving.
    pub receive_bytes: u64,
    /// Bytes in use for sending.
    pub send_bytes: u64,
    /// Bytes in use for links.
    pub link_bytes: u64,
    /// Bytes that the peers of links may make this core hold: the receive windows of all links.
    pub window_bytes: u64,
    /// The current limit of one queue.
    pub allowance_bytes: u64,
    /// The number of tasks that wait for a buffer.
    pub waiting: u64,
    /// The most bytes that buffers may use.
    pub limit_bytes: u64,
    /// How often a buffer was requested when none was left.
    pub exhausted: u64,
}

/// The state of one link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LinkStatus {
    /// Its number, unique within the role.
    pub id: u64,
    /// The core that carries it.
    pub core: u16,
    /// The id of its tunnel.
    pub tunnel: String,
    /// The connector's software, as it reports it (on an edge), or the edge's address (on a connector).
    pub peer: String,
    /// The connector at its other end (on an edge), the same for all of its links.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connector: Option<String>,
    /// The number of open streams.
    pub streams: u64,
    /// The round-trip time of the link in microseconds, if measured.
    pub round_trip_us: Option<f64>,
    /// The transport: `tcp` or `quic`.
    pub transport: String,
    /// The path of a link over QUIC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quic: Option<QuicStatus>,
    /// The time since it was established, in seconds.
    pub age_s: f64,
    /// Whether it takes no new streams.
    pub draining: bool,
}

/// The path of a link over QUIC, as the sender on this side sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QuicStatus {
    /// The present estimate of the round-trip time of the path in microseconds.
    pub round_trip_us: f64,
    /// Packets that were sent.
    pub packets_sent: u64,
    /// Packets that were lost on the way, and whose content was sent again.
    pub packets_lost: u64,
    /// How many bytes may be under way at a time, by the congestion control.
    pub congestion_window_bytes: u64,
    /// The largest datagram that the path carries, in bytes.
    pub mtu_bytes: u16,
    /// Whether the path marks datagrams instead of dropping them (explicit congestion notification).
    pub ecn: bool,
}

/// A tunnel and the number of its links.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TunnelLinks {
    /// The id of the tunnel.
    pub id: String,
    /// The number of established links.
    pub links: u64,
    /// Its hosts, and the connectors with a route for each (on an edge); empty if no connector is linked.
    pub hosts: Vec<HostReading>,
}

/// The results of reloads of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReloadStatus {
    /// The number of reloads that took effect.
    pub applied: u64,
    /// The number of reloads that were refused because of an error.
    pub refused: u64,
    /// The errors of the last reload; null if it took effect.
    pub faults: Option<Vec<String>>,
    /// Changed settings that take effect only after a restart.
    pub restart_needed: Vec<String>,
}
