//! Inspection of a JSON-RPC message while it passes: its method, id and tool.
//!
//! The body is neither collected nor changed. [`Peek`] is fed the pieces as they pass and keeps only the few texts that
//! it looks for, so it allocates nothing once warm and works with a body of any size. It reports when servers may
//! interpret a message differently: if a key occurs twice, or in another case (which Go's decoder accepts).

mod arguments;
mod members;
mod texts;

use std::hash::Hasher;

use crate::base::Digest;
use crate::wire::jsonrpc::arguments::ArgumentsHash;
use crate::wire::jsonrpc::members::{Inner, Key, SLOTS, Slot, Stage, Text};
use crate::wire::scan::text_stop;

pub use crate::wire::jsonrpc::members::folds_to;

/// How much of a body is inspected, in bytes.
pub const PEEK_LEN_MAX: usize = 64 * 1024;
/// The longest id that is kept, in bytes of JSON text.
pub const ID_LEN_MAX: usize = 64;
/// The longest method that is kept, in bytes.
pub const METHOD_LEN_MAX: usize = 128;
/// The longest name of a tool, prompt or task, or URI of a resource, that is kept, in bytes.
pub const NAME_LEN_MAX: usize = 256;
/// The deepest nesting of a message; `serde_json` and most servers have the same limit.
pub const DEPTH_MAX: u32 = 128;

/// The kind of a message, by its members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// Has a method and an id: it expects a response.
    Request,
    /// Has a method and no id.
    Notification,
    /// Has no method, but a result or an error.
    Response,
}

/// A member that determines the label of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageMember {
    /// The JSON-RPC method, `method`.
    Method,
    /// The name of a tool or prompt, `params.name`.
    Name,
    /// The URI of a resource, `params.uri`.
    Uri,
    /// The id of a task, `params.taskId`.
    TaskId,
}

/// The state of reading a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It has not arrived, or not to its end.
    Absent,
    /// It was read. The text is present unless it is too long or of another type.
    Read,
    /// Servers may interpret it differently, because a key occurs twice.
    Doubled,
}

/// The inspected part of a message.
///
/// If a text is ambiguous, it is absent.
#[derive(Debug)]
pub struct Peek {
    state: State,
    len: usize,
    depth: u32,
    /// Which open containers are objects, the innermost in the lowest bit.
    objects: u128,
    in_params: bool,
    /// The object within `params` that contains the innermost members.
    inner: Inner,
    /// Whether everything is inspected that a rule depends on.
    is_strict: bool,
    /// Whether a watched text has half of a surrogate pair, which servers interpret differently.
    is_torn: bool,
    /// The member whose value is being read, if it is watched.
    key: Key,
    reading: Slot,
    /// The first half of a surrogate pair (a code point above U+FFFF), which waits for the second.
    high_surrogate: Option<u32>,
    seen: u16,
    doubled: u16,
    is_batch: bool,
    /// The digest of `params.arguments` so far, if enabled.
    arguments: Option<Digest>,
    /// Whether the SHA-256 of the same bytes is computed.
    is_hashed: bool,
    /// That of this message or an earlier one.
    arguments_hash: Option<Box<ArgumentsHash>>,
    /// Whether the next byte belongs to the arguments.
    in_arguments: bool,
    texts: [Text; SLOTS],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Value,
    ItemOrEnd,
    KeyOrEnd,
    Key,
    Colon,
    AfterValue,
    Text {
        is_key: bool,
    },
    Escape {
        is_key: bool,
    },
    Hex {
        is_key: bool,
        left: u8,
        unit: u32,
    },
    Bare,
    /// The complete message was seen.
    Over,
    /// Not JSON, a batch, or nested too deeply.
    Broken,
}

impl Default for Peek {
    fn default() -> Peek {
        Peek::new()
    }
}

impl Peek {
    /// Creates an empty state. It allocates nothing until it is fed.
    #[must_use]
    pub const fn new() -> Peek {
        Peek {
            state: State::Value,
            len: 0,
            depth: 0,
            objects: 0,
            in_params: false,
            inner: Inner::Nothing,
            is_strict: false,
            is_torn: false,
            key: Key::Other,
            reading: Slot::Nowhere,
            high_surrogate: None,
            seen: 0,
            doubled: 0,
            is_batch: false,
            arguments: None,
            is_hashed: false,
            arguments_hash: None,
            in_arguments: false,
            texts: [const { Text { bytes: Vec::new(), stage: Stage::Absent } }; SLOTS],
        }
    }

    /// Drops the message and keeps the allocated memory.
    pub fn clear(&mut self) {
        let mut texts = std::mem::take(&mut self.texts);
        texts.iter_mut().for_each(Text::clear);
        let arguments_hash = self.arguments_hash.take();
        *self = Peek { texts, arguments_hash, ..Peek::new() };
    }

