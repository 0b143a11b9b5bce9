//! A call over QUIC: the request as it is received, and the answer as it is sent.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::StatusCode;

use crate::base::CallFailure;
use crate::engine::{ByteStream, Class, LARGE_LEN, Lease, Pool, StreamError};
use crate::http2::{HeadText, MessageSendError, poll_buffer};
use crate::link::cloudflared::counts::CloudflaredCounts;
use crate::link::cloudflared::http2_call::CallSendError;
use crate::quic::QuicStream;
use crate::wire::cloudflared::{QuicRequest, write_own_quic_answer, write_quic_answer};
use crate::wire::http1::{BodyDecoder, BodyEncoder, CHUNK_HEAD_LEN_MAX, Decoded, Framing, Method};
use crate::wire::http2::write_request_head;

/// The most bytes that the framing of one piece of a body needs.
const FRAMING_LEN_MAX: usize = CHUNK_HEAD_LEN_MAX + 8;

/// A call on a stream of QUIC.
pub(super) struct QuicCall {
    stream: QuicStream,
    incoming: RefCell<Incoming>,
    outgoing: RefCell<Outgoing>,
    is_broken: Cell<bool>,
}

struct Incoming {
    /// HTTP/1.1 text that was written and is not read yet: the head, or the end of the body.
    text: Bytes,
    encoder: BodyEncoder,
    has_ended: bool,
}

struct Outgoing {
    stage: Stage,
    method: Method,
    head: HeadText,
    decoder: BodyDecoder,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The head was not sent yet.
    Head,
    Body,
    /// The whole answer was given to the connection.
    Sent,
    /// The stream was reset.
    Failed,
}

impl QuicCall {
    /// A call whose request was read from the stream, and its body not.
    pub(super) fn new(stream: QuicStream, request: &QuicRequest) -> QuicCall {
        let mut text = Vec::new();
        let is_chunked = write_request_head(&request.parts, request.has_body, &mut text);
        // A body of known length needs no framing. Its reader counts the bytes.
        let framing = if is_chunked { Framing::Chunked } else { Framing::UntilClose };
        let incoming =
            Incoming { text: Bytes::from(text), encoder: BodyEncoder::new(framing), has_ended: !request.has_body };
        let method = Method::of(request.parts.method.as_str().as_bytes());
        let outgoing =
            Outgoing { stage: Stage::Head, method, head: HeadText::default(), decoder: BodyDecoder::default() };
        let (incoming, outgoing) = (RefCell::new(incoming), RefCell::new(outgoing));
        QuicCall { stream, incoming, outgoing, is_broken: Cell::new(false) }
    }

    /// Ends the call without an answer of the server: with `status`, if no answer has begun. Returns whether the server's answer
    /// was not sent.
    pub(super) fn reset(&self, status: Option<StatusCode>) -> bool {
        let stage = self.outgoing.borrow().stage;
        if stage != Stage::Sent {
            self.outgoing.borrow_mut().stage = Stage::Failed;
        }
        match (stage, status) {
            (Stage::Head, Some(status)) => {
                let mut start = Vec::new();
                write_own_quic_answer(status, &mut start);
                // A stream that has failed needs no answer.
                let _ = self.stream.send_bytes(start);
                self.stream.finish();
                true
            }
            (Stage::Head, None) => {
                self.stream.abort();
                false
            }
            (Stage::Body, _) => {
                self.stream.abort();
                true
            }
            (Stage::Sent | Stage::Failed, _) => false,
        }
    }

    /// Whether an answer has begun.
    pub(super) fn has_answered(&self) -> bool {
        self.outgoing.borrow().stage != Stage::Head
    }

    /// Ready when the edge wants no answer any more, or the connection has ended.
    pub(super) fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<CallFailure> {
        if self.outgoing.borrow().stage == Stage::Failed && !self.is_broken.get() {
            return Poll::Pending;
        }
        ready!(self.stream.poll_broken(cx));
        self.is_broken.set(true);
        Poll::Ready(self.failure())
    }

    /// Whether the last byte of the request was read.
    pub(super) fn is_received(&self) -> bool {
        let incoming = self.incoming.borrow();
        incoming.has_ended && incoming.text.is_empty()
    }

