//! Requests of HTTP/1.1 on their connection.

use std::future::pending;
use std::time::Duration;

use crate::base::Time;
use crate::engine::{ByteStream, Core, StreamError};
use crate::exchange::{BodySource, Http1Source, Piece};
use crate::serve::incoming::{Incoming, RequestBody};
use crate::serve::read_ahead::{LabelError, ReadAheadLimits};
use crate::serve::request::Request;
use crate::serve::request_context::RequestContext;
use crate::serve::requests::Requests;
use crate::serve::responder::Http1Responder;
use crate::wire::http1::{BodyError, CONTINUE, Cors};

/// A request of HTTP/1.1 whose head was read.
pub struct Http1Request<'a, S> {
    stream: &'a S,
    core: &'a Core,
    began: Time,
    requests: &'a mut Requests,
}

/// The body of a request of HTTP/1.1.
pub struct Http1RequestBody<'a, S, P> {
    source: Http1Source<'a, P>,
    /// The connection, if its end is watched.
    watched: Option<&'a S>,
}

impl<'a, S: ByteStream> Http1Request<'a, S> {
    pub(super) fn new(stream: &'a S, core: &'a Core, began: Time, requests: &'a mut Requests) -> Http1Request<'a, S> {
        Http1Request { stream, core, began, requests }
    }

    /// The connection on which the request was received.
    #[must_use]
    pub fn stream(&self) -> &'a S {
        self.stream
    }

    /// Splits the request into head, body and responder. Body and response use `over`, which is the connection with
    /// limits on its waits. If `is_watched`, the end of the connection is noticed, which means that the caller has
    /// left.
    pub fn incoming_over<'b, P: ByteStream>(
        &'b mut self,
        over: &'b P,
        is_watched: bool,
    ) -> Incoming<'b, Http1RequestBody<'b, S, P>, Http1Responder<'b, P>> {
        let Requests { context, intake, decoder, outlet, scratch, .. } = &mut *self.requests;
        let is_terminated = context.is_terminated();
        let (head, label, cors) = context.parts();
        let responder =
            Http1Responder::new(head, over, self.core.pool(), outlet, scratch, cors).drop_challenge(is_terminated);
        let watched = is_watched.then_some(self.stream);
        let body = Http1RequestBody { source: Http1Source::new(over, intake, decoder), watched };
        Incoming { head, body, label, responder }
    }
}

impl<S: ByteStream> Request for Http1Request<'_, S> {
    fn context(&self) -> &RequestContext {
        &self.requests.context
    }

    fn context_mut(&mut self) -> &mut RequestContext {
        &mut self.requests.context
    }

    fn core(&self) -> &Core {
        self.core
    }

    fn began(&self) -> Time {
        self.began
    }

    fn is_received(&self) -> bool {
        self.requests.decoder.is_done()
    }

    fn can_be_followed(&self) -> bool {
        self.is_received() && self.head().keep_alive()
    }

    fn end_response(&mut self) {
        self.requests.end_response();
    }

    async fn read_label(&mut self, limits: ReadAheadLimits<'_>) -> Result<(), LabelError> {
        let Requests { context, intake, decoder, .. } = &mut *self.requests;
        let is_read = context.read_label_received(&mut Http1Source::new(self.stream, intake, decoder))?;
        if is_read && !context.has_used_approval() {
            return Ok(());
        }
        // Boxed, so that calls whose body came with the head do not pay for its size.
        Box::pin(async {
            if !is_read {
                if self.requests.context.take_continue() {
                    self.respond(|_, out| out.extend_from_slice(CONTINUE)).await;
                }
                let Requests { context, intake, decoder, .. } = &mut *self.requests;
                context.read_label(self.core, &mut Http1Source::new(self.stream, intake, decoder), limits).await?;
            }
            self.requests.context.keep_used_approval(self.core).await
        })
        .await
    }

    async fn read_id(&mut self, within: Duration) {
        let Requests { context, intake, decoder, .. } = &mut *self.requests;
        context.read_id(self.core, &mut Http1Source::new(self.stream, intake, decoder), within).await;
    }

    /// The caller has left when it finishes or its connection fails, even after bytes that it sent ahead.
    fn caller_left(&mut self) -> impl Future<Output = ()> {
        self.requests.intake.ended(self.stream)
    }

    fn respond(&mut self, write: impl FnOnce(Option<Cors<'_>>, &mut Vec<u8>)) -> impl Future<Output = ()> {
        self.requests.answer(self.stream, self.core.pool(), write)
    }
}

impl<S: ByteStream, P: ByteStream> RequestBody for Http1RequestBody<'_, S, P> {
    async fn caller_left(&mut self) {
        match self.watched {
            Some(connection) => self.source.peer_ended(connection).await,
            None => pending().await,
        }
    }

    fn is_watched(&self) -> bool {
        self.watched.is_some()
    }
}

impl<S: ByteStream, P: ByteStream> BodySource for Http1RequestBody<'_, S, P> {
    fn next(&mut self) -> Result<Piece, BodyError> {
        self.source.next()
    }

    fn more(&mut self) -> impl Future<Output = Result<(), StreamError>> {
        self.source.more()
    }

    fn trailers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.source.trailers()
    }
}
