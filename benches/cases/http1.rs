//! Heads as MCP clients and servers send them, read and written on as the roles do it.

use std::hint::black_box;

use adit::base::Chunk;
use adit::wire::http1::{
    BodyDecoder, BodyEncoder, Decoded, Framing, Method, Progress, RequestEdits, RequestHead, ResponseEdits,
    ResponseHead, write_request, write_response,
};

use super::Work;
use super::sse::EVENT;

const REQUEST: &[u8] = b"POST /mcp HTTP/1.1\r\nHost: orders.tunnel.example.com\r\nAccept: application/json, \
    text/event-stream\r\nContent-Type: application/json\r\nMcp-Protocol-Version: 2025-11-25\r\nMcp-Session-Id: \
    0123456789abcdef0123456789abcdef\r\nAuthorization: Bearer 0123456789abcdef0123456789abcdef0123456789abcdef\r\n\
    User-Agent: python-httpx/0.28.1\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n\
    Content-Length: 1024\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nDate: Mon, 02 Nov 2026 10:00:00 GMT\r\nServer: uvicorn\r\nCache-Control: \
    no-cache, no-transform\r\nContent-Type: application/json\r\nMcp-Session-Id: 0123456789abcdef0123456789abcdef\r\n\
    Content-Length: 1024\r\n\r\n";

pub(crate) fn request() -> Work {
    let (mut head, mut out) = (RequestHead::new(), Vec::with_capacity(2048));
    Box::new(move || {
        let progress = head.feed(black_box(REQUEST));
        assert_eq!(progress, Ok(Progress::Complete { len: REQUEST.len() }));
        out.clear();
        let edits = RequestEdits {
            host: Some("127.0.0.1:3000"),
            framing: head.framing(),
            drop_forwarded: true,
            ..RequestEdits::default()
        };
        write_request(&head, &edits, &mut out);
        black_box(&out);
    })
}

pub(crate) fn response() -> Work {
    let (mut head, mut out) = (ResponseHead::new(), Vec::with_capacity(2048));
    Box::new(move || {
        let progress = head.feed(black_box(RESPONSE), Method::Post);
        assert_eq!(progress, Ok(Progress::Complete { len: RESPONSE.len() }));
        out.clear();
        let timing: &[u8] = b"edge;dur=0.021, tunnel;dur=0.044, connector;dur=0.013, upstream;dur=20.107";
        let append = [("Server-Timing", timing)];
        write_response(
            &head,
            &ResponseEdits { framing: head.framing(), append: &append, ..ResponseEdits::default() },
            &mut out,
        );
        black_box(&out);
    })
}

/// Received bytes.
struct Input<'a>(&'a [u8]);

impl AsRef<[u8]> for Input<'_> {
    fn as_ref(&self) -> &[u8] {
        self.0
    }
}

impl Chunk for Input<'_> {
    fn split_to(&mut self, at: usize) -> Self {
        let (front, rest) = self.0.split_at(at);
        self.0 = rest;
        Input(front)
    }
}

/// A body of 20 chunks, taken out of its framing and put into another.
pub(crate) fn chunks() -> Work {
    let chunk = [format!("{:x}\r\n", EVENT.len()).as_bytes(), EVENT, b"\r\n"].concat();
    let body = [chunk.repeat(20), b"0\r\n\r\n".to_vec()].concat();
    let (mut decoder, mut out) = (BodyDecoder::default(), Vec::with_capacity(8192));
    Box::new(move || {
        decoder.restart(Framing::Chunked);
        let mut encoder = BodyEncoder::new(Framing::Chunked);
        out.clear();
        let mut input = Input(black_box(&body));
        while let Ok(Decoded::Data(data)) = decoder.next(&mut input) {
            let wrap = encoder.data(data.0.len()).expect("chunks have no length to keep to");
            out.extend_from_slice(wrap.before.as_ref());
            out.extend_from_slice(data.0);
            out.extend_from_slice(wrap.after);
        }
        assert!(decoder.is_done());
        encoder.end(decoder.trailers(), &mut out).expect("chunks have no length to keep to");
        black_box(&out);
    })
}
