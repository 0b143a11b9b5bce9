//! Sanitises JSON-RPC messages. Only texts that are data are changed.

use std::borrow::Cow;

use crate::policy::tools::json_text::{Unreadable, Value};
use crate::policy::tools::list_filter::LIST_LEN_MAX;
use crate::policy::tools::sanitise::found::{SanitiseFound, SanitiseKind};
use crate::policy::tools::sanitise::rules::{SanitiseMode, SanitiseRules, TextPlace};
use crate::policy::tools::sanitise::scan_timer::{OutOfTime, ScanTimer};
use crate::policy::tools::sanitise::secrets::NAME_LEN_MAX;

/// Why the texts of a message were not all looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unscanned {
    /// It cannot be parsed, or would become too long.
    Unreadable,
    /// The time was up.
    OutOfTime,
}

impl From<Unreadable> for Unscanned {
    fn from(Unreadable: Unreadable) -> Unscanned {
        Unscanned::Unreadable
    }
}

impl From<OutOfTime> for Unscanned {
    fn from(OutOfTime: OutOfTime) -> Unscanned {
        Unscanned::OutOfTime
    }
}

/// The role of the strings in an object or array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Area {
    /// Messages of a batch.
    Batch,
    /// The members of a message.
    Message,
    /// Members that the protocol defines.
    Described,
    /// Content blocks, some of which are binary.
    Content,
    /// A schema of JSON values.
    Schema,
    /// Data of the server or caller.
    Data,
}

/// An object or array that is open.
struct Open<'a> {
    is_object: bool,
    area: Area,
    /// The name of the member being read, or whose value the array is. Empty if it is longer than any name that matters.
    name: Cow<'a, str>,
}

/// Members that clients use as identifiers. Their values are flagged but never changed.
const IDENTIFIERS: [&str; 22] = [
    "name",
    "uri",
    "uriTemplate",
    "url",
    "mimeType",
    "type",
    "nextCursor",
    "cursor",
    "progressToken",
    "taskId",
    "requestId",
    "id",
    "role",
    "protocolVersion",
    "method",
    "cacheScope",
    "version",
    "elicitationId",
    "$schema",
    "level",
    "resultType",
    "requestState",
];

impl SanitiseRules {
    /// Sanitises a message or batch. `None` if nothing changes. All bytes outside of changed values are kept.
    ///
    /// # Errors
    ///
    /// If the message cannot be parsed, is longer than the rules allow, takes more time, or would become too long.
    pub(in crate::policy::tools) fn apply(
        &self,
        text: &[u8],
        found: &mut SanitiseFound,
        timer: &mut ScanTimer<'_>,
    ) -> Result<Option<Vec<u8>>, Unreadable> {
        if text.len() > self.scan_bytes_max {
            found.add(SanitiseKind::TooLong, !self.passes_long);
            return if self.passes_long { Ok(None) } else { Err(Unreadable) };
        }
        Value::of(text)?;
        let (open, out, root, before) = (Vec::new(), Vec::new(), Area::Message, *found);
        let is_used_up = timer.is_used_up();
        let mut walk = Walk { rules: self, found, timer, text, root, open, out, copied: 0 };
        let walked = if is_used_up { Err(Unscanned::OutOfTime) } else { walk.run() };
        let Walk { mut out, copied, .. } = walk;
        match walked {
            Ok(()) => {}
            Err(Unscanned::Unreadable) => return Err(Unreadable),
            Err(Unscanned::OutOfTime) => {
                // Nothing of it was changed.
                *found = before;
                found.add(SanitiseKind::TooSlow, !self.passes_slow);
                return if self.passes_slow { Ok(None) } else { Err(Unreadable) };
            }
        }
        if copied == 0 {
            return Ok(None);
        }
        out.extend_from_slice(&text[copied..]);
        Ok(Some(out))
    }
}

