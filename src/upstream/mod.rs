//! Floor 3: connections to MCP servers, pooled per route and core.

mod pool;
mod resolve;

pub use pool::{Checkout, Upstream, UpstreamConnection, UpstreamError, UpstreamSettings};
#[cfg(feature = "sim")]
pub use resolve::NameTable;
pub use resolve::{ADDRESSES_MAX, ResolveError, ResolveRequest, Resolver, resolver};
