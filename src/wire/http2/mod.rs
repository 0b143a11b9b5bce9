//! HTTP/2 without input or output: converts its heads and trailers to those of HTTP/1.1 and back (RFC 9113, section 8),
//! and inspects frames before they are complete.
//!
//! The `h2` crate implements frames and HPACK. Its heads are written as HTTP/1.1 and parsed by [`wire::http1`], so that
//! the same rules apply to every version.
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
pub(in crate::wire) use fields::{lines, split_field};
pub use header_blocks::HeaderBlocks;
pub use request_head::{RequestError, request_of, write_request_head};
pub use response_head::{response_of, split_answer, write_response_head};
pub use server_frames::{SMALL_FRAMES_TOTAL_MAX, ServerFrames};
pub use trailers::{read_trailers, trailers_of};

/// The bytes with which a client begins a connection (RFC 9113, section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
