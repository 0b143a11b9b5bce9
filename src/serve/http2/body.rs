//! Request bodies of HTTP/2.

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

/// Room before a piece for a frame header, so that the header need not be sent separately.
const HEADROOM: usize = 64;

/// The part of a body that was received and is not used yet.
///
/// The window is opened only when the previous piece was taken, so that at most a stream window of a body is held.
#[derive(Default)]
pub(super) struct Receiving {
    stage: Stage,
    /// Bytes from `h2` that are not copied yet.
    held: Bytes,
    /// The next piece of the body, copied from `held`.
    lease: Option<Lease>,
    /// Bytes that were given out; released in the window when more is requested.
    unreleased: usize,
    /// Parses the trailers. Kept for its memory.
    trailers: BodyDecoder,
    /// Why the body breaks off, after what was received.
    failed: Option<Broken>,
    /// Whether a buffer could not be allocated.
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

    /// Ready with a received piece, or the end.
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

    /// Copies received data, of as many frames as fit.
    fn fill(&mut self, lease: &mut Lease, stream: &Http2Stream) {
        loop {
            let copied = lease.append_some(&self.held);
            self.held.advance(copied);
            if !self.held.is_empty() || lease.tailroom() == 0 {
                return;
            }
            // Do not wait: data that arrives later makes another piece.
            match stream.poll_data(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Some(Ok(data))) => self.held = data,
                Poll::Ready(Some(Err(error))) => return self.failed = Some(error.into()),
                Poll::Ready(None) => return self.stage = Stage::Trailers,
                Poll::Pending => return,
            }
        }
    }
}

/// The body of a request on a stream, with a limit on the wait for its caller.
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
            // Only `more` waits.
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
