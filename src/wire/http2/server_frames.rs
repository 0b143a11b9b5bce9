use super::frames::{Frames, Part, STREAM_MASK};
use super::small_frames::SmallFrames;

/// The types of frames that are handled (RFC 9113, sections 6.1 to 6.8).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
/// The flag of the last frame of a stream (RFC 9113, sections 6.1 and 6.2).
const END_STREAM: u8 = 1;
/// The flag of a DATA frame that begins with the length of its padding (RFC 9113, section 6.1).
const PADDED: u8 = 8;
/// How much memory the bookkeeping of small frames may take on one stream, in bytes, before that stream has to be
/// reset. Only frames of less than 16 bytes on average can cost this much within a window of 64 KiB.
const SMALL_FRAMES_STREAM_MAX: usize = 1024 * 1024;
/// How much memory they may take on all streams together.
pub const SMALL_FRAMES_TOTAL_MAX: usize = 6 * 1024 * 1024;

/// The progress of a server's response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Open,
    /// It has ended with END_STREAM.
    Whole,
    /// The stream was reset first.
    Cut,
}

/// Inspects a server's frames for settings, GOAWAY, the ends of responses, and floods of small frames.
#[derive(Debug)]
pub struct ServerFrames {
    frames: Frames,
    /// The type of the current frame.
    kind: Option<u8>,
    /// The received part of the stream identifier in GOAWAY, and its length.
    number: u32,
    number_len: usize,
    has_settings: bool,
    last_stream: Option<u32>,
    /// The streams on which a response is expected: never more than are open at the same time.
    answers: Vec<(u32, Answer)>,
    small: SmallFrames,
    /// The stream and the length of a padded DATA frame whose padding length was not received yet.
    padded: Option<(u32, usize)>,
}

impl Default for ServerFrames {
    fn default() -> ServerFrames {
        let frames = Frames::of_server();
        ServerFrames {
            frames,
            kind: None,
            number: 0,
            number_len: 0,
            has_settings: false,
            last_stream: None,
            answers: Vec::new(),
            small: SmallFrames::new(SMALL_FRAMES_STREAM_MAX, SMALL_FRAMES_TOTAL_MAX),
            padded: None,
        }
    }
}

