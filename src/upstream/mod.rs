//! Floor 3: the upstreams: MCP servers that calls are carried to.

mod http_pool;
mod kinds;

pub use http_pool::{HttpConnection, HttpPool};
pub use kinds::{Checkout, Upstream, UpstreamConnection, UpstreamError, UpstreamSettings};
