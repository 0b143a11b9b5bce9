//! What is measured of the parts that every call goes through: the same pieces of work for the clock (`cargo bench --bench
//! parts`) and for the count of instructions (`cargo bench --profile instructions --bench instructions`).

pub(crate) mod call;
mod call_http2;
mod governance;
mod http1;
mod jsonrpc;
mod latency;
mod mux;
mod records;
mod route;
mod sse;
#[path = "../../tests/alloc/tls_pair.rs"]
mod tls_pair;

/// A piece of work, set up: each time it is run it does the same.
pub(crate) type Work = Box<dyn FnMut()>;

/// A piece of work and how it is set up.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) set_up: fn() -> Work,
}

const fn case(name: &'static str, set_up: fn() -> Work) -> Case {
    Case { name, set_up }
}

/// What governance adds to a call, which is counted when it is asked for.
pub(crate) const GOVERNANCE: &[Case] = &[
    case("call/one", || call::calls(1)),
    case("call/one_governed", || call::governed_calls(1)),
    case("call/64_at_once", || call::calls(64)),
    case("call/64_at_once_governed", || call::governed_calls(64)),
    case("governance/decision", governance::decision),
    case("governance/1000_tools", || governance::filtered_list(false)),
    case("governance/1000_tools_pinned", || governance::filtered_list(true)),
    case("governance/redact_1_kib", governance::redaction),
    case("governance/audit_line", governance::chained_line),
];

/// What every call goes through. The names stand in the baseline.
pub(crate) const CASES: &[Case] = &[
    case("call/one", || call::calls(1)),
    case("call/64_at_once", || call::calls(64)),
    case("call/one_guarded", || call::guarded_calls(1)),
    case("call/64_at_once_guarded", || call::guarded_calls(64)),
    case("call/one_over_http2", || call::calls_over_http2(1)),
    case("call/64_at_once_over_http2", || call::calls_over_http2(64)),
    case("mux/one_call", || mux::calls(1)),
    case("mux/64_calls_at_once", || mux::calls(64)),
    case("mux/64_kib_down", mux::bulk),
    case("http1/request_on", http1::request),
    case("http1/response_on", http1::response),
    case("http1/20_chunks_on", http1::chunks),
    case("jsonrpc/peek_1_kib", jsonrpc::peek),
    case("sse/20_events", sse::events),
    case("records/seal_1_kib", || records::seal(1024)),
    case("records/seal_16_kib", || records::seal(16 * 1024)),
    case("records/seal_and_open_1_kib", || records::seal_and_open(1024)),
    case("records/seal_and_open_16_kib", || records::seal_and_open(16 * 1024)),
    case("latency/record_duration", latency::duration),
    case("latency/record_call", latency::call),
    case("route/exact_host", || route::lookup(false)),
    case("route/wildcard_host", || route::lookup(true)),
    case("route/choose_link", route::choice),
];
