//! HTTP/1.1 responses to callers.

use crate::engine::{ByteStream, Lease, Pool, StreamError};
use crate::exchange::{BodySink, CarryError, Http1Sink, Outlet};
use crate::latency::SERVER_TIMING;
use crate::serve::incoming::{Responder, ResponseExtras};
use crate::wire::http1::{Cors, Framing, RequestHead, ResponseEdits, ResponseHead, Version, write_response};

/// Responds to one request on a byte stream.
pub struct Http1Responder<'a, S> {
    sink: Http1Sink<'a, S>,
    version: Version,
    cors: Option<Cors<'a>>,
    /// Whether the server's challenges are not passed on.
    drop_challenge: bool,
    /// Whether another request may follow on the connection.
    keeps: bool,
}

impl<'a, S: ByteStream> Http1Responder<'a, S> {
    pub(super) fn new(
        request: &RequestHead,
        stream: &'a S,
        pool: &'a Pool,
        outlet: &'a mut Outlet,
        scratch: &'a mut Vec<u8>,
        cors: Option<Cors<'a>>,
    ) -> Http1Responder<'a, S> {
        let sink = Http1Sink::new(stream, pool, outlet, scratch);
        Http1Responder { sink, version: request.version(), cors, drop_challenge: false, keeps: request.keep_alive() }
    }

    /// Sets whether the server's challenges are removed.
    pub(super) fn drop_challenge(mut self, drops: bool) -> Http1Responder<'a, S> {
        self.drop_challenge = drops;
        self
    }
}

impl<S: ByteStream> Responder for Http1Responder<'_, S> {
    async fn interim(&mut self, head: &ResponseHead) -> Result<(), StreamError> {
        // HTTP/1.0 has no interim responses (RFC 9110, section 15.2).
        if self.version == Version::Http10 {
            return Ok(());
        }
        self.sink.write_head(|out| write_response(head, &ResponseEdits::default(), out));
        self.sink.send_head().await?;
        self.sink.ready().await?;
        self.sink.flush()
    }

    fn head(
        &mut self,
        head: &ResponseHead,
        body_len: Option<u64>,
        extras: ResponseExtras<'_>,
    ) -> impl Future<Output = Result<(), StreamError>> {
        let framing = body_len.map_or(head.framing(), Framing::Length).toward(self.version);
        self.keeps &= framing != Framing::UntilClose && extras.may_keep;
        let append = [(SERVER_TIMING, extras.server_timing.unwrap_or_default())];
        let append = if extras.server_timing.is_some() { &append[..] } else { &[] };
        let edits = ResponseEdits {
            framing,
            close: !self.keeps,
            cors: self.cors,
            public: extras.public,
            drop_challenge: self.drop_challenge,
            append,
        };
        self.sink.begin(framing);
        self.sink.write_head(|out| write_response(head, &edits, out));
        self.sink.send_head()
    }

    fn copy(&mut self, bytes: &[u8]) -> impl Future<Output = Result<(), CarryError>> {
        self.sink.copy(bytes)
    }

    fn keeps(&self) -> bool {
        self.keeps
    }
}

impl<S: ByteStream> BodySink for Http1Responder<'_, S> {
    fn ready(&mut self) -> impl Future<Output = Result<(), StreamError>> {
        self.sink.ready()
    }

    fn data(&mut self, data: Lease) -> impl Future<Output = Result<(), CarryError>> {
        self.sink.data(data)
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        self.sink.flush()
    }

    fn end<'a>(
        &mut self,
        trailers: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> impl Future<Output = Result<(), CarryError>> {
        self.sink.end(trailers)
    }
}
