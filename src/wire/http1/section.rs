use memchr::memchr;

use super::names::{Known, Wanted, is_token, is_token_byte};
use super::{HeadError, METHOD_LEN_MAX};
use crate::wire::scan::{first_colon, first_control};

/// The end of a line.
const LINE_END: &[u8] = b"\r\n";

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

    fn len(self) -> usize {
        (self.end - self.start) as usize
    }
}

/// A field: the positions of its name and value, and the meaning of its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) name: Span,
    pub(super) value: Span,
    pub(super) known: Known,
}

impl Field {
    /// Reads the field of a line that begins at `start` in its section.
    fn read(line: &[u8], start: usize) -> Result<Field, HeadError> {
        // For a known name, the bytes need not be checked one by one.
        let colon = first_colon(line);
        let (name_len, known) = match colon.and_then(|at| Some((at, Known::of_short(&line[..at])?))) {
            Some(found) => found,
            None => {
                let name_len = match colon {
                    Some(at) if is_token(&line[..at]) => at,
                    _ => name_len(line)?,
                };
                (name_len, Known::of_other(&line[..name_len])?)
            }
        };
        let after = &line[name_len + 1..];
        let (value_start, value_len) = match after {
            // The usual form.
            [b' ', inside @ ..] if !has_space_around(inside) => (name_len + 2, inside.len()),
            _ => {
                let value = after.trim_ascii_start();
                (line.len() - value.len(), value.trim_ascii_end().len())
            }
        };
        let value_start = start + value_start;
        let value = Span::new(value_start, value_start + value_len);
        Ok(Field { name: Span::new(start, start + name_len), value, known })
    }
}

/// Whether the first or the last byte is white space. It also is for an empty text.
fn has_space_around(text: &[u8]) -> bool {
    !matches!((text.first(), text.last()), (Some(b'!'..), Some(b'!'..)))
}

/// The length of the name before the colon.
fn name_len(line: &[u8]) -> Result<usize, HeadError> {
    let len = line.iter().position(|&byte| !is_token_byte(byte)).ok_or(HeadError::NoColon)?;
    match (line[len], len) {
        (b':', 0) => Err(HeadError::EmptyFieldName),
        (b':', _) => Ok(len),
        (b' ' | b'\t', _) => Err(HeadError::SpaceBeforeColon),
        _ => Err(HeadError::BadFieldName),
    }
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
    /// A bit for the name of each field: most look-ups are for a name that the section does not have.
    present: u64,
    line_start: usize,
    /// Narrow, as every call's task holds some sections.
    len_max: u32,
    fields_max: u32,
}

