//! JSON text as it stands: where each value begins and ends, so that a part can be taken out and the rest left as it is.

use std::borrow::Cow;
use std::ops::Range;

use crate::wire::jsonrpc::folds_to;
use crate::wire::text_stop;

/// The deepest nesting that is read.
pub(super) const DEPTH_MAX: usize = 128;

/// The text cannot be read, or not in one way only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// A value of a text, by its place. It is known to be whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value<'a> {
    text: &'a [u8],
    start: usize,
    end: usize,
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
        std::str::from_utf8(text).map_err(|_| Unreadable)?;
        let mut cursor = Cursor { text, at: 0 };
        cursor.space();
        let value = cursor.value(0)?;
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
        Parts { cursor: Cursor { text: self.text, at: self.start + 1 }, is_object, is_open, is_first: true }
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
}

impl<'a> Cursor<'a> {
    /// The start of a value.
    pub(super) fn of(value: &Value<'a>) -> Cursor<'a> {
        Cursor { text: value.text, at: value.start }
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
        let start = self.at;
        match self.peek() {
            Some(b'"') => return self.text_value(),
            Some(open @ (b'{' | b'[')) => self.container(open == b'{', depth)?,
            Some(b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                while matches!(self.peek(), Some(b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z')) {
                    self.at += 1;
                }
            }
            _ => return Err(Unreadable),
        }
        Ok(Value { text: self.text, start, end: self.at })
    }

    fn container(&mut self, is_object: bool, depth: usize) -> Result<(), Unreadable> {
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
            self.value(depth + 1)?;
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
                    return Ok(Value { text: self.text, start, end: self.at });
                }
                b'\\' if self.at + 1 < self.text.len() => self.at += 2,
                _ => return Err(Unreadable),
            }
        }
    }
}
