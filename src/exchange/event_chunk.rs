//! Messages as events of a stream (server-sent events), each in a chunk of HTTP/1.1.

use std::fmt::{Arguments, Write};

/// The end of a body in chunks.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The most bytes around a message: the size of the chunk, the kind and the id of the event, line ends.
const AROUND_LEN: usize = 96;

/// A message as an event, in a chunk. Line ends in it become spaces: in a message of JSON, they stand between values, where a space
/// is equal.
#[must_use]
pub fn event_chunk(kind: &str, id: Option<Arguments<'_>>, message: &[u8]) -> Vec<u8> {
    let mut fields = String::with_capacity(AROUND_LEN);
    // Writing to memory does not fail.
    let _ = writeln!(fields, "event: {kind}");
    if let Some(id) = id {
        let _ = writeln!(fields, "id: {id}");
    }
    fields.push_str("data: ");
    let (len, mut chunk) = (fields.len() + message.len() + 2, Vec::with_capacity(message.len() + AROUND_LEN));
    chunk.extend_from_slice(format!("{len:x}\r\n{fields}").as_bytes());
    let at = chunk.len();
    chunk.extend_from_slice(message);
    chunk[at..].iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n')).for_each(|byte| *byte = b' ');
    chunk.extend_from_slice(b"\n\n\r\n");
    chunk
}

/// The head of a response that is a stream of events, with further lines of the head.
#[must_use]
pub fn event_stream_head(lines: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nX-Accel-Buffering: no\r\n{lines}\
         Transfer-Encoding: chunked\r\n\r\n"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_event_in_one_chunk() {
        let with_id = event_chunk("message", Some(format_args!("{}-{}", 3, 12)), b"{\r}");
        assert_eq!(with_id, b"23\r\nevent: message\nid: 3-12\ndata: { }\n\n\r\n");
        assert_eq!(event_chunk("message", None, b"{}"), b"19\r\nevent: message\ndata: {}\n\n\r\n");
        assert_eq!(event_chunk("message", None, b"{\r\n}"), b"1b\r\nevent: message\ndata: {  }\n\n\r\n");
    }
}