impl Section {
    pub(super) const fn new(len_max: usize, fields_max: usize) -> Section {
        let (len_max, fields_max) = (len_max as u32, fields_max as u32);
        Section { bytes: Vec::new(), fields: Vec::new(), present: 0, line_start: 0, len_max, fields_max }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_LEN);
        self.fields.clear();
        self.present = 0;
        self.line_start = 0;
    }

    fn len_max(&self) -> usize {
        self.len_max as usize
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

    #[inline]
    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        if self.may_have(name) { self.find(name) } else { None }
    }

    /// The value of a field that occurs exactly once.
    #[inline]
    pub(super) fn get_only(&self, name: &str) -> Option<&[u8]> {
        if self.may_have(name) { self.find_only(name) } else { None }
    }

    /// False if there is certainly no field with this name.
    #[inline]
    fn may_have(&self, name: &str) -> bool {
        self.present & presence_bit(name.as_bytes()) != 0
    }

    #[inline(never)]
    fn find(&self, name: &str) -> Option<&[u8]> {
        self.named(name).next()
    }

    #[inline(never)]
    fn find_only(&self, name: &str) -> Option<&[u8]> {
        let mut values = self.named(name);
        let value = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// The values of the fields with this name, in any case.
    fn named(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let (wanted, len) = (Wanted::new(name.as_bytes()), name.len());
        let of_len = self.fields.iter().filter(move |field| field.name.len() == len);
        of_len.filter(move |field| wanted.is(self.name(field))).map(|field| self.value(field))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|field| (self.name(field), self.value(field)))
    }

    /// Reads fields in their usual form: complete lines in the input, without a control byte before their end. Returns
    /// how much was read. [`Section::take_line`] reads the rest and handles every case.
    pub(super) fn take_plain_fields(&mut self, input: &[u8]) -> Result<usize, HeadError> {
        let start = self.bytes.len();
        if start > self.line_start {
            return Ok(0);
        }
        let mut taken = 0;
        let read = loop {
            let Some(line) = plain_line(&input[taken..]) else { break Ok(()) };
            let line_end = taken + line.len() + LINE_END.len();
            if line.is_empty() || line[0] == b' ' || start + line_end > self.len_max() {
                break Ok(());
            }
            match self.check_count().and_then(|()| Field::read(line, start + taken)) {
                Ok(field) => {
                    self.present |= presence_bit(&line[..field.name.len()]);
                    self.fields.push(field);
                }
                Err(error) => break Err(error),
            }
            taken = line_end;
        };
        // Append all at once, and also before an error, because the fields refer to these bytes.
        self.bytes.extend_from_slice(&input[..taken]);
        self.line_start = self.bytes.len();
        read.map(|()| taken)
    }

    /// Takes the empty line that ends the section, if it is next and complete in the input. Returns its length.
    pub(super) fn take_end(&mut self, input: &[u8]) -> Option<usize> {
        let is_next = self.bytes.len() == self.line_start && input.starts_with(LINE_END);
        if !is_next || self.bytes.len() + LINE_END.len() > self.len_max() {
            return None;
        }
        self.bytes.extend_from_slice(LINE_END);
        self.line_start = self.bytes.len();
        Some(LINE_END.len())
    }

    /// Reads the rest of the current line from the input, or all of the input. Returns how much was read and, once it
    /// is complete, the line without its line end.
    pub(super) fn take_line(&mut self, input: &[u8], kind: LineKind) -> Result<(usize, Option<Span>), HeadError> {
        let line_end = memchr(b'\n', input).map(|at| at + 1);
        let wanted = line_end.unwrap_or(input.len());
        let taken = wanted.min(self.len_max() - self.bytes.len());
        let old_len = self.bytes.len();
        self.bytes.extend_from_slice(&input[..taken]);
        check_start(&self.bytes[self.line_start..], kind)?;
        check_bytes(&self.bytes[self.line_start..], old_len - self.line_start)?;
        if line_end.is_some() && taken == wanted {
            return Ok((taken, Some(self.close_line()?)));
        }
        if self.bytes.len() == self.len_max() { Err(HeadError::TooLong) } else { Ok((taken, None)) }
    }

    /// Removes the line that was just completed, which must be the only one.
    pub(super) fn drop_line(&mut self) {
        self.bytes.clear();
        self.line_start = 0;
    }

    /// Parses a complete line as a field.
    pub(super) fn push_field(&mut self, line: Span) -> Result<(), HeadError> {
        self.check_count()?;
        let field = Field::read(line.of(&self.bytes), line.start as usize)?;
        self.present |= presence_bit(field.name.of(&self.bytes));
        self.fields.push(field);
        Ok(())
    }

    fn check_count(&self) -> Result<(), HeadError> {
        if self.fields.len() == self.fields_max as usize { Err(HeadError::TooManyFields) } else { Ok(()) }
    }

    fn close_line(&mut self) -> Result<Span, HeadError> {
        let start = std::mem::replace(&mut self.line_start, self.bytes.len());
        match self.bytes[start..].strip_suffix(b"\r\n") {
            Some(line) => Ok(Span::new(start, start + line.len())),
            None => Err(HeadError::BareLf),
        }
    }
}

/// The bit of [`Section::present`] for this name. Few names that are looked up share their bit with one that most heads have.
const fn presence_bit(name: &[u8]) -> u64 {
    let (Some(first), Some(last)) = (name.first(), name.last()) else { return 0 };
    // Setting 0x20 makes letters of both cases equal.
    let (first, last) = (*first | 0x20, *last | 0x20);
    1 << ((name.len() * 3 + first as usize * 2 + last as usize * 8) % 64)
}

/// The first line of the input without its end, if it is complete and has no other control byte.
fn plain_line(input: &[u8]) -> Option<&[u8]> {
    let (line, rest) = input.split_at(first_control(input)?);
    rest.starts_with(LINE_END).then_some(line)
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
    // A carriage return at the end of the previous bytes is checked again, because the byte after it is known now.
    let from = if new > 0 && line[new - 1] == b'\r' { new - 1 } else { new };
    let Some(fresh) = line.get(from..end) else { return Ok(()) };
    if first_control(fresh).is_none() {
        return Ok(());
    }
    // A tab is allowed.
    match fresh.iter().find(|&&byte| is_control(byte)) {
        None => Ok(()),
        Some(b'\r') => Err(HeadError::BareCr),
        Some(_) => Err(HeadError::ControlByte),
    }
}

/// Whether a byte is not allowed in a line; a tab is allowed.
pub(super) const fn is_control(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == 0x7f
}
