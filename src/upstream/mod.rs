//! Floor 3: the upstreams, which are the MCP servers that receive the calls.

mod dialler;
mod era_bridge;
mod error;
mod fault_log;
mod http1_demand;
mod http2;
mod http_pool;
mod kinds;
mod settings;

pub use era_bridge::{EraBridge, KnownEras};
pub use error::UpstreamError;
pub use http_pool::{HttpConnection, HttpPool};
pub use http2::Http2Exchange;
pub use kinds::{Checkout, Upstream, UpstreamConnection};
pub use settings::UpstreamSettings;
