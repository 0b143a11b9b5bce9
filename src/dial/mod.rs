//! Floor 2: outgoing connections: name resolution, the first address that answers, and forward proxies.

mod connect;
mod names;
mod proxy;
mod race;
mod resolve;

pub use connect::{DialError, connect_first, connect_one};
pub use names::Names;
pub use proxy::{Proxy, ProxyError};
#[cfg(feature = "sim")]
pub use resolve::NameTable;
pub use resolve::{ADDRESSES_MAX, ResolveError, ResolveRequest, Resolver, resolver};
