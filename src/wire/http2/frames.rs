use super::PREFACE;

/// The length of a frame's header (RFC 9113, section 4.1).
pub(super) const FRAME_HEADER_LEN: usize = 9;

/// The bits of a stream identifier.
pub(super) const STREAM_MASK: u32 = 0x7fff_ffff;

/// Splits the bytes of one side of a connection into frame headers and payloads.
#[derive(Debug)]
pub(super) struct Frames {
    /// The remaining length of the preface or of a frame's payload.
    left: usize,
    header: [u8; FRAME_HEADER_LEN],
    header_len: usize,
}

/// The next part of a connection's bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// A complete frame header.
    Header { kind: u8, flags: u8, stream: u32 },
    /// A part of a frame's payload, or of the preface.
    Payload(&'a [u8]),
}

impl Frames {
    /// A splitter for a client's bytes, which begin with the preface.
    pub(super) const fn of_client() -> Frames {
        Frames { left: PREFACE.len(), header: [0; FRAME_HEADER_LEN], header_len: 0 }
    }

    /// A splitter for a server's bytes.
    pub(super) const fn of_server() -> Frames {
        Frames { left: 0, header: [0; FRAME_HEADER_LEN], header_len: 0 }
    }

    /// Removes the next part from the bytes; none if they end within a header.
    pub(super) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Part<'a>> {
        if self.left > 0 && !bytes.is_empty() {
            let (payload, rest) = bytes.split_at(self.left.min(bytes.len()));
            *bytes = rest;
            self.left -= payload.len();
            return Some(Part::Payload(payload));
        }
        let (more, rest) = bytes.split_at((FRAME_HEADER_LEN - self.header_len).min(bytes.len()));
        *bytes = rest;
        self.header[self.header_len..self.header_len + more.len()].copy_from_slice(more);
        self.header_len += more.len();
        if self.header_len < FRAME_HEADER_LEN {
            return None;
        }
        self.header_len = 0;
        let [a, b, c, kind, flags, stream @ ..] = self.header;
        self.left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        Some(Part::Header { kind, flags, stream: u32::from_be_bytes(stream) & STREAM_MASK })
    }

    /// The remaining length of the last header's payload.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Whether the payload of the last header is complete.
    pub(super) fn is_whole(&self) -> bool {
        self.left == 0
    }

    /// The frame header that was read last.
    pub(super) fn header(&self) -> [u8; FRAME_HEADER_LEN] {
        self.header
    }

    /// How many bytes of an incomplete header have arrived.
    pub(super) fn header_len(&self) -> usize {
        self.header_len
    }
}