    pub(super) fn poll_recv(&self, pool: &Pool, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, CallFailure>> {
        let mut incoming = self.incoming.borrow_mut();
        if incoming.text.is_empty() && !incoming.has_ended {
            let received = ready!(self.stream.poll_bytes(LARGE_LEN - FRAMING_LEN_MAX, cx));
            match received.map_err(|_| self.failure())? {
                Some(bytes) => return self.poll_piece(&mut incoming, bytes, pool, cx),
                None => incoming.end(),
            }
        }
        if incoming.text.is_empty() {
            return Poll::Ready(Ok(None));
        }
        let mut lease = ready!(poll_buffer(pool, Class::for_len(incoming.text.len()), cx));
        let copied = lease.append_some(&incoming.text);
        incoming.text.advance(copied);
        Poll::Ready(Ok(Some(lease)))
    }

    /// A piece of the body, in its framing.
    fn poll_piece(
        &self,
        incoming: &mut Incoming,
        mut bytes: Bytes,
        pool: &Pool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Lease>, CallFailure>> {
        let Poll::Ready(mut lease) = poll_buffer(pool, Class::for_len(bytes.len() + FRAMING_LEN_MAX), cx) else {
            self.stream.put_back(bytes);
            return Poll::Pending;
        };
        let len = bytes.len().min(lease.tailroom().saturating_sub(FRAMING_LEN_MAX));
        // Neither framing has a length that could be exceeded.
        if let Ok(wrap) = incoming.encoder.data(len) {
            [wrap.before.as_ref(), &bytes[..len], wrap.after].into_iter().for_each(|piece| lease.append(piece));
        }
        bytes.advance(len);
        if !bytes.is_empty() {
            self.stream.put_back(bytes);
        }
        Poll::Ready(Ok(Some(lease)))
    }

    pub(super) fn send(&self, lease: Lease, counts: &CloudflaredCounts) -> Result<(), CallSendError> {
        self.outgoing.borrow_mut().send(lease, &self.stream, counts).map_err(|error| match error {
            StreamError::Reset => CallSendError::Reset(self.failure()),
            error => CallSendError::Stream(error),
        })
    }

    pub(super) fn poll_own_room(&self, max: usize, cx: &mut Context<'_>) -> Poll<()> {
        // A failure is reported where it is waited for.
        if self.stream.queued_len() < max { Poll::Ready(()) } else { self.stream.poll_ready(cx).map(drop) }
    }

    pub(super) fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.stream.poll_flushed(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    fn failure(&self) -> CallFailure {
        if self.stream.has_lost_connection() { CallFailure::LinkLost } else { CallFailure::Cancelled }
    }
}

impl Incoming {
    /// Writes the end of the body.
    fn end(&mut self) {
        self.has_ended = true;
        let mut end = Vec::new();
        // Neither framing has a length that could be missed.
        let _ = self.encoder.end(std::iter::empty(), &mut end);
        self.text = Bytes::from(end);
    }
}

impl Outgoing {
    fn send(&mut self, mut lease: Lease, stream: &QuicStream, counts: &CloudflaredCounts) -> Result<(), StreamError> {
        // An interim answer may stand before the final one.
        while self.stage == Stage::Head {
            let (method, mut start) = (self.method, Vec::new());
            let taken = self.head.take(&mut lease, |text| write_quic_answer(text, method, &mut start));
            let Some(head) = taken.map_err(stream_error)? else { return Ok(()) };
            let Some((status, framing)) = head else { continue };
            counts.on_answer(status);
            stream.send_bytes(start)?;
            self.decoder.restart(framing);
            self.stage = Stage::Body;
            if matches!(framing, Framing::None | Framing::Length(0)) {
                self.end(stream);
            }
        }
        while self.stage == Stage::Body {
            let decoded = self.decoder.next(&mut lease);
            match decoded.map_err(|error| StreamError::Protocol(error.to_string().into()))? {
                Decoded::Data(data) => stream.send(data)?,
                Decoded::More => return Ok(()),
                // The protocol has no place for trailers.
                Decoded::End => self.end(stream),
            }
        }
        Ok(())
    }

    fn end(&mut self, stream: &QuicStream) {
        stream.finish();
        self.stage = Stage::Sent;
    }
}

fn stream_error(error: MessageSendError) -> StreamError {
    match error {
        MessageSendError::Stream(error) => error,
        // Only HTTP/2 has these.
        MessageSendError::H2(_) => StreamError::Reset,
    }
}
