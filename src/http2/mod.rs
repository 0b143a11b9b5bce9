//! Floor 2: the parts that both sides of HTTP/2 share: the adapter of byte streams to the `h2` crate, the accounting of
//! queued bodies, and messages that are HTTP/1.1 on one side and HTTP/2 on the other.
//!
//! `serve` has the server's side, towards agents, `upstream` the client's side, towards MCP servers, and `link` both sides
//! of a connection between connector and edge in the protocol of cloudflared.

mod answer_watch;
mod io;
mod queue;
mod received;
mod sending;
mod sent_request;

pub use answer_watch::{AnswerWatch, ExpectedAnswer};
pub use io::{Io, Watch, poll_buffer};
pub use queue::{ConnectionQueue, Content, SMALL_LEN_MAX, SendPiece, StreamQueue};
pub use received::{ReceivedHead, ReceivedText};
pub use sending::{HeadText, MessageSendError, send_body};
pub use sent_request::{BegunRequest, SentRequest};
