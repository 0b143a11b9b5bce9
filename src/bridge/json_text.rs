//! Changes to the members of a JSON object, as edits of its text: whatever is not changed keeps its bytes, with all digits of its
//! numbers, its escapes and its white space.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr2;

/// An object whose text is valid JSON, and where its members are.
#[derive(Clone, Debug)]
pub struct JsonObject<'a> {
    text: &'a [u8],
    /// Behind the opening brace.
    begin: usize,
    /// At the closing brace.
    end: usize,
    members: Vec<ObjectMember>,
}

#[derive(Clone, Debug)]
struct ObjectMember {
    /// From behind the brace or comma before it, to the comma or brace after it.
    whole: Range<usize>,
    /// With its quotes.
    key: Range<usize>,
    value: Range<usize>,
}

/// A change to a member: its key, and its new value as JSON text, or none to remove it.
pub type MemberEdit<'a> = (&'a str, Option<&'a [u8]>);

impl<'a> JsonObject<'a> {
    /// Finds the members of an object; none if the text is another value. The text must be valid JSON.
    #[must_use]
    pub fn read(text: &'a [u8]) -> Option<JsonObject<'a>> {
        let open = skip_space(text, 0);
        if text.get(open) != Some(&b'{') {
            return None;
        }
        let (begin, mut members, mut start) = (open + 1, Vec::new(), open + 1);
        let mut at = skip_space(text, begin);
        if text.get(at) == Some(&b'}') {
            return Some(JsonObject { text, begin, end: at, members });
        }
        loop {
            let key = at..value_end(text, at)?;
            let colon = skip_space(text, key.end);
            let value_start = skip_space(text, colon + 1);
            let value = value_start..value_end(text, value_start)?;
            let stop = skip_space(text, value.end);
            members.push(ObjectMember { whole: start..stop, key, value });
            match text.get(stop) {
                Some(b',') => {
                    start = stop + 1;
                    at = skip_space(text, start);
                }
                Some(b'}') => return Some(JsonObject { text, begin, end: stop, members }),
                _ => return None,
            }
        }
    }

    /// The text of the value of the first member with this key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&'a [u8]> {
        self.find(key).map(|member| &self.text[member.value.clone()])
    }

    /// The value of a member that is a text, with its escapes decoded.
    #[must_use]
    pub fn get_text(&self, key: &str) -> Option<String> {
        serde_json::from_slice(self.get(key)?).ok()
    }

    /// The value of a member that is an object.
    #[must_use]
    pub fn get_object(&self, key: &str) -> Option<JsonObject<'a>> {
        JsonObject::read(self.get(key)?)
    }

    /// The keys, decoded, with the texts of their values.
    pub fn members(&self) -> impl Iterator<Item = (Cow<'a, str>, &'a [u8])> {
        self.members.iter().map(|member| (decoded(&self.text[member.key.clone()]), &self.text[member.value.clone()]))
    }

    /// Whether it has no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The text with some members changed. A member that is set and not there is added at the end. If a key that is changed
    /// occurs more than once, its first place counts, and the others are removed.
    #[must_use]
    pub fn edited(&self, edits: &[MemberEdit<'_>]) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.text.len() + 64);
        out.extend_from_slice(&self.text[..self.begin]);
        let (mut done, mut is_first) = (0_u64, true);
        for member in &self.members {
            let ObjectMember { whole, key, value } = member;
            let name = decoded(&self.text[key.clone()]);
            let edit = edits.iter().position(|(edited, _)| *edited == name);
            let Some(nth) = edit else {
                push_separated(&mut out, &mut is_first, &[&self.text[whole.clone()]]);
                continue;
            };
            let was_done = done & (1 << nth) != 0;
            done |= 1 << nth;
            let Some(set) = edits[nth].1.filter(|_| !was_done) else { continue };
            let parts = [&self.text[whole.start..value.start], set, &self.text[value.end..whole.end]];
            push_separated(&mut out, &mut is_first, &parts);
        }
        for (nth, (key, value)) in edits.iter().enumerate() {
            let Some(value) = value.filter(|_| done & (1 << nth) == 0) else { continue };
            push_separated(&mut out, &mut is_first, &[&quoted(key), b":", value]);
        }
        out.extend_from_slice(&self.text[self.end..]);
        out
    }

    fn find(&self, key: &str) -> Option<&ObjectMember> {
        self.members.iter().find(|member| decoded(&self.text[member.key.clone()]) == key)
    }
}

/// The elements of an array, as texts; none if the text is another value. The text must be valid JSON.
#[must_use]
pub fn array_elements(text: &[u8]) -> Option<Vec<&[u8]>> {
    let open = skip_space(text, 0);
    if text.get(open) != Some(&b'[') {
        return None;
    }
    let (mut elements, mut at) = (Vec::new(), skip_space(text, open + 1));
    if text.get(at) == Some(&b']') {
        return Some(elements);
    }
    loop {
        let end = value_end(text, at)?;
        elements.push(&text[at..end]);
        let stop = skip_space(text, end);
        match text.get(stop) {
            Some(b',') => at = skip_space(text, stop + 1),
            Some(b']') => return Some(elements),
            _ => return None,
        }
    }
}

/// A text as a JSON string.
#[must_use]
pub fn quoted(text: &str) -> Vec<u8> {
    serde_json::Value::from(text).to_string().into_bytes()
}

