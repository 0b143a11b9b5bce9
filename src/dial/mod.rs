//! Floor 2: ways out: names, addresses, and connections to the first address that answers.

mod connect;
mod names;
mod race;
mod resolve;

pub use connect::{DialError, connect_first, connect_one};
pub use names::Names;
#[cfg(feature = "sim")]
pub use resolve::NameTable;
pub use resolve::{ADDRESSES_MAX, ResolveError, ResolveRequest, Resolver, resolver};
