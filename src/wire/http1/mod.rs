//! HTTP/1.1 without input or output: heads, bodies and answers, for both sides of an exchange.
//!
//! Bytes come in as they arrive, in any pieces, and the outcome does not depend on the pieces. What is accepted is the
//! strict grammar of RFC 9112: whatever two parsers could read in two ways is refused, with a [`HeadError`] or a
//! [`BodyError`] that names it, because a tunnel that passes it on would help a request to be smuggled.
//!
//! Everything here is an owner that is used again for the next message and keeps its capacity, so that a connection
//! allocates nothing per message once it is warm.

mod answer;
mod authority;
mod body_decoder;
mod body_encoder;
mod error;
mod facts;
mod forward;
mod method;
mod names;
mod request;
mod response;
mod section;

pub use answer::Answer;
#[cfg(feature = "internals")]
pub use answer::CONTINUE;
pub use authority::AuthorityError;
pub use body_decoder::{BodyDecoder, Decoded};
pub use body_encoder::{BodyEncoder, CHUNK_HEAD_LEN_MAX, ChunkHead, EncodeError, Wrap};
pub use error::{BodyError, HeadError};
pub use facts::Framing;
pub use forward::{RequestEdits, ResponseEdits, write_request, write_response};
pub use method::{Method, Version};
pub use request::RequestHead;
pub use response::ResponseHead;

/// The longest head that is read, in bytes, the empty line included.
pub const HEAD_LEN_MAX: usize = 64 * 1024;
/// The most header fields of one head.
pub const HEADERS_MAX: usize = 100;
/// The longest method that is read, in bytes.
pub const METHOD_LEN_MAX: usize = 32;
/// The most options that all `Connection` fields of one head may name together.
pub const CONNECTION_OPTIONS_MAX: usize = 16;
/// The most elements of all `Connection` fields together, with the empty ones, of which a reasonable number must be taken
/// (RFC 9110 section 5.6.1).
pub const CONNECTION_ELEMENTS_MAX: usize = 64;
/// The most digits of a chunk size, leading zeros included.
pub const CHUNK_SIZE_DIGITS_MAX: usize = 16;
/// The longest extension of one chunk, in bytes.
pub const CHUNK_EXTENSION_LEN_MAX: usize = 256;
/// The most bytes that all chunk extensions of one body may take together.
pub const CHUNK_EXTENSIONS_LEN_MAX: usize = 4096;
/// The longest trailer section, in bytes, the empty line included.
pub const TRAILERS_LEN_MAX: usize = 8192;
/// The most trailer fields of one body.
pub const TRAILERS_MAX: usize = 32;

/// How far a head has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The head is whole. It took the first `len` bytes of the input just given; what follows belongs to the body or to
    /// the next message.
    Complete {
        /// How many bytes of the input belong to the head.
        len: usize,
    },
    /// All of the input was taken and more is needed.
    Partial,
}

#[cfg(test)]
mod tests;
