//! Requests of HTTP/2 (RFC 9113): many on one connection at the same time, each on its own stream.
//!
//! The `h2` crate implements the frames, HPACK, flow control and most limits. [`serve_http2`] runs one of its
//! connections on a byte stream and gives each request to an [`Http2Service`], which serves it in a task of its own as
//! an [`Http2Request`].

mod body;
mod call;
mod connection;
mod reading;
mod request;
mod responder;
mod rest;
mod stream;

pub use call::Http2Call;
pub use connection::{Http2End, Http2Limits, Http2Service, STREAMS_MAX, serve_http2};
pub use request::{Http2Request, Http2Terms};
pub use stream::Http2Stream;
