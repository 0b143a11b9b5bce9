//! HTTP/2 without input or output: its heads and trailers as those of HTTP/1.1, and back (RFC 9113, section 8), and what of its
//! frames has to be known before they are whole.
//!
//! Frames and HPACK are those of the `h2` crate. What it gives is written as HTTP/1.1 and read by [`wire::http1`], so that the
//! same rules decide what is passed on, whatever the version in which it came.
//!
//! [`wire::http1`]: crate::wire::http1

mod empty_data;
mod fields;
mod frames;
mod header_blocks;
mod request_head;
mod response_head;
mod server_frames;
mod small_frames;
mod trailers;

pub use empty_data::EmptyData;
pub use header_blocks::HeaderBlocks;
pub use request_head::{RequestError, request_of, write_request_head};
pub use response_head::{response_of, split_answer, write_response_head};
pub use server_frames::{SMALL_FRAMES_TOTAL_MAX, ServerFrames};
pub use trailers::{read_trailers, trailers_of};

/// With what a client begins a connection (RFC 9113, section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
