//! Messages with other ids, and as lines.

use std::ops::Range;

/// The number that an id or a token of the server's message is. Some servers send it back as a text.
pub(super) fn number_of(value: &[u8]) -> Option<u64> {
    let digits = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value);
    let is_plain = digits.first() != Some(&b'0') && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_plain)?.parse().ok()
}

/// The message with parts of it replaced.
pub(super) fn with_edits(text: &[u8], edits: &mut [(Range<usize>, &[u8])]) -> Vec<u8> {
    edits.sort_by_key(|(place, _)| place.start);
    let mut message = Vec::with_capacity(text.len() + 32);
    let mut at = 0;
    for (place, by) in edits {
        message.extend_from_slice(&text[at..place.start]);
        message.extend_from_slice(by);
        at = place.end;
    }
    message.extend_from_slice(&text[at..]);
    message
}

/// The same as one line. A line feed can only stand between values, where a space is equal.
pub(super) fn line_of(text: &[u8], edits: &mut [(Range<usize>, &[u8])]) -> Vec<u8> {
    let mut line = with_edits(text, edits);
    line.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    line.push(b'\n');
    line
}

/// A response with this id and a `result` or an `error`.
#[must_use]
pub fn outcome(id: &[u8], key: &str, value: &[u8]) -> Vec<u8> {
    [b"{\"jsonrpc\":\"2.0\",\"id\":", id, b",\"", key.as_bytes(), b"\":", value, b"}"].concat()
}
