//! The events of a stream, counted as they pass.

use std::hint::black_box;

use adit::wire::sse::Splitter;

use super::Work;

/// One event, of 200 bytes.
pub(crate) const EVENT: &[u8] = b"event: message\nid: 0123456789\ndata: {\"jsonrpc\":\"2.0\",\"method\":\
    \"notifications/progress\",\"params\":{\"progressToken\":\"0123456789abcdef\",\"progress\":42,\"total\":100,\
    \"message\":\"forty-two of a hundred\"}}\n\n";
const EVENTS: usize = 20;

pub(crate) fn events() -> Work {
    let stream = EVENT.repeat(EVENTS);
    let mut splitter = Splitter::new();
    Box::new(move || {
        assert_eq!(splitter.feed(black_box(&stream)), EVENTS as u64);
    })
}
