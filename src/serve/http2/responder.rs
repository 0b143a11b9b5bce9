//! HTTP/2 responses.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker, ready};

use crate::engine::{Class, Lease, Pool, StreamError};
use crate::exchange::{BodySink, CarryError, ExchangeState, TimeoutStream, WaitsFor};
use crate::http2::{Content, SMALL_LEN_MAX};
use crate::latency::SERVER_TIMING;
use crate::serve::http2::stream::Http2Stream;
use crate::serve::incoming::{Responder, ResponseExtras};
use crate::wire::http1::{BodyEncoder, Cors, Framing, ResponseEdits, ResponseHead, Version, write_response};
use crate::wire::http2::{response_of, trailers_of};

/// Responds to one request on its stream.
pub struct Http2Responder<'a, C> {
    stream: &'a Http2Stream,
    pool: &'a Pool,
    patient: &'a TimeoutStream<'a, Http2Stream, C>,
    cors: Option<Cors<'a>>,
    /// Whether the server's challenges are not passed on.
    drop_challenge: bool,
    scratch: &'a mut Vec<u8>,
    /// Checks that the body is as long as the head says.
    encoder: BodyEncoder,
    /// The buffer in which small pieces are collected.
    gathered: Option<Lease>,
    /// A large piece that is being sent, after the collected ones.
    piece: Option<Lease>,
    /// Whether the collected pieces must be sent as soon as the caller's windows allow it.
    is_flushing: bool,
    /// Whether the end was sent with the head.
    has_ended: bool,
}

impl<'a, C: Fn(u64, &mut Context<'_>) -> ExchangeState> Http2Responder<'a, C> {
    pub(super) fn new(
        stream: &'a Http2Stream,
        pool: &'a Pool,
        patient: &'a TimeoutStream<'a, Http2Stream, C>,
        cors: Option<Cors<'a>>,
        scratch: &'a mut Vec<u8>,
    ) -> Http2Responder<'a, C> {
        let encoder = BodyEncoder::new(Framing::None);
        Http2Responder {
            stream,
            pool,
            patient,
            cors,
            drop_challenge: false,
            scratch,
            encoder,
            gathered: None,
            piece: None,
            is_flushing: false,
            has_ended: false,
        }
    }

    /// Sets whether the server's challenges are removed.
    pub(super) fn drop_challenge(mut self, drops: bool) -> Http2Responder<'a, C> {
        self.drop_challenge = drops;
        self
    }

    fn put_head(&mut self, head: &ResponseHead, edits: &ResponseEdits<'_>, is_end: bool) -> Result<(), StreamError> {
        self.scratch.clear();
        write_response(head, edits, self.scratch);
        self.stream.send_head(response_of(self.scratch), is_end)
    }

    /// Sends the collected bytes and the piece after them, as the connection has room and the caller's windows allow.
    /// If `is_end`, the last byte ends the body.
    fn poll_send(&mut self, is_end: bool, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        while let Some(lease) = self.gathered.as_mut().or(self.piece.as_mut()) {
            if let Poll::Ready(error) = self.stream.poll_given_up(cx) {
                return Poll::Ready(Err(error));
            }
            ready!(self.stream.poll_room(Some(lease.len()), cx));
            let n = ready!(self.stream.poll_capacity(lease.len(), cx))?;
            if n < lease.len() {
                let front = lease.split_to(n);
                self.stream.send_data(Content::Lease(front), false)?;
            } else {
                let Some(whole) = self.gathered.take().or_else(|| self.piece.take()) else { continue };
                let is_last = self.gathered.is_none() && self.piece.is_none();
                self.stream.send_data(Content::Lease(whole), is_end && is_last)?;
            }
        }
        Poll::Ready(Ok(()))
    }

    async fn send(&mut self, is_end: bool) -> Result<(), CarryError> {
        poll_fn(|cx| {
            let sent = self.poll_send(is_end, cx);
            self.patient.or_give_up(sent, cx)
        })
        .await
        .map_err(CarryError::To)
    }

    /// Adds bytes to the collected ones.
    async fn gather(&mut self, mut bytes: &[u8]) -> Result<(), CarryError> {
        while !bytes.is_empty() {
            if self.gathered.as_ref().is_some_and(|lease| lease.tailroom() == 0) {
                self.send(false).await?;
            }
            if self.gathered.is_none() {
                self.gathered = Some(self.fresh(bytes.len()).await.map_err(CarryError::To)?);
            }
            let Some(lease) = self.gathered.as_mut() else { continue };
            bytes = &bytes[lease.append_some(bytes)..];
        }
        Ok(())
    }

    /// Takes an empty buffer. The wait for it ends with the exchange.
    async fn fresh(&self, len: usize) -> Result<Lease, StreamError> {
        poll_fn(|cx| match self.pool.poll_lease(Class::for_len(len), cx) {
            Poll::Ready(lease) => Poll::Ready(Ok(lease)),
            Poll::Pending => match self.stream.poll_given_up(cx) {
                Poll::Ready(error) => Poll::Ready(Err(error)),
                Poll::Pending => self.patient.poll_give_up(WaitsFor::Buffer, cx).map(Err),
            },
        })
        .await
    }
}