impl ServerFrames {
    /// Processes the next bytes of the connection, from its first one on.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while let Some(part) = self.frames.next(&mut bytes) {
            match part {
                Part::Header { kind, flags, stream } => {
                    (self.kind, self.number, self.number_len) = (Some(kind), 0, 0);
                    self.note_data(kind, flags, stream);
                    self.note_end(kind, flags, stream);
                }
                Part::Payload(payload) if self.kind == Some(GOAWAY) => self.read_number(payload),
                Part::Payload(payload) => {
                    if let Some((stream, len)) = self.padded.take_if(|_| !payload.is_empty()) {
                        self.small.received(stream, len.saturating_sub(1 + usize::from(payload[0])));
                    }
                }
            }
            self.has_settings |= self.kind == Some(SETTINGS) && self.frames.is_whole();
        }
    }

    /// Whether the server's SETTINGS, its first frame (RFC 9113, section 3.4), has arrived.
    #[must_use]
    pub fn has_settings(&self) -> bool {
        self.has_settings
    }

    /// Whether the server has sent GOAWAY.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.last_stream.is_some()
    }

    /// Whether GOAWAY says that the request on this stream was not processed and will not be (RFC 9113, section 6.8).
    #[must_use]
    pub fn excludes(&self, stream: u32) -> bool {
        self.last_stream.is_some_and(|last| stream > last)
    }

    /// Tracks the response on a stream until [`ServerFrames::forget_answer`].
    pub fn expect_answer(&mut self, stream: u32) {
        self.answers.push((stream, Answer::Open));
    }

    /// Whether the response that is expected on this stream has ended with END_STREAM, and not with a reset (RFC 9113,
    /// section 8.1).
    #[must_use]
    pub fn has_whole_answer(&self, stream: u32) -> bool {
        self.answers.contains(&(stream, Answer::Whole))
    }

    /// Stops tracking this stream.
    pub fn forget_answer(&mut self, stream: u32) {
        self.answers.retain(|(expected, _)| *expected != stream);
        self.small.forget(stream);
    }

    /// Notes that a DATA frame of this length was read from the response on this stream.
    pub fn read(&mut self, stream: u32, len: usize) {
        self.small.read(stream, len);
    }

    /// The stream to reset, if unread small frames take too much memory.
    #[must_use]
    pub fn flood(&self) -> Option<u32> {
        self.small.flood()
    }

    /// The bookkeeping of a stream's unread small frames, in bytes.
    #[must_use]
    pub fn small_cost(&self, stream: u32) -> usize {
        self.small.cost(stream)
    }

    /// Counts the cost of a frame of a tracked response. The last frame of a stream is free.
    fn note_data(&mut self, kind: u8, flags: u8, stream: u32) {
        self.padded = None;
        if kind != DATA || flags & END_STREAM != 0 || !self.answers.iter().any(|(expected, _)| *expected == stream) {
            return;
        }
        if flags & PADDED == 0 {
            self.small.received(stream, self.frames.left());
        } else {
            self.padded = Some((stream, self.frames.left()));
        }
    }

    fn note_end(&mut self, kind: u8, flags: u8, stream: u32) {
        let end = match kind {
            DATA | HEADERS if flags & END_STREAM != 0 => Answer::Whole,
            RST_STREAM => Answer::Cut,
            _ => return,
        };
        // Frames after the first end have no effect.
        if let Some((_, answer)) = self.answers.iter_mut().find(|answer| **answer == (stream, Answer::Open)) {
            *answer = end;
        }
    }

    fn read_number(&mut self, payload: &[u8]) {
        for &byte in payload.iter().take(size_of::<u32>() - self.number_len) {
            self.number = self.number << 8 | u32::from(byte);
            self.number_len += 1;
            if self.number_len == size_of::<u32>() {
                self.last_stream = Some(self.number & STREAM_MASK);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let [.., a, b, c] = payload.len().to_be_bytes();
        [&[a, b, c, kind, 0, 0, 0, 0, 0][..], payload].concat()
    }

    #[test]
    fn settings_and_the_last_stream_are_seen_in_every_cut() {
        let goaway = |last: u32, more: &[u8]| frame(GOAWAY, &[&last.to_be_bytes()[..], &[0; 4], more].concat());
        let ping = frame(6, &[7; 8]);
        let bytes =
            [frame(SETTINGS, &[0; 6]), ping.clone(), goaway(u32::MAX, b"so long"), ping, goaway(5, b"")].concat();
        for at in 0..=bytes.len() {
            let mut frames = ServerFrames::default();
            frames.feed(&bytes[..at]);
            assert_eq!(frames.has_settings(), at >= 15, "cut at {at}");
            frames.feed(&bytes[at..]);
            assert!(frames.has_settings() && frames.is_ending());
            assert_eq!([1, 5, 7].map(|stream| frames.excludes(stream)), [false, false, true], "cut at {at}");
        }
    }

    #[test]
    fn a_response_is_whole_if_its_end_comes_before_a_reset() {
        let on = |stream: u8, kind: u8, flags: u8, payload: &[u8]| {
            let mut frame = frame(kind, payload);
            (frame[4], frame[8]) = (flags, stream);
            frame
        };
        let reset = |stream| on(stream, RST_STREAM, 0, &[0; 4]);
        let bytes = [
            on(1, HEADERS, 4, &[0x88]),
            on(3, HEADERS, 5, &[0x88]),
            on(1, DATA, 0, b"half"),
            on(5, DATA, END_STREAM, b"all"),
            [reset(1), reset(3), reset(5)].concat(),
            // Too late, and on a stream on which nothing is expected.
            on(1, DATA, END_STREAM, b""),
            on(7, DATA, END_STREAM, b""),
        ]
        .concat();
        for at in 0..=bytes.len() {
            let mut frames = ServerFrames::default();
            [1, 3, 5].into_iter().for_each(|stream| frames.expect_answer(stream));
            assert!(![1, 3, 5].into_iter().any(|stream| frames.has_whole_answer(stream)));
            frames.feed(&bytes[..at]);
            frames.feed(&bytes[at..]);
            let whole = [1, 3, 5, 7].map(|stream| frames.has_whole_answer(stream));
            assert_eq!(whole, [false, true, true, false], "cut at {at}");
            frames.forget_answer(3);
            assert!(!frames.has_whole_answer(3) && frames.has_whole_answer(5));
        }
    }

    #[test]
    fn a_draining_server_may_still_answer_earlier_requests() {
        let mut frames = ServerFrames::default();
        frames.feed(&frame(SETTINGS, &[]));
        assert!(frames.has_settings() && !frames.is_ending() && !frames.excludes(1));
        frames.feed(&frame(GOAWAY, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]));
        assert!(frames.is_ending() && !frames.excludes(0x7fff_ffff));
    }

    #[test]
    fn other_protocols_have_no_settings() {
        let mut frames = ServerFrames::default();
        frames.feed(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        assert!(!frames.has_settings() && !frames.is_ending());
    }
}
