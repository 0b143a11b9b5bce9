//! HTTP/2 to a server (RFC 9113): many calls on one connection.
//!
//! The `h2` crate does frames, HPACK and flow control. An [`Http2Exchange`] presents one HTTP/2 stream as an HTTP/1.1
//! byte stream, so the same parser checks all responses and the same relay carries them.

mod connection;
mod connections;
mod exchange;
mod incoming;
mod silence;

pub(super) use connection::{Http2Connection, Http2Figures, Http2Terms, Notes, Place};
pub(super) use connections::{Attempt, Http2Connections};
pub use exchange::Http2Exchange;
