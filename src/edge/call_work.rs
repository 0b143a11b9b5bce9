//! What is kept of a call while it lasts.

use std::cell::Cell;
use std::time::Duration;

use crate::base::{Clock, CoreId, Time};
use crate::edge::bonds::Bond;
use crate::edge::call_notes::CallNotes;
use crate::edge::link_table::ChosenLink;
use crate::edge::moves::{Moved, Moves};
use crate::edge::recording::Ending;
use crate::exchange::CallFailure;
use crate::latency::{EdgeStamps, EdgeTimes, Outcome, Phase, Retries};
use crate::link::CarrierStream;
use crate::route::Hostname;
use crate::serve::{CallGuard, CallPlace, Listing};
use crate::wire::{AnswerStream, MethodScan};

/// Why an agent's connection is left in another way than by closing it.
pub(super) enum Leave {
    /// It is reset, so that the agent sees that the response is not whole.
    Abort,
    /// It goes to another core, which serves the request, as often as it has by then.
    HandOver(CoreId, Moved),
}

/// What is kept of a call while it lasts; used again for its memory.
#[derive(Default)]
pub(super) struct CallWork {
    /// The host that it is for. It is kept here, and not in the task, for its size.
    pub(super) host: Hostname,
    pub(super) timing: Vec<u8>,
    pub(super) stamps: EdgeStamps,
    pub(super) guard: CallGuard,
    /// Its place among the calls of its route in flight, where those are limited.
    pub(super) place: Cell<Option<CallPlace>>,
    pub(super) notes: CallNotes,
    /// Whether the answer may be that of a server to an agent of the other era.
    pub(super) is_refused: bool,
    /// The link that was found for it before its body was read, and when.
    pub(super) found: Option<(ChosenLink, Time)>,
    /// Whether it has waited for a link in vain.
    pub(super) has_waited: bool,
    /// Whether the connection has come from another core for the request that is read next.
    pub(super) moved: Moved,
    /// When the request began, on whichever core.
    pub(super) began: Time,
    pub(super) retry: RetryState,
    /// What has passed of an answer that is an event stream.
    pub(super) answer: AnswerStream,
    /// How it failed, if its agent was told so at the end of an event stream.
    pub(super) told_failure: Option<CallFailure>,
    /// For which phase it waited when its exchange failed.
    pub(super) waits_for: Phase,
    /// The answer, if it may list tools and that is of interest.
    pub(super) listing: Listing,
    /// Finds on event streams that the server's tools have changed, if that is of interest.
    pub(super) changed: Cell<Option<MethodScan>>,
    /// Memory for the copy of a request that may be sent twice.
    pub(super) copy: Vec<u8>,
}

/// What is known of a call that may have to be opened again.
#[derive(Default)]
pub(super) struct RetryState {
    /// Which connector it is to go to.
    pub(super) bond: Bond,
    /// How often the connection has gone to another core for it.
    pub(super) moves: Moves,
    /// Why the connector before has not passed it on.
    pub(super) refused: Option<CallFailure>,
    pub(super) retries: Retries,
    /// How long to wait before that.
    pub(super) pause: Duration,
    /// Whether a part of the body was read: it is sent again from its start.
    pub(super) has_begun: bool,
    /// Whether another connector may take it.
    pub(super) may_move: bool,
    /// Whether it was opened again already.
    pub(super) has_moved: bool,
}

impl CallWork {
    /// Notes for what a call waits whose exchange fails now. Its request `is_sent` whole, or not.
    pub(super) fn on_exchange_failed(&mut self, stream: &CarrierStream, is_sent: bool, clock: &impl Clock) {
        let EdgeTimes { edge, total, .. } = self.stamps.times(clock);
        // A connector that has not answered a PING for most of that time is not heard any more.
        let is_cut_off = stream.liveness().owing * 2 > total.saturating_sub(edge);
        self.waits_for = match is_sent {
            false => Phase::Edge,
            true if is_cut_off => Phase::Tunnel,
            true => Phase::Upstream,
        };
    }

    /// The phase in which a call was that failed so.
    pub(super) fn phase_of(&self, failure: CallFailure) -> Phase {
        failure.phase(if self.stamps.is_handed_over() { self.waits_for } else { Phase::Edge })
    }

    /// How the call has ended.
    pub(super) fn ending(&self, outcome: Outcome) -> Ending<'_> {
        Ending { notes: &self.notes, guard: Some(&self.guard), place: Some(&self.place), own: None, outcome }
    }
}
