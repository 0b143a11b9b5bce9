use super::facts::Framing;
use super::text::push_field;

/// The longest chunk header, in bytes: sixteen digits and CRLF. With that much headroom a chunk is sent in one write.
pub const CHUNK_HEAD_LEN_MAX: usize = 18;

/// Why data does not fit the framing that the head announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// More bytes than announced.
    #[error("the body is longer than the announced {announced} bytes: the connection must be closed")]
    TooLong {
        /// The length in bytes that the head announced in `Content-Length`.
        announced: u64,
    },
    /// Fewer bytes than announced.
    #[error("the body ends {missing} bytes early: the connection must be closed")]
    TooShort {
        /// How many bytes are missing.
        missing: u64,
    },
}

/// The header of a chunk, at most [`CHUNK_HEAD_LEN_MAX`] bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkHead {
    bytes: [u8; CHUNK_HEAD_LEN_MAX],
    start: u8,
}

impl AsRef<[u8]> for ChunkHead {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[usize::from(self.start)..]
    }
}

impl ChunkHead {
    const EMPTY: ChunkHead = ChunkHead { bytes: [0; CHUNK_HEAD_LEN_MAX], start: CHUNK_HEAD_LEN_MAX as u8 };

    fn of(len: usize) -> ChunkHead {
        let mut head = ChunkHead::EMPTY;
        let digits_end = CHUNK_HEAD_LEN_MAX - 2;
        head.bytes[digits_end..].copy_from_slice(b"\r\n");
        let mut rest = len;
        let mut start = digits_end;
        loop {
            start -= 1;
            head.bytes[start] = b"0123456789abcdef"[rest & 0xf];
            rest >>= 4;
            if rest == 0 {
                break;
            }
        }
        head.start = start as u8;
        head
    }
}

/// The framing before and after a piece of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrap {
    /// Sent before the data; fits into a headroom of [`CHUNK_HEAD_LEN_MAX`].
    pub before: ChunkHead,
    /// Sent after the data; at most 7 bytes.
    pub after: &'static [u8],
}

/// Frames a body as its head announced (RFC 9112 section 7.1), without touching the data.
#[derive(Clone, Copy, Debug)]
pub struct BodyEncoder {
    framing: Framing,
    sent: u64,
}

impl BodyEncoder {
    /// Creates an encoder for a body with this framing.
    #[must_use]
    pub const fn new(framing: Framing) -> BodyEncoder {
        BodyEncoder { framing, sent: 0 }
    }

    /// The framing for `len` bytes of data, after which more follows.
    ///
    /// # Errors
    ///
    /// [`EncodeError::TooLong`] if that is more than the head announced.
    pub fn data(&mut self, len: usize) -> Result<Wrap, EncodeError> {
        self.count(len)?;
        match self.framing {
            // An empty chunk would end the body.
            Framing::Chunked if len > 0 => Ok(Wrap { before: ChunkHead::of(len), after: b"\r\n" }),
            _ => Ok(Wrap { before: ChunkHead::EMPTY, after: b"" }),
        }
    }

    /// The framing for the last `len` bytes of data, so that data and end are sent in one write. `len` may be 0.
    ///
    /// # Errors
    ///
    /// If the body is not as long as the head announced.
    #[cfg(test)]
    pub fn last(&mut self, len: usize) -> Result<Wrap, EncodeError> {
        let wrap = self.data(len)?;
        self.check_complete()?;
        match self.framing {
            Framing::Chunked if len > 0 => Ok(Wrap { after: b"\r\n0\r\n\r\n", ..wrap }),
            Framing::Chunked => Ok(Wrap { after: b"0\r\n\r\n", ..wrap }),
            _ => Ok(wrap),
        }
    }

    /// Appends the end of the body with its trailers. Only a chunked body can have trailers; otherwise they are
    /// dropped.
    ///
    /// # Errors
    ///
    /// [`EncodeError::TooShort`] if the body is not as long as the head announced.
    pub fn end<'a>(
        &mut self,
        trailers: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        self.check_complete()?;
        if self.framing == Framing::Chunked {
            out.extend_from_slice(b"0\r\n");
            trailers.for_each(|(name, value)| push_field(out, name, value));
            out.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    fn count(&mut self, len: usize) -> Result<(), EncodeError> {
        self.sent = self.sent.saturating_add(len as u64);
        match self.announced() {
            Some(announced) if self.sent > announced => Err(EncodeError::TooLong { announced }),
            _ => Ok(()),
        }
    }

    fn check_complete(&self) -> Result<(), EncodeError> {
        match self.announced().map_or(0, |announced| announced.saturating_sub(self.sent)) {
            0 => Ok(()),
            missing => Err(EncodeError::TooShort { missing }),
        }
    }

    const fn announced(&self) -> Option<u64> {
        match self.framing {
            Framing::None => Some(0),
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::UntilClose => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_wrapped_and_the_end_joins_the_last() {
        let mut encoder = BodyEncoder::new(Framing::Chunked);
        let first = encoder.data(0x1af).unwrap();
        assert_eq!((first.before.as_ref(), first.after), (&b"1af\r\n"[..], &b"\r\n"[..]));
        let none = encoder.data(0).unwrap();
        assert_eq!((none.before.as_ref(), none.after), (&b""[..], &b""[..]));
        let last = encoder.last(2).unwrap();
        assert_eq!((last.before.as_ref(), last.after), (&b"2\r\n"[..], &b"\r\n0\r\n\r\n"[..]));
        assert_eq!(ChunkHead::of(usize::MAX).as_ref().len(), CHUNK_HEAD_LEN_MAX);
    }

    #[test]
    fn a_length_is_kept_exactly() {
        let mut encoder = BodyEncoder::new(Framing::Length(5));
        assert_eq!(encoder.data(3).unwrap().before.as_ref(), b"");
        assert_eq!(encoder.last(1), Err(EncodeError::TooShort { missing: 1 }));
        assert_eq!(encoder.last(1).map(|wrap| wrap.after), Ok(&b""[..]));
        assert_eq!(encoder.data(1), Err(EncodeError::TooLong { announced: 5 }));
        assert_eq!(BodyEncoder::new(Framing::None).data(1), Err(EncodeError::TooLong { announced: 0 }));
    }
}
