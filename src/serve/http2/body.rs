//! Bodies of requests of HTTP/2.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};

use crate::engine::{Class, Lease, Pool, StreamError};
use crate::exchange::{BodySource, ExchangeState, Piece, TimeoutStream, WaitsFor};
use crate::http2::poll_buffer;
use crate::serve::http2::stream::Http2Stream;
use crate::serve::incoming::RequestBody;
use crate::wire::http1::{BodyDecoder, BodyError};
use crate::wire::http2::read_trailers;

/// Bytes before a piece that are left free, so that what goes before it on its way need not be sent on its own.
const HEADROOM: usize = 64;

/// What was received of a body and is not used yet.
///
/// The caller may send more only when the piece before was taken on: what is held of a body is at most the window of its stream.
#[derive(Default)]
pub(super) struct Receiving {
    stage: Stage,
    /// What `h2` gave and is not copied yet.
    held: Bytes,
    /// The next piece of the body, copied from `held`.
    lease: Option<Lease>,
    /// Bytes that were given out, to be released when more is asked for.
    unreleased: usize,
    /// Parses the trailers. It is kept for its memory.
    trailers: BodyDecoder,
    /// Why it breaks off, behind what was received.
    failed: Option<Broken>,
    /// Whether it is a buffer that is missing.
    lacks_buffer: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Data,
    Trailers,
    Ended,
}

#[derive(Clone)]
enum Broken {
    Stream(StreamError),
    Body(BodyError),
}

impl From<StreamError> for Broken {
    fn from(error: StreamError) -> Broken {
        Broken::Stream(error)
    }
}

impl Receiving {
    /// Whether the body was received to its end.
    pub(super) fn has_ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    /// Ready with what is received: a piece, or the end.
    fn poll(&mut self, stream: &Http2Stream, pool: &Pool, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.lacks_buffer = false;
        while self.stage == Stage::Data && self.held.is_empty() {
            match ready!(stream.poll_data(cx)) {
                Some(data) => self.held = data?,
                None => self.stage = Stage::Trailers,
            }
        }
        if !self.held.is_empty() {
            self.lacks_buffer = true;
            let mut lease = ready!(poll_buffer(pool, Class::for_len(self.held.len() + HEADROOM), cx));
            self.lacks_buffer = false;
            lease.reserve_headroom(HEADROOM);
            self.fill(&mut lease, stream);
            self.lease = Some(lease);
        } else if self.stage == Stage::Trailers {
            let trailers = ready!(stream.poll_trailers(cx))?;
            trailers.map_or(Ok(()), |fields| read_trailers(&fields, &mut self.trailers)).map_err(Broken::Body)?;
            self.stage = Stage::Ended;
        }
        Poll::Ready(Ok(()))
    }

    /// Copies what was received, of as many frames as have room.
    fn fill(&mut self, lease: &mut Lease, stream: &Http2Stream) {
        loop {
            let copied = lease.append_some(&self.held);
            self.held.advance(copied);
            if !self.held.is_empty() || lease.tailroom() == 0 {
                return;
            }
            // Nobody waits here: what is not there yet makes another piece.
            match stream.poll_data(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Some(Ok(data))) => self.held = data,
                Poll::Ready(Some(Err(error))) => return self.failed = Some(error.into()),
                Poll::Ready(None) => return self.stage = Stage::Trailers,
                Poll::Pending => return,
            }
        }
    }
}

/// The body of a request on a stream, whose caller may not stand still.
pub struct Http2RequestBody<'a, C> {
    stream: &'a Http2Stream,
    pool: &'a Pool,
    receiving: &'a mut Receiving,
    patient: Option<&'a TimeoutStream<'a, Http2Stream, C>>,
}

impl<'a, C: Fn(u64, &mut Context<'_>) -> ExchangeState> Http2RequestBody<'a, C> {
    pub(super) fn new(
        stream: &'a Http2Stream,
        pool: &'a Pool,
        receiving: &'a mut Receiving,
        patient: Option<&'a TimeoutStream<'a, Http2Stream, C>>,
    ) -> Http2RequestBody<'a, C> {
        Http2RequestBody { stream, pool, receiving, patient }
    }
}

impl<C: Fn(u64, &mut Context<'_>) -> ExchangeState> RequestBody for Http2RequestBody<'_, C> {
    async fn caller_left(&mut self) {
        poll_fn(|cx| self.stream.poll_given_up(cx)).await;
    }

    fn is_watched(&self) -> bool {
        true
    }
}

impl<C: Fn(u64, &mut Context<'_>) -> ExchangeState> BodySource for Http2RequestBody<'_, C> {
    fn next(&mut self) -> Result<Piece, BodyError> {
        let Http2RequestBody { stream, pool, receiving, .. } = self;
        stream.release(std::mem::take(&mut receiving.unreleased));
        loop {
            if let Some(lease) = receiving.lease.take() {
                receiving.unreleased = lease.len();
                return Ok(Piece::Data(lease));
            }
            match receiving.failed {
                Some(Broken::Body(error)) => return Err(error),
                Some(Broken::Stream(_)) => return Ok(Piece::Wait),
                None if receiving.has_ended() => return Ok(Piece::End),
                None => {}
            }
            // Whoever is to wait does so in `more`.
            match receiving.poll(stream, pool, &mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(broken)) => receiving.failed = Some(broken),
                Poll::Pending => return Ok(Piece::Wait),
            }
        }
    }

    async fn more(&mut self) -> Result<(), StreamError> {
        let Http2RequestBody { stream, pool, receiving, patient } = self;
        poll_fn(|cx| {
            if let Some(Broken::Stream(error)) = &receiving.failed {
                return Poll::Ready(Err(error.clone()));
            }
            let received = match receiving.poll(stream, pool, cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
                Poll::Ready(Err(Broken::Stream(error))) => Poll::Ready(Err(error)),
                Poll::Ready(Err(broken)) => {
                    receiving.failed = Some(broken);
                    Poll::Ready(Ok(()))
                }
            };
            match patient {
                Some(patient) if received.is_pending() && receiving.lacks_buffer => {
                    patient.poll_give_up(WaitsFor::Buffer, cx).map(Err)
                }
                Some(patient) => patient.or_give_up(received, cx),
                None => received,
            }
        })
        .await
    }

    fn trailers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.receiving.trailers.trailers()
    }
}
