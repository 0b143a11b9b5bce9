//! Where the parts of a message are that change when agents share one server: its id, its progress token, and the ids to which it
//! refers.

use std::borrow::Cow;
use std::ops::Range;

use crate::wire::jsonrpc::{DEPTH_MAX, Message, folds_to};
use crate::wire::scan::text_stop;

/// The places of the parts of one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// `id`, with its quotes if it is a text.
    pub id: Option<Range<usize>>,
    /// The content of `method`, without its quotes.
    pub method: Option<Range<usize>>,
    /// `result`, which is of any kind.
    pub result: Option<Range<usize>>,
    /// `error`, which is of any kind.
    pub error: Option<Range<usize>>,
    /// `error.code`, which should be a number.
    pub error_code: Option<Range<usize>>,
    /// `params.requestId`, to which a cancellation refers.
    pub request_id: Option<Range<usize>>,
    /// `params.progressToken`, to which a progress report refers.
    pub progress: Option<Range<usize>>,
    /// `params._meta.progressToken`, with which a request asks for progress reports.
    pub progress_token: Option<Range<usize>>,
    /// `params._meta["io.modelcontextprotocol/subscriptionId"]`: the id of the request to whose stream a message belongs.
    pub subscription: Option<Range<usize>>,
    /// `params._meta["io.modelcontextprotocol/protocolVersion"]`, which should be a text: the revision of a request without a session.
    pub revision: Option<Range<usize>>,
}

/// Why a text is not a message that can be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// It is not JSON, or not one object.
    #[error("the message is not one JSON object: send one JSON-RPC message")]
    NotJson,
    /// It is an array.
    #[error("the message is a batch, which only revision 2025-03-26 has: send its messages one by one")]
    Batch,
    /// A key occurs twice, or in a form that some servers take for another key.
    #[error("the message has a key twice or in another spelling, which servers read differently: send each key once")]
    Ambiguous,
    /// It is neither a request nor a notification nor a response, or has an id that is neither a text nor a number.
    #[error("the message is no JSON-RPC message: it needs a method, or an id with a result or an error")]
    NotRpc,
}

/// The keys of the object of a message, in the order of their slots.
const TOP: [&str; 6] = ["id", "method", "params", "result", "error", "jsonrpc"];
/// The keys that matter within `params`.
const PARAMS: [&str; 3] = ["_meta", "requestId", "progressToken"];
/// The keys that matter within `params._meta`.
const META: [&str; 3] =
    ["progressToken", "io.modelcontextprotocol/subscriptionId", "io.modelcontextprotocol/protocolVersion"];
/// The keys that matter within `error`.
const ERROR: [&str; 1] = ["code"];

impl Envelope {
    /// Finds the parts of a message. All of the text is read, so that it is certain to be one object.
    ///
    /// # Errors
    ///
    /// If it is no message, or one that servers may read differently.
    pub fn read(text: &[u8]) -> Result<Envelope, EnvelopeError> {
        if std::str::from_utf8(text).is_err() {
            return Err(EnvelopeError::NotJson);
        }
        let mut scanner = Scanner { text, at: 0 };
        let mut envelope = Envelope::default();
        scanner.skip_space();
        if scanner.peek() == Some(b'[') {
            return Err(EnvelopeError::Batch);
        }
        scanner.object(0, &TOP, &mut |scanner, slot| {
            let begin = scanner.at;
            match slot {
                Some(2) if scanner.peek() == Some(b'{') => return params(scanner, &mut envelope),
                Some(4) if scanner.peek() == Some(b'{') => error(scanner, &mut envelope)?,
                _ => scanner.value(1)?,
            }
            let range = begin..scanner.at;
            match slot {
                Some(0) => envelope.id = Some(range),
                Some(1) if text[begin] == b'"' => envelope.method = Some(begin + 1..scanner.at - 1),
                Some(3) => envelope.result = Some(range),
                Some(4) => envelope.error = Some(range),
                _ => {}
            }
            Ok(())
        })?;
        scanner.skip_space();
        if scanner.at < text.len() {
            return Err(EnvelopeError::NotJson);
        }
        // Half of a surrogate pair is no text for one server, and another character for the next.
        if envelope.method.is_some() && envelope.method(text).is_none() {
            return Err(EnvelopeError::NotRpc);
        }
        envelope.kind(text).map(|_| envelope).ok_or(EnvelopeError::NotRpc)
    }

