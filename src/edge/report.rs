//! The status report of one core of an edge.

use std::time::Duration;

use crate::base::{CoreId, CredentialId, HostSet, LinkId, TunnelId};
use crate::engine::PoolUse;
use crate::wire::quic::QuicPath;

/// The state of one core of an edge.
#[derive(Clone)]
pub struct CoreReport {
    /// The number of the core.
    pub core: CoreId,
    /// The links that run on this core.
    pub links: Vec<LinkReport>,
    /// The number of agents' open connections.
    pub agents_open: usize,
    /// The number of calls in flight.
    pub calls_open: usize,
    /// The number of open sockets and listeners.
    pub sockets_open: usize,
    /// The number of tasks that have not ended.
    pub tasks_open: usize,
    /// The use of the core's buffers.
    pub pool: PoolUse,
    /// The time since the last call that succeeded.
    pub last_good_call: Option<Duration>,
}

/// The state of one link.
#[derive(Clone, Debug)]
pub struct LinkReport {
    /// The link's number, unique within this edge.
    pub id: LinkId,
    /// The core on which it runs.
    pub core: CoreId,
    /// The tunnel that it serves.
    pub tunnel: TunnelId,
    /// The number of the connector.
    pub connector: u64,
    /// The hosts of the connector's routes, once it has reported them.
    pub hosts: Option<HostSet>,
    /// The credential with which it was registered.
    pub credential: CredentialId,
    /// Calls that are open on it.
    pub streams: usize,
    /// The last round-trip time of the link itself; none before the first measurement.
    pub round_trip: Option<Duration>,
    /// The path of a link over QUIC; none over TCP.
    pub quic: Option<QuicPath>,
    /// Name and version of the connector's software, as sent by the connector.
    pub software: Box<str>,
    /// The time since the link came up.
    pub age: Duration,
    /// The time since it last had a call; since it came up, if it had none.
    pub idle: Duration,
    /// Whether it takes no new calls.
    pub draining: bool,
}
