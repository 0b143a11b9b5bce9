//! Long runs of bytes of one class, found without looking at each byte.

use std::ops::Range;

/// A set of bytes, as a table: it is looked up for most texts of answers.
pub(super) struct ByteClass([bool; 256]);

impl ByteClass {
    /// Digits, and these bytes.
    pub(super) const fn digits_and(others: &[u8]) -> ByteClass {
        let (mut table, mut byte) = ([false; 256], b'0');
        while byte <= b'9' {
            table[byte as usize] = true;
            byte += 1;
        }
        let mut at = 0;
        while at < others.len() {
            table[others[at] as usize] = true;
            at += 1;
        }
        ByteClass(table)
    }

    /// The same with all ASCII letters.
    pub(super) const fn and_letters(mut self) -> ByteClass {
        let mut byte = 0;
        while byte < self.0.len() {
            self.0[byte] |= (byte as u8).is_ascii_alphabetic();
            byte += 1;
        }
        self
    }

    /// Whether the class has this byte.
    pub(super) fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte)]
    }

    /// How many bytes at the start are of the class.
    pub(super) fn len_at_start(&self, text: &[u8]) -> usize {
        text.iter().position(|byte| !self.has(*byte)).unwrap_or(text.len())
    }

    /// The next run of at least `len_min` bytes of the class, at `from` or behind it. No run may begin before `from` and
    /// extend beyond it.
    pub(super) fn next_run(&self, text: &[u8], from: usize, len_min: usize) -> Option<Range<usize>> {
        let mut start = from;
        loop {
            // The last byte that is not of the class decides where a run may begin. In most texts it is found soon, and all
            // bytes before it are skipped.
            let window = text.get(start..start + len_min)?;
            match window.iter().rposition(|byte| !self.has(*byte)) {
                Some(other) => start += other + 1,
                None => return Some(start..start + len_min + self.len_at_start(&text[start + len_min..])),
            }
        }
    }
}
