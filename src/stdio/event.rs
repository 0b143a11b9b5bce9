//! Messages as events of a stream (server-sent events), each in a chunk of HTTP/1.1.

use std::io::Write;

use crate::stdio::session::EventPlace;

/// The end of a body in chunks.
pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// A message as an event, in a chunk.
pub(super) fn event(message: &[u8], at: Option<EventPlace>) -> Vec<u8> {
    let mut event = Vec::with_capacity(message.len() + 64);
    event.extend_from_slice(b"event: message\n");
    if let Some(EventPlace { stream, number }) = at {
        event.extend_from_slice(format!("id: {stream}-{number}\n").as_bytes());
    }
    event.extend_from_slice(b"data: ");
    // A carriage return ends a line of an event. In a message it stands between values, where a space is equal.
    event.extend(message.iter().map(|byte| if *byte == b'\r' { b' ' } else { *byte }));
    event.extend_from_slice(b"\n\n");
    chunk(&event)
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    let mut chunk = Vec::with_capacity(bytes.len() + 16);
    // Writing to memory does not fail.
    let _ = write!(chunk, "{:x}\r\n", bytes.len());
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_event_in_one_chunk() {
        let at = EventPlace { stream: 3, number: 12 };
        assert_eq!(event(b"{\r}", Some(at)), b"23\r\nevent: message\nid: 3-12\ndata: { }\n\n\r\n");
        assert_eq!(event(b"{}", None), b"19\r\nevent: message\ndata: {}\n\n\r\n");
    }
}
