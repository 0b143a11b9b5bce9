//! Floor 2: QUIC on a core: the socket, the timer and the tasks around [`crate::wire::quic`].

mod connection;
mod crypto;
mod endpoint;
mod error;
#[cfg(test)]
mod pair_tests;
mod streams;

pub use connection::{QuicConnection, QuicNews};
pub use crypto::quic_client;
pub use endpoint::{MovedDatagram, QuicEndpoint, QuicRoles};
pub use error::QuicError;
pub use streams::{QuicStream, QuicStreams};