impl<C: Fn(u64, &mut Context<'_>) -> ExchangeState> Responder for Http2Responder<'_, C> {
    async fn interim(&mut self, head: &ResponseHead) -> Result<(), StreamError> {
        self.scratch.clear();
        write_response(head, &ResponseEdits::default(), self.scratch);
        self.stream.send_interim(response_of(self.scratch))
    }

    async fn head(
        &mut self,
        head: &ResponseHead,
        body_len: Option<u64>,
        extras: ResponseExtras<'_>,
    ) -> Result<(), StreamError> {
        let framing = body_len.map_or(head.framing(), Framing::Length).toward(Version::Http11);
        let append = [(SERVER_TIMING, extras.server_timing.unwrap_or_default())];
        let append = if extras.server_timing.is_some() { &append[..] } else { &[] };
        let edits = ResponseEdits {
            framing,
            close: false,
            cors: self.cors,
            public: extras.public,
            drop_challenge: self.drop_challenge,
            append,
        };
        self.encoder = BodyEncoder::new(framing);
        self.has_ended = matches!(framing, Framing::None | Framing::Length(0));
        // If the stream took a large piece before it may send it, the buffer would be held for as long as the caller
        // reads nothing.
        let is_bulk = match framing {
            Framing::None => false,
            Framing::Length(len) => len > SMALL_LEN_MAX as u64,
            Framing::Chunked | Framing::UntilClose => !head.is_event_stream(),
        };
        if is_bulk {
            self.stream.expect_bulk();
        }
        self.put_head(head, &edits, self.has_ended)
    }

    async fn copy(&mut self, bytes: &[u8]) -> Result<(), CarryError> {
        self.encoder.data(bytes.len())?;
        self.gather(bytes).await
    }

    fn keeps(&self) -> bool {
        true
    }
}

impl<C: Fn(u64, &mut Context<'_>) -> ExchangeState> BodySink for Http2Responder<'_, C> {
    async fn ready(&mut self) -> Result<(), StreamError> {
        poll_fn(|cx| {
            let ready = match self.stream.poll_given_up(cx) {
                Poll::Ready(error) => Poll::Ready(Err(error)),
                Poll::Pending if self.is_flushing => self.poll_send(false, cx),
                Poll::Pending => self.stream.poll_room(None, cx).map(Ok),
            };
            self.patient.or_give_up(ready, cx)
        })
        .await?;
        self.is_flushing = false;
        Ok(())
    }

    async fn data(&mut self, data: Lease) -> Result<(), CarryError> {
        self.encoder.data(data.len())?;
        if data.len() <= SMALL_LEN_MAX {
            return self.gather(&data).await;
        }
        self.piece = Some(data);
        self.send(false).await
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        // What cannot be sent now is sent when the sink is ready again.
        match self.poll_send(false, &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(sent) => sent,
            Poll::Pending => {
                self.is_flushing = true;
                Ok(())
            }
        }
    }

    async fn end<'a>(&mut self, trailers: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<(), CarryError> {
        self.scratch.clear();
        self.encoder.end(std::iter::empty(), self.scratch)?;
        if self.has_ended {
            return Ok(());
        }
        let trailers = trailers_of(trailers);
        if !trailers.is_empty() {
            self.send(false).await?;
            return self.stream.send_trailers(trailers).map_err(CarryError::To);
        }
        let has_more = self.gathered.is_some() || self.piece.is_some();
        self.send(true).await?;
        if has_more { Ok(()) } else { self.stream.send_data(Content::End, true).map_err(CarryError::To) }
    }
}
