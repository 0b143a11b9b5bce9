//! Answers: read to their end, and not believed before they were checked.

use std::fmt::Write;

use adit::base::{Chunk, Clock, Time};
use adit::engine::{Core, Lease, StreamError};
use adit::exchange::{HeadReadError, Intake};
use adit::tls::Connection;
use adit::wire::http1::{BodyDecoder, BodyError, Decoded, Framing, HeadError, ResponseHead};
use adit::wire::jsonrpc::{Message, PEEK_LEN_MAX, Peek};
use memchr::memmem;

use crate::dial::DialError;
use crate::events::{Events, Piece};
use crate::outcome::Cause;
use crate::request::Request;

/// Interim heads before the final one, at the most.
const INTERIM_MAX: usize = 8;
/// How much of the body of a refusal is kept for the report, in bytes.
const REFUSAL_LEN_MAX: usize = 200;
/// The field in which `serve` says how many bytes of a body it received.
pub(crate) const RECEIVED: &str = "X-Received-Bytes";
/// The mark of a tool that failed.
const TOOL_ERROR: &[u8] = b"\"isError\":true";

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum CallError {
    #[error("{0}")]
    Answer(&'static str),
    #[error("the body of the answer is malformed: {0}")]
    Body(BodyError),
    #[error("the connection was closed before it was answered")]
    Closed,
    #[error(transparent)]
    Connect(#[from] DialError),
    #[error("the head of the answer is malformed: {0}")]
    Head(HeadError),
    #[error("it was answered with status {status}: {text}")]
    Status { status: u16, text: String },
    #[error("the connection broke: {0}")]
    Stream(#[from] StreamError),
    #[error("it took longer than a call may (--call-timeout)")]
    TimedOut,
    #[error("it was still in flight when the drain was over (--drain)")]
    Unfinished,
}

impl CallError {
    pub(crate) fn cause(&self) -> Cause {
        match self {
            CallError::Answer(_) => Cause::Answer,
            CallError::Body(BodyError::Truncated) | CallError::Closed | CallError::Stream(_) => Cause::Broken,
            CallError::Body(_) | CallError::Head(_) => Cause::Protocol,
            CallError::Connect(_) => Cause::Connect,
            CallError::Status { status, .. } => Cause::Status(*status),
            CallError::TimedOut => Cause::TimedOut,
            CallError::Unfinished => Cause::Unfinished,
        }
    }
}

/// A good answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    /// When the whole of it was there.
    pub(crate) at: Time,
    /// When its first event was, of an event stream.
    pub(crate) first_event: Option<Time>,
    /// Its bytes, head included.
    pub(crate) bytes: u64,
    /// Whether its connection may be used again.
    pub(crate) keeps: bool,
}

/// Reads the answers on one connection. Its memory is used again for each.
#[derive(Default)]
pub(crate) struct Reader {
    intake: Intake,
    head: ResponseHead,
    decoder: BodyDecoder,
    check: Check,
}

impl Reader {
    /// Forgets the connection.
    pub(crate) fn reset(&mut self) {
        *self.intake.rest() = None;
        self.head.clear();
    }

    /// The head of the last answer.
    pub(crate) fn head(&self) -> &ResponseHead {
        &self.head
    }

    /// Reads the answer to a request, and checks it.
    pub(crate) async fn read(
        &mut self,
        core: &Core,
        connection: &Connection,
        request: &Request,
        id: u64,
    ) -> Result<Answered, CallError> {
        self.read_head(connection, request).await?;
        let status = self.head.status();
        if !(200..300).contains(&status) {
            return Err(self.refusal(connection, status).await);
        }
        let is_stream = self.head.get("Content-Type").is_some_and(|kind| kind.starts_with(b"text/event-stream"));
        self.check.begin(request.is_rpc, is_stream, id);
        let mut answered = Answered { at: Time::ZERO, first_event: None, bytes: 0, keeps: self.head.keep_alive() };
        self.decoder.restart(self.head.framing());
        while let Some(data) = self.next_data(connection).await? {
            answered.bytes += data.len() as u64;
            if self.check.feed(&data) && answered.first_event.is_none() {
                answered.first_event = Some(core.now());
            }
        }
        answered.at = core.now();
        answered.bytes += self.head_len();
        answered.keeps &= !self.intake.has_rest();
        self.check.end()?;
        if self.head.get(RECEIVED).is_some_and(|received| !request.is_of_len(received)) {
            return Err(CallError::Answer("the server received fewer or more bytes than were sent"));
        }
        Ok(answered)
    }

    async fn read_head(&mut self, connection: &Connection, request: &Request) -> Result<(), CallError> {
        for _ in 0..INTERIM_MAX {
            match self.intake.response_head(connection, &mut self.head, request.method).await {
                Ok(true) if self.head.is_interim() => {}
                Ok(true) => return Ok(()),
                Ok(false) => return Err(CallError::Closed),
                Err(HeadReadError::Head(error)) => return Err(CallError::Head(error)),
                Err(HeadReadError::Stream(error)) => return Err(error.into()),
                Err(HeadReadError::Timeout) => return Err(CallError::TimedOut),
            }
        }
        Err(CallError::Answer("it was answered with interim heads without end"))
    }

    /// The next piece of the body; none at its end.
    async fn next_data(&mut self, connection: &Connection) -> Result<Option<Lease>, CallError> {
        loop {
            let rest = self.intake.rest();
            if rest.as_ref().is_some_and(Chunk::is_empty) {
                *rest = None;
            }
            if self.decoder.is_done() || self.head.framing() == Framing::None {
                return Ok(None);
            }
            if let Some(input) = self.intake.rest() {
                // Used up, it is empty.
                if let Decoded::Data(data) = self.decoder.next(input).map_err(CallError::Body)? {
                    return Ok(Some(data));
                }
            } else if !self.intake.fill(connection).await? {
                self.decoder.finish().map_err(CallError::Body)?;
            }
        }
    }

    /// What a status that says no has to say. Its connection is not used again.
    async fn refusal(&mut self, connection: &Connection, status: u16) -> CallError {
        let mut body = Vec::new();
        self.decoder.restart(self.head.framing());
        while let Ok(Some(data)) = self.next_data(connection).await {
            let room = REFUSAL_LEN_MAX - body.len();
            body.extend_from_slice(&data[..data.len().min(room)]);
            if body.len() == REFUSAL_LEN_MAX {
                break;
            }
        }
        let mut text = String::new();
        let _ = write!(text, "{}", body.escape_ascii());
        CallError::Status { status, text }
    }

    fn head_len(&self) -> u64 {
        // The status line, the fields with their marks, and the empty line; near enough where a sender pads.
        let fields: usize = self.head.headers().map(|(name, value)| name.len() + value.len() + ": \r\n".len()).sum();
        ("HTTP/1.1 200 ".len() + self.head.reason().len() + "\r\n\r\n".len() + fields) as u64
    }
}

/// Checks what an answer says while it passes.
#[derive(Default)]
struct Check {
    is_rpc: bool,
    is_stream: bool,
    id: [u8; ID_TEXT_LEN],
    peek: Peek,
    /// Bytes of the message that is looked at.
    len: usize,
    events: Events,
    tool_error: Finder,
    /// The answer with the right id came.
    answered: bool,
}

const ID_TEXT_LEN: usize = crate::request::ID_LEN;

impl Check {
    fn begin(&mut self, is_rpc: bool, is_stream: bool, id: u64) {
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

    /// Looks at the next bytes of the body; whether an event ended in them.
    fn feed(&mut self, bytes: &[u8]) -> bool {
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

    /// Whether that was a good answer.
    fn end(&self) -> Result<(), CallError> {
        if self.is_stream {
            if !self.answered {
                return Err(CallError::Answer("the event stream ended without the answer, or with another's id"));
            }
        } else if self.is_rpc && !is_answer(&self.peek, self.len, &self.id) {
            return Err(CallError::Answer("the answer is no JSON-RPC response with the id of the request"));
        }
        if self.is_rpc && self.tool_error.found {
            return Err(CallError::Answer("the tool reported an error (isError)"));
        }
        Ok(())
    }
}

/// Whether a message of this length answers the request with this id. Of a long one the first [`PEEK_LEN_MAX`] bytes must
/// do, where every server puts the id.
fn is_answer(peek: &Peek, len: usize, id: &[u8]) -> bool {
    let is_response = peek.message() == Some(Message::Response);
    let is_long = len > PEEK_LEN_MAX && peek.method().is_none();
    (is_response || is_long) && !peek.has_error() && peek.id().is_some_and(|seen| seen.as_bytes() == id)
}

/// Finds [`TOOL_ERROR`] in what passes, also where it is cut.
#[derive(Default)]
struct Finder {
    found: bool,
    /// The end of what passed, shorter than what is looked for.
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

    fn check(is_rpc: bool, is_stream: bool, body: &str) -> Result<(), CallError> {
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
            assert!(matches!(check(true, false, bad), Err(CallError::Answer(_))), "{bad}");
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
