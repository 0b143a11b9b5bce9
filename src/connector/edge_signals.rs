//! Notifications to the tasks of one core about each edge: a link came up, the status changed, or the number of links.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

use crate::connector::edge_status::EdgeStatus;
use crate::connector::shared::Connector;
use crate::engine::{Core, Signal};

/// The signals of one core, one set per edge.
pub(super) struct EdgeSignals {
    core: Core,
    connector: Arc<Connector>,
    edges: Vec<OneEdge>,
}

#[derive(Default)]
struct OneEdge {
    /// Raised when a link of this core to the edge came up.
    up: Signal,
    /// Raised when the connector's status at the edge may have changed.
    status: Signal,
    /// The index up to which this core has opened its links.
    links_opened: Cell<u16>,
}

impl EdgeSignals {
    pub(super) fn new(core: &Core, connector: &Arc<Connector>) -> EdgeSignals {
        let edges = connector.edges.iter().map(|_| OneEdge::default()).collect();
        EdgeSignals { core: core.clone(), connector: Arc::clone(connector), edges }
    }

    /// Notes that a link to the edge came up.
    pub(super) fn on_up(&self, edge: usize) {
        self.edges[edge].up.raise();
    }

    /// How often a link to the edge has come up.
    pub(super) fn ups(&self, edge: usize) -> u64 {
        self.edges[edge].up.count()
    }

    /// Waits until a link has come up after `seen` others.
    pub(super) async fn up_since(&self, edge: usize, seen: u64) {
        self.edges[edge].up.after(seen).await;
    }

    /// Notes that the connector's status at the edge may have changed.
    pub(super) fn on_status(&self, edge: usize) {
        self.edges[edge].status.raise();
    }

    /// How often the status at the edge may have changed.
    pub(super) fn status_changes(&self, edge: usize) -> u64 {
        self.edges[edge].status.count()
    }

    /// Waits until the status may have changed after `seen` changes.
    pub(super) async fn status_since(&self, edge: usize, seen: u64) {
        self.edges[edge].status.after(seen).await;
    }

    /// Waits until the connector's status at the edge is known; returns the number of that status.
    pub(super) async fn known_status(&self, edge: usize) -> u64 {
        if self.connector.settings.edge_tls.is_none() || self.connector.settings.cloudflared.is_some() {
            return 0;
        }
        loop {
            let seen = self.status_changes(edge);
            let (number, status) = self.connector.edges[edge].status.get();
            if status != EdgeStatus::Unknown {
                return number;
            }
            // With a timeout, because the message is lost if this core's mailbox was full.
            let changed = self.status_since(edge, seen);
            let _ = self.core.timeout(self.connector.settings.backoff_max, changed).await;
        }
    }

    /// The indices of the links to the edge that still have to be opened, of all cores. Returns each index once.
    pub(super) fn take_links_to_open(&self, edge: usize) -> Range<u16> {
        let opened = &self.edges[edge].links_opened;
        let wanted = self.connector.links_wanted(edge);
        opened.replace(wanted.max(opened.get()))..wanted
    }
}
