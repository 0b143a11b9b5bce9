//! The state that the tasks of one core of a connector share.

use std::sync::Arc;

use crate::base::Budget;
use crate::connector::cancellations::Cancellations;
use crate::connector::edge_signals::EdgeSignals;
use crate::connector::figures::CallFigures;
use crate::connector::link_table::LinkTable;
use crate::connector::quic_sockets::QuicSockets;
use crate::connector::retry::Retry;
use crate::connector::shared::Connector;
use crate::connector::transports::Transports;
use crate::connector::upstreams::Upstreams;
use crate::connector::worker_slots::WorkerSlots;
use crate::dial::Resolver;
use crate::engine::{Core, Signal};
use crate::serve::{CallerTokens, CoreLimits, ReadAheadLimits, list_memory};

/// The divisor of the buffer memory: this share may hold the starts of bodies whose label is needed and not known yet.
const READ_AHEAD_SHARE: usize = 8;
/// The divisor of the buffer memory: this share may hold copies of bodies for retries, for as long as their calls last.
/// They must not use the memory for reading ahead, without which a call is refused.
const KEPT_BODIES_SHARE: usize = 16;
/// Bytes that each body may use of either in any case.
const READ_AHEAD_LEN_FREE: usize = 4 * 1024;

/// The divisor of the buffer memory: this share may be granted as windows to HTTP/2 connections, in addition to the
/// minimum of each.
const HTTP2_WINDOWS_SHARE: usize = 4;

/// The parts of one core. A task that needs one part borrows that part, not the core.
pub(super) struct ConnectorCore {
    pub(super) core: Core,
    pub(super) connector: Arc<Connector>,
    pub(super) resolver: Resolver,
    pub(super) links: LinkTable,
    pub(super) quic: QuicSockets,
    pub(super) transports: Transports,
    pub(super) edges: EdgeSignals,
    pub(super) retry: Retry,
    pub(super) upstreams: Upstreams,
    pub(super) workers: WorkerSlots,
    pub(super) figures: CallFigures,
    pub(super) limits: CoreLimits,
    pub(super) tokens: CallerTokens,
    /// Memory for windows of HTTP/2 connections, of upstreams and agents.
    pub(super) http2_windows: Budget,
    /// Memory for bodies that are read ahead, before their calls are forwarded.
    read_ahead: Budget,
    /// Memory for bodies that are kept for retries.
    pub(super) kept_bodies: Budget,
    /// Memory for lists that are filtered by policies.
    pub(super) lists: Budget,
    /// Raised when the core begins to drain.
    pub(super) drain: Signal,
    pub(super) cancellations: Cancellations,
}

impl ConnectorCore {
    pub(super) fn new(core: Core, connector: Arc<Connector>, resolver: Resolver) -> ConnectorCore {
        let http2_windows = Budget::new(core.pool().usage().bytes_max / HTTP2_WINDOWS_SHARE, 0);
        ConnectorCore {
            links: LinkTable::new(&core, &connector),
            quic: QuicSockets::default(),
            transports: Transports::new(connector.edges.len()),
            edges: EdgeSignals::new(&core, &connector),
            retry: Retry::new(core.id(), &connector),
            upstreams: Upstreams::new(&core, &connector, resolver.clone(), &http2_windows),
            http2_windows,
            workers: WorkerSlots::default(),
            figures: CallFigures::new(&connector.learned, &connector.breakers, connector.settings.calls_kept),
            limits: CoreLimits::default(),
            tokens: CallerTokens::new(&connector.session_owners),
            lists: list_memory(core.pool().usage().bytes_max),
            kept_bodies: Budget::new(core.pool().usage().bytes_max / KEPT_BODIES_SHARE, READ_AHEAD_LEN_FREE),
            read_ahead: Budget::new(core.pool().usage().bytes_max / READ_AHEAD_SHARE, READ_AHEAD_LEN_FREE),
            drain: Signal::default(),
            cancellations: Cancellations::default(),
            core,
            connector,
            resolver,
        }
    }

    /// The limits for reading a body until the label is known.
    pub(super) fn read_ahead_limits(&self) -> ReadAheadLimits<'_> {
        ReadAheadLimits { memory: &self.read_ahead, timeout: self.connector.settings.header_timeout }
    }

    /// The number of calls in flight.
    pub(super) fn calls_open(&self) -> usize {
        self.workers.busy() - self.figures.sessions_idle() + self.figures.http2_calls()
    }

    /// Whether the core is draining.
    pub(super) fn is_draining(&self) -> bool {
        self.drain.count() > 0
    }
}
