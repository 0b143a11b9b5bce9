//! Finds the events of an event stream (WHATWG HTML section 9.2.6), without changing a byte.

use memchr::memchr2;

const BOM: &[u8] = b"\xef\xbb\xbf";
/// The length of a line's start that shows its kind: a byte order mark, `data` and a colon.
const START_LEN: usize = 8;

/// Counts the events of an event stream that passes in pieces of any size.
///
/// An event is a block with a `data` field. Comments alone are not events, nor is a block that only sets `id` or
/// `retry`.
#[derive(Clone, Debug)]
pub struct Splitter {
    start: [u8; START_LEN],
    line_len: usize,
    on_first_line: bool,
    /// The last line ended with a carriage return, and a line feed may still belong to it.
    after_return: bool,
    block_has_data: bool,
    events: u64,
}

impl Default for Splitter {
    fn default() -> Splitter {
        Splitter::new()
    }
}

impl Splitter {
    /// A splitter at the start of a stream.
    #[must_use]
    pub const fn new() -> Splitter {
        Splitter {
            start: [0; START_LEN],
            line_len: 0,
            on_first_line: true,
            after_return: false,
            block_has_data: false,
            events: 0,
        }
    }

    /// Processes the next bytes; returns how many events ended in them.
    pub fn feed(&mut self, bytes: &[u8]) -> u64 {
        let before = self.events;
        let mut rest = bytes;
        while let Some(first) = rest.first() {
            if self.after_return {
                self.after_return = false;
                if *first == b'\n' {
                    rest = &rest[1..];
                    continue;
                }
            }
            let end = memchr2(b'\n', b'\r', rest);
            self.extend_line(&rest[..end.unwrap_or(rest.len())]);
            let Some(end) = end else { break };
            self.end_line();
            self.after_return = rest[end] == b'\r';
            rest = &rest[end + 1..];
        }
        self.events - before
    }

    fn extend_line(&mut self, bytes: &[u8]) {
        if let Some(room) = self.start.get_mut(self.line_len..) {
            let len = room.len().min(bytes.len());
            room[..len].copy_from_slice(&bytes[..len]);
        }
        self.line_len = self.line_len.saturating_add(bytes.len());
    }

    fn end_line(&mut self) {
        let start = &self.start[..self.line_len.min(START_LEN)];
        let line = if self.on_first_line { start.strip_prefix(BOM).unwrap_or(start) } else { start };
        self.block_has_data |= line == b"data" || line.starts_with(b"data:");
        if line.is_empty() {
            self.events += u64::from(std::mem::take(&mut self.block_has_data));
        }
        self.line_len = 0;
        self.on_first_line = false;
    }
}

/// Finds the data of an event stream that passes byte by byte: the values of `data` fields, without leading spaces.
/// Servers that can resume a stream begin it with an event without data (MCP 2025-11-25, section "Sending Messages to
/// the Server").
#[derive(Clone, Copy, Debug, Default)]
pub struct EventData {
    line: Line,
}

/// The part of a line that has passed.
#[derive(Clone, Copy, Debug)]
enum Line {
    /// This many bytes of [`EventData::FIELD`]; after all of it, spaces may follow.
    Field(usize),
    Data,
    /// It is another field.
    Other,
}

impl Default for Line {
    fn default() -> Line {
        Line::Field(0)
    }
}

impl EventData {
    const FIELD: &[u8] = b"data:";

    /// Processes the next bytes; calls `found` with each piece of the data.
    pub fn feed(&mut self, bytes: &[u8], mut found: impl FnMut(&[u8])) {
        let mut rest = bytes;
        while let [byte, behind @ ..] = rest {
            if matches!(self.line, Line::Data) {
                // The rest of the line is data.
                let (data, behind) = rest.split_at(memchr2(b'\n', b'\r', rest).unwrap_or(rest.len()));
                found(data);
                let [_, behind @ ..] = behind else { return };
                (self.line, rest) = (Line::default(), behind);
            } else {
                if self.has(*byte) {
                    found(&rest[..1]);
                }
                rest = behind;
            }
        }
    }

