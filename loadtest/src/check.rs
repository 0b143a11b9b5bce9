//! Checks the content of an answer while it passes: a call with a wrong answer counts as failed.

use adit::wire::jsonrpc::{Message, PEEK_LEN_MAX, Peek};
use memchr::memmem;

use crate::events::{Events, Piece};

/// The mark of a tool call that failed.
const TOOL_ERROR: &[u8] = b"\"isError\":true";

/// Checks the content of one answer while it passes.
#[derive(Default)]
pub(crate) struct Check {
    is_rpc: bool,
    is_stream: bool,
    id: [u8; ID_TEXT_LEN],
    peek: Peek,
    /// The bytes of the message that were inspected.
    len: usize,
    events: Events,
    tool_error: Finder,
    /// The answer with the right id was received.
    answered: bool,
}

const ID_TEXT_LEN: usize = crate::request::ID_LEN;

impl Check {
    /// Starts the check of the answer to the request with this id.
    pub(crate) fn begin(&mut self, is_rpc: bool, is_stream: bool, id: u64) {
        (self.is_rpc, self.is_stream, self.answered) = (is_rpc, is_stream, false);
        let mut rest = id;
        for digit in self.id.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        if is_rpc {
            self.peek.clear();
            self.len = 0;
            self.tool_error.clear();
        }
        self.events.clear();
    }

    /// Inspects the next bytes of the body; returns whether an event ended in them.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> bool {
        if self.is_rpc {
            self.tool_error.feed(bytes);
        }
        if !self.is_stream {
            if self.is_rpc {
                self.peek.feed(bytes);
                self.len += bytes.len();
            }
            return false;
        }
        let Check { events, peek, len, answered, id, is_rpc, .. } = self;
        let mut ended = false;
        events.feed(bytes, |piece| match piece {
            Piece::Data(data) if *is_rpc => {
                peek.feed(data);
                *len += data.len();
            }
            Piece::Data(_) => {}
            Piece::End => {
                ended = true;
                *answered |= !*is_rpc || is_answer(peek, *len, id);
                peek.clear();
                *len = 0;
            }
        });
        ended
    }

    /// Whether the answer was a good one.
    pub(crate) fn end(&self) -> Result<(), &'static str> {
        if self.is_stream {
            if !self.answered {
                return Err("the event stream ended without the answer, or with another's id");
            }
        } else if self.is_rpc && !is_answer(&self.peek, self.len, &self.id) {
            return Err("the answer is not a JSON-RPC response with the id of the request");
        }
        if self.is_rpc && self.tool_error.found {
            return Err("the tool reported an error (isError)");
        }
        Ok(())
    }
}

/// Whether a message of this length answers the request with this id. Only the first [`PEEK_LEN_MAX`] bytes of a
/// message are inspected, which contain the id with every server.
fn is_answer(peek: &Peek, len: usize, id: &[u8]) -> bool {
    let is_response = peek.message() == Some(Message::Response);
    let is_long = len > PEEK_LEN_MAX && peek.method().is_none();
    (is_response || is_long) && !peek.has_error() && peek.id().is_some_and(|seen| seen.as_bytes() == id)
}

/// Finds [`TOOL_ERROR`] in bytes that pass in pieces.
#[derive(Default)]
struct Finder {
    found: bool,
    /// The end of the previous bytes, shorter than the mark.
    tail: Vec<u8>,
}

impl Finder {
    fn clear(&mut self) {
        self.found = false;
        self.tail.clear();
    }

    fn feed(&mut self, bytes: &[u8]) {
        const KEPT: usize = TOOL_ERROR.len() - 1;
        if !self.tail.is_empty() {
            self.tail.extend_from_slice(&bytes[..bytes.len().min(KEPT)]);
            self.found |= memmem::find(&self.tail, TOOL_ERROR).is_some();
        }
        self.found |= memmem::find(bytes, TOOL_ERROR).is_some();
        if bytes.len() >= KEPT {
            self.tail.clear();
        }
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(KEPT)..]);
        let surplus = self.tail.len().saturating_sub(KEPT);
        self.tail.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: u64 = 1_000_000_042;

    fn check(is_rpc: bool, is_stream: bool, body: &str) -> Result<(), &'static str> {
        let mut results = Vec::new();
        let mut check = Check::default();
        for at in 0..=body.len() {
            check.begin(is_rpc, is_stream, ID);
            check.feed(&body.as_bytes()[..at]);
            check.feed(&body.as_bytes()[at..]);
            results.push(check.end());
        }
        assert!(results.iter().all(|result| *result == results[0]), "the cut does not matter: {body}");
        results.remove(0)
    }

    #[test]
    fn an_answer_must_be_the_one_to_this_call() {
        let good = r#"{"jsonrpc":"2.0","id":1000000042,"result":{"content":[],"isError":false}}"#;
        assert_eq!(check(true, false, good), Ok(()));
        for bad in [
            "",
            "{}",
            "hello",
            r#"{"jsonrpc":"2.0","id":1000000041,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":"1000000042","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1000000042,"error":{"code":-32603,"message":"no"}}"#,
            r#"{"jsonrpc":"2.0","id":1000000042,"result":{"content":[],"isError":true}}"#,
            r#"{"jsonrpc":"2.0","id":1000000042,"result":{"#,
        ] {
            assert!(check(true, false, bad).is_err(), "{bad}");
        }
        let quoted = r#"{"jsonrpc":"2.0","id":1000000042,"result":{"text":"\"isError\":true"}}"#;
        assert_eq!(check(true, false, quoted), Ok(()));
    }

    #[test]
    fn an_event_stream_must_bring_the_answer() {
        let note = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\n";
        let answer = "event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":1000000042,\"result\":{}}\n\n";
        assert_eq!(check(true, true, &format!("{note}{answer}")), Ok(()));
        assert_eq!(check(true, true, &format!("{answer}{note}")), Ok(()));
        assert!(check(true, true, note).is_err());
        assert!(check(true, true, "").is_err());
        assert_eq!(check(false, true, "data: x\n\n"), Ok(()));
        assert!(check(false, true, ": x\n\n").is_err());
    }

    #[test]
    fn a_long_answer_is_known_by_its_beginning() {
        for (id, is_good) in [(ID, true), (ID + 1, false)] {
            let text = "x".repeat(PEEK_LEN_MAX);
            let mut check = Check::default();
            check.begin(true, false, ID);
            check.feed(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"text":"{text}"}}}}"#).as_bytes());
            assert_eq!(check.end().is_ok(), is_good);
        }
    }

    #[test]
    fn plain_answers_are_judged_by_their_status_alone() {
        assert_eq!(check(false, false, "anything"), Ok(()));
        assert_eq!(check(false, false, ""), Ok(()));
    }
}
