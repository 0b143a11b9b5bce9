//! Frames of HTTP/2 by hand: what no well-behaved client sends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::support::HOST;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

pub(crate) const PREFACE_LEN: usize = PREFACE.len();
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame as it is on the wire.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[a, b, c, kind, flags][..], &stream.to_be_bytes(), payload].concat()
}

/// A header block of literals without indexing or compression (RFC 7541, section 6.2.2).
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            push_len(text.len(), &mut block);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// A length in seven bits, and more bytes if it does not fit (RFC 7541, section 5.1).
fn push_len(len: usize, out: &mut Vec<u8>) {
    if len < 127 {
        return out.push(u8::try_from(len).unwrap());
    }
    out.push(127);
    let mut rest = len - 127;
    while rest >= 128 {
        out.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    out.push(u8::try_from(rest).unwrap());
}

/// The head of an ordinary request, and these fields.
pub(crate) fn get<'a>(path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields = vec![(":method", "GET"), (":scheme", "http"), (":authority", HOST), (":path", path)];
    fields.extend_from_slice(more);
    fields
}

/// What came from the edge.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The error code of a RST_STREAM or GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// A connection to the edge that has begun as in HTTP/2.
pub(crate) struct Peer(TcpStream);

impl Peer {
    pub(crate) fn connect(edge: SocketAddr) -> Peer {
        Peer::connect_cut(edge, PREFACE_LEN)
    }

    /// The same, with the preface cut in two.
    pub(crate) fn connect_cut(edge: SocketAddr, cut: usize) -> Peer {
        Peer::over(TcpStream::connect(edge).unwrap(), cut)
    }

    /// The same, over a connection that has been made.
    pub(crate) fn over(socket: TcpStream, cut: usize) -> Peer {
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut peer = Peer(socket);
        peer.send(&PREFACE[..cut]);
        peer.send(&PREFACE[cut..]);
        // No header table, so that each block of the edge can be read alone.
        peer.send(&frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]));
        peer
    }

    /// Sends what the edge may not want to have any more.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.0
    }

    /// The next frame; none at the end of the connection.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let [a, b, c, kind, flags, rest @ ..] = head;
        let mut payload = vec![0; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
        self.0.read_exact(&mut payload).ok()?;
        Some(Frame { kind, flags, stream: u32::from_be_bytes(rest), payload })
    }

    /// The next frame of one of these kinds.
    pub(crate) fn until(&mut self, kinds: &[u8]) -> Frame {
        loop {
            let frame = self.next().expect("the connection ended");
            if kinds.contains(&frame.kind) && (frame.kind != SETTINGS || frame.flags & ACK != 0) {
                return frame;
            }
        }
    }

    /// The same, or none at the end of the connection.
    pub(crate) fn next_of(&mut self, kinds: &[u8]) -> Option<Frame> {
        std::iter::from_fn(|| self.next()).find(|frame| kinds.contains(&frame.kind))
    }

    /// What the edge ends the connection or a stream with; none if it says nothing.
    pub(crate) fn next_end(&mut self) -> Option<Frame> {
        self.next_of(&[GOAWAY, RST_STREAM])
    }

    /// The status of the response on this stream, whose head is the next one.
    pub(crate) fn status(&mut self, stream: u32) -> u16 {
        let head = self.until(&[HEADERS, GOAWAY, RST_STREAM]);
        assert_eq!((head.kind, head.stream), (HEADERS, stream), "{head:?}");
        status_of(&head.payload)
    }

    /// A call that must be answered well.
    pub(crate) fn call(&mut self, stream: u32) {
        self.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&get("/empty", &[]))));
        assert_eq!(self.status(stream), 204);
    }
}

/// The status that a header block begins with: an indexed field, or a literal with an indexed name (RFC 7541, appendix A).
fn status_of(block: &[u8]) -> u16 {
    let block = if block[0] & 0xe0 == 0x20 { &block[1..] } else { block };
    match block[0] {
        0x88 => 200,
        0x89 => 204,
        0x8a => 206,
        0x8b => 304,
        0x8c => 400,
        0x8d => 404,
        0x8e => 500,
        0x48 | 0x08 | 0x18 => match block[1] {
            // Three digits in Huffman code, of five or six bits each.
            len if len & 0x80 != 0 => huffman_digits(&block[2..2 + usize::from(len & 0x7f)]),
            _ => std::str::from_utf8(&block[2..5]).unwrap().parse().unwrap(),
        },
        _ => panic!("no status: {block:?}"),
    }
}

/// Three digits in Huffman code (RFC 7541, appendix B): 0, 1 and 2 have five bits, 3 to 9 have six.
fn huffman_digits(bytes: &[u8]) -> u16 {
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)).collect();
    let (mut at, mut number) = (0, 0);
    for _ in 0..3 {
        let take = |len: usize| bits[at..at + len].iter().fold(0_u16, |sum, bit| sum << 1 | u16::from(*bit));
        let (digit, len) = match take(5) {
            short @ 0..=2 => (short, 5),
            _ => (take(6) - 0x19 + 3, 6),
        };
        number = number * 10 + digit;
        at += len;
    }
    number
}
