//! Connections of cloudflared at the edge, which is the client of HTTP/2 on them.

mod connection;
mod control;
mod ended;
mod push;
mod stream;

pub use connection::{CloudflaredEdgeLink, CloudflaredEdgeTerms};
pub use ended::{CloudflaredEdgeEnded, RegistrationFault};
pub use stream::CloudflaredEdgeStream;
