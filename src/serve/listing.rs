//! The body of an answer that may list tools.

use memchr::memmem::Finder;

use crate::wire::http1::ResponseHead;

/// The longest list of tools that is read, in bytes; longer ones are ignored.
const LISTING_LEN_MAX: usize = 256 * 1024;
/// An answer that lists tools contains the member's name within this many bytes. Other answers are not kept beyond
/// them.
const TOOLS_WITHIN: usize = 512;
const TOOLS: &[u8] = b"\"tools\"";
/// The media type of event streams.
const EVENTS: &[u8] = b"text/event-stream";

/// Keeps the body of an answer while it passes. Reused by the next call, for its memory.
pub struct Listing {
    bytes: Vec<u8>,
    /// Searches for the member. Building it takes longer than a search.
    finder: Finder<'static>,
    /// Whether the answer may list tools.
    is_expected: bool,
    is_on: bool,
    is_events: bool,
    /// Whether the caller sees only a part of the list.
    is_part: bool,
}

impl Default for Listing {
    fn default() -> Listing {
        let (bytes, finder) = (Vec::new(), Finder::new(TOOLS));
        Listing { bytes, finder, is_expected: false, is_on: false, is_events: false, is_part: false }
    }
}

impl Listing {
    /// Sets whether the next answer may list tools.
    pub fn expect(&mut self, is_expected: bool) {
        (self.is_expected, self.is_on) = (is_expected, false);
    }

    /// Starts with the head of an answer.
    pub fn begin(&mut self, head: &ResponseHead) {
        if !self.is_expected {
            return;
        }
        self.is_part = false;
        self.bytes.clear();
        self.bytes.shrink_to(TOOLS_WITHIN);
        // Event streams with a known length count too.
        let kind = head.get("Content-Type").unwrap_or_default();
        self.is_events = kind.get(..EVENTS.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(EVENTS));
        self.is_on = head.status() == 200 && head.get("Content-Encoding").is_none();
    }

    /// Marks the list as filtered. A filtered list does not show which tools were removed.
    pub fn be_part(&mut self) {
        self.is_part = true;
    }

    /// Reads the next bytes of its body.
    pub fn keep(&mut self, bytes: &[u8]) {
        if !self.is_on {
            return;
        }
        // Most answers list nothing, and their first piece shows that.
        if self.bytes.is_empty() && bytes.len() >= TOOLS_WITHIN && self.finder.find(&bytes[..TOOLS_WITHIN]).is_none() {
            self.is_on = false;
            return;
        }
        let is_known = self.bytes.len() >= TOOLS_WITHIN;
        self.bytes.extend_from_slice(bytes);
        let start = &self.bytes[..self.bytes.len().min(TOOLS_WITHIN)];
        let is_other = !is_known && start.len() == TOOLS_WITHIN && self.finder.find(start).is_none();
        if is_other || self.bytes.len() > LISTING_LEN_MAX {
            self.is_on = false;
            self.bytes.clear();
            self.bytes.shrink_to(TOOLS_WITHIN);
        }
    }

    /// Whether the answer is being kept because it may list tools.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.is_on
    }

    /// Passes the body to `learn` if all of it was kept, with whether it is an event stream and whether it may be the
    /// complete list.
    pub fn read(&self, learn: impl FnOnce(&[u8], bool, bool)) {
        if self.is_on {
            learn(&self.bytes, self.is_events, !self.is_part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http1::{Method, ResponseHead};

    fn read(fields: &str, pieces: &[&[u8]]) -> Option<usize> {
        let mut head = ResponseHead::new();
        head.feed(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 9\r\n\r\n").as_bytes(), Method::Post).unwrap();
        let mut listing = Listing::default();
        listing.expect(true);
        listing.begin(&head);
        pieces.iter().for_each(|piece| listing.keep(piece));
        let mut len = None;
        listing.read(|bytes, _, _| len = Some(bytes.len()));
        len
    }

    #[test]
    fn an_answer_is_kept_if_it_may_list_tools_and_is_not_too_long() {
        let long = vec![b' '; LISTING_LEN_MAX];
        assert_eq!(read("", &[b"{\"result\":{\"to", b"ols\":[]}}", &long[..1_000]]), Some(1_023));
        assert_eq!(read("", &[b"{}"]), Some(2));
        assert_eq!(read("", &[&long[..TOOLS_WITHIN], TOOLS]), None);
        assert_eq!(read("", &[TOOLS, &long]), None);
        assert_eq!(read("Content-Encoding: gzip\r\n", &[TOOLS]), None);
    }
}