    /// Computes a digest of the next message's arguments with this seed. Off after [`Peek::clear`].
    pub fn digest_arguments(&mut self, seed: u64) {
        self.arguments = Some(Digest::new(seed));
    }

    /// The digest of `params.arguments` as JSON text without white space, if they were read to their end. Two calls with the same
    /// digest and seed have the same arguments, written in the same order.
    #[must_use]
    pub fn arguments_digest(&self) -> Option<u64> {
        self.arguments.as_ref().filter(|_| self.has_whole_arguments()).map(Hasher::finish)
    }

    fn has_whole_arguments(&self) -> bool {
        self.seen & Key::Arguments.bit() != 0 && !self.in_arguments && self.is_whole()
    }

    /// Computes the SHA-256 of the next message's arguments. Off after [`Peek::clear`].
    pub fn hash_arguments(&mut self) {
        self.hashing();
    }

    fn hashing(&mut self) -> &mut ArgumentsHash {
        let hash = self.arguments_hash.get_or_insert_default();
        if !std::mem::replace(&mut self.is_hashed, true) {
            hash.clear();
        }
        hash
    }

    fn hashed(&self) -> Option<&ArgumentsHash> {
        self.arguments_hash.as_deref().filter(|_| self.is_hashed && self.has_whole_arguments())
    }

    /// Computes the SHA-256 of the next message's arguments, and keeps them if they are no longer than this. Off after
    /// [`Peek::clear`].
    pub fn keep_arguments(&mut self, len_max: usize) {
        self.hashing().keep(len_max);
    }

    /// `params.arguments` as JSON text without white space, if they were kept and read to their end.
    #[must_use]
    pub fn kept_arguments(&self) -> Option<&[u8]> {
        self.hashed()?.text()
    }

    /// The length and SHA-256 of `params.arguments` as JSON text without white space, if they were read to their end.
    #[must_use]
    pub fn arguments_hash(&self) -> Option<(u64, [u8; 32])> {
        self.hashed().map(ArgumentsHash::finish)
    }

    /// Inspects all of the next message, of any length, and takes the reference of a completion for its name or URI.
    /// Off after [`Peek::clear`].
    pub fn be_strict(&mut self) {
        self.is_strict = true;
    }

    /// Inspects the next bytes of the body. Bytes beyond [`PEEK_LEN_MAX`] are ignored, unless it is [strict](Peek::be_strict).
    pub fn feed(&mut self, bytes: &[u8]) {
        let looked = if self.is_strict { bytes.len() } else { bytes.len().min(PEEK_LEN_MAX - self.len) };
        self.len += looked;
        let mut rest = &bytes[..looked];
        // The bytes of the arguments that are not digested yet: they are digested in pieces that are as long as possible.
        let mut arguments = 0..0;
        while !rest.is_empty() && self.state != State::Broken {
            let (before, was_inside) = (self.state, self.in_arguments);
            let taken = self.read(rest);
            if (was_inside || self.in_arguments) && !is_space(&rest[..taken], before) {
                let at = looked - rest.len();
                if at != arguments.end {
                    self.digest(&bytes[arguments]);
                    arguments = at..at;
                }
                arguments.end += taken;
            }
            rest = &rest[taken..];
        }
        self.digest(&bytes[arguments]);
    }

