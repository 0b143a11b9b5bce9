use std::collections::VecDeque;

use super::frames::{FRAME_HEADER_LEN, Frames, Part};
use crate::base::Time;
use crate::wire::flood::Flood;

/// The types of frames that are handled (RFC 9113, sections 6.1 to 6.10).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;
/// The flags that end a stream and a header block.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// The most streams that are tracked as open. Beyond that, the stream that has been silent for longest is forgotten:
/// streams that the other side has reset, which is not visible here, send nothing any more.
const STREAMS_MAX: usize = 256;
/// How many frames are removed in a burst, and how many per second after that.
const BURST: u32 = 1_000;
const PER_S: u32 = 1_000;

/// Removes empty DATA frames from the bytes of one side of a connection.
///
/// Clients and servers that flush send such frames. They have no meaning unless they end their stream, but `h2` ends a
/// connection after a hundred of them, however old it is. Frames that arrive too fast, that have padding (which flow
/// control counts), or that are not allowed at their position are left to `h2`.
#[derive(Debug)]
pub struct EmptyData {
    frames: Frames,
    /// The last header, and from which byte on it has still to be passed on.
    header: [u8; FRAME_HEADER_LEN],
    header_at: usize,
    /// Whether only the rest of a header block may follow.
    is_in_block: bool,
    /// The streams on which DATA may arrive, ordered by their last frame.
    open: VecDeque<u32>,
    flood: Flood,
}

impl EmptyData {
    /// The filter for a client's bytes, which begin with the preface.
    #[must_use]
    pub fn of_client() -> EmptyData {
        EmptyData::of(Frames::of_client())
    }

    /// The filter for a server's bytes.
    #[must_use]
    pub fn of_server() -> EmptyData {
        EmptyData::of(Frames::of_server())
    }

    fn of(frames: Frames) -> EmptyData {
        let header = [0; FRAME_HEADER_LEN];
        let (open, flood) = (VecDeque::new(), Flood::new(BURST, PER_S));
        EmptyData { frames, header, header_at: FRAME_HEADER_LEN, is_in_block: false, open, flood }
    }

    /// Filters bytes that were received at `now`, and gives up to `room` of the remaining bytes to `out`. A header is
    /// held back until it is complete.
    pub fn pass(&mut self, bytes: &mut &[u8], mut room: usize, now: Time, mut out: impl FnMut(&[u8])) {
        while room > 0 {
            if self.header_at < FRAME_HEADER_LEN {
                let end = FRAME_HEADER_LEN.min(self.header_at + room);
                out(&self.header[self.header_at..end]);
                room -= end - self.header_at;
                self.header_at = end;
                continue;
            }
            let payload_max = if self.frames.left() > 0 { room } else { usize::MAX };
            let mut some = &bytes[..payload_max.min(bytes.len())];
            let before = some.len();
            let part = self.frames.next(&mut some);
            *bytes = &bytes[before - some.len()..];
            match part {
                None => return,
                Some(Part::Payload(payload)) => {
                    out(payload);
                    room -= payload.len();
                }
                Some(Part::Header { kind, flags, stream }) => {
                    if !self.is_left_out(kind, flags, stream, now) {
                        (self.header, self.header_at) = (self.frames.header(), 0);
                    }
                }
            }
        }
    }

    /// Whether a part of an incomplete header is held back.
    #[must_use]
    pub fn has_held(&self) -> bool {
        self.frames.header_len() > 0
    }

