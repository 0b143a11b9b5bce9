//! The status report of one core of a connector.

use std::time::Duration;

use crate::base::{CoreId, LinkId};
use crate::connector::settings::EdgeAddress;
use crate::engine::PoolUse;
use crate::route::RouteName;
use crate::wire::quic::QuicPath;

/// The state of one core of a connector.
#[derive(Clone, Debug)]
pub struct ConnectorReport {
    /// The number of the core.
    pub core: CoreId,
    /// The links that run on this core.
    pub links: Vec<LinkReport>,
    /// The upstreams that were called, by route name.
    pub upstreams: Vec<UpstreamReport>,
    /// The number of calls in flight.
    pub calls_open: usize,
    /// The number of open sockets.
    pub sockets_open: usize,
    /// The number of tasks that have not ended.
    pub tasks_open: usize,
    /// The use of the core's buffers.
    pub pool: PoolUse,
}

/// The state of one link.
#[derive(Clone, Debug)]
pub struct LinkReport {
    /// The link's number, unique within this connector.
    pub id: LinkId,
    /// The edge at its other end.
    pub edge: EdgeAddress,
    /// Whether it takes calls.
    pub state: LinkState,
    /// Calls that are open on it.
    pub streams: usize,
    /// The last round-trip time of the link itself; none before the first measurement.
    pub round_trip: Option<Duration>,
    /// The path of a link over QUIC; none over TCP.
    pub quic: Option<QuicPath>,
    /// The time since the link came up.
    pub age: Duration,
}

/// Whether a link takes calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// It takes new calls.
    Open,
    /// It takes no new calls, and ends after those in flight.
    Draining,
}

/// The state of the upstream of one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamReport {
    /// The name of the route.
    pub route: RouteName,
    /// The URL of the upstream.
    pub upstream: String,
    /// The number of connections to it, in use or idle.
    pub connections_open: usize,
    /// The number of HTTP/2 connections among them.
    pub http2_connections_open: usize,
    /// The number of calls on these, each on its own stream.
    pub http2_streams_open: usize,
    /// The error of the last attempt to connect, if it failed.
    pub failing: Option<String>,
}
