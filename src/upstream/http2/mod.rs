//! HTTP/2 to a server (RFC 9113): many calls on one connection.
//!
//! The `h2` crate has frames, HPACK and flow control. An [`Http2Exchange`] is one call: a byte stream of HTTP/1.1, which is
//! carried as any other, on a stream of a connection of HTTP/2. So one parser checks all responses, and one relay carries them.

mod connection;
mod connections;
mod exchange;
mod incoming;
mod outgoing;
mod silence;

pub(super) use connection::{Http2Connection, Http2Figures, Http2Terms, Notes, Place};
pub(super) use connections::{Attempt, Http2Connections};
pub use exchange::Http2Exchange;
