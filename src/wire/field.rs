use crate::wire::scan::first_control;

/// Why the fields of a message cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wire) enum FieldError {
    /// A field runs past the end.
    Truncated,
    /// Bytes follow the last field.
    TrailingBytes,
    /// A text is not UTF-8 or has control characters.
    BadText,
    /// A length or a number is outside its range.
    Range,
}

/// Decodes the fields of a message in order.
pub(in crate::wire) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(in crate::wire) fn new(payload: &'a [u8]) -> Fields<'a> {
        Fields { rest: payload }
    }

    pub(in crate::wire) fn bytes(&mut self, n: usize) -> Result<&'a [u8], FieldError> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(FieldError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(in crate::wire) fn u8(&mut self) -> Result<u8, FieldError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(in crate::wire) fn u16(&mut self) -> Result<u16, FieldError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(in crate::wire) fn u32(&mut self) -> Result<u32, FieldError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(in crate::wire) fn u64(&mut self) -> Result<u64, FieldError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// Bytes after a length of one or two bytes, `min` to `max` of them.
    pub(in crate::wire) fn sized(&mut self, len: usize, min: usize, max: usize) -> Result<&'a [u8], FieldError> {
        if len < min || len > max {
            return Err(FieldError::Range);
        }
        self.bytes(len)
    }

    /// A text after a one-byte length: UTF-8, no control characters.
    pub(in crate::wire) fn text(&mut self, min: usize, max: usize) -> Result<&'a str, FieldError> {
        let len = usize::from(self.u8()?);
        let text = std::str::from_utf8(self.sized(len, min, max)?).map_err(|_| FieldError::BadText)?;
        let has_control = match text.is_ascii() {
            true => first_control(text.as_bytes()).is_some(),
            false => text.chars().any(char::is_control),
        };
        if has_control { Err(FieldError::BadText) } else { Ok(text) }
    }

    /// Bytes after a two-byte length, `min` to `max` of them.
    pub(in crate::wire) fn long(&mut self, min: usize, max: usize) -> Result<&'a [u8], FieldError> {
        let len = usize::from(self.u16()?);
        self.sized(len, min, max)
    }

    /// Whether all bytes were decoded.
    pub(in crate::wire) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Checks that all bytes were decoded.
    pub(in crate::wire) fn end(self) -> Result<(), FieldError> {
        if self.rest.is_empty() { Ok(()) } else { Err(FieldError::TrailingBytes) }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FieldError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(FieldError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }
}

/// Writes a text with its one-byte length. Callers respect the limit of the field, which is below 256.
pub(in crate::wire) fn put_text(out: &mut Vec<u8>, text: &str) {
    debug_assert!(text.len() <= usize::from(u8::MAX));
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

/// Writes bytes with their two-byte length, `min` to `max` of them.
pub(in crate::wire) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8], min: usize, max: usize) -> Result<(), FieldError> {
    let len = u16::try_from(bytes.len()).ok().filter(|_| (min..=max).contains(&bytes.len()));
    out.extend_from_slice(&len.ok_or(FieldError::Range)?.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

/// The longest prefix of `text` of at most `max` bytes, without control characters, so that it cannot break a log line.
pub(in crate::wire) fn clip(text: &str, max: usize) -> String {
    let mut clipped = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        if clipped.len() + c.len_utf8() > max {
            break;
        }
        clipped.push(c);
    }
    clipped
}
