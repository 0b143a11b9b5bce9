use super::fault::Fault;

/// Reads the fields of one control payload, front to back.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(payload: &'a [u8]) -> Fields<'a> {
        Fields { rest: payload }
    }

    pub(super) fn bytes(&mut self, n: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(Fault::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Fault> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, Fault> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Fault> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Fault> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// Bytes behind a one-byte or two-byte length, `min` to `max` of them.
    pub(super) fn sized(&mut self, len: usize, min: usize, max: usize) -> Result<&'a [u8], Fault> {
        if len < min || len > max {
            return Err(Fault::FieldRange);
        }
        self.bytes(len)
    }

    /// A text with a one-byte length in front: UTF-8, no control characters.
    pub(super) fn text(&mut self, min: usize, max: usize) -> Result<&'a str, Fault> {
        let len = usize::from(self.u8()?);
        let text = std::str::from_utf8(self.sized(len, min, max)?).map_err(|_| Fault::BadText)?;
        if text.chars().any(char::is_control) { Err(Fault::BadText) } else { Ok(text) }
    }

    /// Asserts that every byte has been read.
    pub(super) fn end(self) -> Result<(), Fault> {
        if self.rest.is_empty() { Ok(()) } else { Err(Fault::TrailingBytes) }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Fault::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }
}

/// Writes a text with its one-byte length. Callers keep to the limit of the field, which is below 256.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    debug_assert!(text.len() <= usize::from(u8::MAX));
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

/// The longest beginning of `text` that has at most `max` bytes, without control characters' help to break a log line.
pub(super) fn clip(text: &str, max: usize) -> String {
    let mut clipped = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        if clipped.len() + c.len_utf8() > max {
            break;
        }
        clipped.push(c);
    }
    clipped
}
