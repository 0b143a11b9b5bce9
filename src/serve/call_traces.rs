//! Sampled calls, as they are handed to the export of traces.

use crate::audit::session_hash;
use crate::exchange::context_of;
use crate::latency::{CallOrigin, CallPoints, CallRecord, CallTrace, SampledCall, TextStart, TraceContext, TraceQueue};
use crate::serve::request::Request;
use crate::wire::http1::Method;
use crate::wire::mcp::{PROTOCOL_VERSION, SESSION_ID};

/// The trace contexts of a request: in its head, and in its message.
fn contexts_of(request: &mut impl Request) -> [Option<TraceContext>; 2] {
    let of_head = context_of(request.head());
    [of_head, request.label().and_then(|label| label.trace_context())]
}

/// Whether the call of an edge is sampled. `origin` identifies it.
#[cold]
pub fn sample_at_edge(queue: &TraceQueue, request: &mut impl Request, origin: CallOrigin) -> Option<SampledCall> {
    let [of_head, of_message] = contexts_of(request);
    queue.sample_at_edge(of_head, of_message, origin)
}

/// Whether the call of a connector is sampled. `edge` identifies it, if the edge has exactly one span for it.
#[cold]
pub fn sample_at_connector(
    queue: &TraceQueue,
    request: &mut impl Request,
    edge: Option<CallOrigin>,
) -> Option<SampledCall> {
    let [of_head, of_message] = contexts_of(request);
    queue.sample_at_connector(of_head, of_message, edge)
}

/// Hands a sampled call that has ended to the export. Cold, so that other calls do not pay for it.
#[cold]
pub fn export_call(
    queue: &TraceQueue,
    request: &mut impl Request,
    sampled: SampledCall,
    record: CallRecord,
    points: CallPoints,
    route: &str,
) {
    let head = request.head();
    let text = |name: &str| head.get(name).and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default();
    let http_method = match head.method() {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Delete => "DELETE",
        Method::Options => "OPTIONS",
        Method::Other => "_OTHER",
    };
    let revision = TextStart::of(text(PROTOCOL_VERSION));
    let session = head.get(SESSION_ID).filter(|session| !session.is_empty()).map(session_hash);
    let Some(label) = request.label() else { return };
    let rpc_id = TextStart::of(label.rpc_id().unwrap_or_default());
    let call = label.call();
    let method = call.method().unwrap_or_default();
    let target = TextStart::of(call.target().unwrap_or_default());
    let route = TextStart::of(route);
    queue.push(CallTrace { record, points, sampled, route, http_method, method, target, rpc_id, revision, session });
}
