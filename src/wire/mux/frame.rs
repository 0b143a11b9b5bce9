use super::fault::Fault;
use super::{hello, hosts, open, phases};

/// The length of the header of every frame, in bytes.
pub const HEADER_LEN: usize = 8;
/// The longest payload of a frame, in bytes. With its header it does not fit a single TLS record, so a link that fills
/// records asks for a little less.
pub const PAYLOAD_LEN_MAX: usize = 16_384;
/// The longest payload of a frame other than DATA and HOSTS, in bytes.
pub const CONTROL_LEN_MAX: usize = 1_024;

const FLAG_FIN: u8 = 0x01;

/// The type of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum FrameKind {
    Hello = 1,
    Welcome = 2,
    Refused = 3,
    Open = 4,
    Data = 5,
    Credit = 6,
    Fin = 7,
    Reset = 8,
    Phases = 9,
    Ping = 10,
    Pong = 11,
    Drain = 12,
    Close = 13,
    Hosts = 14,
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) len: u16,
    pub(super) kind: FrameKind,
    pub(super) fin: bool,
    pub(super) stream: u32,
}

impl FrameKind {
    pub(super) const ALL: [FrameKind; 14] = [
        FrameKind::Hello,
        FrameKind::Welcome,
        FrameKind::Refused,
        FrameKind::Open,
        FrameKind::Data,
        FrameKind::Credit,
        FrameKind::Fin,
        FrameKind::Reset,
        FrameKind::Phases,
        FrameKind::Ping,
        FrameKind::Pong,
        FrameKind::Drain,
        FrameKind::Close,
        FrameKind::Hosts,
    ];

    fn from_code(code: u8) -> Result<FrameKind, Fault> {
        let index = usize::from(code).checked_sub(1).ok_or(Fault::UnknownType)?;
        FrameKind::ALL.get(index).copied().ok_or(Fault::UnknownType)
    }

    /// The shortest and the longest payload.
    pub(super) const fn len_range(self) -> (usize, usize) {
        match self {
            // A later version may need more room before it knows that this side does not support it.
            FrameKind::Hello => (hello::HELLO_LEN_MIN, CONTROL_LEN_MAX),
            FrameKind::Welcome => (hello::WELCOME_LEN, hello::WELCOME_LEN),
            FrameKind::Refused => (hello::REFUSED_LEN_MIN, hello::REFUSED_LEN_MAX),
            FrameKind::Open => (open::OPEN_LEN_MIN, open::OPEN_LEN_MAX),
            FrameKind::Data => (0, PAYLOAD_LEN_MAX),
            FrameKind::Credit => (4, 8),
            FrameKind::Fin | FrameKind::Drain => (0, 0),
            FrameKind::Reset => (2, 2),
            FrameKind::Phases => (phases::PHASES_LEN, phases::PHASES_LEN),
            FrameKind::Ping | FrameKind::Pong => (8, 8),
            FrameKind::Close => (6, 6),
            FrameKind::Hosts => (hosts::HOSTS_LEN_MIN, hosts::HOSTS_LEN_MAX),
        }
    }

    /// Whether the frame must, must not or may name a stream.
    const fn names_stream(self) -> Option<bool> {
        match self {
            FrameKind::Open | FrameKind::Data | FrameKind::Fin | FrameKind::Reset | FrameKind::Phases => Some(true),
            FrameKind::Credit => None,
            _ => Some(false),
        }
    }
}

impl Header {
    /// Creates a header without flags. `len` must be valid for the kind.
    pub(super) fn new(kind: FrameKind, stream: u32, len: usize) -> Header {
        debug_assert!(len <= kind.len_range().1);
        Header { len: len as u16, kind, fin: false, stream }
    }

    pub(super) fn encode(self) -> [u8; HEADER_LEN] {
        let [l0, l1] = self.len.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        [l0, l1, self.kind as u8, if self.fin { FLAG_FIN } else { 0 }, s0, s1, s2, s3]
    }

    /// Decodes a header and checks everything that depends on the header alone.
    pub(super) fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Header, Fault> {
        let [l0, l1, code, flags, s0, s1, s2, s3] = *bytes;
        let kind = FrameKind::from_code(code)?;
        let known = if kind == FrameKind::Data { FLAG_FIN } else { 0 };
        if flags & !known != 0 {
            return Err(Fault::UnknownFlag);
        }
        let len = u16::from_be_bytes([l0, l1]);
        let (min, max) = kind.len_range();
        if !(min..=max).contains(&usize::from(len)) {
            return Err(Fault::FrameLength);
        }
        let stream = u32::from_be_bytes([s0, s1, s2, s3]);
        match kind.names_stream() {
            Some(true) if stream == 0 => return Err(Fault::StreamMissing),
            Some(false) if stream != 0 => return Err(Fault::StreamOnLinkFrame),
            _ => {}
        }
        if stream != 0 && stream % 2 == 0 {
            return Err(Fault::StreamIdEven);
        }
        Ok(Header { len, kind, fin: flags & FLAG_FIN != 0, stream })
    }
}

const _: () = assert!(hello::HELLO_LEN_MAX <= CONTROL_LEN_MAX && open::OPEN_LEN_MAX <= CONTROL_LEN_MAX);
const _: () = assert!(hello::REFUSED_LEN_MAX <= CONTROL_LEN_MAX);
const _: () = assert!(HEADER_LEN + hosts::HOSTS_LEN_MAX == PAYLOAD_LEN_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(kind: FrameKind) -> Header {
        let stream = if kind.names_stream() == Some(false) { 0 } else { 0x0102_0305 };
        Header::new(kind, stream, kind.len_range().1)
    }

    #[test]
    fn headers_round_trip() {
        for kind in FrameKind::ALL {
            assert_eq!(Header::decode(&sample(kind).encode()), Ok(sample(kind)), "{kind:?}");
        }
    }

    #[test]
    fn the_layout_is_that_of_the_protocol_page() {
        let header = Header { len: 0x1234, kind: FrameKind::Data, fin: true, stream: 0x0506_0709 };
        assert_eq!(header.encode(), [0x12, 0x34, 5, 1, 5, 6, 7, 9]);
    }

    #[test]
    fn every_violation_of_a_header_has_a_name() {
        let cases = [
            ([0, 0, 0, 0, 0, 0, 0, 0], Fault::UnknownType),
            ([0, 0, 15, 0, 0, 0, 0, 0], Fault::UnknownType),
            ([0, 0, 7, 1, 0, 0, 0, 1], Fault::UnknownFlag),
            ([0, 0, 5, 2, 0, 0, 0, 1], Fault::UnknownFlag),
            ([0x40, 1, 5, 0, 0, 0, 0, 1], Fault::FrameLength),
            ([0, 3, 6, 0, 0, 0, 0, 1], Fault::FrameLength),
            ([0x3f, 0xf9, 14, 0, 0, 0, 0, 0], Fault::FrameLength),
            ([0, 0, 7, 0, 0, 0, 0, 0], Fault::StreamMissing),
            ([0, 0, 12, 0, 0, 0, 0, 1], Fault::StreamOnLinkFrame),
            ([0, 0, 7, 0, 0, 0, 0, 2], Fault::StreamIdEven),
        ];
        for (bytes, fault) in cases {
            assert_eq!(Header::decode(&bytes), Err(fault), "{bytes:?}");
        }
    }
}
