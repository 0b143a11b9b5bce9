//! Floor 2: the parts that both sides of HTTP/2 share: the adapter of byte streams to the `h2` crate, and the
//! accounting of queued bodies.
//!
//! `serve` has the server's side, towards agents, and `upstream` the client's side, towards MCP servers.

mod io;
mod queue;

pub use io::{Io, Watch, poll_buffer};
pub use queue::{ConnectionQueue, Content, SMALL_LEN_MAX, SendPiece, StreamQueue};