    /// `method`, with escapes decoded.
    #[must_use]
    pub fn method<'a>(&self, text: &'a [u8]) -> Option<Cow<'a, str>> {
        let Range { start, end } = self.method.clone()?;
        let method = &text[start..end];
        match memchr::memchr(b'\\', method) {
            None => std::str::from_utf8(method).ok().map(Cow::Borrowed),
            Some(_) => serde_json::from_slice(&text[start - 1..=end]).ok().map(Cow::Owned),
        }
    }

    /// The revision that a request names for itself, if it names one.
    #[must_use]
    pub fn revision<'a>(&self, text: &'a [u8]) -> Option<Cow<'a, str>> {
        serde_json::from_slice(&text[self.revision.clone()?]).ok()
    }

    /// The kind of the message, which [`Envelope::read`] has checked.
    #[must_use]
    pub fn kind(&self, text: &[u8]) -> Option<Message> {
        let has_outcome = self.result.is_some() != self.error.is_some();
        let is_null = |range: &Range<usize>| &text[range.clone()] == b"null";
        match (&self.method, &self.id) {
            (Some(_), Some(id)) if is_id(&text[id.clone()]) && !has_outcome => Some(Message::Request),
            (Some(_), None) if !has_outcome => Some(Message::Notification),
            (None, Some(id)) if has_outcome && (is_id(&text[id.clone()]) || is_null(id)) => Some(Message::Response),
            (None, None) if self.error.is_some() => Some(Message::Response),
            _ => None,
        }
    }
}

fn params(scanner: &mut Scanner<'_>, envelope: &mut Envelope) -> Result<(), EnvelopeError> {
    scanner.object(1, &PARAMS, &mut |scanner, slot| {
        let begin = scanner.at;
        if slot == Some(0) && scanner.peek() == Some(b'{') {
            return meta(scanner, envelope);
        }
        scanner.value(2)?;
        match slot {
            Some(1) => envelope.request_id = Some(begin..scanner.at),
            Some(2) => envelope.progress = Some(begin..scanner.at),
            _ => {}
        }
        Ok(())
    })
}

fn meta(scanner: &mut Scanner<'_>, envelope: &mut Envelope) -> Result<(), EnvelopeError> {
    scanner.object(2, &META, &mut |scanner, slot| {
        let begin = scanner.at;
        scanner.value(3)?;
        match slot {
            Some(0) => envelope.progress_token = Some(begin..scanner.at),
            Some(1) => envelope.subscription = Some(begin..scanner.at),
            Some(2) => envelope.revision = Some(begin..scanner.at),
            _ => {}
        }
        Ok(())
    })
}

fn error(scanner: &mut Scanner<'_>, envelope: &mut Envelope) -> Result<(), EnvelopeError> {
    scanner.object(1, &ERROR, &mut |scanner, slot| {
        let begin = scanner.at;
        scanner.value(2)?;
        if slot.is_some() {
            envelope.error_code = Some(begin..scanner.at);
        }
        Ok(())
    })
}

/// Whether a value is a text or a number.
fn is_id(value: &[u8]) -> bool {
    matches!(value.first(), Some(b'"' | b'-' | b'0'..=b'9'))
}

/// Reads the value of a member, and is told which of the watched keys it has.
type MemberReader<'a> = dyn FnMut(&mut Scanner<'_>, Option<usize>) -> Result<(), EnvelopeError> + 'a;

