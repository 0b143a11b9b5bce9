//! Floor 3: the upstreams: MCP servers that calls are carried to.

mod http_pool;
mod kinds;
mod resolve;

pub use http_pool::{HttpConnection, HttpPool};
pub use kinds::{Checkout, Upstream, UpstreamConnection, UpstreamError, UpstreamSettings};
#[cfg(feature = "sim")]
pub use resolve::NameTable;
pub use resolve::{ADDRESSES_MAX, ResolveError, ResolveRequest, Resolver, resolver};
