use std::fmt;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Bytes that are shown as lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug)]
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut text = Vec::with_capacity(bytes.len() * 2);
    push_hex(&mut text, bytes);
    text.into_iter().map(char::from).collect()
}

/// Appends bytes as lower-case hexadecimal digits.
pub fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// Reads bytes from their hexadecimal digits in either case; `None` for any other text.
#[must_use]
pub fn unhex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Reads bytes from the digits that [`hex`] writes; `None` for any other text, also with capitals. For texts of which no second
/// spelling may count.
#[must_use]
pub fn unhex_lower<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.iter().any(u8::is_ascii_uppercase) { None } else { unhex(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_read_back_and_other_spellings_are_not() {
        assert_eq!(hex(&[0, 0x1f, 0xff]), "001fff");
        assert_eq!(Hex(&[0, 0x1f, 0xff]).to_string(), "001fff");
        for text in ["001fff", "001FfF"] {
            assert_eq!(unhex::<3>(text.as_bytes()), Some([0, 0x1f, 0xff]));
        }
        for wrong in ["001ff", "001fff0", "001ffg", "0x1fff", "+01fff", ""] {
            assert_eq!(unhex::<3>(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(unhex_lower::<3>(b"001fff"), Some([0, 0x1f, 0xff]));
        for wrong in ["001FfF", "001ff", "001ffg"] {
            assert_eq!(unhex_lower::<3>(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
