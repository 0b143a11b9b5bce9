//! Reads the data of an event stream (WHATWG HTML section 9.2.6) while it passes.

use memchr::memchr2;

const FIELD: &[u8] = b"data";

/// The kind of the next bytes of an event stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Bytes of an event's data; one event may have many.
    Data(&'a [u8]),
    /// The event is complete. Only events with data are reported.
    End,
}

/// Finds the data in an event stream that arrives in pieces of any size, without storing it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Events {
    line: Line,
    has_data: bool,
    /// The last line ended with a carriage return; a line feed after it belongs to it.
    after_return: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// This many bytes of the field name were seen.
    Name(usize),
    /// After the name and its colon. One space after the colon is not part of the value.
    Colon,
    Value,
    /// Another field, or a comment.
    Other,
}

impl Default for Line {
    fn default() -> Line {
        Line::Name(0)
    }
}

impl Events {
    /// Resets the state for a new stream.
    pub(crate) fn clear(&mut self) {
        *self = Events::default();
    }

    /// Processes the next bytes.
    pub(crate) fn feed<'a>(&mut self, mut bytes: &'a [u8], mut sink: impl FnMut(Piece<'a>)) {
        while let Some(first) = bytes.first() {
            if std::mem::take(&mut self.after_return) && *first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = memchr2(b'\n', b'\r', bytes);
            let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            self.read_line(line, &mut sink);
            let Some(ending) = rest.first() else { break };
            self.end_line(&mut sink);
            self.after_return = *ending == b'\r';
            bytes = &rest[1..];
        }
    }

    fn read_line<'a>(&mut self, mut text: &'a [u8], sink: &mut impl FnMut(Piece<'a>)) {
        while let (Line::Name(seen), Some(first)) = (self.line, text.first()) {
            self.line = match (FIELD.get(seen), first) {
                (Some(expected), byte) if expected == byte => Line::Name(seen + 1),
                (None, b':') => Line::Colon,
                _ => Line::Other,
            };
            text = &text[1..];
        }
        if self.line == Line::Colon && !text.is_empty() {
            text = text.strip_prefix(b" ").unwrap_or(text);
            self.line = Line::Value;
        }
        if self.line == Line::Value && !text.is_empty() {
            sink(Piece::Data(text));
        }
    }

    fn end_line<'a>(&mut self, sink: &mut impl FnMut(Piece<'a>)) {
        match std::mem::take(&mut self.line) {
            Line::Name(0) => {
                if std::mem::take(&mut self.has_data) {
                    sink(Piece::End);
                }
            }
            Line::Name(seen) => self.has_data |= seen == FIELD.len(),
            Line::Colon | Line::Value => self.has_data = true,
            Line::Other => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use adit::base::Rng;
    use adit::wire::sse::Splitter;

    fn events(pieces: &[&[u8]]) -> Vec<String> {
        let (mut events, mut whole, mut data) = (Events::default(), Vec::new(), Vec::new());
        for piece in pieces {
            events.feed(piece, |found| match found {
                Piece::Data(bytes) => data.extend_from_slice(bytes),
                Piece::End => whole.push(String::from_utf8(std::mem::take(&mut data)).unwrap()),
            });
        }
        whole
    }

    #[test]
    fn data_is_found_in_every_cut() {
        let stream = b": hello\n\nevent: message\r\ndata: {\"a\":1}\r\n\r\nid: 1\n\ndata:b\ndata: c\n\ndata\n\ndatax: d\n\ndata: e\r\rdata: f";
        let want = ["{\"a\":1}", "bc", "", "e"];
        for at in 0..=stream.len() {
            assert_eq!(events(&[&stream[..at], &stream[at..]]), want, "cut at {at}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(events(&bytes), want);
    }

    #[test]
    fn as_many_events_are_found_as_the_tunnel_counts() {
        let mut rng = Rng::new(4);
        let parts: [&[u8]; 9] = [b"data: x", b"data", b"dat", b": c", b"\n", b"\n", b"\r\n", b"\r", b"id: 1"];
        for _ in 0..2_000 {
            let stream: Vec<&[u8]> = (0..rng.below(20)).map(|_| parts[rng.below(9) as usize]).collect();
            let mut splitter = Splitter::new();
            let counted: u64 = stream.iter().map(|piece| splitter.feed(piece)).sum();
            assert_eq!(events(&stream).len() as u64, counted, "{}", stream.concat().escape_ascii());
        }
    }
}
