//! Floor 1: the wire formats, without input or output. Bytes and times go in; bytes and events come out.

mod answer_scan;
mod answer_stream;
pub mod cloudflared;
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
mod method_scan;
pub mod mux;
pub mod oauth;
pub mod proxy;
pub mod quic;
mod refusal;
mod scan;
pub mod sse;
pub mod stdio;
mod utf8;

pub use answer_scan::{AnswerSays, AnswerScan};
pub use answer_stream::AnswerStream;
pub use method_scan::MethodScan;
pub use refusal::RegistrationRefusal;
pub(crate) use scan::text_stop;
pub use utf8::Utf8Check;
