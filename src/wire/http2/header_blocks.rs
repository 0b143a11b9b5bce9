use super::frames::{FRAME_HEADER_LEN, Frames, Part};

/// The types of the frames that carry header blocks (RFC 9113, sections 6.2 and 6.10).
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
/// The flag that ends a header block.
const END_HEADERS: u8 = 4;

/// Detects incomplete header blocks in the bytes that a client sends.
///
/// A block may consist of many frames, and no other frame may come before its end. Its duration and size have to be
/// limited while it is received.
#[derive(Debug)]
pub struct HeaderBlocks {
    frames: Frames,
    /// Whether the current frame is part of a block, and whether it is the last one.
    part: Option<bool>,
    /// The length of the incomplete block.
    open_len: usize,
    /// The number of blocks that have ended.
    ended: u64,
}

impl Default for HeaderBlocks {
    fn default() -> HeaderBlocks {
        HeaderBlocks { frames: Frames::of_client(), part: None, open_len: 0, ended: 0 }
    }
}

impl HeaderBlocks {
    /// Processes the next bytes of the connection, from its first one on.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while let Some(part) = self.frames.next(&mut bytes) {
            match part {
                Part::Payload(payload) if self.part.is_some() => self.open_len += payload.len(),
                Part::Payload(_) => {}
                Part::Header { kind: HEADERS | CONTINUATION, flags, .. } => {
                    self.part = Some(flags & END_HEADERS != 0);
                    self.open_len += FRAME_HEADER_LEN;
                }
                // Another frame within a block is an error of the connection.
                Part::Header { .. } => self.part = None,
            }
            if self.frames.is_whole() && self.part == Some(true) {
                self.part = None;
                self.open_len = 0;
                self.ended += 1;
            }
        }
    }

    /// How many bytes of an incomplete block have arrived. At least one, if any byte of a frame arrived that may be
    /// part of a block.
    #[must_use]
    pub fn open_len(&self) -> usize {
        self.open_len + self.frames.header_len()
    }

    /// How many blocks have ended.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http2::PREFACE;

    fn frame(kind: u8, flags: u8, payload_len: usize) -> Vec<u8> {
        let [.., a, b, c] = payload_len.to_be_bytes();
        [&[a, b, c, kind, flags, 0, 0, 0, 1][..], &vec![0; payload_len]].concat()
    }

    #[test]
    fn a_block_is_open_until_its_last_frame_has_come_in_every_cut() {
        let settings = frame(4, 0, 12);
        let bytes =
            [PREFACE, &settings, &frame(HEADERS, 1, 300), &frame(CONTINUATION, 0, 70), &frame(CONTINUATION, 4, 1)];
        let bytes = bytes.concat();
        let start = PREFACE.len() + settings.len();
        for at in 1..bytes.len() {
            let mut blocks = HeaderBlocks::default();
            blocks.feed(&bytes[..at]);
            let is_inside = at > start;
            assert!(!is_inside || blocks.open_len() > 0, "at {at}");
            assert_eq!(blocks.ended(), 0);
            blocks.feed(&bytes[at..]);
            assert_eq!((blocks.open_len(), blocks.ended()), (0, 1), "cut at {at}");
        }
    }

    #[test]
    fn other_frames_open_no_block_and_one_that_never_ends_grows() {
        let mut blocks = HeaderBlocks::default();
        blocks.feed(PREFACE);
        blocks.feed(&frame(0, 0, 16_384));
        blocks.feed(&frame(HEADERS, 5, 0));
        assert_eq!((blocks.open_len(), blocks.ended()), (0, 1));
        blocks.feed(&frame(HEADERS, 0, 10));
        for _ in 0..100 {
            blocks.feed(&frame(CONTINUATION, 0, 10));
        }
        assert_eq!((blocks.open_len(), blocks.ended()), (101 * 19, 1));
        let mut partial = HeaderBlocks::default();
        partial.feed(PREFACE);
        partial.feed(&[0]);
        assert_eq!(partial.open_len(), 1);
    }
}
