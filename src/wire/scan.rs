//! A search through text, eight bytes at a time.
//!
//! The heads of every call are searched for bytes that they must not have. One byte at a time, that was most of a parser's work.

/// The number of bytes that are looked at together.
const WORD: usize = size_of::<u64>();
/// The lowest bit of each byte of a word.
const ONES: u64 = u64::MAX / 0xff;
/// The highest bit of each byte of a word.
const HIGHS: u64 = ONES * 0x80;

/// The place of the first control character: a byte below 0x20, or 0x7f.
pub(in crate::wire) fn first_control(text: &[u8]) -> Option<usize> {
    let (words, rest) = text.as_chunks::<WORD>();
    for (nth, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = below_space(word) | zeros(word ^ (ONES * 0x7f));
        if found != 0 {
            // The first byte is the lowest: a borrow marks only bytes behind one that is found.
            return Some(nth * WORD + found.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(u8::is_ascii_control)?;
    Some(words.len() * WORD + at)
}

/// Marks the first byte below 0x20 by its highest bit, and perhaps bytes behind it.
const fn below_space(word: u64) -> u64 {
    word.wrapping_sub(ONES * 0x20) & !word & HIGHS
}

/// Marks the first byte that is zero by its highest bit, and perhaps bytes behind it.
const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts of all lengths up to three words, each with every byte at every place, before and behind others that count.
    #[test]
    fn what_is_found_is_what_a_look_at_each_byte_finds() {
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

    fn check(text: &[u8]) {
        assert_eq!(first_control(text), text.iter().position(u8::is_ascii_control), "{text:?}");
    }
}
