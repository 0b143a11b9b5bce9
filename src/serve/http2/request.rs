//! HTTP/2 requests, each on its stream.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;

use crate::base::Time;
use crate::engine::Core;
use crate::exchange::{ExchangeState, OriginRules, PeerProgress, TimeoutStream, clear_scratch};
use crate::http2::Content;
use crate::latency::Phase;
use crate::route::Scheme;
use crate::serve::http2::body::{Http2RequestBody, Receiving};
use crate::serve::http2::responder::Http2Responder;
use crate::serve::http2::stream::Http2Stream;
use crate::serve::incoming::Incoming;
use crate::serve::read_ahead::{LabelError, ReadAheadLimits};
use crate::serve::request::Request;
use crate::serve::request_context::RequestContext;
use crate::wire::http1::{CONTINUE, Cors, HeadError, Progress};
use crate::wire::http2::{response_of, split_answer, write_request_head};

/// The terms under which requests are answered on a connection.
#[derive(Clone, Copy)]
pub struct Http2Terms<'a> {
    /// The CORS rules for browsers; none leaves CORS to the next hop.
    pub browsers: Option<&'a Arc<OriginRules>>,
    /// The scheme of the connection.
    pub scheme: Scheme,
    /// The phase to which the role's own time is added.
    pub own_phase: Phase,
}

/// A request of HTTP/2 whose head was read.
pub struct Http2Request<'a> {
    stream: &'a Http2Stream,
    began: Time,
    context: RequestContext,
    receiving: Receiving,
    scratch: Vec<u8>,
}

impl<'a> Http2Request<'a> {
    /// A request on `stream` that began at `began`. Its label is read.
    pub(super) fn new(stream: &'a Http2Stream, began: Time, terms: Http2Terms<'_>) -> Http2Request<'a> {
        let mut context = RequestContext::default();
        context.read_labels(true);
        context.answer_browsers(terms.browsers, terms.scheme);
        context.own_phase = terms.own_phase;
        Http2Request { stream, began, context, receiving: Receiving::default(), scratch: Vec::new() }
    }

    /// Reads the head and checks it like one of HTTP/1.1. `has_body`: a body follows.
    pub(super) fn read_head(&mut self, parts: &Parts, has_body: bool) -> Result<(), HeadError> {
        self.scratch.clear();
        write_request_head(parts, has_body, &mut self.scratch);
        match self.context.head.feed(&self.scratch)? {
            Progress::Complete { len } if len == self.scratch.len() => {}
            _ => return Err(HeadError::BadRequestLine),
        }
        self.context.begin_label();
        Ok(())
    }

    /// The stream that carries it.
    #[must_use]
    pub fn stream(&self) -> &'a Http2Stream {
        self.stream
    }

    /// Splits the request into head, body and responder. Waits for the caller have the limits of `patient`.
    pub fn incoming_on<'b, C: Fn(u64, &mut Context<'_>) -> ExchangeState>(
        &'b mut self,
        patient: &'b TimeoutStream<'b, Http2Stream, C>,
    ) -> Incoming<'b, Http2RequestBody<'b, C>, Http2Responder<'b, C>> {
        let Http2Request { stream, context, receiving, scratch, .. } = self;
        let is_terminated = context.is_terminated();
        let (head, label, cors) = context.parts();
        let pool = stream.core().pool();
        let responder = Http2Responder::new(stream, pool, patient, cors, scratch).drop_challenge(is_terminated);
        let body = Http2RequestBody::new(stream, pool, receiving, Some(patient));
        Incoming { head, body, label, responder }
    }
}

/// The type for waits without limits.
type Unlimited = fn(u64, &mut Context<'_>) -> ExchangeState;

impl Request for Http2Request<'_> {
    fn context(&self) -> &RequestContext {
        &self.context
    }

    fn context_mut(&mut self) -> &mut RequestContext {
        &mut self.context
    }

    fn core(&self) -> &Core {
        self.stream.core()
    }

    fn began(&self) -> Time {
        self.began
    }

    fn is_received(&self) -> bool {
        self.receiving.has_ended()
    }

    /// Other requests have streams of their own.
    fn can_be_followed(&self) -> bool {
        true
    }

    fn end_response(&mut self) {
        self.context.drop_read_ahead();
        clear_scratch(&mut self.scratch);
    }

    async fn read_label(&mut self, limits: ReadAheadLimits<'_>) -> Result<(), LabelError> {
        let Http2Request { stream, context, receiving, .. } = self;
        let core = stream.core();
        let mut body = Http2RequestBody::<Unlimited>::new(stream, core.pool(), receiving, None);
        let is_read = context.read_label_received(&mut body)?;
        if is_read && !context.has_used_approval() {
            return Ok(());
        }
        // Boxed, so that calls whose body came with the head do not pay for its size.
        Box::pin(async {
            if !is_read {
                if context.take_continue() {
                    // A caller that has left is noticed below.
                    let _ = stream.send_interim(response_of(CONTINUE));
                }
                context.read_label(core, &mut body, limits).await?;
            }
            context.keep_used_approval(core).await
        })
        .await
    }

    /// The caller has left when it has reset the stream, or its connection has failed.
    async fn caller_left(&mut self) {
        poll_fn(|cx| self.stream.poll_given_up(cx)).await;
    }

    async fn read_id(&mut self, within: Duration) {
        let Http2Request { stream, context, receiving, .. } = self;
        let core = stream.core();
        let mut body = Http2RequestBody::<Unlimited>::new(stream, core.pool(), receiving, None);
        context.read_id(core, &mut body, within).await;
    }

    async fn respond(&mut self, write: impl FnOnce(Option<Cors<'_>>, &mut Vec<u8>)) {
        let Http2Request { stream, context, scratch, .. } = self;
        scratch.clear();
        write(context.cors(), scratch);
        let Some((head, body)) = split_answer(scratch, context.head.method()) else { return };
        // The body is short: it waits in `h2` until the caller's windows allow it. A caller that has left needs none.
        let body = Bytes::copy_from_slice(body);
        if stream.send_head(head, body.is_empty()).is_ok() && !body.is_empty() {
            let _ = stream.send_data(Content::Bytes(body), true);
        }
    }
}
