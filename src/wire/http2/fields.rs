use http::header::{CONNECTION, CONTENT_LENGTH, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memchr;

/// The fields that HTTP/2 does not have (RFC 9113, section 8.2.2), besides those with their own constant.
const OF_CONNECTIONS: [&str; 2] = ["keep-alive", "proxy-connection"];

/// The lines of a head in HTTP/1.1, without their ends.
pub(in crate::wire) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::trim_ascii_end)
}

/// Name and value of the field in a line.
pub(in crate::wire) fn split_field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr(b':', line)?;
    Some((&line[..colon], line[colon + 1..].trim_ascii()))
}

/// Adds a field, unless it belongs to a connection.
pub(super) fn push_field((name, value): (&[u8], &[u8]), headers: &mut HeaderMap) {
    let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) else { return };
    let is_of_connection =
        [CONNECTION, TRANSFER_ENCODING, UPGRADE].contains(&name) || OF_CONNECTIONS.contains(&name.as_str());
    if !is_of_connection {
        headers.append(name, value);
    }
}

/// Appends these pieces in order.
pub(super) fn push(out: &mut Vec<u8>, pieces: &[&[u8]]) {
    pieces.iter().for_each(|piece| out.extend_from_slice(piece));
}

/// Whether a body becomes a chunked one in HTTP/1.1: its length is unknown, or trailers are announced, which only
/// chunked bodies can have. `h2` checks an announced length.
pub(super) fn is_chunked(headers: &HeaderMap) -> bool {
    !headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRAILER)
}
