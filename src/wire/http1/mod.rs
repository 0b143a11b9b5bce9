//! HTTP/1.1 without input or output: heads, bodies and answers, for both sides of an exchange.
//!
//! Bytes arrive in pieces of any size, and the result does not depend on how they are cut. The strict grammar of RFC
//! 9112 is accepted. Anything that two parsers could interpret differently is refused with a [`HeadError`] or a
//! [`BodyError`], because forwarding it could make request smuggling possible.
//!
//! All types here are reused for the next message and keep their capacity, so that a warm connection allocates nothing
//! per message.

mod answer;
mod authority;
mod body_decoder;
mod body_encoder;
mod caller_timeout;
mod cors;
mod edge_identity;
mod error;
mod facts;
mod forward;
mod method;
mod names;
mod public_address;
mod request;
mod response;
mod section;
mod text;

pub use answer::{Answer, CONTINUE, write_metadata};
pub use authority::AuthorityError;
pub use body_decoder::{BodyDecoder, Decoded};
pub use body_encoder::{BodyEncoder, CHUNK_HEAD_LEN_MAX, ChunkHead, EncodeError, Wrap};
pub use caller_timeout::MalformedTimeout;
pub use cors::Cors;
pub use edge_identity::AmbiguousIdentity;
pub use error::{BodyError, HeadError};
pub use facts::Framing;
pub use forward::{OriginEdit, PolicyEdit, RequestEdits, ResponseEdits, TimeLeftEdit, write_request, write_response};
pub use method::{Method, Version};
pub(in crate::wire) use names::EDGE_IDENTITY;
pub use public_address::PublicAddress;
pub use request::RequestHead;
pub use response::ResponseHead;

/// The longest head that is accepted, in bytes, including the empty line.
pub const HEAD_LEN_MAX: usize = 64 * 1024;
/// The most header fields of one head.
pub const HEADERS_MAX: usize = 100;
/// The longest method that is accepted, in bytes.
pub const METHOD_LEN_MAX: usize = 32;
/// The most options in all `Connection` fields of one head.
pub const CONNECTION_OPTIONS_MAX: usize = 16;
/// The most elements in all `Connection` fields, including empty ones, of which a reasonable number must be accepted
/// (RFC 9110 section 5.6.1).
pub const CONNECTION_ELEMENTS_MAX: usize = 64;
/// The most digits of a chunk size, including leading zeros.
pub const CHUNK_SIZE_DIGITS_MAX: usize = 16;
/// The longest extension of one chunk, in bytes.
pub const CHUNK_EXTENSION_LEN_MAX: usize = 256;
/// The most bytes of all chunk extensions of one body.
pub const CHUNK_EXTENSIONS_LEN_MAX: usize = 4096;
/// The longest trailer section, in bytes, including the empty line.
pub const TRAILERS_LEN_MAX: usize = 8192;
/// The most trailer fields of one body.
pub const TRAILERS_MAX: usize = 32;

/// The progress of reading a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The head is complete. It used the first `len` bytes of the input; the rest belongs to the body or the next
    /// message.
    Complete {
        /// The number of input bytes that belong to the head.
        len: usize,
    },
    /// All of the input was used and more is needed.
    Partial,
}

#[cfg(test)]
mod tests;
