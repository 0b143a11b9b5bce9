//! The canonical form of a JSON value (RFC 8785), in which equal values have equal digests.
//!
//! Unlike RFC 8785, numbers stay as written. RFC 8785 converts them to doubles, which makes 9007199254740993 and 9007199254740992
//! equal; some clients tell them apart.

use std::borrow::Cow;

use serde::de::IgnoredAny;

use crate::policy::tools::json_text::{Cursor, DEPTH_MAX, Unreadable, Value};

/// A value whose object members are sorted.
enum Node<'a> {
    /// A number, `true`, `false` or `null`.
    Plain(&'a [u8]),
    Text(Cow<'a, str>),
    Array(Vec<Node<'a>>),
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
}

/// Appends the canonical form of a value.
///
/// # Errors
///
/// If an object has two members of the same name: readers use either.
pub(super) fn write_canonical(value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), Unreadable> {
    read(&mut Cursor::of(value), 0)?.write(out);
    Ok(())
}

/// Appends a text as a JSON string.
pub(super) fn write_text(text: &str, out: &mut Vec<u8>) {
    // `serde_json` escapes exactly as RFC 8785 section 3.2.2.2 requires.
    serde_json::to_writer(out, text).expect("a vector takes all that is written");
}

/// Parses a value. Each byte is read once, whatever the nesting depth.
fn read<'a>(cursor: &mut Cursor<'a>, depth: usize) -> Result<Node<'a>, Unreadable> {
    match cursor.peek() {
        Some(b'"') => Ok(Node::Text(cursor.text_value()?.string().ok_or(Unreadable)?)),
        Some(b'{' | b'[') if depth == DEPTH_MAX => Err(Unreadable),
        Some(b'[') => {
            let mut elements = Vec::new();
            each(cursor, b'[', b']', |cursor| {
                elements.push(read(cursor, depth + 1)?);
                Ok(())
            })?;
            Ok(Node::Array(elements))
        }
        Some(b'{') => {
            let mut members = Vec::new();
            each(cursor, b'{', b'}', |cursor| {
                let name = cursor.text_value()?.string().ok_or(Unreadable)?;
                cursor.space();
                cursor.take(b':')?;
                cursor.space();
                members.push((name, read(cursor, depth + 1)?));
                Ok(())
            })?;
            // Sorted by UTF-16 code units (section 3.2.3).
            members.sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
            if members.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                return Err(Unreadable);
            }
            Ok(Node::Object(members))
        }
        _ => {
            let plain = cursor.value(depth)?.bytes();
            serde_json::from_slice::<IgnoredAny>(plain).map_err(|_| Unreadable)?;
            Ok(Node::Plain(plain))
        }
    }
}

/// Calls `part` at each element of an array or object. `part` must move the cursor to the end of the element.
fn each<'a>(
    cursor: &mut Cursor<'a>,
    open: u8,
    close: u8,
    mut part: impl FnMut(&mut Cursor<'a>) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    cursor.take(open)?;
    cursor.space();
    if cursor.peek() == Some(close) {
        return cursor.take(close);
    }
    loop {
        cursor.space();
        part(cursor)?;
        cursor.space();
        if cursor.peek() == Some(close) {
            return cursor.take(close);
        }
        cursor.take(b',')?;
    }
}

impl Node<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Node::Plain(text) => out.extend_from_slice(text),
            Node::Text(text) => write_text(text, out),
            Node::Array(elements) => {
                out.push(b'[');
                for (nth, element) in elements.iter().enumerate() {
                    if nth > 0 {
                        out.push(b',');
                    }
                    element.write(out);
                }
                out.push(b']');
            }
            Node::Object(members) => {
                out.push(b'{');
                for (nth, (name, value)) in members.iter().enumerate() {
                    if nth > 0 {
                        out.push(b',');
                    }
                    write_text(name, out);
                    out.push(b':');
                    value.write(out);
                }
                out.push(b'}');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    fn canonical(text: &str) -> Option<String> {
        let mut out = Vec::new();
        write_canonical(&Value::of(text.as_bytes()).ok()?, &mut out).ok()?;
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn members_are_in_order_and_texts_are_written_in_one_way() {
        for (text, want) in [
            (r#" { "b" : [ 1 , {"d":null,"c":true} ] , "a" : "x" } "#, r#"{"a":"x","b":[1,{"c":true,"d":null}]}"#),
            (r#"{"\u0061\/\n\u001f":"\u00e9\u20ac\ud83d\ude00"}"#, "{\"a/\\n\\u001f\":\"é€😀\"}"),
            // The example of RFC 8785 section 3.2.3: sorted by UTF-16, not by code points.
            (
                r#"{"\u20ac":1,"\r":2,"\ufb33":3,"1":4,"\ud83d\ude00":5,"\u0080":6,"\u00f6":7}"#,
                "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"ö\":7,\"€\":1,\"😀\":5,\"\u{fb33}\":3}",
            ),
            ("[]", "[]"),
            ("{}", "{}"),
            // Numbers are not changed.
            ("[1.0,1e3,9007199254740993]", "[1.0,1e3,9007199254740993]"),
        ] {
            assert_eq!(canonical(text).as_deref(), Some(want), "{text}");
        }
        for wrong in [r#"{"a":1,"b":{"c":1,"\u0063":2}}"#, "[1null]", "[01]", "[tru]", r#"["\x"]"#] {
            assert_eq!(canonical(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn deep_values_are_read_or_refused_and_the_form_of_a_form_is_itself() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(canonical(&nested(DEPTH_MAX)), Some(nested(DEPTH_MAX)));
        assert_eq!(canonical(&nested(DEPTH_MAX + 1)), None);
        let mut rng = Rng::new(8);
        let alphabet = ["{", "}", "[", "]", "\"a\"", "\"b\"", ":", ",", "1", "null", " "];
        let mut read = 0;
        for _ in 0..200_000 {
            let text: String = (0..rng.below(12)).map(|_| alphabet[rng.below(11) as usize]).collect();
            if let Some(form) = canonical(&text) {
                read += 1;
                assert_eq!(canonical(&form).as_ref(), Some(&form), "{text}");
                let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
                assert_eq!(parse(&text), parse(&form));
            }
        }
        assert!(read > 1_000, "{read}");
    }
}