impl SanitiseRules {
    /// Finds in the arguments of a request what would be removed from an answer. `message` is the complete request. If the time is up,
    /// nothing is found but that.
    ///
    /// # Errors
    ///
    /// If the message cannot be parsed, or has more than one reading.
    pub(in crate::policy::tools) fn look_at_arguments(
        &self,
        message: &[u8],
        timer: &mut ScanTimer<'_>,
    ) -> Result<SanitiseFound, Unreadable> {
        let mut found = SanitiseFound::default();
        let Some(params) = Value::of(message)?.member("params")? else { return Ok(found) };
        let Some(arguments) = params.value.member("arguments")? else { return Ok(found) };
        let (text, open, out, root) = (arguments.value.bytes(), Vec::new(), Vec::new(), Area::Data);
        let walked = Walk { rules: self, found: &mut found, timer, text, root, open, out, copied: 0 }.run();
        match walked {
            Ok(()) => {}
            Err(Unscanned::Unreadable) => return Err(Unreadable),
            Err(Unscanned::OutOfTime) => {
                found = SanitiseFound::default();
                found.add(SanitiseKind::TooSlow, !self.passes_slow);
            }
        }
        Ok(found)
    }
}

/// The arguments of a call without secrets, payment cards and bank accounts, for people who decide about it; `None` if they cannot
/// be read, or would become too long.
#[must_use]
pub fn redacted_arguments(arguments: &str) -> Option<String> {
    let mut rules = SanitiseRules::default();
    for kind in [SanitiseKind::Secrets, SanitiseKind::Cards, SanitiseKind::Ibans] {
        rules.modes[kind as usize] = SanitiseMode::Change;
    }
    Value::of(arguments.as_bytes()).ok()?;
    let (mut found, text, root) = (SanitiseFound::default(), arguments.as_bytes(), Area::Data);
    let (open, out, timer) = (Vec::new(), Vec::new(), &mut ScanTimer::unlimited());
    let mut walk = Walk { rules: &rules, found: &mut found, timer, text, root, open, out, copied: 0 };
    walk.run().ok()?;
    let Walk { mut out, copied, .. } = walk;
    out.extend_from_slice(&text[copied..]);
    String::from_utf8(out).ok()
}

/// A single pass over valid JSON text.
struct Walk<'a, 'f, 'c> {
    rules: &'a SanitiseRules,
    found: &'f mut SanitiseFound,
    timer: &'f mut ScanTimer<'c>,
    text: &'a [u8],
    /// The role of the text's root, unless it is a batch.
    root: Area,
    open: Vec<Open<'a>>,
    out: Vec<u8>,
    /// How much of the text was copied or replaced.
    copied: usize,
}

impl<'a> Walk<'a, '_, '_> {
    fn run(&mut self) -> Result<(), Unscanned> {
        let (mut at, mut is_name) = (0, false);
        while let Some(byte) = self.text.get(at) {
            match byte {
                b'{' | b'[' => {
                    is_name = *byte == b'{';
                    let open = self.opened(is_name);
                    self.open.push(open);
                    at += 1;
                }
                b'}' | b']' => {
                    self.open.pop();
                    is_name = false;
                    at += 1;
                }
                b',' => {
                    is_name = self.open.last().is_some_and(|open| open.is_object);
                    at += 1;
                }
                b'"' => {
                    let end = at + string_len(&self.text[at..]);
                    let value = decoded(&self.text[at..end]);
                    if std::mem::take(&mut is_name) {
                        self.name(value)?;
                    } else {
                        self.string(&value, at..end)?;
                    }
                    at = end;
                }
                b'0'..=b'9' | b'-' => {
                    let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
                    let end = at + self.text[at..].iter().take_while(is_part).count();
                    self.number(at..end)?;
                    at = end;
                }
                _ => at += 1,
            }
        }
        Ok(())
    }

