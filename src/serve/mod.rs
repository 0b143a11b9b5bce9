//! Floor 3: the server's side of HTTP, over any byte stream: read head, check, decide, open, carry, record.
//!
//! [`serve()`] reads one request after another and gives each to a [`Service`], which is the role. A [`Request`] can be
//! refused, failed, or split into head, body and responder ([`Incoming`]), which are independent of the connection.
//! [`relay()`] carries the exchange between those and the next hop. The edge serves agents with it; the connector
//! serves the edge, and agents whose TLS ends there.

mod audit_log;
mod audit_queue;
mod call_audit;
mod call_deadline;
mod call_guard;
mod call_traces;
mod caller_tokens;
mod carry_events;
mod event_stream;
mod filtered_answer;
mod filtered_events;
mod governed;
#[cfg(test)]
mod governed_tests;
mod http1_request;
mod http2;
mod incoming;
mod label;
mod listing;
mod next_hop;
mod overload;
mod read_ahead;
mod recorded;
mod relay;
mod relayed_events;
mod request;
mod request_context;
mod requests;
mod responder;
mod rewriting;
mod route_limits;
mod service;
mod session_owners;
mod session_table;
mod task_calls;

pub use audit_log::{AUDIT_WAIT_MAX, AuditCounters, AuditLog, AuditReceipt};
pub use audit_queue::{AUDIT_QUEUE_MAX, AuditEntries, AuditEntry};
pub use call_audit::{AuditedCall, AuditedEnd, CallAudit};
pub use call_deadline::{CallDeadline, has_answer};
pub use call_guard::{BreakerRefused, CallEnded, CallGuard, GuardedCall};
pub use call_traces::{export_call, sample_at_connector, sample_at_edge};
pub use caller_tokens::{
    CallerConnection, CallerStop, CallerTokens, IssuerWaits, ProvenCaller, caller_denied, is_edge_identity_refused,
    is_unexchanged, issuer_heard,
};
pub use filtered_answer::list_memory;
pub use http1_request::Http1Request;
pub use http2::{
    Http2Call, Http2End, Http2Limits, Http2Request, Http2Service, Http2Stream, Http2Terms, STREAMS_MAX, serve_http2,
};
pub use incoming::{Incoming, RequestBody, Responder, ResponseExtras};
pub use label::{CallLabel, NoteCounters};
pub use listing::Listing;
pub use next_hop::{CallerLimits, NextHop, NextHopWork, Replay};
pub use overload::{Entry, Full, PlaceTerms, PlacedCall, Queued, QueuedEnd, enter, leave, needs_place};
pub use read_ahead::{LabelError, ReadAheadLimits};
pub use recorded::Answered;
pub use relay::{RelayError, RelayHooks, Relayed, Violation, relay};
pub use request::Request;
pub use request_context::RequestContext;
pub use requests::{RequestLimits, Requests};
pub use route_limits::{CallPlace, CoreLimits, RouteLimits};
pub use service::{Next, Service, serve};
pub use session_owners::SessionOwners;
pub use session_table::{SessionKey, SessionMap, SessionTable};
pub use task_calls::{AnswerSize, EndedCall, add_to_task, task_of};
