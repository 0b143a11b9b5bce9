//! Requests at the connector over HTTP/1.1 and HTTP/2.

use std::task::Context;
use std::time::Duration;

use crate::base::Time;
use crate::engine::Core;
use crate::exchange::{ExchangeState, TimeoutStream};
use crate::link::CallStream;
use crate::serve::{
    Http1Request, Http2Request, Http2Stream, Incoming, LabelError, ReadAheadLimits, Request, RequestBody,
    RequestContext, Responder,
};
use crate::wire::http1::Cors;

/// A request from the edge, or from an agent whose TLS ends here.
pub(super) trait CallRequest: Request {
    /// Whether the edge's stream carries only this call, so that the call ends with the stream.
    const OWNS_STREAM: bool;

    /// Splits the request into head, body and responder. `stream` is the edge's.
    fn incoming<'b>(&'b mut self, stream: &'b CallStream) -> Incoming<'b, impl RequestBody, impl Responder>;
}

impl CallRequest for Http1Request<'_, CallStream> {
    const OWNS_STREAM: bool = true;

    fn incoming<'b>(&'b mut self, stream: &'b CallStream) -> Incoming<'b, impl RequestBody, impl Responder> {
        // On a plain stream the edge ends its direction after the request.
        self.incoming_over(stream, stream.is_sealed())
    }
}

/// A request of HTTP/2 with a limit on the waits for its agent.
pub(super) struct PatientRequest<'a, 'b, C> {
    pub(super) request: &'a mut Http2Request<'b>,
    pub(super) patience: &'a TimeoutStream<'a, Http2Stream, C>,
}

impl<C: Fn(u64, &mut Context<'_>) -> ExchangeState> CallRequest for PatientRequest<'_, '_, C> {
    const OWNS_STREAM: bool = false;

    fn incoming<'b>(&'b mut self, _: &'b CallStream) -> Incoming<'b, impl RequestBody, impl Responder> {
        self.request.incoming_on(self.patience)
    }
}

impl<C> Request for PatientRequest<'_, '_, C> {
    fn context(&self) -> &RequestContext {
        self.request.context()
    }

    fn context_mut(&mut self) -> &mut RequestContext {
        self.request.context_mut()
    }

    fn core(&self) -> &Core {
        self.request.core()
    }

    fn began(&self) -> Time {
        self.request.began()
    }

    fn is_received(&self) -> bool {
        self.request.is_received()
    }

    fn can_be_followed(&self) -> bool {
        self.request.can_be_followed()
    }

    fn end_response(&mut self) {
        self.request.end_response();
    }

    fn read_label(&mut self, limits: ReadAheadLimits<'_>) -> impl Future<Output = Result<(), LabelError>> {
        self.request.read_label(limits)
    }

    fn read_id(&mut self, within: Duration) -> impl Future<Output = ()> {
        self.request.read_id(within)
    }

    fn caller_left(&mut self) -> impl Future<Output = ()> {
        self.request.caller_left()
    }

    fn respond(&mut self, write: impl FnOnce(Option<Cors<'_>>, &mut Vec<u8>)) -> impl Future<Output = ()> {
        self.request.respond(write)
    }
}
