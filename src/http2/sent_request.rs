//! A request of HTTP/1.1 that is sent over HTTP/2.

use std::rc::Rc;
use std::task::{Context, Poll};

use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::Request;

use crate::engine::{Lease, StreamError};
use crate::http2::queue::{SendPiece, StreamQueue};
use crate::http2::sending::{HeadText, MessageSendError, send_body};
use crate::wire::http1::{BodyDecoder, Framing, Method};
use crate::wire::http2::request_of;

/// The request of an exchange: read as HTTP/1.1, as this process wrote it, and sent as HTTP/2.
pub struct SentRequest {
    stage: Stage,
    head: HeadText,
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
pub struct BegunRequest {
    /// The method of the request.
    pub method: Method,
    /// The response to it, which is awaited.
    pub response: ResponseFuture,
}

impl SentRequest {
    /// A request that is written next.
    #[must_use]
    pub fn new(send: SendRequest<SendPiece>) -> SentRequest {
        SentRequest { stage: Stage::Head(send), head: HeadText::default(), decoder: BodyDecoder::default() }
    }

    /// Takes the next bytes of the request. Returns what has begun, once the head is complete. `edit` may change the head
    /// before it is sent.
    ///
    /// # Errors
    ///
    /// If the request cannot be sent over HTTP/2, or the stream has failed.
    pub fn send(
        &mut self,
        mut lease: Lease,
        is_tls: bool,
        queue: &Rc<StreamQueue>,
        edit: impl FnOnce(&mut Request<()>),
    ) -> Result<Option<BegunRequest>, MessageSendError> {
        let mut begun = None;
        if matches!(self.stage, Stage::Head(_)) {
            let mut head = std::mem::take(&mut self.head);
            let taken = head.take(&mut lease, |head| self.begin(head, is_tls, edit));
            self.head = head;
            let Some(begins) = taken? else { return Ok(None) };
            begun = Some(begins?);
        }
        self.send_body(lease, queue)?;
        Ok(begun)
    }

    fn begin(
        &mut self,
        head: &[u8],
        is_tls: bool,
        edit: impl FnOnce(&mut Request<()>),
    ) -> Result<BegunRequest, MessageSendError> {
        let Stage::Head(mut send) = std::mem::replace(&mut self.stage, Stage::Failed) else {
            return Err(MessageSendError::Stream(StreamError::Closed));
        };
        let (mut request, framing) = request_of(head, is_tls)
            .map_err(|why| MessageSendError::Stream(StreamError::Protocol(why.to_string().into())))?;
        edit(&mut request);
        let method = Method::of(request.method().as_str().as_bytes());
        let is_end = matches!(framing, Framing::None | Framing::Length(0));
        let (response, stream) = send.send_request(request, is_end)?;
        self.decoder.restart(framing);
        self.stage = if is_end { Stage::Sent(stream) } else { Stage::Body(stream) };
        Ok(BegunRequest { method, response })
    }

    fn send_body(&mut self, lease: Lease, queue: &Rc<StreamQueue>) -> Result<(), MessageSendError> {
        let Stage::Body(stream) = &mut self.stage else { return Ok(()) };
        if send_body(stream, &mut self.decoder, lease, queue)?
            && let Stage::Body(stream) = std::mem::replace(&mut self.stage, Stage::Failed)
        {
            self.stage = Stage::Sent(stream);
        }
        Ok(())
    }

    /// The number of the stream, once there is one.
    #[must_use]
    pub fn stream_id(&self) -> Option<u32> {
        match &self.stage {
            Stage::Body(stream) | Stage::Sent(stream) => Some(stream.stream_id().as_u32()),
            Stage::Head(_) | Stage::Failed => None,
        }
    }

    /// Ready when the server takes no more of the request.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reason, h2::Error>> {
        match &mut self.stage {
            Stage::Body(stream) | Stage::Sent(stream) => stream.poll_reset(cx),
            Stage::Head(_) => Poll::Pending,
            Stage::Failed => Poll::Ready(Ok(Reason::CANCEL)),
        }
    }

    /// Resets the stream with this reason.
    pub fn cancel(&mut self, reason: Reason) {
        if let Stage::Body(stream) | Stage::Sent(stream) = &mut self.stage {
            stream.send_reset(reason);
        }
        self.stage = Stage::Failed;
    }
}