    /// The state for the next value, which is an object or array.
    fn opened(&self, is_object: bool) -> Open<'a> {
        let Some(outer) = self.open.last() else {
            let area = if is_object || self.root == Area::Data { self.root } else { Area::Batch };
            return Open { is_object, area, name: "".into() };
        };
        let area = match (outer.area, &*outer.name) {
            (Area::Batch, _) => Area::Message,
            (Area::Message, _) => Area::Described,
            (Area::Described, "structuredContent" | "arguments" | "data") => Area::Data,
            (Area::Described | Area::Content, "inputSchema" | "outputSchema" | "requestedSchema") => Area::Schema,
            (Area::Described, "content" | "contents") => Area::Content,
            (area, _) => area,
        };
        let name = if is_object { "".into() } else { outer.name.clone() };
        Open { is_object, area, name }
    }

    fn name(&mut self, name: Cow<'a, str>) -> Result<(), OutOfTime> {
        let Some(open) = self.open.last_mut() else { return Ok(()) };
        if open.area == Area::Data {
            // Findings in names are only flagged: readers identify a value by its name.
            let place = TextPlace { name: "", may_change: false };
            self.rules.clean(&name, place, self.found, self.timer)?;
        }
        // Each nested array keeps a copy.
        open.name = if name.len() > NAME_LEN_MAX { Cow::Borrowed("") } else { name };
        Ok(())
    }

    fn string(&mut self, value: &str, range: std::ops::Range<usize>) -> Result<(), Unscanned> {
        let Some(open) = self.open.last() else { return Ok(()) };
        let name = &*open.name;
        let may_change = match open.area {
            Area::Message if matches!(name, "jsonrpc" | "id" | "method") => return Ok(()),
            Area::Content if matches!(name, "data" | "blob") && is_base64(value) => return Ok(()),
            Area::Batch | Area::Message | Area::Data => true,
            Area::Schema => matches!(name, "description" | "title"),
            Area::Described | Area::Content => !IDENTIFIERS.contains(&name),
        };
        let place = TextPlace { name, may_change };
        if let Some(cleaned) = self.rules.clean(value, place, self.found, self.timer)? {
            let with = serde_json::to_string(&cleaned).map_err(|_| Unreadable)?;
            self.replace(range, with.as_bytes())?;
        }
        Ok(())
    }

    fn number(&mut self, range: std::ops::Range<usize>) -> Result<(), Unreadable> {
        let mode = self.rules.mode(SanitiseKind::Cards);
        let is_data = self.open.last().is_some_and(|open| open.area == Area::Data);
        if mode == SanitiseMode::Off || !is_data || !self.rules.is_card(&self.text[range.clone()]) {
            return Ok(());
        }
        self.found.add(SanitiseKind::Cards, mode == SanitiseMode::Change);
        // A number is replaced by a number.
        if mode == SanitiseMode::Change { self.replace(range, b"0") } else { Ok(()) }
    }

    fn replace(&mut self, range: std::ops::Range<usize>, with: &[u8]) -> Result<(), Unreadable> {
        self.out.extend_from_slice(&self.text[self.copied..range.start]);
        self.out.extend_from_slice(with);
        self.copied = range.end;
        // Placeholders may be longer than the text they replace.
        if self.out.len() + self.text.len() - self.copied > LIST_LEN_MAX { Err(Unreadable) } else { Ok(()) }
    }
}

/// The length of the string at the start, including its quotes.
fn string_len(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(stop) = text.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += stop + 1;
        if text[at - 1] == b'"' {
            return at;
        }
        at += 1;
    }
    text.len()
}

/// Decodes a string. An unpaired surrogate becomes U+FFFD.
fn decoded(quoted: &[u8]) -> Cow<'_, str> {
    let plain = &quoted[1..quoted.len() - 1];
    if memchr::memchr(b'\\', plain).is_none() {
        // It is almost always valid, which is checked faster than where it is not.
        return std::str::from_utf8(plain).map_or_else(|_| String::from_utf8_lossy(plain), Cow::Borrowed);
    }
    let mut out = Vec::with_capacity(plain.len());
    let mut rest = plain;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let (escape, behind) = rest[at..].split_at(2.min(rest.len() - at));
        rest = behind;
        match escape.get(1) {
            Some(b'b') => out.push(0x08),
            Some(b'f') => out.push(0x0c),
            Some(b'n') => out.push(b'\n'),
            Some(b'r') => out.push(b'\r'),
            Some(b't') => out.push(b'\t'),
            Some(b'u') => {
                let first = unit(rest).unwrap_or(0xd800);
                rest = rest.get(4..).unwrap_or_default();
                let second = rest.strip_prefix(b"\\u").and_then(unit).filter(|unit| (0xdc00..0xe000).contains(unit));
                let char = match (first, second) {
                    (0xd800..=0xdbff, Some(second)) => {
                        rest = &rest[6..];
                        char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))
                    }
                    _ => char::from_u32(first),
                };
                let char = char.unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            }
            Some(other) => out.push(*other),
            None => {}
        }
    }
    out.extend_from_slice(rest);
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// The value of four hexadecimal digits.
fn unit(text: &[u8]) -> Option<u32> {
    let digits = text.get(..4)?;
    digits.iter().try_fold(0, |unit, byte| Some(unit << 4 | char::from(*byte).to_digit(16)?))
}

fn is_base64(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=-_\r\n".contains(&byte))
}