    /// Processes the next byte; returns whether it belongs to the data.
    pub fn has(&mut self, byte: u8) -> bool {
        self.line = match self.line {
            _ if matches!(byte, b'\n' | b'\r') => Line::default(),
            Line::Field(n) if n == EventData::FIELD.len() && byte == b' ' => Line::Field(n),
            Line::Field(n) if n == EventData::FIELD.len() => Line::Data,
            Line::Field(n) if EventData::FIELD[n] == byte => Line::Field(n + 1),
            Line::Data => Line::Data,
            Line::Field(_) | Line::Other => Line::Other,
        };
        matches!(self.line, Line::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    /// A stream, and how many events it has.
    const STREAMS: &[(&[u8], u64)] = &[
        (b"", 0),
        (b"data: a\n\n", 1),
        (b"data: a\n", 0),
        (b"data: a\n\ndata: b\n\n", 2),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", 2),
        (b"data: a\r\n\r", 1),
        (b"data: a\r\rdata: b\r\r", 2),
        (b"data: a\n\r\n", 1),
        (b"data: a\r\n\n", 1),
        (b"data: a\r\ndata: b\n\rdata: c\n\n", 2),
        (b"\xef\xbb\xbfdata: a\n\n", 1),
        (b"\xef\xbb\xbf\n", 0),
        (b"\xef\xbb\xbf", 0),
        (b": comment\n\n", 0),
        (b": comment\n", 0),
        (b": one\n\n: two\n\ndata: a\n\n", 1),
        (b": comment\ndata: a\n\n", 1),
        (b"id: 7\nretry: 100\ndata:\n\n", 1),
        (b"data\n\n", 1),
        (b"id: 7\n\n", 0),
        (b"retry: 3000\n\n", 0),
        (b"event: ping\n\n", 0),
        (b"database: a\n\n", 0),
        (b" data: a\n\n", 0),
        (b"data: a\ndata: b\n\n\n\n", 1),
        (b"event: message\ndata: {\"a\":\"\\n\\n\"}\n\nda", 1),
        (b"data: a\n\n:", 1),
    ];

    #[test]
    fn the_data_of_a_stream_is_found() {
        for (stream, data) in [
            (&b": ping\n\nevent: message\nid: 7\ndata: \n\nretry: 1\n"[..], &b""[..]),
            (b"data\ndata:\r\ndata:  \r", b""),
            (b"database: x\nxdata: y\nda ta: z", b""),
            (b"id: 7\ndata: \n\ndata: {", b"{"),
            (b": hi\r\rdata:{}\rdata: data: 1\r", b"{}data: 1"),
            (b"event: message\ndata: x y\n\nid: z\n", b"x y"),
        ] {
            let mut line = EventData::default();
            let found: Vec<u8> = stream.iter().copied().filter(|byte| line.has(*byte)).collect();
            assert_eq!(found, data, "{}", stream.escape_ascii());
            for at in 0..=stream.len() {
                let (mut line, mut found) = (EventData::default(), Vec::new());
                let (start, rest) = stream.split_at(at);
                [start, rest].into_iter().for_each(|piece| line.feed(piece, |data| found.extend_from_slice(data)));
                assert_eq!(found, data, "{} cut at {at}", stream.escape_ascii());
            }
        }
    }

    fn watch(pieces: &[&[u8]]) -> u64 {
        let mut splitter = Splitter::new();
        pieces.iter().map(|piece| splitter.feed(piece)).sum()
    }

    #[test]
    fn events_are_found_in_every_cut() {
        for (stream, events) in STREAMS {
            for at in 0..=stream.len() {
                let seen = watch(&[&stream[..at], &stream[at..]]);
                assert_eq!(seen, *events, "{} cut at {at}", stream.escape_ascii());
            }
            let bytes: Vec<&[u8]> = stream.chunks(1).collect();
            assert_eq!(watch(&bytes), *events, "{}", stream.escape_ascii());
        }
    }

    /// The number of blocks with data, as counted by a simple reader of the whole text.
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
    fn events_are_counted_as_a_reader_of_the_whole_text_counts_them() {
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
            assert_eq!(watch(&stream), count_simply(&whole), "{}", whole.escape_ascii());
        }
    }
}
