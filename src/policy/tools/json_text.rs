//! JSON text as it stands: where each value begins and ends, so that a part can be taken out and the rest left as it is.

use std::borrow::Cow;
use std::ops::Range;

use crate::wire::jsonrpc::folds_to;
use crate::wire::text_stop;

/// The deepest nesting that is read.
pub(super) const DEPTH_MAX: usize = 128;
/// How deep objects and arrays are outlined: a batch, a message, its result, a list, an element, and a member of that.
const OUTLINE_DEPTH: usize = 6;
/// The most objects and arrays that are outlined. Others are read again.
const OUTLINE_LEN_MAX: usize = 64 * 1024;

/// The text cannot be read, or not in one way only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// A value of a text, by its place. It is known to be whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value<'a> {
    text: &'a [u8],
    start: usize,
    end: usize,
    outline: Outline<'a>,
}

/// Where an object or array begins and ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

/// The spans of a text from some place on, by their starts. It may lack any of them.
#[derive(Clone, Copy, Debug, Default)]
struct Outline<'a>(&'a [Span]);

/// Notes the spans of the objects and arrays of a text while they are read.
trait SpanNotes {
    /// An object or array begins. Returns what [`close`](SpanNotes::close) is given at its end.
    fn open(&mut self, depth: usize, start: usize) -> Option<usize>;
    fn close(&mut self, place: usize, end: usize);
}

/// A member of an object, or an element of an array.
#[derive(Clone, Debug)]
pub(super) struct Part<'a> {
    /// Its name, if it is a member.
    pub(super) name: Cow<'a, str>,
    pub(super) value: Value<'a>,
    /// From behind the comma or bracket before it to the comma or bracket behind it.
    pub(super) range: Range<usize>,
}

/// A member, if there is one, or an error if readers may disagree about it.
pub(super) type Member<'a> = Result<Option<Part<'a>>, Unreadable>;

impl<'a> Value<'a> {
    /// The one value of a text.
    pub(super) fn of(text: &'a [u8]) -> Result<Value<'a>, Unreadable> {
        Value::read(text, &mut ())
    }

    /// The same, with the spans of its upper objects and arrays in `spans`, so that none of them is read again to find its end.
    pub(super) fn outlined(text: &'a [u8], spans: &'a mut Vec<Span>) -> Result<Value<'a>, Unreadable> {
        spans.clear();
        let value = Value::read(text, spans)?;
        Ok(Value { outline: Outline(spans), ..value })
    }

    fn read(text: &'a [u8], notes: &mut impl SpanNotes) -> Result<Value<'a>, Unreadable> {
        std::str::from_utf8(text).map_err(|_| Unreadable)?;
        let mut cursor = Cursor { text, at: 0, outline: Outline::default() };
        cursor.space();
        let value = cursor.noted_value(0, notes)?;
        cursor.space();
        if cursor.at == text.len() { Ok(value) } else { Err(Unreadable) }
    }

    pub(super) fn bytes(&self) -> &'a [u8] {
        &self.text[self.start..self.end]
    }

    pub(super) fn range(&self) -> Range<usize> {
        self.start..self.end
    }

    pub(super) fn is_object(&self) -> bool {
        self.bytes().first() == Some(&b'{')
    }

    pub(super) fn is_array(&self) -> bool {
        self.bytes().first() == Some(&b'[')
    }

    /// The text that it is, if it is one.
    pub(super) fn string(&self) -> Option<Cow<'a, str>> {
        let plain = self.bytes().strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        if plain.contains(&b'\\') {
            return serde_json::from_slice(self.bytes()).ok().map(Cow::Owned);
        }
        std::str::from_utf8(plain).ok().map(Cow::Borrowed)
    }

    /// Its members or elements; none of another value.
    pub(super) fn parts(&self) -> Parts<'a> {
        let is_object = self.is_object();
        let is_open = is_object || self.is_array();
        let cursor = Cursor { text: self.text, at: self.start + 1, outline: self.outline };
        Parts { cursor, is_object, is_open, is_first: true }
    }

    /// The member with this name.
    ///
    /// # Errors
    ///
    /// If there are two, or one whose name differs only in case, which some readers accept.
    pub(super) fn member(&self, name: &str) -> Result<Option<Part<'a>>, Unreadable> {
        let [member] = self.members([name])?;
        member
    }

    /// The members with these names, found in one pass. Each is an error by itself, as for [`member`](Value::member).
    ///
    /// # Errors
    ///
    /// If the value cannot be read.
    pub(super) fn members<const N: usize>(&self, names: [&str; N]) -> Result<[Member<'a>; N], Unreadable> {
        let mut found = [const { Ok(None) }; N];
        if !self.is_object() {
            return Ok(found);
        }
        for part in self.parts() {
            let part = part?;
            // A name folds to one of them at most.
            let Some(at) = names.iter().position(|name| folds_to(part.name.as_bytes(), name.as_bytes())) else {
                continue;
            };
            found[at] = match found[at] {
                Ok(None) if part.name == names[at] => Ok(Some(part)),
                _ => Err(Unreadable),
            };
        }
        Ok(found)
    }
}

