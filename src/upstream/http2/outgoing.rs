use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use memchr::memmem;

use crate::engine::{Lease, StreamError};
use crate::http2::{Content, SendPiece, StreamQueue};
use crate::wire::http1::{BodyDecoder, Decoded, Framing, HEAD_LEN_MAX, Method};
use crate::wire::http2::{request_of, trailers_of};

/// The end of an HTTP/1.1 head.
const HEAD_END: &[u8] = b"\r\n\r\n";
/// Pieces up to this length are copied if others are waiting. Otherwise each would hold a much larger buffer.
const COPY_LEN_MAX: usize = 2048;

/// The request of an exchange: read as HTTP/1.1, as this process wrote it, and sent as HTTP/2.
pub(super) struct Outgoing {
    stage: Stage,
    /// The received part of an incomplete head.
    head: Vec<u8>,
    decoder: BodyDecoder,
}

enum Stage {
    /// The head has not been sent yet.
    Head(SendRequest<SendPiece>),
    Body(SendStream<SendPiece>),
    /// The head was sent.
    Sent(SendStream<SendPiece>),
    /// The request cannot be sent.
    Failed,
}

/// What sending the head of a request has begun.
pub(super) struct Begun {
    pub(super) method: Method,
    pub(super) response: ResponseFuture,
}

/// Why a request cannot be sent.
pub(super) enum SendError {
    Stream(StreamError),
    H2(h2::Error),
}

impl From<h2::Error> for SendError {
    fn from(error: h2::Error) -> SendError {
        SendError::H2(error)
    }
}

impl Outgoing {
    pub(super) fn new(send: SendRequest<SendPiece>) -> Outgoing {
        Outgoing { stage: Stage::Head(send), head: Vec::new(), decoder: BodyDecoder::default() }
    }

    /// Takes the next bytes of the request. Returns what has begun, once the head is complete.
    pub(super) fn send(
        &mut self,
        mut lease: Lease,
        is_tls: bool,
        queue: &Rc<StreamQueue>,
    ) -> Result<Option<Begun>, SendError> {
        let mut begun = None;
        if matches!(self.stage, Stage::Head(_)) {
            let Some(head_len) = self.take_head(&lease)? else { return Ok(None) };
            let begins =
                if self.head.is_empty() { self.begin(&lease[..head_len], is_tls) } else { self.begin_kept(is_tls) };
            begun = Some(begins?);
            lease.advance(head_len);
        }
        self.send_body(lease, queue)?;
        Ok(begun)
    }

    /// How many of the bytes belong to the head, if it is complete now. Parts of an incomplete head are kept.
    fn take_head(&mut self, bytes: &[u8]) -> Result<Option<usize>, SendError> {
        let kept_len = self.head.len();
        if kept_len == 0
            && let Some(at) = memmem::find(bytes, HEAD_END)
        {
            return Ok(Some(at + HEAD_END.len()));
        }
        self.head.extend_from_slice(bytes);
        let end = memmem::find(&self.head, HEAD_END).map(|at| at + HEAD_END.len());
        match end {
            Some(end) => {
                self.head.truncate(end);
                Ok(Some(end - kept_len))
            }
            // This process wrote the head, from one within the limit and with a few more fields.
            None if self.head.len() > 2 * HEAD_LEN_MAX => Err(SendError::Stream(StreamError::Closed)),
            None => Ok(None),
        }
    }

    fn begin_kept(&mut self, is_tls: bool) -> Result<Begun, SendError> {
        let head = std::mem::take(&mut self.head);
        self.begin(&head, is_tls)
    }

    fn begin(&mut self, head: &[u8], is_tls: bool) -> Result<Begun, SendError> {
        let Stage::Head(mut send) = std::mem::replace(&mut self.stage, Stage::Failed) else {
            return Err(SendError::Stream(StreamError::Closed));
        };
        let (request, framing) =
            request_of(head, is_tls).map_err(|why| SendError::Stream(StreamError::Protocol(why.to_string().into())))?;
        let method = Method::of(request.method().as_str().as_bytes());
        let is_end = matches!(framing, Framing::None | Framing::Length(0));
        let (response, stream) = send.send_request(request, is_end)?;
        self.decoder.restart(framing);
        self.stage = if is_end { Stage::Sent(stream) } else { Stage::Body(stream) };
        Ok(Begun { method, response })
    }

    fn send_body(&mut self, mut lease: Lease, queue: &Rc<StreamQueue>) -> Result<(), SendError> {
        let Stage::Body(stream) = &mut self.stage else { return Ok(()) };
        let mut piece: Option<Lease> = None;
        loop {
            let decoded = self.decoder.next(&mut lease);
            match decoded.map_err(|error| SendError::Stream(StreamError::Protocol(error.to_string().into())))? {
                Decoded::Data(data) => {
                    if let Some(before) = piece.replace(data) {
                        stream.send_data(SendPiece::new(content(before, queue), queue), false)?;
                    }
                }
                Decoded::More => {
                    if let Some(piece) = piece {
                        stream.send_data(SendPiece::new(content(piece, queue), queue), false)?;
                    }
                    return Ok(());
                }
                Decoded::End => break,
            }
        }
        let trailers = trailers_of(self.decoder.trailers());
        let last = piece.map(|piece| content(piece, queue));
        if trailers.is_empty() {
            stream.send_data(SendPiece::new(last.unwrap_or(Content::End), queue), true)?;
        } else {
            if let Some(last) = last {
                stream.send_data(SendPiece::new(last, queue), false)?;
            }
            stream.send_trailers(trailers)?;
        }
        if let Stage::Body(stream) = std::mem::replace(&mut self.stage, Stage::Failed) {
            self.stage = Stage::Sent(stream);
        }
        Ok(())
    }

    /// The number of the stream, once there is one.
    pub(super) fn stream_id(&self) -> Option<u32> {
        match &self.stage {
            Stage::Body(stream) | Stage::Sent(stream) => Some(stream.stream_id().as_u32()),
            Stage::Head(_) | Stage::Failed => None,
        }
    }

    /// Ready when the server takes no more of the request.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reason, h2::Error>> {
        match &mut self.stage {
            Stage::Body(stream) | Stage::Sent(stream) => stream.poll_reset(cx),
            Stage::Head(_) => Poll::Pending,
            Stage::Failed => Poll::Ready(Ok(Reason::CANCEL)),
        }
    }

    /// Resets the stream with this reason.
    pub(super) fn cancel(&mut self, reason: Reason) {
        if let Stage::Body(stream) | Stage::Sent(stream) = &mut self.stage {
            stream.send_reset(reason);
        }
        self.stage = Stage::Failed;
    }
}

/// Prepares a piece for the queue. A small piece behind others is copied.
fn content(piece: Lease, queue: &StreamQueue) -> Content {
    if piece.len() <= COPY_LEN_MAX && queue.has_queued() {
        Content::Bytes(Bytes::copy_from_slice(&piece))
    } else {
        Content::Lease(piece)
    }
}
