//! Where the events of an event stream begin and end (WHATWG HTML section 9.2.6), without touching a byte.

use memchr::memchr2;

/// A comment that keeps an idle stream alive. It may go out only where [`Splitter::at_boundary`] holds.
pub const KEEP_ALIVE: &[u8] = b":\n\n";

const BOM: &[u8] = b"\xef\xbb\xbf";
/// Enough of a line to tell what it is: a byte order mark, `data` and its colon.
const START_LEN: usize = 8;

/// Watches the bytes of an event stream go by, in any pieces: counts events and knows where it is safe to add a comment.
///
/// An event is a block with a `data` field. Comments alone are none, nor is a block that only sets `id` or `retry`.
#[derive(Clone, Debug)]
pub struct Splitter {
    start: [u8; START_LEN],
    line_len: usize,
    on_first_line: bool,
    /// A carriage return ended the last line, and a line feed may still belong to it.
    after_return: bool,
    seen_line_feed: bool,
    at_boundary: bool,
    block_has_data: bool,
    events: u64,
}

impl Default for Splitter {
    fn default() -> Splitter {
        Splitter::new()
    }
}

impl Splitter {
    /// At the start of a stream.
    #[must_use]
    pub const fn new() -> Splitter {
        Splitter {
            start: [0; START_LEN],
            line_len: 0,
            on_first_line: true,
            after_return: false,
            seen_line_feed: false,
            at_boundary: true,
            block_has_data: false,
            events: 0,
        }
    }

    /// Watches the next bytes; how many events ended in them.
    pub fn feed(&mut self, bytes: &[u8]) -> u64 {
        let before = self.events;
        let mut rest = bytes;
        while let Some(first) = rest.first() {
            if self.after_return {
                self.after_return = false;
                if *first == b'\n' {
                    self.seen_line_feed = true;
                    rest = &rest[1..];
                    continue;
                }
            }
            let end = memchr2(b'\n', b'\r', rest);
            self.extend_line(&rest[..end.unwrap_or(rest.len())]);
            let Some(end) = end else { break };
            self.end_line();
            self.after_return = rest[end] == b'\r';
            self.seen_line_feed |= rest[end] == b'\n';
            rest = &rest[end + 1..];
        }
        self.events - before
    }

    /// Whether a comment may be added here: nothing was sent yet, or an empty line was the last, whole with its line end.
    #[must_use]
    pub const fn at_boundary(&self) -> bool {
        // In a stream that uses line feeds, one is still to come after a carriage return; do not tear the two apart.
        self.at_boundary && !(self.after_return && self.seen_line_feed)
    }

    /// How many events have ended.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    fn extend_line(&mut self, bytes: &[u8]) {
        if let Some(room) = self.start.get_mut(self.line_len..) {
            let len = room.len().min(bytes.len());
            room[..len].copy_from_slice(&bytes[..len]);
        }
        self.line_len = self.line_len.saturating_add(bytes.len());
        self.at_boundary &= bytes.is_empty();
    }

    fn end_line(&mut self) {
        let start = &self.start[..self.line_len.min(START_LEN)];
        let line = if self.on_first_line { start.strip_prefix(BOM).unwrap_or(start) } else { start };
        self.at_boundary = line.is_empty();
        self.block_has_data |= line == b"data" || line.starts_with(b"data:");
        if line.is_empty() {
            self.events += u64::from(std::mem::take(&mut self.block_has_data));
        }
        self.line_len = 0;
        self.on_first_line = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    /// A stream, how many events it has, and whether it ends at a boundary.
    const STREAMS: &[(&[u8], u64, bool)] = &[
        (b"", 0, true),
        (b"data: a\n\n", 1, true),
        (b"data: a\n", 0, false),
        (b"data: a\n\ndata: b\n\n", 2, true),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", 2, true),
        (b"data: a\r\n\r", 1, false),
        (b"data: a\r\rdata: b\r\r", 2, true),
        (b"data: a\n\r\n", 1, true),
        (b"data: a\r\n\n", 1, true),
        (b"data: a\r\ndata: b\n\rdata: c\n\n", 2, true),
        (b"\xef\xbb\xbfdata: a\n\n", 1, true),
        (b"\xef\xbb\xbf\n", 0, true),
        (b"\xef\xbb\xbf", 0, false),
        (b": comment\n\n", 0, true),
        (b": comment\n", 0, false),
        (b": one\n\n: two\n\ndata: a\n\n", 1, true),
        (b": comment\ndata: a\n\n", 1, true),
        (b"id: 7\nretry: 100\ndata:\n\n", 1, true),
        (b"data\n\n", 1, true),
        (b"id: 7\n\n", 0, true),
        (b"retry: 3000\n\n", 0, true),
        (b"event: ping\n\n", 0, true),
        (b"database: a\n\n", 0, true),
        (b" data: a\n\n", 0, true),
        (b"data: a\ndata: b\n\n\n\n", 1, true),
        (b"event: message\ndata: {\"a\":\"\\n\\n\"}\n\nda", 1, false),
        (b"data: a\n\n:", 1, false),
    ];

    fn watch(pieces: &[&[u8]]) -> (u64, bool) {
        let mut splitter = Splitter::new();
        let sum: u64 = pieces.iter().map(|piece| splitter.feed(piece)).sum();
        assert_eq!(sum, splitter.events());
        (sum, splitter.at_boundary())
    }

    #[test]
    fn events_and_boundaries_are_found_in_every_cut() {
        for (stream, events, at_boundary) in STREAMS {
            for at in 0..=stream.len() {
                let seen = watch(&[&stream[..at], &stream[at..]]);
                assert_eq!(seen, (*events, *at_boundary), "{} cut at {at}", stream.escape_ascii());
            }
            let bytes: Vec<&[u8]> = stream.chunks(1).collect();
            assert_eq!(watch(&bytes), (*events, *at_boundary), "{}", stream.escape_ascii());
        }
    }

    /// The blocks of a stream as a simple reader of the whole text finds them: how many have data.
    fn count_simply(stream: &[u8]) -> u64 {
        let text = String::from_utf8_lossy(stream).replace("\r\n", "\n").replace('\r', "\n");
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let (mut events, mut has_data) = (0, false);
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            has_data |= line.split(':').next() == Some("data");
            if line.is_empty() {
                events += u64::from(std::mem::take(&mut has_data));
            }
        }
        events
    }

    #[test]
    fn a_keep_alive_at_any_boundary_changes_no_event() {
        let mut rng = Rng::new(21);
        let parts: [&[u8]; 10] = [
            b"data: x",
            b"data",
            b": c",
            b"id: 1",
            b"\n",
            b"\n",
            b"\r\n",
            b"\r\n",
            b"\r",
            b"longer line without colon",
        ];
        for _ in 0..2000 {
            let stream: Vec<&[u8]> = (0..rng.below(20)).map(|_| parts[rng.below(10) as usize]).collect();
            let whole = stream.concat();
            assert_eq!(watch(&stream).0, count_simply(&whole), "{}", whole.escape_ascii());

            let mut splitter = Splitter::new();
            let mut with_comments = Vec::new();
            for byte in &whole {
                if splitter.at_boundary() {
                    with_comments.extend_from_slice(KEEP_ALIVE);
                }
                splitter.feed(&[*byte]);
                with_comments.push(*byte);
            }
            assert_eq!(count_simply(&with_comments), count_simply(&whole), "{}", whole.escape_ascii());
        }
    }
}
