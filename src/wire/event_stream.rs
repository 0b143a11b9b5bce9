//! Finds where an event stream (WHATWG HTML section 9.2.6) can end without cutting an event.

use memchr::memchr2;

/// The byte order mark, which may precede a stream and has no meaning.
pub const BOM: &[u8] = b"\xef\xbb\xbf";

/// Follows an event stream that passes in pieces of any size, and knows whether an event is incomplete.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventBounds {
    line: Line,
    /// A field of the current event was received.
    has_field: bool,
    /// The last line ended with a carriage return, and a line feed may still belong to it.
    after_return: bool,
    /// How much of [`ID`] the current line begins with; [`OTHER_FIELD`] if it begins differently.
    id_matched: u8,
    has_id: bool,
    /// How much of [`BOM`] the stream begins with; [`NO_BOM`] after that.
    bom_matched: u8,
}

/// The field by which the stream can be resumed after its event.
const ID: &[u8] = b"id:";
const OTHER_FIELD: u8 = u8::MAX;
const NO_BOM: u8 = u8::MAX;

/// The part of the current line that was received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Line {
    #[default]
    Nothing,
    Comment,
    Field,
}

impl EventBounds {
    /// Processes the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.run(bytes, false);
    }

    /// Processes the next bytes up to the first position at which no event is incomplete; returns that position. None
    /// if there is none, after all bytes were processed.
    pub fn feed_to_bound(&mut self, bytes: &[u8]) -> Option<usize> {
        let at = self.run(bytes, true);
        self.is_between().then_some(at)
    }

    /// Whether no event is incomplete, so that the stream can end here without loss.
    #[must_use]
    pub fn is_between(&self) -> bool {
        self.line == Line::Nothing && !self.has_field
    }

    /// Whether an event had an id, so that a client can resume the stream after it.
    #[must_use]
    pub fn has_id(&self) -> bool {
        self.has_id
    }

    /// Matches the field `id` at the start of a line.
    fn match_id(&mut self, line: &[u8]) {
        for byte in line {
            if let Some(wanted) = BOM.get(usize::from(self.bom_matched)) {
                if byte == wanted {
                    self.bom_matched += 1;
                    continue;
                }
                if self.bom_matched > 0 {
                    self.id_matched = OTHER_FIELD;
                }
                self.bom_matched = NO_BOM;
            }
            let Some(wanted) = ID.get(usize::from(self.id_matched)) else { return };
            self.id_matched = if byte == wanted { self.id_matched + 1 } else { OTHER_FIELD };
            self.has_id |= usize::from(self.id_matched) == ID.len();
        }
    }

    /// Returns how many bytes were processed: all, unless it stops at a bound.
    fn run(&mut self, bytes: &[u8], stops: bool) -> usize {
        let mut at = 0;
        while let Some(first) = bytes.get(at) {
            if std::mem::take(&mut self.after_return) && *first == b'\n' {
                at += 1;
                if stops && self.is_between() {
                    break;
                }
                continue;
            }
            let end = memchr2(b'\n', b'\r', &bytes[at..]);
            if end != Some(0) && self.line == Line::Nothing {
                self.id_matched = 0;
                self.line = if *first == b':' { Line::Comment } else { Line::Field };
            }
            if usize::from(self.id_matched) < ID.len() {
                self.match_id(&bytes[at..end.map_or(bytes.len(), |end| at + end)]);
            }
            let Some(end) = end else { return bytes.len() };
            at += end + 1;
            self.bom_matched = NO_BOM;
            self.after_return = bytes[at - 1] == b'\r';
            match std::mem::take(&mut self.line) {
                Line::Nothing => self.has_field = false,
                Line::Comment => {}
                Line::Field => self.has_field = true,
            }
            if stops && self.is_between() {
                break;
            }
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http1::{Method, ResponseHead};

    fn is_events(fields: &str) -> bool {
        let mut head = ResponseHead::new();
        head.feed(format!("HTTP/1.1 200 OK\r\n{fields}\r\n").as_bytes(), Method::Get).unwrap();
        head.is_event_stream()
    }

    #[test]
    fn only_readable_event_streams_are_recognised() {
        assert!(is_events("Content-Type: text/event-stream\r\n"));
        assert!(is_events("content-type: Text/Event-Stream ; charset=utf-8\r\nContent-Encoding: identity\r\n"));
        assert!(!is_events("Content-Type: text/event-stream\r\nContent-Encoding: gzip\r\n"));
        assert!(!is_events("Content-Type: application/json\r\n"));
        assert!(!is_events(""));
    }

    /// `|` marks the places at which a stream may end.
    const STREAMS: &[&str] = &[
        "|data: a\n\n|data: b\n\n|",
        "|id: 1\r\ndata: a\r\n\r|\n|:",
        "|: comment\n|\n|data: a\n: comment\n\n|",
        "|retry: 5\n\n|\n|event",
        "|data: a\r\r|data\n\n|",
    ];

    #[test]
    fn an_id_is_found_in_every_cut_and_nothing_else_is_taken_for_one() {
        let cases = [
            ("id: 1\ndata: a\n\n", true),
            ("data: a\r\nid:\r\n\r\n", true),
            (": comment\n\nid:x", true),
            ("\u{feff}id: 1\ndata: a\n\n", true),
            ("\n\u{feff}id: 1\ndata: a\n\n", false),
            ("i\u{feff}d: 1\ndata: a\n\n", false),
            ("data: id: 1\n\nidea: 1\n\n:id: 1\ni\nd:\n", false),
            ("data: a\n id: 1\n", false),
        ];
        for (stream, has_id) in cases {
            for at in 0..=stream.len() {
                let mut bounds = EventBounds::default();
                let (before, after) = stream.as_bytes().split_at(at);
                bounds.feed(before);
                bounds.feed(after);
                assert_eq!(bounds.has_id(), has_id, "{stream:?} cut at {at}");
            }
        }
    }

    #[test]
    fn the_places_between_events_are_found_in_every_cut() {
        for marked in STREAMS {
            let stream = marked.replace('|', "");
            let mut seen = 0;
            let bounds: Vec<usize> = marked.match_indices('|').enumerate().map(|(nth, (at, _))| at - nth).collect();
            let mut whole = EventBounds::default();
            for at in 0..=stream.len() {
                let (before, after) = stream.as_bytes().split_at(at);
                let mut cut = EventBounds::default();
                cut.feed(before);
                assert_eq!(cut.is_between(), bounds.contains(&at), "{marked:?} at {at}");
                assert_eq!(whole.is_between(), cut.is_between(), "{marked:?} at {at}");
                let next = bounds.iter().find(|bound| **bound > at).map(|bound| bound - at);
                if let Some(byte) = after.first() {
                    assert_eq!(cut.feed_to_bound(after), next, "{marked:?} from {at}");
                    whole.feed(&[*byte]);
                }
                seen += 1;
            }
            assert!(seen > 10);
        }
    }
}