impl Outline<'_> {
    /// The end of the object or array that begins here, if it is known. Later places only can be asked about after this.
    fn end_of(&mut self, start: usize) -> Option<usize> {
        let behind = self.0.iter().take_while(|span| (span.start as usize) < start).count();
        self.0 = &self.0[behind..];
        let first = self.0.first().filter(|span| span.start as usize == start)?;
        Some(first.end as usize)
    }
}

/// Nothing is noted.
impl SpanNotes for () {
    fn open(&mut self, _: usize, _: usize) -> Option<usize> {
        None
    }

    fn close(&mut self, _: usize, _: usize) {}
}

impl SpanNotes for Vec<Span> {
    fn open(&mut self, depth: usize, start: usize) -> Option<usize> {
        let start = u32::try_from(start).ok().filter(|_| depth < OUTLINE_DEPTH && self.len() < OUTLINE_LEN_MAX)?;
        self.push(Span { start, end: u32::MAX });
        Some(self.len() - 1)
    }

    fn close(&mut self, place: usize, end: usize) {
        // A text beyond 4 GiB would not be read.
        self[place].end = u32::try_from(end).unwrap_or(u32::MAX);
    }
}

/// The same text for all names that a reader may take for one: those that differ in their case, in any script.
pub(super) fn folded(name: &str) -> Cow<'_, str> {
    if name.is_ascii() {
        let has_capitals = name.bytes().any(|byte| byte.is_ascii_uppercase());
        return if has_capitals { name.to_ascii_lowercase().into() } else { name.into() };
    }
    // Some letters have no capital, others two small forms: only both ways together make them one.
    name.to_lowercase().to_uppercase().to_lowercase().into()
}

/// Reads the parts of a value in their order.
#[derive(Clone)]
pub(super) struct Parts<'a> {
    cursor: Cursor<'a>,
    is_object: bool,
    is_open: bool,
    is_first: bool,
}

impl<'a> Parts<'a> {
    fn read(&mut self) -> Result<Option<Part<'a>>, Unreadable> {
        let start = self.cursor.at;
        self.cursor.space();
        if std::mem::take(&mut self.is_first) && matches!(self.cursor.peek(), Some(b'}' | b']')) {
            return Ok(None);
        }
        let name = if self.is_object {
            let name = self.cursor.text_value()?.string().ok_or(Unreadable)?;
            self.cursor.space();
            self.cursor.take(b':')?;
            self.cursor.space();
            name
        } else {
            Cow::Borrowed("")
        };
        let value = self.cursor.value(0)?;
        self.cursor.space();
        let range = start..self.cursor.at;
        self.is_open = self.cursor.peek() == Some(b',');
        self.cursor.at += 1;
        Ok(Some(Part { name, value, range }))
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = Result<Part<'a>, Unreadable>;

    fn next(&mut self) -> Option<Result<Part<'a>, Unreadable>> {
        if !self.is_open {
            return None;
        }
        let read = self.read().transpose();
        self.is_open &= matches!(read, Some(Ok(_)));
        read
    }
}

/// A place in a text.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
    outline: Outline<'a>,
}

