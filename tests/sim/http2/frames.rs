//! Frames of HTTP/2 by hand.

use crate::roles::HOST;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const INTERNAL_ERROR: u32 = 2;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

const HEADER_LEN: usize = 9;

/// A frame as it is on the wire (RFC 9113, section 4.1).
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[a, b, c, kind, flags][..], &stream.to_be_bytes(), payload].concat()
}

/// What a client begins with, whose streams may be sent so many bytes each.
pub(crate) fn begin(window: u32) -> Vec<u8> {
    let settings = [&4_u16.to_be_bytes()[..], &window.to_be_bytes()].concat();
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &settings)].concat()
}

/// The header block of a request, of literals alone (RFC 7541, section 6.2.2).
pub(crate) fn block(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    block_to(HOST, method, path, more)
}

/// The same, of a request to this host.
pub(crate) fn block_to(host: &str, method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [(":method", method), (":scheme", "http"), (":authority", host), (":path", path)];
    let literal = |(name, value): &(&str, &str)| {
        let len = |text: &str| u8::try_from(text.len()).unwrap();
        [&[0, len(name)], name.as_bytes(), &[len(value)], value.as_bytes()].concat()
    };
    pseudo.iter().chain(more).flat_map(literal).collect()
}

/// A frame that came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Takes the first frame of what came, if all of it is there.
    pub(crate) fn take(received: &mut Vec<u8>) -> Option<Frame> {
        let word = |at: usize| Some(u32::from_be_bytes(received.get(at..at + 4)?.try_into().unwrap()));
        let (len, stream) = (word(0)? as usize >> 8, word(5)?);
        let rest = received.get(HEADER_LEN..HEADER_LEN + len)?.to_vec();
        let frame = Frame { kind: received[3], flags: received[4], stream, payload: rest };
        received.drain(..HEADER_LEN + len);
        Some(frame)
    }

    /// The error code of a RST_STREAM or GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}
