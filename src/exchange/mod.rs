//! Floor 3: the parts of an HTTP exchange between two byte streams. It reads heads, and carries bodies without copying
//! them.
//!
//! Both roles use it: the edge between an agent's connection and a stream, the connector between a stream and an
//! upstream's connection.

mod approval_task_answer;
mod call_failure;
mod call_report;
mod caller_refused;
mod carry;
mod ceiling_answer;
mod era_notes;
#[cfg(test)]
mod errors_page;
mod event_chunk;
mod forwarded;
mod http1_body;
mod inbox;
mod intake;
mod origins;
mod outlet;
mod own_answer;
mod refusal;
mod served_exchange;
mod timeout_stream;
mod tool_denied;
mod trace;

pub use call_failure::CallFailure;
pub use call_report::{BreakerRefusal, CallReport, FailedCall, LateCall, LimitSource, OverloadRefusal};
pub use caller_refused::CallerRefused;
pub use carry::{BodySink, BodySource, CarryError, Piece, carry_body, read_on};
pub use ceiling_answer::{ceiling_answer, ceiling_listed};
pub use era_notes::EraNotes;
pub use event_chunk::{LAST_CHUNK, event_chunk, event_stream_head};
pub use forwarded::{CalledAddress, forwarded, forwarded_peer};
pub use http1_body::{Http1Sink, Http1Source};
pub use inbox::{Inbox, MailLen};
pub use intake::{HeadReadError, INTERIM_MAX, Intake};
pub use origins::{OriginRules, OwnOrigin};
pub use outlet::Outlet;
pub use own_answer::{answer_to_body, answer_to_head};
pub use refusal::{Refusal, check_request, requested_host};
pub use served_exchange::{BodyRefusal, ExchangeBuffers, ExchangeEnd};
pub use timeout_stream::{AnsweringStream, DRAIN_STALL_MAX, ExchangeState, PeerProgress, TimeoutStream, WaitsFor};
pub use tool_denied::ToolDenied;
pub use trace::{context_of, trace_of};

/// How much memory for heads is kept from one call to the next, in bytes.
const SCRATCH_LEN_KEPT: usize = 4096;

/// Empties a scratch buffer, and frees its memory if it is large.
pub fn clear_scratch(scratch: &mut Vec<u8>) {
    scratch.clear();
    scratch.shrink_to(SCRATCH_LEN_KEPT);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_long_head_is_not_kept() {
        let mut scratch = vec![0; 60_000];
        clear_scratch(&mut scratch);
        assert!(scratch.is_empty() && scratch.capacity() <= SCRATCH_LEN_KEPT, "{}", scratch.capacity());
        scratch.reserve(1000);
        let kept = scratch.capacity();
        clear_scratch(&mut scratch);
        assert_eq!(scratch.capacity(), kept, "what is short is used again");
    }
}
