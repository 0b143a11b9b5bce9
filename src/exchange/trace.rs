use crate::latency::{TraceContext, TraceId};
use crate::wire::http1::RequestHead;

/// The header field that carries the trace id (W3C Trace Context).
const TRACEPARENT: &str = "traceparent";

/// The trace id in a request's `traceparent` field.
#[must_use]
pub fn trace_of(head: &RequestHead) -> Option<TraceId> {
    head.get(TRACEPARENT).and_then(TraceId::of_traceparent)
}

/// The context in a request's `traceparent` field.
#[must_use]
pub fn context_of(head: &RequestHead) -> Option<TraceContext> {
    head.get(TRACEPARENT).and_then(TraceContext::of_traceparent)
}
