//! Floor 2: what both sides of HTTP/2 share: a byte stream as the `h2` crate reads and writes it, and the bodies that wait in it.
//!
//! `serve` has the server's side, towards agents, and `upstream` the client's side, towards MCP servers.

mod io;
mod queue;

pub use io::{Io, Watch, poll_buffer};
pub use queue::{ConnectionQueue, Content, SMALL_LEN_MAX, SendPiece, StreamQueue};
