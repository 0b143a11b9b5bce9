use aws_lc_rs::digest;

/// The SHA-256 of a line, without its line feed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineHash(pub [u8; 32]);

impl LineHash {
    /// The hash of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> LineHash {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
        LineHash(hash)
    }

    /// The hash as 64 hexadecimal digits, as it stands in lines.
    #[must_use]
    pub fn text(self) -> String {
        hex(&self.0)
    }

    /// Parses 64 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<LineHash> {
        unhex(text).map(LineHash)
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut text = Vec::with_capacity(bytes.len() * 2);
    push_hex(&mut text, bytes);
    text.into_iter().map(char::from).collect()
}

/// Appends bytes as lower-case hexadecimal digits.
pub(super) fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// Decodes the output of [`hex`]; `None` for any other text, including upper-case digits.
#[must_use]
pub fn unhex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let digit = |byte: u8| DIGITS.iter().position(|known| *known == byte).and_then(|at| u8::try_from(at).ok());
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_read_back_and_other_spellings_are_not() {
        assert_eq!(hex(&[0, 0x1f, 0xff]), "001fff");
        assert_eq!(unhex::<3>(b"001fff"), Some([0, 0x1f, 0xff]));
        for wrong in ["001fFf", "001ff", "001fff0", "001ffg", "0x1fff"] {
            assert_eq!(unhex::<3>(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
