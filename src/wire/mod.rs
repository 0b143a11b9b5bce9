//! Floor 1: the wire formats, without input or output. Bytes and times go in; bytes and events come out.

mod codes;
pub mod enrol;
pub mod event_stream;
mod field;
mod flood;
pub mod forward_proxy;
pub mod http1;
pub mod http2;
pub mod jsonrpc;
pub mod mcp;
pub mod mux;
pub mod oauth;
mod progress_scan;
pub mod proxy;
mod refusal;
mod scan;
pub mod sse;
mod utf8;

pub use progress_scan::ProgressScan;
pub use refusal::RegistrationRefusal;
pub use utf8::Utf8Check;