fn push_separated(out: &mut Vec<u8>, is_first: &mut bool, parts: &[&[u8]]) {
    if !std::mem::take(is_first) {
        out.push(b',');
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// The content of a quoted key.
fn decoded(key: &[u8]) -> Cow<'_, str> {
    let inner = key.get(1..key.len().saturating_sub(1)).unwrap_or_default();
    match memchr::memchr(b'\\', inner) {
        None => String::from_utf8_lossy(inner),
        Some(_) => Cow::Owned(serde_json::from_slice(key).unwrap_or_default()),
    }
}

fn skip_space(text: &[u8], from: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    let len = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).unwrap_or(rest.len());
    from + len
}

/// Where the value ends that begins here. The text is valid JSON, so that only texts and brackets matter.
fn value_end(text: &[u8], from: usize) -> Option<usize> {
    let (mut at, mut depth) = (from, 0_usize);
    loop {
        match text.get(at)? {
            b'"' => at = text_end(text, at)?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            b',' | b':' | b' ' | b'\t' | b'\r' | b'\n' => at += 1,
            _ => {
                let rest = &text[at..];
                let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n' | b':');
                at += rest.iter().position(is_end).unwrap_or(rest.len());
            }
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// Where the text ends that begins with the quote here.
fn text_end(text: &[u8], quote: usize) -> Option<usize> {
    let mut at = quote + 1;
    loop {
        let stop = at + memchr2(b'"', b'\\', text.get(at..)?)?;
        match text[stop] {
            b'"' => return Some(stop + 1),
            _ => at = stop + 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;
    use serde_json::{Map, Value};

    fn edited(text: &str, edits: &[MemberEdit<'_>]) -> String {
        String::from_utf8(JsonObject::read(text.as_bytes()).unwrap().edited(edits)).unwrap()
    }

    #[test]
    fn edits_leave_all_other_bytes_as_they_are() {
        for (text, edits, wanted) in [
            ("{}", &[("a", Some(&b"1"[..]))][..], r#"{"a":1}"#),
            (" { } ", &[("a", Some(b"1"))], r#" {"a":1} "#),
            (r#"{"a":1}"#, &[("a", None)], "{}"),
            (r#"{ "a" : 1.50e+3 , "b" : [1, {"c": "}"}] }"#, &[("a", None)], r#"{ "b" : [1, {"c": "}"}] }"#),
            (
                r#"{"id":12345678901234567890,"b":"\u0041"}"#,
                &[("b", Some(b"2"))],
                r#"{"id":12345678901234567890,"b":2}"#,
            ),
            (r#"{"\u0061":1,"a":2,"b":3}"#, &[("a", Some(b"9"))], r#"{"\u0061":9,"b":3}"#),
            (r#"{"a":"\\\"","b":true}"#, &[("c", Some(b"null"))], r#"{"a":"\\\"","b":true,"c":null}"#),
        ] {
            assert_eq!(edited(text, edits), wanted, "{text}");
        }
        assert!(JsonObject::read(b"[1]").is_none() && JsonObject::read(b" 7").is_none());
        assert!(JsonObject::read(b"{\"a\":1").is_none(), "it is not complete");
    }

    #[test]
    fn elements_of_an_array_keep_their_bytes() {
        assert_eq!(array_elements(b" [ ] ").unwrap(), Vec::<&[u8]>::new());
        assert_eq!(array_elements(b"[1.0, {\"a\":[2,3]} ,\"]\"]").unwrap(), [&b"1.0"[..], b"{\"a\":[2,3]}", b"\"]\""]);
        assert!(array_elements(b"{}").is_none() && array_elements(b"[1").is_none());
    }

    /// A value of any kind, with keys and texts that need escapes.
    fn value(rng: &mut Rng, depth: u32) -> Value {
        let text = |rng: &mut Rng| ["", "a", "\"", "\\", "}{", "é\u{1}", "b,c:d"][rng.below(7) as usize].to_owned();
        match rng.below(if depth == 0 { 4 } else { 6 }) {
            0 => Value::Null,
            1 => rng.next_u64().into(),
            2 => text(rng).into(),
            3 => (rng.below(2) == 0).into(),
            4 => (0..rng.below(4)).map(|_| value(rng, depth - 1)).collect(),
            _ => (0..rng.below(4)).map(|_| (text(rng), value(rng, depth - 1))).collect::<Map<_, _>>().into(),
        }
    }

    #[test]
    fn edits_of_random_objects_equal_edits_of_their_values() {
        let mut rng = Rng::new(0x00b1_d6e5);
        for _ in 0..3_000 {
            let mut object: Map<String, Value> =
                (0..rng.below(6)).map(|nth| (format!("k{nth}"), value(&mut rng, 3))).collect();
            let pretty = rng.below(2) == 0;
            let text = match pretty {
                true => serde_json::to_string_pretty(&object).unwrap(),
                false => serde_json::to_string(&object).unwrap(),
            };
            assert_eq!(edited(&text, &[]), text);
            let (set, gone) = (format!("k{}", rng.below(8)), format!("k{}", rng.below(8)));
            let new = value(&mut rng, 2);
            let new_text = new.to_string();
            let mut edits = vec![(gone.as_str(), None)];
            object.remove(&gone);
            if set != gone {
                edits.push((set.as_str(), Some(new_text.as_bytes())));
                object.insert(set.clone(), new);
            }
            let after: Value = serde_json::from_str(&edited(&text, &edits)).unwrap();
            assert_eq!(after, Value::Object(object), "{text}");
        }
    }
}
