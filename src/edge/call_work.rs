//! The state of one call at the edge.

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

/// Why an agent's connection is left instead of closed.
pub(super) enum Leave {
    /// Reset it, so that the agent sees that the response is incomplete.
    Abort,
    /// Hand it over to another core, which serves the request. With the moves so far.
    HandOver(CoreId, Moved),
}

/// The state of one call. Reused by the next one, for its memory.
#[derive(Default)]
pub(super) struct CallWork {
    /// The called host. Kept here and not in the task, because of its size.
    pub(super) host: Hostname,
    pub(super) timing: Vec<u8>,
    pub(super) stamps: EdgeStamps,
    pub(super) guard: CallGuard,
    /// Its place among the route's calls in flight, if those are limited.
    pub(super) place: Cell<Option<CallPlace>>,
    pub(super) notes: CallNotes,
    /// Whether the answer may be that of a server of another MCP era than the agent's.
    pub(super) is_refused: bool,
    /// The link that was found before the body was read, and when.
    pub(super) found: Option<(ChosenLink, Time)>,
    /// Whether it has waited for a link without success.
    pub(super) has_waited: bool,
    /// The moves of the connection for the next request.
    pub(super) moved: Moved,
    /// When the request began, on whichever core that was.
    pub(super) began: Time,
    pub(super) retry: RetryState,
    /// Reads an answer that is an event stream as it passes.
    pub(super) answer: AnswerStream,
    /// The failure that was sent to the agent at the end of an event stream, if any.
    pub(super) sent_failure: Option<CallFailure>,
    /// The phase in which its exchange failed.
    pub(super) waits_for: Phase,
    /// The answer, if it may list tools and the list is needed.
    pub(super) listing: Listing,
    /// Finds notifications of changed tools on event streams, if needed.
    pub(super) changed: Cell<Option<MethodScan>>,
    /// Memory for the copy of a request that may be sent twice.
    pub(super) copy: Vec<u8>,
}

/// The state for retries of a call.
#[derive(Default)]
pub(super) struct RetryState {
    /// The connector to which it is bound.
    pub(super) bond: Bond,
    /// How often the connection was handed over for it.
    pub(super) moves: Moves,
    /// Why the previous connector did not pass it on.
    pub(super) refused: Option<CallFailure>,
    pub(super) retries: Retries,
    /// The pause before the next retry.
    pub(super) pause: Duration,
    /// Whether a part of the body was read. A retry sends it from the start.
    pub(super) has_begun: bool,
    /// Whether it may go to another connector.
    pub(super) may_move: bool,
    /// Whether it was already retried.
    pub(super) has_moved: bool,
}

impl CallWork {
    /// Stores the phase of a call whose exchange fails now. `is_sent`: its whole request was sent.
    pub(super) fn on_exchange_failed(&mut self, stream: &CarrierStream, is_sent: bool, clock: &impl Clock) {
        let EdgeTimes { edge, total, .. } = self.stamps.times(clock);
        // The connector counts as unreachable if it has not answered a PING for most of that time.
        let is_cut_off = stream.liveness().owing * 2 > total.saturating_sub(edge);
        self.waits_for = match is_sent {
            false => Phase::Edge,
            true if is_cut_off => Phase::Tunnel,
            true => Phase::Upstream,
        };
    }

    /// The phase in which a call failed.
    pub(super) fn phase_of(&self, failure: CallFailure) -> Phase {
        failure.phase(if self.stamps.is_handed_over() { self.waits_for } else { Phase::Edge })
    }

    /// Whether its answer is an event stream, and the agent was sent all that it has asked for.
    pub(super) fn has_answer(&self) -> bool {
        self.stamps.is_event_stream() && self.answer.is_complete()
    }

    /// How the call has ended, for the records.
    pub(super) fn ending(&self, outcome: Outcome) -> Ending<'_> {
        let (notes, stamps) = (&self.notes, &self.stamps);
        Ending { notes, guard: Some(&self.guard), place: Some(&self.place), stamps, stream: None, own: None, outcome }
    }
}
