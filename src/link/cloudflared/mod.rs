//! Connections in the protocol of cloudflared over HTTP/2 and QUIC, as carriers of calls.
//!
//! A call is HTTP/1.1 to the code above. Its head and body become those of a stream of HTTP/2 or QUIC, as they are sent.

mod connection;
mod control;
mod counts;
mod edge;
mod ended;
mod heard;
mod http2_call;
mod quic_call;
mod quic_connection;
mod stream;

pub use connection::{CloudflaredLink, CloudflaredPush, CloudflaredTerms, RegisteredConnection};
pub use counts::CloudflaredCounts;
pub use edge::{
    CloudflaredEdgeEnded, CloudflaredEdgeLink, CloudflaredEdgeStream, CloudflaredEdgeTerms, RegistrationFault,
};
pub use ended::{CloudflaredEnded, RegisterError};
pub use stream::CloudflaredStream;
