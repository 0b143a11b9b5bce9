//! Places of agents' calls among those of their route in flight, where the agents' TLS ends here.

use std::cell::Cell;
use std::time::Duration;

use crate::latency::{CallRecord, Overload};
use crate::serve::{CallPlace, Entry, Full};

/// What is known of the place of a call.
#[derive(Default)]
pub(super) struct QueueNotes {
    /// Its place, as long as it has one.
    pub(super) place: Cell<Option<CallPlace>>,
    /// How long it waited for one.
    pub(super) waited: Duration,
    /// Why it got none.
    pub(super) overload: Option<Overload>,
    /// Whether it needs one. This and the rest are kept here, and not in the task, for its size.
    pub(super) is_needed: bool,
    /// Whether its label was read.
    pub(super) is_labelled: bool,
    /// Where it has to wait for one.
    full: Option<Full>,
}

impl QueueNotes {
    /// Notes whether the call got a place at once. Returns whether it has to wait for one.
    pub(super) fn on_entry(&mut self, entry: Entry) -> bool {
        match entry {
            Entry::Full(full) => self.full = Some(full),
            Entry::Enters(place) => self.place.set(place),
        }
        self.full.is_some()
    }

    /// Where it has to wait for a place, if it has to.
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
