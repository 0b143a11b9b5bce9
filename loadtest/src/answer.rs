//! Reads answers to their end, and checks them before they count as good.

use std::fmt::Write;

use adit::base::{Chunk, Clock, Time};
use adit::engine::{Core, Lease, StreamError};
use adit::exchange::{HeadReadError, Intake};
use adit::tls::Connection;
use adit::wire::http1::{BodyDecoder, BodyError, Decoded, Framing, HeadError, ResponseHead};

use crate::check::Check;
use crate::dial::DialError;
use crate::outcome::Cause;
use crate::request::Request;

/// The most interim heads before the final one.
const INTERIM_MAX: usize = 8;
/// How many bytes of the body of an error answer are kept for the report.
const REFUSAL_LEN_MAX: usize = 200;
/// The field in which `serve` reports how many bytes of a body it received.
pub(crate) const RECEIVED: &str = "X-Received-Bytes";

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
    #[error("the connection failed: {0}")]
    Stream(#[from] StreamError),
    #[error("it exceeded the time limit of a call (--call-timeout)")]
    TimedOut,
    #[error("it was still in flight when the drain was over (--drain)")]
    Unfinished,
}

impl CallError {
    /// Whether an answer was received, even if it was not a good one.
    pub(crate) fn is_answer(&self) -> bool {
        matches!(self.cause(), Cause::Answer | Cause::Status(_))
    }

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

/// The result of a call that was answered as expected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    /// When the answer was complete.
    pub(crate) at: Time,
    /// When the first event was complete, for an event stream.
    pub(crate) first_event: Option<Time>,
    /// The length of the answer in bytes, including the head.
    pub(crate) bytes: u64,
    /// Whether the connection can be used again.
    pub(crate) keeps: bool,
}

/// Reads the answers on one connection. Its memory is reused for each answer.
#[derive(Default)]
pub(crate) struct Reader {
    intake: Intake,
    head: ResponseHead,
    decoder: BodyDecoder,
    check: Check,
}

impl Reader {
    /// Prepares for a new connection: drops bytes of the old one.
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
        self.begin(connection, request).await?;
        self.finish(core, connection, request, id).await
    }

    /// Reads the head of the answer and, for an error status, the beginning of its body.
    pub(crate) async fn begin(&mut self, connection: &Connection, request: &Request) -> Result<(), CallError> {
        self.read_head(connection, request).await?;
        let status = self.head.status();
        if !request.is_good(status) {
            return Err(self.refusal(connection, status).await);
        }
        Ok(())
    }

    /// Reads and checks the body of an answer with a good status.
    pub(crate) async fn finish(
        &mut self,
        core: &Core,
        connection: &Connection,
        request: &Request,
        id: u64,
    ) -> Result<Answered, CallError> {
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
        self.check.end().map_err(CallError::Answer)?;
        if self.head.get(RECEIVED).is_some_and(|received| !request.is_of_len(received)) {
            return Err(CallError::Answer("the server received another number of bytes than were sent"));
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
        Err(CallError::Answer("it was answered with too many interim responses"))
    }

    /// The next piece of the body; `None` at its end.
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
                // A used-up input is empty.
                if let Decoded::Data(data) = self.decoder.next(input).map_err(CallError::Body)? {
                    return Ok(Some(data));
                }
            } else if !self.intake.fill(connection).await? {
                self.decoder.finish().map_err(CallError::Body)?;
            }
        }
    }

    /// The text of an answer with an error status. Its connection is not used again.
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
        // The status line, the fields with their separators, and the empty line; approximate if the sender adds spaces.
        let fields: usize = self.head.headers().map(|(name, value)| name.len() + value.len() + ": \r\n".len()).sum();
        ("HTTP/1.1 200 ".len() + self.head.reason().len() + "\r\n\r\n".len() + fields) as u64
    }
}
