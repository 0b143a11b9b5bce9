//! Floor 3: connections to MCP servers, pooled per route and core.

mod pool;
mod resolve;

pub use pool::{Checkout, Upstream, UpstreamConnection, UpstreamError, UpstreamSettings};
pub use resolve::{ADDRESSES_MAX, NameTable, ResolveError, ResolveRequest, Resolver, resolver};
