//! Concurrency limits for calls of agents whose TLS ends in the connector.

use std::cell::Cell;
use std::time::Duration;

use crate::latency::{CallRecord, Overload};
use crate::serve::{CallPlace, Entry, Full};

/// The place of a call among the route's calls in flight.
#[derive(Default)]
pub(super) struct QueueNotes {
    /// The place, while the call has one.
    pub(super) place: Cell<Option<CallPlace>>,
    /// How long it waited for a place.
    pub(super) waited: Duration,
    /// Why it was refused a place.
    pub(super) overload: Option<Overload>,
    /// Whether it needs a place. This and the following fields are kept here and not in the task, because of its size.
    pub(super) is_needed: bool,
    /// Whether its label was read.
    pub(super) is_labelled: bool,
    /// The route without a free place, if the call has to wait.
    full: Option<Full>,
}

impl QueueNotes {
    /// Stores the place if the call got one at once. Returns whether it has to wait.
    pub(super) fn on_entry(&mut self, entry: Entry) -> bool {
        match entry {
            Entry::Full(full) => self.full = Some(full),
            Entry::Enters(place) => self.place.set(place),
        }
        self.full.is_some()
    }

    /// The route on which the call has to wait for a place, if it has to.
    pub(super) fn take_full(&mut self) -> Option<Full> {
        self.full.take()
    }

    /// Adds the wait and the place of the call to its record.
    pub(super) fn note(&self, record: CallRecord, place: Option<&CallPlace>) -> CallRecord {
        let record = record.with_queue_time(self.waited);
        if let Some(Overload { in_flight, limit, is_of_agent, .. }) = self.overload {
            return record.with_place(in_flight, limit, is_of_agent);
        }
        let taken = place.and_then(CallPlace::taken);
        taken.map_or(record, |(in_flight, limit)| record.with_place(in_flight, limit, false))
    }
}
