//! A message that is received over HTTP/2 and read as HTTP/1.1.

use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use h2::RecvStream;

use crate::engine::{Class, Lease, Pool};
use crate::http2::poll_buffer;
use crate::wire::http1::{BodyEncoder, CHUNK_HEAD_LEN_MAX, Framing};

/// The most bytes that the framing of one piece of a body needs.
const FRAMING_LEN_MAX: usize = CHUNK_HEAD_LEN_MAX + 8;

/// The text of a received message, which is read as it arrives.
///
/// The peer may send more only when the previous piece was consumed, so `h2` holds at most one stream window of the body.
pub struct ReceivedText {
    stage: Stage,
    /// HTTP/1.1 text that was written and is not read yet.
    text: Vec<u8>,
    text_read: usize,
    /// A piece of the body from `h2` that is not copied yet.
    held: Bytes,
    /// Bytes that were passed on. Their credit is released when more is requested.
    unreleased: usize,
    encoder: BodyEncoder,
    /// The error that ends the message, after everything that was received.
    failed: Option<h2::Error>,
}

enum Stage {
    /// The head is not complete.
    Head,
    Body(RecvStream),
    Trailers(RecvStream),
    Ended,
}

/// The source of a message: its head, and how its end is recognised.
pub trait ReceivedHead {
    /// Ready when a head was written to [`ReceivedText::text`]. After the last one, [`ReceivedText::begin_body`] was called.
    fn poll_head(&mut self, to: &mut ReceivedText, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>>;

    /// Called when a piece of the body was read, with the length of its frame.
    fn on_read(&self, _len: usize) {}

    /// Whether the error only says that the message has ended.
    fn is_end(&self, _error: &h2::Error) -> bool {
        false
    }
}

impl Default for ReceivedText {
    fn default() -> ReceivedText {
        ReceivedText {
            stage: Stage::Head,
            text: Vec::new(),
            text_read: 0,
            held: Bytes::new(),
            unreleased: 0,
            encoder: BodyEncoder::new(Framing::None),
            failed: None,
        }
    }
}

impl ReceivedText {
    /// The next bytes of the message; `None` at its end.
    pub fn poll_recv(
        &mut self,
        of: &mut impl ReceivedHead,
        pool: &Pool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Lease>, h2::Error>> {
        self.release();
        if !ready!(self.poll_more(of, cx))? {
            return Poll::Ready(Ok(None));
        }
        let mut lease = ready!(poll_buffer(pool, Class::for_len(self.len() + FRAMING_LEN_MAX), cx));
        // Fills the buffer with what is there; later bytes go into the next one.
        while self.copy_into(&mut lease) {
            match self.poll_more(of, &mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Err(error)) => {
                    self.failed = Some(error);
                    break;
                }
                Poll::Ready(Ok(false)) | Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(Some(lease)))
    }

    /// The buffer for a head.
    pub fn text(&mut self) -> &mut Vec<u8> {
        if self.text_read == self.text.len() {
            self.text.clear();
            self.text_read = 0;
        }
        &mut self.text
    }

    /// The last head was written, and this is the body after it, which the head says to be chunked if `is_chunked`.
    pub fn begin_body(&mut self, recv: RecvStream, is_chunked: bool) {
        // A body of known length needs no framing. Its reader counts the bytes.
        self.encoder = BodyEncoder::new(if is_chunked { Framing::Chunked } else { Framing::UntilClose });
        self.stage = Stage::Body(recv);
    }

    /// Drops what was received and not read.
    pub fn clear(&mut self) {
        *self = ReceivedText { stage: Stage::Ended, ..ReceivedText::default() };
    }

    /// Whether the message was read to its end.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended) && self.len() == 0
    }

    /// Returns credit for the consumed bytes, so that the peer may send more.
    fn release(&mut self) {
        let len = std::mem::take(&mut self.unreleased);
        if len > 0
            && let Stage::Body(recv) | Stage::Trailers(recv) = &mut self.stage
        {
            // This fails for a stream that has ended, which needs no credit.
            let _ = recv.flow_control().release_capacity(len);
        }
    }

    /// How many bytes are ready to be copied.
    fn len(&self) -> usize {
        self.text.len() - self.text_read + self.held.len()
    }

    /// Ready with true when there is something to copy, and with false at the end of the message.
    fn poll_more(&mut self, of: &mut impl ReceivedHead, cx: &mut Context<'_>) -> Poll<Result<bool, h2::Error>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        while self.len() == 0 {
            match &mut self.stage {
                Stage::Head => ready!(of.poll_head(self, cx))?,
                Stage::Ended => return Poll::Ready(Ok(false)),
                Stage::Body(recv) => match ready!(recv.poll_data(cx)) {
                    Some(Ok(data)) => {
                        of.on_read(data.len());
                        self.held = data;
                    }
                    Some(Err(error)) if of.is_end(&error) => self.end(None),
                    Some(Err(error)) => return Poll::Ready(Err(error)),
                    None => {
                        if let Stage::Body(recv) = std::mem::replace(&mut self.stage, Stage::Ended) {
                            self.stage = Stage::Trailers(recv);
                        }
                    }
                },
                Stage::Trailers(recv) => {
                    let trailers = ready!(recv.poll_trailers(cx));
                    match trailers {
                        Ok(trailers) => self.end(trailers.as_ref()),
                        Err(error) if of.is_end(&error) => self.end(None),
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                }
            }
        }
        Poll::Ready(Ok(true))
    }

    /// Writes the end of the body.
    fn end(&mut self, trailers: Option<&http::HeaderMap>) {
        self.stage = Stage::Ended;
        let fields = trailers.into_iter().flatten().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        let mut encoder = self.encoder;
        // This cannot fail: neither framing has a length that could be missed.
        let _ = encoder.end(fields, self.text());
    }

    /// Copies what fits. Returns whether everything was copied.
    fn copy_into(&mut self, lease: &mut Lease) -> bool {
        self.text_read += lease.append_some(&self.text[self.text_read..]);
        if self.text_read < self.text.len() {
            return false;
        }
        if self.held.is_empty() {
            return true;
        }
        let len = self.held.len().min(lease.tailroom().saturating_sub(FRAMING_LEN_MAX));
        // This cannot fail: neither framing has a length that could be exceeded.
        let Ok(wrap) = self.encoder.data(len) else { return false };
        if len > 0 {
            [wrap.before.as_ref(), &self.held[..len], wrap.after].into_iter().for_each(|piece| lease.append(piece));
            self.held.advance(len);
            self.unreleased += len;
        }
        self.held.is_empty()
    }
}
