use memchr::memchr;

use crate::wire::event_stream::BOM;

/// Splits the output of a program into lines. A line that is longer than the limit is skipped, and does not use memory beyond it.
#[derive(Debug)]
pub struct Lines {
    len_max: usize,
    /// The start of a line whose end has not arrived.
    rest: Vec<u8>,
    /// The last bytes of a line that is too long, of which `rest` is the start. None if the line is not too long so far.
    skipped: Option<Vec<u8>>,
}

/// A line of a program's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// It may be a message: it begins with a brace or a bracket. White space around it is removed.
    Message(&'a [u8]),
    /// It is other text, such as a log line.
    Text(&'a [u8]),
    /// It was longer than the limit.
    TooLong {
        /// Its first bytes.
        start: &'a [u8],
        /// Its last bytes.
        end: &'a [u8],
    },
}

/// How much memory is kept for the start of a line once a longer one has passed.
const REST_LEN_KEPT: usize = 64 * 1024;
/// How many bytes of the start and of the end of a line that is too long are kept: enough for the id of an answer.
const ENDS_LEN_MAX: usize = 64;

impl Lines {
    /// Lines of at most `len_max` bytes.
    #[must_use]
    pub fn new(len_max: usize) -> Lines {
        Lines { len_max, rest: Vec::new(), skipped: None }
    }

    /// Passes each line that these bytes complete to `each`, except empty ones.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Line<'_>)) {
        while let Some(end) = memchr(b'\n', bytes) {
            let (line, after) = (&bytes[..end], &bytes[end + 1..]);
            bytes = after;
            if self.skipped.is_none() && self.rest.is_empty() && line.len() <= self.len_max {
                pass(line, &mut each);
            } else {
                self.add(line);
                self.end_line(&mut each);
            }
        }
        self.add(bytes);
    }

    /// Passes the last line, if the output ended without a line feed.
    pub fn finish(&mut self, mut each: impl FnMut(Line<'_>)) {
        self.end_line(&mut each);
    }

    /// Adds bytes of a line whose end has not arrived.
    fn add(&mut self, bytes: &[u8]) {
        if self.skipped.is_none() && self.rest.len() + bytes.len() <= self.len_max {
            return self.rest.extend_from_slice(bytes);
        }
        if self.skipped.is_none() {
            let start_len = self.rest.len().min(ENDS_LEN_MAX);
            self.skipped = Some(self.rest[self.rest.len() - start_len..].to_vec());
            self.rest.truncate(ENDS_LEN_MAX);
            self.rest.shrink_to_fit();
        }
        let missing = ENDS_LEN_MAX - self.rest.len();
        self.rest.extend_from_slice(&bytes[..bytes.len().min(missing)]);
        let Some(end) = &mut self.skipped else { return };
        end.extend_from_slice(&bytes[bytes.len().saturating_sub(ENDS_LEN_MAX)..]);
        end.drain(..end.len().saturating_sub(ENDS_LEN_MAX));
    }

    fn end_line(&mut self, each: &mut impl FnMut(Line<'_>)) {
        match self.skipped.take() {
            Some(end) => each(Line::TooLong { start: without_bom(&self.rest), end: end.trim_ascii() }),
            None => pass(&self.rest, each),
        }
        self.rest.clear();
        self.rest.shrink_to(REST_LEN_KEPT);
    }
}

fn without_bom(line: &[u8]) -> &[u8] {
    let line = line.trim_ascii();
    line.strip_prefix(BOM).unwrap_or(line).trim_ascii()
}

fn pass(line: &[u8], each: &mut impl FnMut(Line<'_>)) {
    let line = without_bom(line);
    match line.first() {
        None => {}
        Some(b'{' | b'[') => each(Line::Message(line)),
        Some(_) => each(Line::Text(line)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(len_max: usize, pieces: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut seen) = (Lines::new(len_max), Vec::new());
        let mut note = |line: Line<'_>| {
            seen.push(match line {
                Line::Message(text) => format!("m:{}", String::from_utf8_lossy(text)),
                Line::Text(text) => format!("t:{}", String::from_utf8_lossy(text)),
                Line::TooLong { start, end } => {
                    format!("long:{}:{}", String::from_utf8_lossy(start), String::from_utf8_lossy(end))
                }
            });
        };
        pieces.iter().for_each(|piece| lines.feed(piece, &mut note));
        lines.finish(&mut note);
        seen
    }

    #[test]
    fn lines_are_the_same_however_they_are_cut() {
        let output = b"\xef\xbb\xbf{\"a\":1}\r\n\n  \r\nstarted\n [1]\t\n{\"b\":\"0123456789\"}\n{}\n{\"c\":2}";
        let wanted = [
            "m:{\"a\":1}",
            "t:started",
            "m:[1]",
            "long:{\"b\":\"0123456789\"}:{\"b\":\"0123456789\"}",
            "m:{}",
            "m:{\"c\":2}",
        ];
        assert_eq!(split(12, &[output]), wanted);
        for at in 0..output.len() {
            assert_eq!(split(12, &[&output[..at], &output[at..]]), wanted, "{at}");
        }
        let bytes: Vec<&[u8]> = output.chunks(1).collect();
        assert_eq!(split(12, &bytes), wanted);
    }

    #[test]
    fn a_line_without_end_uses_no_memory_beyond_the_limit() {
        let mut lines = Lines::new(100);
        for _ in 0..10_000 {
            lines.feed(&[b'x'; 64], |_| panic!("there is no end"));
            assert!(lines.rest.capacity() <= 200 && lines.skipped.as_ref().is_none_or(|end| end.capacity() <= 200));
        }
        let mut seen = Vec::new();
        lines.feed(b"\n{}\n", |line| seen.push(matches!(line, Line::TooLong { .. })));
        assert_eq!(seen, [true, false]);
    }
}
