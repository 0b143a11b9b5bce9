use crate::latency::TraceId;
use crate::wire::http1::RequestHead;

/// The header field with the trace of a call (W3C Trace Context).
const TRACEPARENT: &str = "traceparent";

/// The trace that a request names.
#[must_use]
pub fn trace_of(head: &RequestHead) -> Option<TraceId> {
    head.get(TRACEPARENT).and_then(TraceId::of_traceparent)
}
