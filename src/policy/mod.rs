//! Floor 1: who may be spoken with. Pure decisions on addresses and times; what they lead to is done elsewhere.

mod network;
mod networks;
mod upstreams;

pub use network::{Network, NetworkError};
pub use networks::Networks;
pub use upstreams::{AllowedUpstreams, NotAllowed, private_networks};
