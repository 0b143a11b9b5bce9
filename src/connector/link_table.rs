//! The established links of one core.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use crate::base::{Clock, HostSet, LinkId, Time};
use crate::connector::report::{LinkReport, LinkState};
use crate::connector::shared::Connector;
use crate::engine::{Core, Signal};
use crate::link::{Carrier, CloseReason};

/// The established links of one core.
pub(super) struct LinkTable {
    core: Core,
    connector: Arc<Connector>,
    entries: RefCell<Vec<Entry>>,
    /// Raised when a link has ended.
    removed: Signal,
    ids_given: Cell<u64>,
}

struct Entry {
    carrier: Carrier,
    edge: usize,
    since: Time,
}

impl LinkTable {
    pub(super) fn new(core: &Core, connector: &Arc<Connector>) -> LinkTable {
        LinkTable {
            core: core.clone(),
            connector: Arc::clone(connector),
            entries: RefCell::default(),
            removed: Signal::default(),
            ids_given: Cell::new(0),
        }
    }

    /// The id for the next link of this core, unique within the connector.
    pub(super) fn next_id(&self) -> LinkId {
        let n = self.ids_given.get();
        self.ids_given.set(n + 1);
        LinkId(n * self.connector.core_count() as u64 + u64::from(self.core.id().0))
    }

    /// Adds an established link.
    pub(super) fn add(&self, carrier: &Carrier, edge: usize) {
        self.entries.borrow_mut().push(Entry { carrier: carrier.clone(), edge, since: self.core.now() });
    }

    /// Removes a link that has ended.
    pub(super) fn remove(&self, carrier: &Carrier) {
        self.entries.borrow_mut().retain(|entry| entry.carrier.id() != carrier.id());
        self.removed.raise();
    }

    /// Sends the hosts of the routes to every edge.
    pub(super) fn set_hosts(&self, hosts: &HostSet) {
        self.entries.borrow().iter().for_each(|entry| entry.carrier.set_hosts(hosts));
    }

    /// Drains every link: calls in flight may finish, and new ones are refused.
    pub(super) fn drain(&self) {
        self.all().iter().for_each(Carrier::drain);
    }

    /// Ends every link now.
    pub(super) fn close(&self, reason: CloseReason) {
        self.all().iter().for_each(|carrier| carrier.close(reason));
    }

    /// Waits until the last link has ended.
    pub(super) async fn all_ended(&self) {
        loop {
            let seen = self.removed.count();
            if self.entries.borrow().is_empty() {
                break;
            }
            self.removed.after(seen).await;
        }
    }

    pub(super) fn report(&self) -> Vec<LinkReport> {
        let now = self.core.now();
        let report = |entry: &Entry| LinkReport {
            id: entry.carrier.id(),
            edge: self.connector.settings.edges[entry.edge].clone(),
            state: if entry.carrier.is_draining() { LinkState::Draining } else { LinkState::Open },
            streams: entry.carrier.streams_live(),
            round_trip: entry.carrier.round_trip(),
            quic: entry.carrier.quic_path(),
            age: now - entry.since,
        };
        self.entries.borrow().iter().map(report).collect()
    }

    fn all(&self) -> Vec<Carrier> {
        self.entries.borrow().iter().map(|entry| entry.carrier.clone()).collect()
    }
}
