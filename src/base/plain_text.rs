/// Why bytes are not acceptable text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlainTextError {
    /// The text is UTF-16, as editors and shells of Windows write it.
    #[error("it is UTF-16: save it as UTF-8")]
    Utf16,
    /// There is a NUL byte in it.
    #[error("it has a NUL byte, so it is not a text, or not in UTF-8: save it as UTF-8")]
    Nul,
    /// It is in another encoding, or not a text.
    #[error("it is not UTF-8: save it as UTF-8")]
    NotUtf8,
}

/// The byte order mark, as UTF-8.
const BOM: &str = "\u{feff}";

/// The content of a text file, without the byte order mark that some editors write at its beginning.
///
/// # Errors
///
/// It is not UTF-8, or has a NUL byte. The error does not repeat the content.
pub fn plain_text(content: &[u8]) -> Result<&str, PlainTextError> {
    if content.starts_with(&[0xff, 0xfe]) || content.starts_with(&[0xfe, 0xff]) {
        return Err(PlainTextError::Utf16);
    }
    if content.contains(&0) {
        return Err(PlainTextError::Nul);
    }
    std::str::from_utf8(content).map(without_bom).map_err(|_| PlainTextError::NotUtf8)
}

/// The single value in a file or variable, without a byte order mark and surrounding white space. A value that was
/// written with `echo` ends with a newline.
#[must_use]
pub fn single_value(text: &str) -> &str {
    without_bom(text).trim()
}

fn without_bom(text: &str) -> &str {
    text.strip_prefix(BOM).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_dropped_and_other_encodings_are_named() {
        assert_eq!(plain_text(b"\xef\xbb\xbfa\n"), Ok("a\n"));
        assert_eq!(plain_text(b""), Ok(""));
        assert_eq!(plain_text(b"\xff\xfea\0"), Err(PlainTextError::Utf16));
        assert_eq!(plain_text(b"\xfe\xff\0a"), Err(PlainTextError::Utf16));
        assert_eq!(plain_text(b"a\0b\0"), Err(PlainTextError::Nul));
        assert_eq!(plain_text(b"\xe9t\xe9"), Err(PlainTextError::NotUtf8));
        assert_eq!(single_value("\u{feff} a b\r\n"), "a b");
    }
}
