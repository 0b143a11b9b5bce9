//! Floor 1: the wire formats, without input or output. Bytes and times go in; bytes and events come out.

mod answer_stream;
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

pub use answer_stream::AnswerStream;
pub use progress_scan::ProgressScan;
pub use refusal::RegistrationRefusal;
