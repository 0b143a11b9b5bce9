//! Searches through text, eight bytes at a time.
//!
//! Heads are searched for forbidden bytes, and messages for the ends of texts. One byte at a time, this was most of a
//! parser's work.

use memchr::memchr2;

/// The number of bytes that are checked together.
const WORD: usize = size_of::<u64>();
/// The lowest bit of each byte of a word.
const ONES: u64 = u64::MAX / 0xff;
/// The highest bit of each byte of a word.
const HIGHS: u64 = ONES * 0x80;

/// The position of the first colon.
pub(in crate::wire) fn first_colon(text: &[u8]) -> Option<usize> {
    let (words, rest) = text.as_chunks::<WORD>();
    for (nth, word) in words.iter().enumerate() {
        let found = zeros(u64::from_le_bytes(*word) ^ (ONES * u64::from(b':')));
        if found != 0 {
            return Some(nth * WORD + found.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(|&byte| byte == b':')?;
    Some(words.len() * WORD + at)
}

/// Most texts of a message end within this many bytes. For longer ones a search with wider registers is faster.
const SHORT: usize = 8 * WORD;

/// The position of the first control character: a byte below 0x20, or 0x7f.
pub(in crate::wire) fn first_control(text: &[u8]) -> Option<usize> {
    let (words, rest) = text.as_chunks::<WORD>();
    for (nth, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = below_space(word) | zeros(word ^ (ONES * 0x7f));
        if found != 0 {
            // The first byte is the lowest: a borrow marks only bytes after a match.
            return Some(nth * WORD + found.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(u8::is_ascii_control)?;
    Some(words.len() * WORD + at)
}

/// The position of the first byte that ends a JSON text or is not plain: a quote, a backslash, or one below 0x20.
pub(crate) fn text_stop(text: &[u8]) -> Option<usize> {
    let is_stop = |byte: &u8| matches!(byte, b'"' | b'\\' | ..0x20);
    let (short, long) = text.split_at(text.len().min(SHORT));
    let (words, rest) = short.as_chunks::<WORD>();
    for (nth, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let found =
            below_space(word) | zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\')));
        if found != 0 {
            return Some(nth * WORD + found.trailing_zeros() as usize / 8);
        }
    }
    if let Some(at) = rest.iter().position(is_stop) {
        return Some(words.len() * WORD + at);
    }
    let end = memchr2(b'"', b'\\', long);
    let plain = &long[..end.unwrap_or(long.len())];
    // The lowest of all of them is found faster than the first that is low.
    let has_control = plain.iter().fold(u8::MAX, |lowest, &byte| lowest.min(byte)) < 0x20;
    let stop = if has_control { plain.iter().position(is_stop) } else { end };
    stop.map(|at| SHORT + at)
}

/// Whether one of the bytes of a word is this one.
pub(in crate::wire) const fn has_byte(word: u64, byte: u8) -> bool {
    zeros(word ^ (ONES * byte as u64)) != 0
}

/// Marks the first byte below 0x20 by its highest bit, and perhaps later bytes.
const fn below_space(word: u64) -> u64 {
    word.wrapping_sub(ONES * 0x20) & !word & HIGHS
}

/// Marks the first zero byte by its highest bit, and perhaps later bytes.
const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts of all lengths up to three words, each with every byte at every position, before and after other matches.
    #[test]
    fn searches_equal_a_check_of_each_byte() {
        for len in 0..3 * WORD {
            for at in 0..len {
                for byte in 0..=u8::MAX {
                    let mut text = vec![b'a'; len];
                    text[at] = byte;
                    check(&text);
                    text[len - 1 - at / 2] = 0xff;
                    text[at / 2] = 0x20;
                    check(&text);
                    text[len - 1] = b'\r';
                    check(&text);
                }
            }
            check(&vec![0x80; len]);
        }
    }

    #[test]
    fn long_texts_stop_where_a_check_of_each_byte_stops() {
        for len in [SHORT - 1, SHORT, SHORT + 1, 3 * SHORT] {
            for at in 0..len {
                for byte in [b'"', b'\\', 0, 0x1f, b' ', 0x7f, 0xff] {
                    let mut text = vec![b'a'; len];
                    text[at] = byte;
                    check(&text);
                    text[len - 1 - at / 2] = b'\n';
                    check(&text);
                }
            }
        }
    }

    fn check(text: &[u8]) {
        assert_eq!(first_control(text), text.iter().position(u8::is_ascii_control), "{text:?}");
        let stop = text.iter().position(|byte| *byte == b'"' || *byte == b'\\' || *byte < 0x20);
        assert_eq!(text_stop(text), stop, "{text:?}");
        assert_eq!(first_colon(text), text.iter().position(|byte| *byte == b':'), "{text:?}");
    }
}
