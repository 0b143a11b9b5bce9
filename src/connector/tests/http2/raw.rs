//! A server that writes frames by hand.

use crate::connector::tests::bed::Peer;
use crate::engine::ByteStream;

/// A server that writes frames by hand.
pub(super) struct Raw {
    pub(super) peer: Peer,
    pub(super) received: Vec<u8>,
}

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
/// The flags of a head that is whole, and has no body.
pub(super) const WHOLE: u8 = 5;
/// The header block of an empty response, by its index in the static table (RFC 7541, appendix A).
pub(super) const STATUS_200: &[u8] = &[0x88];

impl Raw {
    /// Reads the preface, and sends settings.
    pub(super) async fn begin(peer: Peer) -> Raw {
        let mut raw = Raw { peer, received: Vec::new() };
        raw.take(24).await.expect("the preface");
        raw.write(SETTINGS, 0, 0, &[]).await;
        raw
    }

    pub(super) async fn take(&mut self, len: usize) -> Option<Vec<u8>> {
        while self.received.len() < len {
            self.received.extend_from_slice(&self.peer.talk.stream.recv().await.ok()??);
        }
        let rest = self.received.split_off(len);
        Some(std::mem::replace(&mut self.received, rest))
    }

    /// The stream of the next request; none at the end.
    pub(super) async fn request(&mut self) -> Option<u32> {
        loop {
            let header = self.take(9).await?;
            self.take(u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize).await?;
            if header[3] == HEADERS {
                return Some(u32::from_be_bytes([header[5], header[6], header[7], header[8]]));
            }
        }
    }

    pub(super) async fn write(&self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
        self.peer.talk.write([&[a, b, c, kind, flags][..], &stream.to_be_bytes(), payload].concat()).await;
    }

    pub(super) async fn goaway(&self, last_stream: u32, code: u32) {
        self.write(GOAWAY, 0, 0, &[last_stream.to_be_bytes(), code.to_be_bytes()].concat()).await;
    }
}