/// Reads JSON without keeping values.
struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Result<(), EnvelopeError> {
        self.skip_space();
        if self.peek() != Some(byte) {
            return Err(EnvelopeError::NotJson);
        }
        self.at += 1;
        Ok(())
    }

    /// Reads an object; `member` reads each value, and is told which of the `keys` it has. A key must not occur twice, nor in another
    /// spelling.
    fn object(&mut self, depth: u32, keys: &[&str], member: &mut MemberReader<'_>) -> Result<(), EnvelopeError> {
        if depth >= DEPTH_MAX {
            return Err(EnvelopeError::NotJson);
        }
        self.take(b'{')?;
        let mut seen = 0_u32;
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.skip_space();
            let begin = self.at;
            self.string()?;
            let slot = if keys.is_empty() { None } else { self.slot(&self.text[begin..self.at], keys)? };
            if let Some(slot) = slot {
                if seen & (1 << slot) != 0 {
                    return Err(EnvelopeError::Ambiguous);
                }
                seen |= 1 << slot;
            }
            self.take(b':')?;
            self.skip_space();
            member(self, slot)?;
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(EnvelopeError::NotJson),
            }
        }
    }

    /// Which of the `keys` a key is, with its quotes.
    fn slot(&self, quoted: &[u8], keys: &[&str]) -> Result<Option<usize>, EnvelopeError> {
        let inner = &quoted[1..quoted.len() - 1];
        let decoded = match memchr::memchr(b'\\', inner) {
            None => Cow::Borrowed(inner),
            Some(_) => {
                let text: String = serde_json::from_slice(quoted).map_err(|_| EnvelopeError::NotJson)?;
                Cow::Owned(text.into_bytes())
            }
        };
        let is_plain = matches!(decoded, Cow::Borrowed(_));
        for (slot, key) in keys.iter().enumerate() {
            if *decoded == *key.as_bytes() && is_plain {
                return Ok(Some(slot));
            }
            if folds_to(&decoded, key.as_bytes()) {
                return Err(EnvelopeError::Ambiguous);
            }
        }
        Ok(None)
    }

    /// Reads a text with its quotes.
    fn string(&mut self) -> Result<(), EnvelopeError> {
        self.take(b'"')?;
        loop {
            let rest = &self.text[self.at..];
            let stop = text_stop(rest).ok_or(EnvelopeError::NotJson)?;
            self.at += stop + 1;
            match rest[stop] {
                b'"' => return Ok(()),
                b'\\' => self.escape()?,
                _ => return Err(EnvelopeError::NotJson),
            }
        }
    }

    fn escape(&mut self) -> Result<(), EnvelopeError> {
        let byte = self.peek();
        self.at += 1;
        match byte {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(()),
            Some(b'u') => {
                let digits = self.text.get(self.at..self.at + 4).ok_or(EnvelopeError::NotJson)?;
                self.at += 4;
                if digits.iter().all(u8::is_ascii_hexdigit) { Ok(()) } else { Err(EnvelopeError::NotJson) }
            }
            _ => Err(EnvelopeError::NotJson),
        }
    }

    /// Reads a value of any kind.
    fn value(&mut self, depth: u32) -> Result<(), EnvelopeError> {
        self.skip_space();
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'{') => self.object(depth, &[], &mut |scanner, _| scanner.value(depth + 1)),
            Some(b'[') => self.array(depth),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.word(),
        }
    }

    fn array(&mut self, depth: u32) -> Result<(), EnvelopeError> {
        if depth >= DEPTH_MAX {
            return Err(EnvelopeError::NotJson);
        }
        self.take(b'[')?;
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(EnvelopeError::NotJson),
            }
        }
    }

    /// Reads a number (RFC 8259, section 6).
    fn number(&mut self) -> Result<(), EnvelopeError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), EnvelopeError> {
        let begin = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at > begin { Ok(()) } else { Err(EnvelopeError::NotJson) }
    }

    fn word(&mut self) -> Result<(), EnvelopeError> {
        let rest = &self.text[self.at..];
        let word = [&b"true"[..], b"false", b"null"].into_iter().find(|word| rest.starts_with(word));
        self.at += word.ok_or(EnvelopeError::NotJson)?.len();
        Ok(())
    }
}
