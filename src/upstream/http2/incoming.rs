use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use h2::RecvStream;
use h2::client::ResponseFuture;
use http::Response;

use crate::engine::{Class, Lease, Pool};
use crate::http2::poll_buffer;
use crate::upstream::http2::connection::Answer;
use crate::upstream::http2::outgoing::Begun;
use crate::wire::http1::{BodyEncoder, CHUNK_HEAD_LEN_MAX, Framing, Method};
use crate::wire::http2::write_response_head;

/// The most bytes that the framing of one piece of a body needs.
const FRAMING_LEN_MAX: usize = CHUNK_HEAD_LEN_MAX + 8;

/// The response of an exchange: received as HTTP/2, written as HTTP/1.1.
///
/// The server may send more only when the previous piece was consumed, so `h2` holds at most one stream window of the
/// body.
pub(super) struct Incoming {
    stage: Stage,
    /// Detects where the server has ended the response.
    answer: Option<Answer>,
    method: Method,
    /// HTTP/1.1 text that was written and is not read yet.
    text: Vec<u8>,
    text_read: usize,
    /// A piece of the body from `h2` that is not copied yet.
    held: Bytes,
    /// Bytes that were passed on. Their credit is released when more is requested.
    unreleased: usize,
    encoder: BodyEncoder,
    /// The error that ends the response, after everything that was received.
    failed: Option<h2::Error>,
}

enum Stage {
    /// The request is not sent yet.
    Idle,
    Head(ResponseFuture),
    Body(RecvStream),
    Trailers(RecvStream),
    Ended,
}

impl Default for Incoming {
    fn default() -> Incoming {
        Incoming {
            stage: Stage::Idle,
            answer: None,
            method: Method::Other,
            text: Vec::new(),
            text_read: 0,
            held: Bytes::new(),
            unreleased: 0,
            encoder: BodyEncoder::new(Framing::None),
            failed: None,
        }
    }
}

impl Incoming {
    /// The request was sent, and this is the response to it.
    pub(super) fn begin(&mut self, begun: Begun, answer: Answer) {
        self.answer = Some(answer);
        self.stage = Stage::Head(begun.response);
        self.method = begun.method;
    }

    /// The next bytes of the response; `None` at its end.
    pub(super) fn poll_recv(&mut self, pool: &Pool, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, h2::Error>> {
        self.release();
        if !ready!(self.poll_more(cx))? {
            return Poll::Ready(Ok(None));
        }
        let mut lease = ready!(poll_buffer(pool, Class::for_len(self.len() + FRAMING_LEN_MAX), cx));
        // Fills the buffer with what is there; later bytes go into the next one.
        while self.copy_into(&mut lease) {
            match self.poll_more(&mut Context::from_waker(Waker::noop())) {
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

    /// Drops what was received and not read. The stream is reset together with its sending half.
    pub(super) fn clear(&mut self) {
        *self = Incoming { stage: Stage::Ended, ..Incoming::default() };
    }

    /// Returns credit for the consumed bytes, so that the server may send more.
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

    /// Ready with true when there is something to copy, and with false at the end of the response.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, h2::Error>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        while self.len() == 0 {
            match &mut self.stage {
                Stage::Idle => return Poll::Pending,
                Stage::Ended => return Poll::Ready(Ok(false)),
                Stage::Head(response) => {
                    if let Poll::Ready(Some(interim)) = response.poll_informational(cx) {
                        let (head, ()) = interim?.into_parts();
                        write_response_head(head.status, &head.headers, self.method, false, self.text());
                        continue;
                    }
                    let response = ready!(Pin::new(response).poll(cx))?;
                    self.on_head(response);
                }
                Stage::Body(recv) => match ready!(recv.poll_data(cx)) {
                    Some(Ok(data)) => {
                        self.answer.iter().for_each(|answer| answer.on_read(data.len()));
                        self.held = data;
                    }
                    Some(Err(error)) if self.is_end(&error) => self.end(None),
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
                        Err(error) if self.is_end(&error) => self.end(None),
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                }
            }
        }
        Poll::Ready(Ok(true))
    }

    /// Whether the error only says that a server which has sent its whole response needs no more of the request (RFC
    /// 9113, section 8.1).
    fn is_end(&self, error: &h2::Error) -> bool {
        error.is_reset()
            && error.is_remote()
            && error.reason() == Some(h2::Reason::NO_ERROR)
            && self.answer.as_ref().is_some_and(Answer::is_whole)
    }

    fn on_head(&mut self, response: Response<RecvStream>) {
        let (head, recv) = response.into_parts();
        let (method, has_body) = (self.method, !recv.is_end_stream() && self.method != Method::Head);
        let is_chunked = write_response_head(head.status, &head.headers, method, has_body, self.text());
        // A body of known length needs no framing. Its reader counts the bytes.
        self.encoder = BodyEncoder::new(if is_chunked { Framing::Chunked } else { Framing::UntilClose });
        self.stage = Stage::Body(recv);
    }

    /// Writes the end of the body.
    fn end(&mut self, trailers: Option<&http::HeaderMap>) {
        self.stage = Stage::Ended;
        let fields = trailers.into_iter().flatten().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        let mut encoder = self.encoder;
        // This cannot fail: neither framing has a length that could be missed.
        let _ = encoder.end(fields, self.text());
    }

    /// The buffer to write to, after removing what was read.
    fn text(&mut self) -> &mut Vec<u8> {
        if self.text_read == self.text.len() {
            self.text.clear();
            self.text_read = 0;
        }
        &mut self.text
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
