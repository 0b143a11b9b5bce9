//! The id of an answer that is too long to be read.

/// Between the braces of an answer, as most servers begin it: `"jsonrpc":"2.0"`, then `"id":` and the number.
const FIRST: &[u8] = b"{\"jsonrpc\":\"2.0\",";
/// As other servers end it: the id last, or followed by the version.
const LAST: &[u8] = b",\"jsonrpc\":\"2.0\"}";
const ID: &[u8] = b"\"id\":";

/// The number that is the id of a message, of which only the first and the last bytes are known. None if its place is not certain.
///
/// In a text of JSON, a quote within a string has a backslash in front. So `,"id":5}` at the end of an object is a member of it.
pub(super) fn id_of_long_line(start: &[u8], end: &[u8]) -> Option<u64> {
    // White space between values means nothing, and white space within texts is in none of what is looked for.
    let compact = |text: &[u8]| text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect::<Vec<u8>>();
    at_start(&compact(start)).or_else(|| at_end(&compact(end)))
}

fn at_start(start: &[u8]) -> Option<u64> {
    let rest = start.strip_prefix(FIRST).or_else(|| start.strip_prefix(b"{"))?.strip_prefix(ID)?;
    let len = rest.iter().position(|byte| !byte.is_ascii_digit())?;
    (rest[len] == b',').then(|| number(&rest[..len]))?
}

fn at_end(end: &[u8]) -> Option<u64> {
    let rest = end.strip_suffix(LAST).or_else(|| end.strip_suffix(b"}"))?;
    let len = rest.iter().rev().position(|byte| !byte.is_ascii_digit())?;
    let (before, digits) = rest.split_at(rest.len() - len);
    before.strip_suffix(ID)?.ends_with(b",").then(|| number(digits))?
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_found_only_where_it_is_certain() {
        let cases: [(&str, &str, Option<u64>); 13] = [
            ("{\"jsonrpc\": \"2.0\", \"id\": 17, \"result\":{", "}}", Some(17)),
            ("{\"result\":{\"a\":\"xx", "xx\"} , \"id\" : 8 }", Some(8)),
            ("{\"jsonrpc\":\"2.0\",\"id\":17,\"result\":{", "}}", Some(17)),
            ("{\"id\":17,\"result\":{", "}}", Some(17)),
            ("{\"result\":{\"a\":\"xx", "xx\"},\"jsonrpc\":\"2.0\",\"id\":8}", Some(8)),
            ("{\"result\":{\"a\":\"xx", "xx\"},\"id\":8,\"jsonrpc\":\"2.0\"}", Some(8)),
            ("{\"result\":{\"a\":\"xx", "xx\"},\"id\":\"8\"}", None),
            ("{\"result\":{\"a\":\"xx", ",\\\"id\":8}", None),
            ("{\"result\":{\"a\":{", ",\"id\":8}}", None),
            ("{\"jsonrpc\":\"2.0\",\"id\":17", "}}", None),
            ("{\"params\":{\"id\":3", "3,\"b\":1}}", None),
            ("{\"id\":99999999999999999999,\"a\"", "}", None),
            ("", "", None),
        ];
        for (start, end, id) in cases {
            assert_eq!(id_of_long_line(start.as_bytes(), end.as_bytes()), id, "{start} {end}");
        }
    }
}
