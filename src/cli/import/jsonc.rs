//! JSON as editors write it: with comments, and with commas before a closing bracket.

/// The text as JSON: comments and such commas become spaces, all else stays.
pub(super) fn without_comments(text: &str) -> String {
    let mut out: Vec<u8> = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    // Where a comma stands that only spaces and comments follow.
    let mut comma: Option<usize> = None;
    while let Some(&byte) = bytes.get(at) {
        match (byte, bytes.get(at + 1)) {
            (b'"', _) => {
                let end = string_end(bytes, at);
                out.extend_from_slice(&bytes[at..end]);
                (at, comma) = (end, None);
                continue;
            }
            (b'/', Some(b'/')) => {
                let len = bytes[at..].iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len() - at);
                out.resize(out.len() + len, b' ');
                at += len;
                continue;
            }
            (b'/', Some(b'*')) => {
                let end = text[at + 2..].find("*/").map_or(bytes.len(), |len| at + 2 + len + 2);
                out.extend(bytes[at..end].iter().map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }));
                at = end;
                continue;
            }
            (b',', _) => comma = Some(out.len()),
            (b'}' | b']', _) => {
                if let Some(comma) = comma.take() {
                    out[comma] = b' ';
                }
            }
            (byte, _) if byte.is_ascii_whitespace() => {}
            _ => comma = None,
        }
        out.push(byte);
        at += 1;
    }
    String::from_utf8(out).expect("whole characters are copied or become spaces")
}

/// The end of the string that begins here, after its closing quote.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        at += if *byte == b'\\' { 2 } else { 1 };
        if *byte == b'"' {
            break;
        }
    }
    at.min(bytes.len())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn comments_and_last_commas_are_taken_out_and_strings_stay() {
        let text = "{ // é\n \"a\": \"//x, ]\\\"/*\", /* é */ \"b\": [1, 2, /* , */ ], // ,\n}";
        let value: Value = serde_json::from_str(&without_comments(text)).unwrap();
        assert_eq!(value, json!({ "a": "//x, ]\"/*", "b": [1, 2] }));
    }

    #[test]
    fn whatever_is_cut_short_ends() {
        for text in ["\"", "\"\\", "/*", "//", "[1,", ",]", "", "/* é", "\"é"] {
            let _ = without_comments(text);
        }
    }
}