impl<'a> Cursor<'a> {
    /// The start of a value.
    pub(super) fn of(value: &Value<'a>) -> Cursor<'a> {
        Cursor { text: value.text, at: value.start, outline: value.outline }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    pub(super) fn take(&mut self, byte: u8) -> Result<(), Unreadable> {
        if self.peek() != Some(byte) {
            return Err(Unreadable);
        }
        self.at += 1;
        Ok(())
    }

    pub(super) fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    pub(super) fn value(&mut self, depth: usize) -> Result<Value<'a>, Unreadable> {
        if matches!(self.peek(), Some(b'{' | b'['))
            && let Some(end) = self.outline.end_of(self.at)
        {
            let value = Value { text: self.text, start: self.at, end, outline: self.outline };
            self.at = end;
            return Ok(value);
        }
        self.noted_value(depth, &mut ())
    }

    fn noted_value(&mut self, depth: usize, notes: &mut impl SpanNotes) -> Result<Value<'a>, Unreadable> {
        let start = self.at;
        match self.peek() {
            Some(b'"') => return self.text_value(),
            Some(open @ (b'{' | b'[')) => {
                let place = notes.open(depth, start);
                self.container(open == b'{', depth, notes)?;
                if let Some(place) = place {
                    notes.close(place, self.at);
                }
            }
            Some(b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                while matches!(self.peek(), Some(b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z')) {
                    self.at += 1;
                }
            }
            _ => return Err(Unreadable),
        }
        Ok(Value { text: self.text, start, end: self.at, outline: self.outline })
    }

    fn container(&mut self, is_object: bool, depth: usize, notes: &mut impl SpanNotes) -> Result<(), Unreadable> {
        if depth == DEPTH_MAX {
            return Err(Unreadable);
        }
        self.at += 1;
        let close = if is_object { b'}' } else { b']' };
        self.space();
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            if is_object {
                self.text_value()?;
                self.space();
                self.take(b':')?;
                self.space();
            }
            self.noted_value(depth + 1, notes)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(byte) if byte == close => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(Unreadable),
            }
        }
    }

    pub(super) fn text_value(&mut self) -> Result<Value<'a>, Unreadable> {
        let start = self.at;
        self.take(b'"')?;
        loop {
            self.at += text_stop(&self.text[self.at..]).ok_or(Unreadable)?;
            match self.text[self.at] {
                b'"' => {
                    self.at += 1;
                    return Ok(Value { text: self.text, start, end: self.at, outline: self.outline });
                }
                b'\\' if self.at + 1 < self.text.len() => self.at += 2,
                _ => return Err(Unreadable),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    /// All values within one, by their text.
    fn all<'a>(value: &Value<'a>, seen: &mut Vec<(Cow<'a, str>, &'a [u8])>) -> Result<(), Unreadable> {
        for part in value.parts() {
            let part = part?;
            seen.push((part.name.clone(), part.value.bytes()));
            all(&part.value, seen)?;
        }
        Ok(())
    }

    /// Any value, and sometimes something that is none.
    fn any(rng: &mut Rng, depth: usize) -> String {
        let space = ["", "", " ", "\n\t"][rng.below(4) as usize];
        let count = rng.below(4);
        match rng.below(if depth == 0 { 3 } else { 7 }) {
            0 => ["1", "null", "-1.5e3", "true"][count as usize].to_owned(),
            1 | 2 => ["\"a\"", "\"}]\"", "\"\\\"{\"", "\"\""][count as usize].to_owned(),
            3 | 4 => {
                let parts: Vec<String> = (0..count).map(|_| format!("{space}{}{space}", any(rng, depth - 1))).collect();
                format!("[{}{space}]", parts.join(","))
            }
            _ => {
                let part = |nth| format!("{space}\"{{{nth}\"{space}:{space}{}{space}", any(rng, depth - 1));
                let parts: Vec<String> = (0..count).map(part).collect();
                let last = if rng.chance(0.01) { "," } else { "" };
                format!("{{{}{last}}}", parts.join(","))
            }
        }
    }

    #[test]
    fn an_outline_changes_nothing_of_what_is_read() {
        let (mut rng, mut spans, mut read) = (Rng::new(12), Vec::new(), 0);
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let list = format!("[{}]", ["{\"name\":\"a\",\"s\":{\"x\":[1,{}]}}"; 40].join(" , "));
        let fixed = [nested(5), nested(6), nested(7), nested(DEPTH_MAX), nested(DEPTH_MAX + 1), list];
        let random: Vec<String> = (0..3_000).map(|_| any(&mut rng, 9)).collect();
        for text in fixed.into_iter().chain(random) {
            let plain = Value::of(text.as_bytes());
            let outlined = Value::outlined(text.as_bytes(), &mut spans);
            assert_eq!(plain.is_ok(), outlined.is_ok(), "{text}");
            let (Ok(plain), Ok(outlined)) = (plain, outlined) else { continue };
            let (mut one, mut other) = (Vec::new(), Vec::new());
            assert_eq!((all(&plain, &mut one), plain.bytes()), (all(&outlined, &mut other), outlined.bytes()));
            assert_eq!(one, other, "{text}");
            read += usize::from(one.len() > 3);
        }
        assert!(read > 300, "{read}");
    }

    #[test]
    fn a_text_of_many_containers_has_a_short_outline() {
        let text = format!("[{}{{}}]", "[],".repeat(2 * OUTLINE_LEN_MAX));
        let mut spans = Vec::new();
        let value = Value::outlined(text.as_bytes(), &mut spans).unwrap();
        assert_eq!(value.parts().filter(|part| part.as_ref().is_ok_and(|part| part.value.is_object())).count(), 1);
        assert_eq!(value.parts().count(), 2 * OUTLINE_LEN_MAX + 1);
        assert_eq!(spans.len(), OUTLINE_LEN_MAX);
    }
}