    fn is_left_out(&mut self, kind: u8, flags: u8, stream: u32, now: Time) -> bool {
        let ends = flags & END_STREAM != 0;
        let at = self.open.iter().position(|&open| open == stream);
        if let Some(at) = at.filter(|at| at + 1 < self.open.len()) {
            self.open.remove(at);
            self.open.push_back(stream);
        }
        let at = at.map(|_| self.open.len() - 1);
        let is_empty = kind == DATA && flags == 0 && self.frames.left() == 0;
        if is_empty && at.is_some() && !self.is_in_block {
            return self.flood.admit(now);
        }
        match kind {
            HEADERS | PUSH_PROMISE | CONTINUATION => self.is_in_block = flags & END_HEADERS == 0,
            _ => {}
        }
        match (kind, at) {
            (HEADERS, None) if !ends => {
                if self.open.len() == STREAMS_MAX {
                    self.open.pop_front();
                }
                self.open.push_back(stream);
            }
            (DATA | HEADERS, Some(at)) if ends => {
                self.open.remove(at);
            }
            (RST_STREAM, Some(at)) => {
                self.open.remove(at);
            }
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http2::PREFACE;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let [.., a, b, c] = payload.len().to_be_bytes();
        [&[a, b, c, kind, flags][..], &stream.to_be_bytes(), payload].concat()
    }

    /// The filtered `bytes`, fed in pieces of `cut` bytes and read in pieces of `room`.
    fn left(filter: &mut EmptyData, bytes: &[u8], cut: usize, room: usize, now: Time) -> Vec<u8> {
        let mut out = Vec::new();
        for mut piece in bytes.chunks(cut) {
            loop {
                let before = out.len();
                filter.pass(&mut piece, room, now, |part| out.extend_from_slice(part));
                assert!(out.len() - before <= room);
                if out.len() == before {
                    break;
                }
            }
            assert!(piece.is_empty());
        }
        out
    }

    #[test]
    fn frames_that_carry_nothing_are_taken_out_in_every_cut() {
        let nothing = frame(DATA, 0, 1, b"");
        let kept = [
            PREFACE,
            &frame(4, 0, 0, &[0; 12]),
            // Before its stream is open, and within a header block.
            &nothing,
            &frame(HEADERS, 0, 1, b"block"),
            &nothing,
            &frame(CONTINUATION, END_HEADERS, 1, b"rest"),
        ]
        .concat();
        let data = frame(DATA, 0, 1, b"body");
        let kept_too = [
            // Padding, another flag, another stream, the end, and frames after it.
            &frame(DATA, 8, 1, &[3, 0, 0, 0])[..],
            &frame(DATA, 2, 1, b""),
            &frame(DATA, 0, 3, b""),
            &frame(DATA, END_STREAM, 1, b""),
            &nothing,
        ]
        .concat();
        let bytes = [&kept[..], &nothing, &data, &nothing, &nothing, &kept_too].concat();
        let expected = [kept, data, kept_too].concat();
        for cut in 1..=bytes.len() {
            for room in [1, 2, 8, 9, 10, 1_000] {
                let out = left(&mut EmptyData::of_client(), &bytes, cut, room, Time::ZERO);
                assert_eq!(out, expected, "pieces of {cut} bytes, read in pieces of {room}");
            }
        }
    }

    #[test]
    fn those_that_come_too_fast_are_kept() {
        let mut filter = EmptyData::of_server();
        let now = Time::from_nanos(1);
        left(&mut filter, &frame(HEADERS, END_HEADERS, 5, b""), 9, 9, now);
        let flood = frame(DATA, 0, 5, b"").repeat(BURST as usize + 70);
        assert_eq!(left(&mut filter, &flood, 4_096, 4_096, now).len(), 70 * FRAME_HEADER_LEN);
        let later = now + std::time::Duration::from_secs(10);
        assert_eq!(left(&mut filter, &flood, 4_096, 4_096, later).len(), 70 * FRAME_HEADER_LEN);
    }

    #[test]
    fn a_stream_that_was_reset_or_forgotten_is_not_open() {
        let mut filter = EmptyData::of_server();
        let mut sees = |bytes: &[u8]| left(&mut filter, bytes, 4_096, 4_096, Time::ZERO).len();
        assert_eq!(sees(&[frame(HEADERS, END_HEADERS, 1, b""), frame(DATA, 0, 1, b"")].concat()), 9);
        assert_eq!(sees(&[frame(RST_STREAM, 0, 1, &[0; 4]), frame(DATA, 0, 1, b"")].concat()), 22);
        for stream in 1..=u32::try_from(STREAMS_MAX).unwrap() + 1 {
            assert_eq!(sees(&frame(HEADERS, END_HEADERS, 2 * stream, b"")), 9);
        }
        assert_eq!((sees(&frame(DATA, 0, 2, b"")), sees(&frame(DATA, 0, 4, b""))), (9, 0));
        assert!(filter.open.len() <= STREAMS_MAX);
    }

    #[test]
    fn a_stream_that_still_sends_is_not_forgotten_for_those_that_this_side_has_reset() {
        let mut filter = EmptyData::of_client();
        let mut sees = |bytes: &[u8]| left(&mut filter, bytes, 4_096, 4_096, Time::ZERO).len();
        sees(&[PREFACE, &frame(HEADERS, END_HEADERS, 1, b"")].concat());
        for stream in 1..=2 * u32::try_from(STREAMS_MAX).unwrap() {
            assert_eq!(sees(&frame(HEADERS, END_HEADERS, 2 * stream + 1, b"")), 9);
            assert_eq!(sees(&frame(DATA, 0, 1, b"")), 0, "behind {stream} others");
        }
        assert!(filter.open.len() <= STREAMS_MAX);
    }

    #[test]
    fn an_end_within_a_header_is_seen() {
        let mut filter = EmptyData::of_server();
        assert_eq!(left(&mut filter, &frame(4, 0, 0, b"")[..5], 2, 9, Time::ZERO), b"");
        assert!(filter.has_held());
        assert_eq!(left(&mut filter, &frame(4, 0, 0, b"")[5..], 2, 9, Time::ZERO).len(), 9);
        assert!(!filter.has_held());
    }
}