    /// Whether further bytes change nothing: the message is complete, is not a message, or is longer than the limit.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Over | State::Broken) || self.is_at_limit()
    }

    /// Whether it is not a message: not JSON, nested too deeply, or followed by other bytes.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.state == State::Broken
    }

    /// Whether a watched text has half of a surrogate pair, which servers interpret differently.
    #[must_use]
    pub const fn is_torn(&self) -> bool {
        self.is_torn
    }

    /// Whether there is an `id` that is neither a text nor a number, or too long to be kept.
    #[must_use]
    pub fn has_unknown_id(&self) -> bool {
        self.texts[Slot::Id as usize].stage == Stage::Unusable || self.is_doubled(Key::Id)
    }

    fn is_at_limit(&self) -> bool {
        !self.is_strict && self.len == PEEK_LEN_MAX
    }

    /// The number of inspected bytes.
    #[must_use]
    pub const fn inspected(&self) -> usize {
        self.len
    }

    /// Whether the message is longer than its inspected part, so that the rest is not known.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.is_at_limit() && !matches!(self.state, State::Over | State::Broken)
    }

    /// The state of a member.
    #[must_use]
    pub fn reading(&self, member: MessageMember) -> Reading {
        let (key, slot) = member.place();
        let is_of_params = member != MessageMember::Method;
        if self.is_doubled(key) || (is_of_params && self.is_doubled(Key::Params)) {
            return Reading::Doubled;
        }
        match self.texts[slot as usize].stage {
            Stage::Whole | Stage::Unusable => Reading::Read,
            Stage::Absent | Stage::Open => Reading::Absent,
        }
    }

    /// Whether the message has a `result` or an `error`, like a response.
    #[must_use]
    pub const fn has_outcome(&self) -> bool {
        self.seen & (Key::Result.bit() | Key::Error.bit()) != 0
    }

    /// Whether a complete, well-formed object was seen.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.state == State::Over
    }

    /// Whether the body is an array (a batch), which only revision 2025-03-26 allows and some servers still execute.
    #[must_use]
    pub const fn is_batch(&self) -> bool {
        self.is_batch
    }

    /// Whether the message has an `error`, like the response to a request that failed.
    #[must_use]
    #[cfg(feature = "internals")]
    pub const fn has_error(&self) -> bool {
        self.seen & Key::Error.bit() != 0
    }

    /// `method`, with escapes decoded.
    #[must_use]
    pub fn method(&self) -> Option<&str> {
        self.text(Slot::Method, Key::Method)
    }

    /// `id` as JSON text: a number, or a string with its quotes. It can be copied into an answer.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.text(Slot::Id, Key::Id)
    }

    /// `params.name`, with escapes decoded: the tool or prompt.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.text(Slot::Name, Key::Name).filter(|_| !self.is_doubled(Key::Params))
    }

    /// `params.uri`, with escapes decoded: the resource.
    #[must_use]
    pub fn uri(&self) -> Option<&str> {
        self.text(Slot::Uri, Key::Uri).filter(|_| !self.is_doubled(Key::Params))
    }

    /// `params.taskId`, with escapes decoded.
    #[must_use]
    pub fn task_id(&self) -> Option<&str> {
        self.text(Slot::TaskId, Key::TaskId).filter(|_| !self.is_doubled(Key::Params))
    }

    /// `params._meta.traceparent`: the trace id that the sender put into the message (W3C Trace Context), if it has
    /// arrived.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        let is_certain = !self.is_doubled(Key::Params) && !self.is_doubled(Key::Meta);
        self.text(Slot::Traceparent, Key::Traceparent).filter(|_| is_certain)
    }

    /// The kind of the message, as soon as it is certain.
    #[must_use]
    pub fn message(&self) -> Option<Message> {
        let has = |key: Key| self.seen & key.bit() != 0;
        match (has(Key::Method), has(Key::Id)) {
            (true, true) => Some(Message::Request),
            (true, false) if self.is_whole() => Some(Message::Notification),
            (false, _) if self.is_whole() && (has(Key::Result) || has(Key::Error)) => Some(Message::Response),
            _ => None,
        }
    }

    fn text(&self, slot: Slot, key: Key) -> Option<&str> {
        let text = &self.texts[slot as usize];
        let usable = text.stage == Stage::Whole && !self.is_doubled(key);
        std::str::from_utf8(&text.bytes).ok().filter(|_| usable)
    }

    fn is_doubled(&self, key: Key) -> bool {
        self.doubled & key.bit() != 0
    }

    /// Reads the first byte, or more where they belong together. Returns how many.
    fn read(&mut self, bytes: &[u8]) -> usize {
        match self.state {
            State::Text { is_key } => return self.read_text(bytes, is_key),
            State::Bare => return self.read_bare(bytes),
            // Almost all keys and unwatched texts are complete in one piece.
            State::Key | State::KeyOrEnd => {
                if let Some(key) = whole_text(bytes) {
                    if self.is_watched() {
                        self.note_key(Some(key));
                    }
                    let taken = key.len() + 2;
                    let has_colon = bytes.get(taken) == Some(&b':');
                    self.state = if has_colon { State::Value } else { State::Colon };
                    return taken + usize::from(has_colon);
                }
            }
            State::Value | State::ItemOrEnd if self.depth > 0 && self.slot_of_value() == Slot::Nowhere => {
                if let Some(text) = whole_text(bytes) {
                    self.state = State::AfterValue;
                    return text.len() + 2;
                }
            }
            _ => {}
        }
        self.step(self.state, bytes[0]);
        1
    }

    fn step(&mut self, state: State, byte: u8) {
        self.state = match (state, byte) {
            (State::Escape { is_key }, _) => self.unescape(byte, is_key),
            (State::Hex { is_key, left, unit }, _) => self.read_hex(byte, is_key, left, unit),
            (_, b' ' | b'\t' | b'\r' | b'\n') => state,
            (State::Value, b'[') if self.depth == 0 => {
                self.is_batch = true;
                State::Broken
            }
            (State::Value | State::ItemOrEnd, _) => self.begin_value(state, byte),
            (State::KeyOrEnd | State::Key, b'"') => self.begin_key(),
            (State::Colon, b':') => State::Value,
            (State::AfterValue, b',') if self.in_object() => State::Key,
            (State::AfterValue, b',') => State::Value,
            (State::AfterValue | State::KeyOrEnd, b'}') if self.in_object() => self.close(),
            (State::AfterValue, b']') if !self.in_object() => self.close(),
            _ => State::Broken,
        };
    }

    /// Adds bytes of the arguments, which have no white space between values.
    fn digest(&mut self, bytes: &[u8]) {
        if let Some(arguments) = &mut self.arguments {
            arguments.write(bytes);
        }
        if let Some(hash) = self.arguments_hash.as_mut().filter(|_| self.is_hashed) {
            hash.feed(bytes);
        }
    }

    fn begin_key(&mut self) -> State {
        self.reading = if self.is_watched() { Slot::Key } else { Slot::Nowhere };
        self.open_text();
        State::Text { is_key: true }
    }

    fn begin_value(&mut self, state: State, byte: u8) -> State {
        self.reading = self.slot_of_value();
        self.open_text();
        let is_number = byte == b'-' || byte.is_ascii_digit();
        match byte {
            b'"' if self.depth > 0 => {
                self.keep_raw(b"\"");
                State::Text { is_key: false }
            }
            b'{' => self.open(true),
            b'[' => self.open(false),
            b']' if state == State::ItemOrEnd => self.close(),
            b't' | b'f' | b'n' | b'-' | b'0'..=b'9' if self.depth > 0 => {
                if self.reading != Slot::Id || !is_number {
                    self.spoil();
                }
                self.keep_raw(&[byte]);
                State::Bare
            }
            _ => State::Broken,
        }
    }

    fn open(&mut self, is_object: bool) -> State {
        self.spoil();
        if self.depth == DEPTH_MAX {
            return State::Broken;
        }
        self.in_params |= self.depth == 1 && self.key == Key::Params && is_object;
        if self.depth == 2 && self.in_params && is_object {
            match self.key {
                Key::Meta => self.inner = Inner::Meta,
                Key::Ref if self.is_strict => self.inner = Inner::Ref,
                _ => {}
            }
        }
        let is_looked_at = self.arguments.is_some() || self.is_hashed;
        self.in_arguments |= is_looked_at && self.depth == 2 && self.in_params && self.key == Key::Arguments;
        self.depth += 1;
        self.objects = self.objects << 1 | u128::from(is_object);
        if is_object { State::KeyOrEnd } else { State::ItemOrEnd }
    }

    fn close(&mut self) -> State {
        self.depth -= 1;
        self.objects >>= 1;
        self.in_params &= self.depth > 1;
        if self.depth <= 2 {
            self.inner = Inner::Nothing;
        }
        self.in_arguments &= self.depth > 2;
        if self.depth == 0 { State::Over } else { State::AfterValue }
    }

    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }

    /// Whether members are watched at this position: in the message itself, in its `params`, and in their `_meta` and
    /// `ref`.
    fn is_watched(&self) -> bool {
        self.depth == 1 || (self.depth == 2 && self.in_params) || (self.depth == 3 && self.inner != Inner::Nothing)
    }

    /// The destination of the next value.
    fn slot_of_value(&self) -> Slot {
        if self.is_watched() { self.key.slot() } else { Slot::Nowhere }
    }
}

/// Whether these bytes, before which the state is `before`, are white space between values.
fn is_space(bytes: &[u8], before: State) -> bool {
    let in_text = matches!(before, State::Text { .. } | State::Escape { .. } | State::Hex { .. });
    !in_text && matches!(bytes, [b' ' | b'\t' | b'\r' | b'\n'])
}

/// The text at the start, if it is complete and has no escape.
fn whole_text(bytes: &[u8]) -> Option<&[u8]> {
    let after = bytes.strip_prefix(b"\"")?;
    let stop = text_stop(after)?;
    (after[stop] == b'"').then_some(&after[..stop])
}

/// Whether a text is a JSON number (RFC 8259 section 6).
fn is_number(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits(text);
    let mut rest = &text[whole..];
    if whole == 0 || (whole > 1 && text[0] == b'0') {
        return false;
    }
    if let [b'.', fraction @ ..] = rest {
        let len = digits(fraction);
        if len == 0 {
            return false;
        }
        rest = &fraction[len..];
    }
    match rest {
        [] => true,
        [b'e' | b'E', b'+' | b'-', exponent @ ..] | [b'e' | b'E', exponent @ ..] => {
            !exponent.is_empty() && digits(exponent) == exponent.len()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
