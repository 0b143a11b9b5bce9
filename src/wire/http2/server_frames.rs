use super::frames::{Frames, Part};

/// The types of frames that are looked at (RFC 9113, sections 6.5 and 6.8).
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
/// The bits of a stream's number.
const STREAM_MASK: u32 = 0x7fff_ffff;

/// Watches what a server sends for what it says of the connection as a whole.
#[derive(Debug)]
pub struct ServerFrames {
    frames: Frames,
    /// The type of the frame whose payload comes.
    kind: Option<u8>,
    /// What came of the number that a GOAWAY begins with, and how much of it.
    number: u32,
    number_len: usize,
    has_settings: bool,
    last_stream: Option<u32>,
}

impl Default for ServerFrames {
    fn default() -> ServerFrames {
        let frames = Frames::of_server();
        ServerFrames { frames, kind: None, number: 0, number_len: 0, has_settings: false, last_stream: None }
    }
}

impl ServerFrames {
    /// Takes the next bytes of the connection, from its first one on.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while let Some(part) = self.frames.next(&mut bytes) {
            match part {
                Part::Header { kind, .. } => (self.kind, self.number, self.number_len) = (Some(kind), 0, 0),
                Part::Payload(payload) if self.kind == Some(GOAWAY) => self.read_number(payload),
                Part::Payload(_) => {}
            }
            self.has_settings |= self.kind == Some(SETTINGS) && self.frames.is_whole();
        }
    }

    /// Whether the settings of the server have come, with which it begins (RFC 9113, section 3.4).
    #[must_use]
    pub fn has_settings(&self) -> bool {
        self.has_settings
    }

    /// Whether the server has said that the connection is to end.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.last_stream.is_some()
    }

    /// Whether the server has said that it did not look at the request on this stream, and will not (RFC 9113, section 6.8).
    #[must_use]
    pub fn excludes(&self, stream: u32) -> bool {
        self.last_stream.is_some_and(|last| stream > last)
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
    fn a_server_that_is_to_end_may_still_answer_what_it_was_asked() {
        let mut frames = ServerFrames::default();
        frames.feed(&frame(SETTINGS, &[]));
        assert!(frames.has_settings() && !frames.is_ending() && !frames.excludes(1));
        frames.feed(&frame(GOAWAY, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]));
        assert!(frames.is_ending() && !frames.excludes(0x7fff_ffff));
    }

    #[test]
    fn what_is_not_http_2_is_no_settings() {
        let mut frames = ServerFrames::default();
        frames.feed(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        assert!(!frames.has_settings() && !frames.is_ending());
    }
}
