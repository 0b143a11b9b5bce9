//! Floor 3: the upstreams, which are the MCP servers that receive the calls.

mod http_pool;
mod kinds;

pub use http_pool::{HttpConnection, HttpPool};
pub use kinds::{Checkout, Upstream, UpstreamConnection, UpstreamError, UpstreamSettings};
