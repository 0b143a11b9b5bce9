use memchr::memchr;

use crate::wire::event_stream::BOM;

/// Splits the output of a program into lines. A line that is longer than the limit is skipped, and does not use memory beyond it.
#[derive(Debug)]
pub struct Lines {
    len_max: usize,
    /// The start of a line whose end has not arrived.
    rest: Vec<u8>,
    /// Whether the rest of a line that is too long is being skipped.
    skips: bool,
}

/// A line of a program's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// It may be a message: it begins with a brace or a bracket. White space around it is removed.
    Message(&'a [u8]),
    /// It is other text, such as a log line.
    Text(&'a [u8]),
    /// It was longer than the limit.
    TooLong,
}

/// How much memory is kept for the start of a line once a longer one has passed.
const REST_LEN_KEPT: usize = 64 * 1024;

impl Lines {
    /// Lines of at most `len_max` bytes.
    #[must_use]
    pub fn new(len_max: usize) -> Lines {
        Lines { len_max, rest: Vec::new(), skips: false }
    }

    /// Passes each line that these bytes complete to `each`, except empty ones.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Line<'_>)) {
        while let Some(end) = memchr(b'\n', bytes) {
            let (line, after) = (&bytes[..end], &bytes[end + 1..]);
            bytes = after;
            if std::mem::take(&mut self.skips) || self.rest.len() + line.len() > self.len_max {
                self.rest.clear();
                each(Line::TooLong);
            } else if self.rest.is_empty() {
                pass(line, &mut each);
            } else {
                self.rest.extend_from_slice(line);
                pass(&self.rest, &mut each);
                self.rest.clear();
            }
            self.rest.shrink_to(REST_LEN_KEPT);
        }
        if self.skips {
            return;
        }
        if self.rest.len() + bytes.len() > self.len_max {
            self.skips = true;
            self.rest = Vec::new();
        } else {
            self.rest.extend_from_slice(bytes);
        }
    }

    /// Passes the last line, if the output ended without a line feed.
    pub fn finish(&mut self, mut each: impl FnMut(Line<'_>)) {
        if std::mem::take(&mut self.skips) {
            each(Line::TooLong);
        }
        pass(&std::mem::take(&mut self.rest), &mut each);
    }
}

fn pass(line: &[u8], each: &mut impl FnMut(Line<'_>)) {
    let line = line.trim_ascii();
    let line = line.strip_prefix(BOM).unwrap_or(line).trim_ascii();
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
                Line::TooLong => "long".to_owned(),
            });
        };
        pieces.iter().for_each(|piece| lines.feed(piece, &mut note));
        lines.finish(&mut note);
        seen
    }

    #[test]
    fn lines_are_the_same_however_they_are_cut() {
        let output = b"\xef\xbb\xbf{\"a\":1}\r\n\n  \r\nstarted\n [1]\t\n{\"b\":\"0123456789\"}\n{}\n{\"c\":2}";
        let wanted = ["m:{\"a\":1}", "t:started", "m:[1]", "long", "m:{}", "m:{\"c\":2}"];
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
            assert!(lines.rest.capacity() <= 200);
        }
        let mut seen = Vec::new();
        lines.feed(b"\n{}\n", |line| seen.push(matches!(line, Line::TooLong)));
        assert_eq!(seen, [true, false]);
    }
}
