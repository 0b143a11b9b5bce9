//! Floor 0: what every other module may speak of. Ids, limits, secrets, time and randomness that are passed in.
//!
//! Nothing here touches the network, the file system or a thread.

mod chunk;
mod ids;
mod rng;
mod secret;
mod time;

pub use chunk::Chunk;
pub use ids::{CoreId, LinkId, TUNNEL_ID_LEN_MAX, TunnelId, TunnelIdError};
pub use rng::Rng;
pub use secret::Secret;
pub use time::{Clock, Time};
