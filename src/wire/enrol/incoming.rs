use std::marker::PhantomData;

use zeroize::Zeroizing;

use crate::base::Secret;
use crate::wire::field::FieldError;

/// The length of a message's header: its length and its type, in bytes.
pub const HEADER_LEN: usize = 3;

/// How a peer violated the protocol of an enrolment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnrolFault {
    /// A message of a type that is not expected here.
    #[error("a message of the unknown type {0}")]
    UnknownType(u8),
    /// A message that is longer than its type permits.
    #[error("a message of {len} bytes, where at most {limit} are allowed")]
    TooLong {
        /// The length in its header, in bytes.
        len: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// A field that runs past the end of its message.
    #[error("a field runs past the end of its message")]
    Truncated,
    /// Bytes after the last field, or after the message.
    #[error("bytes after the end of a message")]
    TrailingBytes,
    /// A text that is not UTF-8 or has control characters.
    #[error("a text is not UTF-8 or has control characters")]
    BadText,
    /// A tunnel id that is not valid.
    #[error("an invalid tunnel id")]
    BadTunnelId,
    /// A length or number outside its range.
    #[error("a length or number outside its range")]
    FieldRange,
}

impl From<FieldError> for EnrolFault {
    fn from(error: FieldError) -> EnrolFault {
        match error {
            FieldError::Truncated => EnrolFault::Truncated,
            FieldError::TrailingBytes => EnrolFault::TrailingBytes,
            FieldError::BadText => EnrolFault::BadText,
            FieldError::Range => EnrolFault::FieldRange,
        }
    }
}

/// A message of an enrolment.
pub trait EnrolMessage: Sized {
    /// The longest payload of all its types, in bytes.
    const LEN_MAX: usize;

    /// Whether a type is one of this message's.
    fn has_type(kind: u8) -> bool;

    /// Decodes the payload of a message of one of its types.
    ///
    /// # Errors
    ///
    /// If the payload is malformed.
    fn decode(kind: u8, payload: &[u8]) -> Result<Self, EnrolFault>;

    /// Appends its payload to `out`, and returns its type.
    ///
    /// # Errors
    ///
    /// If a field is too long to be sent.
    fn encode_payload(&self, out: &mut Vec<u8>) -> Result<u8, EnrolFault>;

    /// The encoded message. It may hold a secret, and is zeroed when dropped.
    ///
    /// # Errors
    ///
    /// If a field is too long to be sent.
    fn encode(&self) -> Result<Secret, EnrolFault> {
        // The capacity is sufficient from the start: growing would leave a copy of a secret in freed memory.
        let mut out = Vec::with_capacity(HEADER_LEN + Self::LEN_MAX);
        out.extend_from_slice(&[0; HEADER_LEN]);
        let kind = self.encode_payload(&mut out)?;
        let len = out.len() - HEADER_LEN;
        if len > Self::LEN_MAX {
            return Err(EnrolFault::TooLong { len, limit: Self::LEN_MAX });
        }
        out[..2].copy_from_slice(&u16::try_from(len).map_err(|_| EnrolFault::FieldRange)?.to_be_bytes());
        out[2] = kind;
        Ok(Secret::new(out))
    }
}

/// Assembles one message. The header is checked as soon as it has arrived, and at most the maximum length of the
/// message is kept.
pub struct EnrolReader<M> {
    bytes: Zeroizing<Vec<u8>>,
    of: PhantomData<M>,
}

impl<M: EnrolMessage> Default for EnrolReader<M> {
    fn default() -> EnrolReader<M> {
        EnrolReader { bytes: Zeroizing::new(Vec::new()), of: PhantomData }
    }
}

impl<M: EnrolMessage> EnrolReader<M> {
    /// Adds received bytes; returns the message once it is complete.
    ///
    /// # Errors
    ///
    /// If the peer violated the protocol. No more bytes may be added then.
    pub fn receive(&mut self, mut fresh: &[u8]) -> Result<Option<M>, EnrolFault> {
        while !fresh.is_empty() {
            let missing = self.missing()?;
            if missing == 0 {
                return Err(EnrolFault::TrailingBytes);
            }
            let (taken, rest) = fresh.split_at(missing.min(fresh.len()));
            if self.bytes.is_empty() {
                self.bytes.reserve_exact(HEADER_LEN + M::LEN_MAX);
            }
            self.bytes.extend_from_slice(taken);
            fresh = rest;
        }
        if self.missing()? > 0 {
            return Ok(None);
        }
        M::decode(self.bytes[2], &self.bytes[HEADER_LEN..]).map(Some)
    }

    /// How many bytes are missing from the header or, after that, from the message.
    fn missing(&self) -> Result<usize, EnrolFault> {
        let Some(&[high, low, kind]) = self.bytes.first_chunk() else { return Ok(HEADER_LEN - self.bytes.len()) };
        let len = usize::from(u16::from_be_bytes([high, low]));
        if !M::has_type(kind) {
            return Err(EnrolFault::UnknownType(kind));
        }
        if len > M::LEN_MAX {
            return Err(EnrolFault::TooLong { len, limit: M::LEN_MAX });
        }
        Ok(HEADER_LEN + len - self.bytes.len())
    }
}
