//! URIs in the one form that a rule compares.

use std::borrow::Cow;

/// The URI with its escapes decoded, its scheme and host in lower case, and without the segments `.` and `..`, as servers read it:
/// `file:///docs/../key` is `file:///key`.
pub(super) fn normal(uri: &str) -> Cow<'_, str> {
    let (head, path) = after_authority(uri);
    let is_plain = !head.bytes().any(|byte| byte.is_ascii_uppercase()) && !path.contains("/.") && !path.contains("//");
    if is_plain && !uri.contains(['%', '\\']) {
        return Cow::Borrowed(uri);
    }
    let decoded = decode(uri).replace('\\', "/");
    let (head, path) = after_authority(&decoded);
    let mut segments: Vec<&str> = Vec::new();
    let count = path.split('/').count();
    for (at, segment) in path.split('/').enumerate() {
        match segment {
            "." | "" if at > 0 && at + 1 < count => {}
            "." => segments.push(""),
            ".." => {
                if segments.len() > 1 {
                    segments.pop();
                }
                if at + 1 == count {
                    segments.push("");
                }
            }
            segment => segments.push(segment),
        }
    }
    Cow::Owned(format!("{}{}", head.to_ascii_lowercase(), segments.join("/")))
}

/// Scheme and authority, and what follows them.
fn after_authority(uri: &str) -> (&str, &str) {
    let scheme = uri.find(':').filter(|at| !uri[..*at].contains('/'));
    let behind = scheme.map_or(0, |at| at + 1);
    let path = match uri[behind..].strip_prefix("//") {
        Some(rest) => behind + 2 + rest.find('/').unwrap_or(rest.len()),
        None => behind,
    };
    uri.split_at(path)
}

/// The text with its escapes decoded until none is left, so that no second decoding finds another one. What is no text stays.
fn decode(text: &str) -> String {
    let mut text = text.to_owned();
    while let Some(decoded) = decode_once(&text) {
        text = decoded;
    }
    text
}

/// The text with its escapes decoded; none if it has none. Each time it becomes shorter.
fn decode_once(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digit = |nth: usize| bytes.get(at + nth).and_then(|byte| char::from(*byte).to_digit(16));
        match (bytes[at], digit(1), digit(2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    (out.len() < bytes.len()).then(|| String::from_utf8_lossy(&out).into_owned()).filter(|out| out.len() < text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_uri_has_one_form() {
        for (uri, want) in [
            ("file:///docs/a.md", "file:///docs/a.md"),
            ("file:///docs/../key", "file:///key"),
            ("file:///docs/./a/../b", "file:///docs/b"),
            ("file:///docs/%2e%2e/key", "file:///key"),
            ("file:///docs/%252e%252e/key", "file:///key"),
            ("file:///docs/..%2fkey", "file:///key"),
            ("file:///docs\\..\\key", "file:///key"),
            ("file:///../../key", "file:///key"),
            ("file:////key", "file:///key"),
            ("FILE:///key", "file:///key"),
            ("https://EXAMPLE.com/A", "https://example.com/A"),
            ("file:///%6bey", "file:///key"),
            ("note:a", "note:a"),
            ("file:///docs/..", "file:///"),
            ("a%zz", "a%zz"),
            ("", ""),
        ] {
            assert_eq!(normal(uri), want, "{uri}");
            assert_eq!(normal(&normal(uri)), want, "{uri}");
        }
    }
}
