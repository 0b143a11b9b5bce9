//! How the texts and literals of a message are read, and what is kept of them.

use crate::wire::jsonrpc::members::{Key, Slot, Stage};
use crate::wire::jsonrpc::{Peek, State, is_number};
use crate::wire::scan::text_stop;

/// The longest URI that is kept if a rule depends on it, in bytes.
const STRICT_URI_LEN_MAX: usize = 2_048;

impl Peek {
    /// Reads text up to its end or an escape.
    pub(super) fn read_text(&mut self, bytes: &[u8], is_key: bool) -> usize {
        let stop = text_stop(bytes);
        let plain = &bytes[..stop.unwrap_or(bytes.len())];
        if !plain.is_empty() {
            self.flush_surrogate();
            self.keep(plain);
        }
        match stop.map(|at| bytes[at]) {
            None => bytes.len(),
            Some(b'"') => {
                self.flush_surrogate();
                self.keep_raw(b"\"");
                self.end_text(is_key);
                plain.len() + 1
            }
            Some(b'\\') => {
                self.keep_raw(b"\\");
                self.state = State::Escape { is_key };
                plain.len() + 1
            }
            Some(_) => {
                self.state = State::Broken;
                bytes.len()
            }
        }
    }

    fn end_text(&mut self, is_key: bool) {
        self.close_text();
        self.state = if is_key { State::Colon } else { State::AfterValue };
        if is_key && self.is_watched() {
            self.note_key(None);
        }
    }

    /// Handles a watched key: this one, or the stored one.
    pub(super) fn note_key(&mut self, whole: Option<&[u8]>) {
        let stored = &self.texts[Slot::Key as usize];
        let name = whole.or((stored.stage == Stage::Whole).then_some(&stored.bytes));
        let (key, is_exact) = name.map_or((Key::Other, true), |name| Key::of(name, self.depth, self.inner));
        self.key = if is_exact { key } else { Key::Other };
        if key != Key::Other {
            if !is_exact || self.seen & key.bit() != 0 {
                self.doubled |= key.bit();
            }
            self.seen |= key.bit();
        }
    }

    pub(super) fn unescape(&mut self, byte: u8, is_key: bool) -> State {
        self.keep_raw(&[byte]);
        let plain = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => return State::Hex { is_key, left: 4, unit: 0 },
            _ => return State::Broken,
        };
        self.flush_surrogate();
        self.keep_decoded(&[plain]);
        State::Text { is_key }
    }

    pub(super) fn read_hex(&mut self, byte: u8, is_key: bool, left: u8, unit: u32) -> State {
        let Some(digit) = char::from(byte).to_digit(16) else { return State::Broken };
        self.keep_raw(&[byte]);
        let unit = unit << 4 | digit;
        if left > 1 {
            return State::Hex { is_key, left: left - 1, unit };
        }
        match (self.high_surrogate.take(), unit) {
            (Some(high), 0xdc00..=0xdfff) => self.keep_char(0x1_0000 + ((high - 0xd800) << 10) + (unit - 0xdc00)),
            (high, _) => {
                self.high_surrogate = high;
                self.flush_surrogate();
                match unit {
                    0xd800..=0xdbff => self.high_surrogate = Some(unit),
                    _ => self.keep_char(unit),
                }
            }
        }
        State::Text { is_key }
    }

    /// Writes the replacement character for an unpaired surrogate.
    pub(super) fn flush_surrogate(&mut self) {
        if let Some(alone) = self.high_surrogate.take() {
            self.keep_char(alone);
        }
    }

    fn keep_char(&mut self, code: u32) {
        let char = char::from_u32(code).unwrap_or_else(|| {
            self.is_torn |= self.reading != Slot::Nowhere;
            char::REPLACEMENT_CHARACTER
        });
        self.keep_decoded(char.encode_utf8(&mut [0; 4]).as_bytes());
    }

    /// Reads a number, `true`, `false` or `null` to its end.
    pub(super) fn read_bare(&mut self, bytes: &[u8]) -> usize {
        let is_bare = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        let len = bytes.iter().position(|byte| !is_bare(byte)).unwrap_or(bytes.len());
        self.keep_raw(&bytes[..len]);
        if len < bytes.len() {
            if self.reading == Slot::Id && !is_number(&self.texts[Slot::Id as usize].bytes) {
                self.spoil();
            }
            self.close_text();
            self.state = State::AfterValue;
        }
        len
    }

    pub(super) fn open_text(&mut self) {
        self.high_surrogate = None;
        if let Some(text) = self.texts.get_mut(self.reading as usize) {
            text.clear();
            text.stage = Stage::Open;
        }
    }

    pub(super) fn close_text(&mut self) {
        if let Some(text) = self.texts.get_mut(self.reading as usize) {
            text.close();
        }
    }

    pub(super) fn spoil(&mut self) {
        if let Some(text) = self.texts.get_mut(self.reading as usize) {
            text.stage = Stage::Unusable;
        }
    }

    /// Stores bytes that are not escaped.
    fn keep(&mut self, bytes: &[u8]) {
        if let Some(text) = self.texts.get_mut(self.reading as usize) {
            let is_long = self.is_strict && self.reading == Slot::Uri;
            text.push(bytes, if is_long { STRICT_URI_LEN_MAX } else { self.reading.len_max() });
        }
    }

    /// Stores the character of an escape, unless the JSON text itself is stored.
    fn keep_decoded(&mut self, bytes: &[u8]) {
        if self.reading != Slot::Id {
            self.keep(bytes);
        }
    }

    /// Stores quotes, escapes and digits, if the JSON text itself is stored.
    pub(super) fn keep_raw(&mut self, bytes: &[u8]) {
        if self.reading == Slot::Id {
            self.keep(bytes);
        }
    }
}
