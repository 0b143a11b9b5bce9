//! What the tasks of one core of a connector share.

use std::sync::Arc;

use crate::connector::edge_signals::EdgeSignals;
use crate::connector::figures::CallFigures;
use crate::connector::link_table::LinkTable;
use crate::connector::retry::Retry;
use crate::connector::shared::Connector;
use crate::connector::upstreams::Upstreams;
use crate::connector::worker_slots::WorkerSlots;
use crate::dial::Resolver;
use crate::engine::{Core, Signal};

/// The parts of one core. A task that needs one part takes that part, not the core.
pub(super) struct ConnectorCore {
    pub(super) core: Core,
    pub(super) connector: Arc<Connector>,
    pub(super) resolver: Resolver,
    pub(super) links: LinkTable,
    pub(super) edges: EdgeSignals,
    pub(super) retry: Retry,
    pub(super) upstreams: Upstreams,
    pub(super) workers: WorkerSlots,
    pub(super) figures: CallFigures,
    /// Raised once, when the core is to end.
    pub(super) drain: Signal,
}

impl ConnectorCore {
    pub(super) fn new(core: Core, connector: Arc<Connector>, resolver: Resolver) -> ConnectorCore {
        ConnectorCore {
            links: LinkTable::new(&core, &connector),
            edges: EdgeSignals::new(&core, &connector),
            retry: Retry::new(core.id(), &connector),
            upstreams: Upstreams::new(&core, &connector, resolver.clone()),
            workers: WorkerSlots::default(),
            figures: CallFigures::new(),
            drain: Signal::default(),
            core,
            connector,
            resolver,
        }
    }

    /// Whether the core is to end.
    pub(super) fn is_draining(&self) -> bool {
        self.drain.count() > 0
    }
}
