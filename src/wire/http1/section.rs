use memchr::memchr;

use super::names::{Known, is_token_byte};
use super::{HeadError, METHOD_LEN_MAX};

/// Heads are usually short, so a connection that had a long one frees the memory beyond this, in bytes.
const KEPT_LEN: usize = 16 * 1024;
/// The first byte of a TLS handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// The first byte of a TLS alert record.
const TLS_ALERT: u8 = 0x15;

/// A range of a section's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    pub(super) fn new(start: usize, end: usize) -> Span {
        let narrow = |at: usize| u32::try_from(at).expect("a section is at most HEAD_LEN_MAX bytes long");
        Span { start: narrow(start), end: narrow(end) }
    }

    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }

    pub(super) fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// A field: the positions of its name and value, and the meaning of its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) name: Span,
    pub(super) value: Span,
    pub(super) known: Known,
}

/// The expected kind of a line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LineKind {
    Request,
    Status,
    Field,
}

/// A section of lines up to an empty one: a head, or the trailers of a body. It owns a copy of the bytes and keeps its
/// capacity.
///
/// Errors of a line are checked in a fixed order (its start, its control bytes from left to right, its end, its
/// structure), so that the result does not depend on how the bytes were cut, and each byte is checked once.
#[derive(Debug)]
pub(super) struct Section {
    bytes: Vec<u8>,
    fields: Vec<Field>,
    line_start: usize,
    len_max: usize,
    fields_max: usize,
}

impl Section {
    pub(super) const fn new(len_max: usize, fields_max: usize) -> Section {
        Section { bytes: Vec::new(), fields: Vec::new(), line_start: 0, len_max, fields_max }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_LEN);
        self.fields.clear();
        self.line_start = 0;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn fields(&self) -> &[Field] {
        &self.fields
    }

    pub(super) fn name(&self, field: &Field) -> &[u8] {
        field.name.of(&self.bytes)
    }

    pub(super) fn value(&self, field: &Field) -> &[u8] {
        field.value.of(&self.bytes)
    }

    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        let wanted = |field: &&Field| self.name(field).eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().find(wanted).map(|field| self.value(field))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|field| (self.name(field), self.value(field)))
    }

    /// Reads the rest of the current line from the input, or all of the input. Returns how much was read and, once it
    /// is complete, the line without its line end.
    pub(super) fn take_line(&mut self, input: &[u8], kind: LineKind) -> Result<(usize, Option<Span>), HeadError> {
        let line_end = memchr(b'\n', input).map(|at| at + 1);
        let wanted = line_end.unwrap_or(input.len());
        let taken = wanted.min(self.len_max - self.bytes.len());
        let old_len = self.bytes.len();
        self.bytes.extend_from_slice(&input[..taken]);
        check_start(&self.bytes[self.line_start..], kind)?;
        check_bytes(&self.bytes[self.line_start..], old_len - self.line_start)?;
        if line_end.is_some() && taken == wanted {
            return Ok((taken, Some(self.close_line()?)));
        }
        if self.bytes.len() == self.len_max { Err(HeadError::TooLong) } else { Ok((taken, None)) }
    }

    /// Removes the line that was just completed, which must be the only one.
    pub(super) fn drop_line(&mut self) {
        self.bytes.clear();
        self.line_start = 0;
    }

    /// Parses a complete line as a field.
    pub(super) fn push_field(&mut self, line: Span) -> Result<(), HeadError> {
        if self.fields.len() == self.fields_max {
            return Err(HeadError::TooManyFields);
        }
        let text = line.of(&self.bytes);
        let name_len = text.iter().position(|&byte| !is_token_byte(byte)).ok_or(HeadError::NoColon)?;
        match (text[name_len], name_len) {
            (b':', 0) => return Err(HeadError::EmptyFieldName),
            (b':', _) => {}
            (b' ' | b'\t', _) => return Err(HeadError::SpaceBeforeColon),
            _ => return Err(HeadError::BadFieldName),
        }
        let known = Known::of(&text[..name_len])?;
        let value = text[name_len + 1..].trim_ascii_start();
        let start = line.end as usize - value.len();
        let end = start + value.trim_ascii_end().len();
        let name = Span::new(line.start as usize, line.start as usize + name_len);
        self.fields.push(Field { name, value: Span::new(start, end), known });
        Ok(())
    }

    fn close_line(&mut self) -> Result<Span, HeadError> {
        let start = std::mem::replace(&mut self.line_start, self.bytes.len());
        match self.bytes[start..].strip_suffix(b"\r\n") {
            Some(line) => Ok(Span::new(start, start + line.len())),
            None => Err(HeadError::BareLf),
        }
    }
}

/// Checks the first bytes of a line.
fn check_start(line: &[u8], kind: LineKind) -> Result<(), HeadError> {
    match (kind, line.first()) {
        (_, None) => Ok(()),
        (LineKind::Field, Some(b' ' | b'\t')) => Err(HeadError::ObsFold),
        (LineKind::Field, _) => Ok(()),
        (LineKind::Request, Some(&TLS_HANDSHAKE)) => Err(HeadError::TlsOnPlainPort),
        (LineKind::Request, Some(b'\r' | b'\n')) => Ok(()),
        (LineKind::Request, _) => check_method(line),
        (LineKind::Status, Some(&TLS_ALERT)) => Err(HeadError::TlsAnswer),
        (LineKind::Status, Some(&0)) => Err(HeadError::Http2Answer),
        (LineKind::Status, _) => {
            let seen = line.len().min(5);
            if line[..seen] == b"HTTP/"[..seen] { Ok(()) } else { Err(HeadError::BadStatusLine) }
        }
    }
}

fn check_method(line: &[u8]) -> Result<(), HeadError> {
    let seen = &line[..line.len().min(METHOD_LEN_MAX + 1)];
    match seen.iter().position(|&byte| !is_token_byte(byte)) {
        None if seen.len() <= METHOD_LEN_MAX => Ok(()),
        Some(at) if at > 0 && matches!(seen[at], b' ' | b'\r' | b'\n') => Ok(()),
        _ => Err(HeadError::BadMethod),
    }
}

/// Checks the bytes of a line from `new` on for control bytes, and for a carriage return that is not its end.
fn check_bytes(line: &[u8], new: usize) -> Result<(), HeadError> {
    let end = line.strip_suffix(b"\n").map_or(line.len(), <[u8]>::len);
    let end = line[..end].strip_suffix(b"\r").map_or(end, <[u8]>::len);
    // A carriage return at the end of the previous bytes is checked again, because it is known now what follows it.
    let from = if new > 0 && line[new - 1] == b'\r' { new - 1 } else { new };
    let Some(fresh) = line.get(from..end) else { return Ok(()) };
    // Without an early exit the compiler can vectorise the loop.
    if !fresh.iter().fold(false, |bad, &byte| bad | is_control(byte)) {
        return Ok(());
    }
    match fresh.iter().find(|&&byte| is_control(byte)) {
        Some(b'\r') => Err(HeadError::BareCr),
        _ => Err(HeadError::ControlByte),
    }
}

/// Whether a byte is not allowed in a line; a tab is allowed.
pub(super) const fn is_control(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == 0x7f
}
