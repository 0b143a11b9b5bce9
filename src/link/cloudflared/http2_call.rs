//! A call over HTTP/2: the request as it is received, and the answer as it is sent.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::StatusCode;
use http::request::Parts;

use crate::base::CallFailure;
use crate::engine::{Lease, Pool, StreamError};
use crate::http2::{
    ConnectionQueue, HeadText, MessageSendError, ReceivedHead, ReceivedText, SendPiece, StreamQueue, send_body,
};
use crate::link::cloudflared::counts::CloudflaredCounts;
use crate::wire::cloudflared::{answer_head, own_answer_head, strip_request};
use crate::wire::http1::{BodyDecoder, Framing, Method};
use crate::wire::http2::write_request_head;

/// A call on a stream of HTTP/2.
pub(super) struct Http2Call {
    queue: Rc<StreamQueue>,
    incoming: RefCell<ReceivedText>,
    outgoing: RefCell<Outgoing>,
}

/// The answer: read as HTTP/1.1, as this process wrote it, and sent as HTTP/2.
struct Outgoing {
    stage: Stage,
    method: Method,
    head: HeadText,
    decoder: BodyDecoder,
}

enum Stage {
    /// The head was not sent yet.
    Head(SendResponse<SendPiece>),
    Body(SendStream<SendPiece>),
    /// The whole answer was given to the connection.
    Sent(SendStream<SendPiece>),
    /// The stream was reset.
    Failed,
}

/// The head of a request is complete when its stream exists.
struct Complete;

impl ReceivedHead for Complete {
    fn poll_head(&mut self, _: &mut ReceivedText, _: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        Poll::Pending
    }
}

impl Http2Call {
    pub(super) fn new(
        queue: &Rc<ConnectionQueue>,
        mut parts: Parts,
        recv: RecvStream,
        respond: SendResponse<SendPiece>,
    ) -> Http2Call {
        strip_request(&mut parts.headers);
        let mut incoming = ReceivedText::default();
        let is_chunked = write_request_head(&parts, !recv.is_end_stream(), incoming.text());
        incoming.begin_body(recv, is_chunked);
        let method = Method::of(parts.method.as_str().as_bytes());
        Http2Call {
            queue: StreamQueue::new(queue),
            incoming: RefCell::new(incoming),
            outgoing: RefCell::new(Outgoing {
                stage: Stage::Head(respond),
                method,
                head: HeadText::default(),
                decoder: BodyDecoder::default(),
            }),
        }
    }

    /// Ends the call without an answer of the server: with `status`, if no answer has begun. Returns whether the server's answer
    /// was not sent.
    pub(super) fn reset(&self, status: Option<StatusCode>) -> bool {
        let mut outgoing = self.outgoing.borrow_mut();
        match std::mem::replace(&mut outgoing.stage, Stage::Failed) {
            Stage::Head(mut respond) => match status {
                Some(status) => {
                    // A stream that has failed needs no answer.
                    let _ = respond.send_response(own_answer_head(status), true);
                    true
                }
                None => {
                    respond.send_reset(Reason::CANCEL);
                    false
                }
            },
            Stage::Body(mut stream) => {
                stream.send_reset(Reason::INTERNAL_ERROR);
                true
            }
            sent @ Stage::Sent(_) => {
                outgoing.stage = sent;
                false
            }
            Stage::Failed => false,
        }
    }

    /// Whether an answer has begun.
    pub(super) fn has_answered(&self) -> bool {
        !matches!(self.outgoing.borrow().stage, Stage::Head(_))
    }

    /// Ready when the edge has reset the call, or the connection has ended.
    pub(super) fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<CallFailure> {
        let reset = match &mut self.outgoing.borrow_mut().stage {
            Stage::Head(respond) => ready!(respond.poll_reset(cx)),
            Stage::Body(stream) | Stage::Sent(stream) => ready!(stream.poll_reset(cx)),
            Stage::Failed => return Poll::Pending,
        };
        Poll::Ready(reset.map_or_else(|error| failure_of(&error), |_| CallFailure::Cancelled))
    }

    /// Whether the last byte of the request was read.
    pub(super) fn is_received(&self) -> bool {
        self.incoming.borrow().has_ended()
    }

    pub(super) fn poll_recv(&self, pool: &Pool, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, CallFailure>> {
        self.incoming.borrow_mut().poll_recv(&mut Complete, pool, cx).map_err(|error| failure_of(&error))
    }

    pub(super) fn send(&self, lease: Lease, counts: &CloudflaredCounts) -> Result<(), CallSendError> {
        let sent = self.outgoing.borrow_mut().send(lease, &self.queue, counts);
        sent.map_err(|error| match error {
            MessageSendError::Stream(error) => CallSendError::Stream(error),
            MessageSendError::H2(error) => CallSendError::Reset(failure_of(&error)),
        })
    }

    pub(super) fn poll_own_room(&self, max: usize, cx: &mut Context<'_>) -> Poll<()> {
        self.queue.poll_own_room(max, cx)
    }

    pub(super) fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.queue.poll_flushed(cx)
    }
}

/// Why a part of an answer cannot be sent.
pub(super) enum CallSendError {
    Stream(StreamError),
    Reset(CallFailure),
}

fn failure_of(error: &h2::Error) -> CallFailure {
    if error.is_reset() && error.is_remote() { CallFailure::Cancelled } else { CallFailure::LinkLost }
}

impl Outgoing {
    fn send(
        &mut self,
        mut lease: Lease,
        queue: &Rc<StreamQueue>,
        counts: &CloudflaredCounts,
    ) -> Result<(), MessageSendError> {
        // An interim answer may stand before the final one.
        while let Stage::Head(respond) = &mut self.stage {
            let method = self.method;
            let taken = self.head.take(&mut lease, |text| answer_head(text, method))?;
            let Some(head) = taken else { return Ok(()) };
            let Some((response, framing)) = head else { continue };
            counts.on_answer(response.status());
            let is_end = matches!(framing, Framing::None | Framing::Length(0));
            let stream = respond.send_response(response, is_end)?;
            self.decoder.restart(framing);
            self.stage = if is_end { Stage::Sent(stream) } else { Stage::Body(stream) };
        }
        if let Stage::Body(stream) = &mut self.stage
            && send_body(stream, &mut self.decoder, lease, queue)?
            && let Stage::Body(stream) = std::mem::replace(&mut self.stage, Stage::Failed)
        {
            self.stage = Stage::Sent(stream);
        }
        Ok(())
    }
}
