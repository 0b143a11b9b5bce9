//! Event streams that are not part of a call's answer. They last until the role ends, which ends them between two
//! events.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use crate::engine::StreamError;
use crate::exchange::{BodySource, Piece};
use crate::wire::event_stream::EventBounds;
use crate::wire::http1::BodyError;

/// The body of an event stream that ends early: between two events, once `ends` is ready.
pub(super) struct EndingStream<'a, B, E> {
    body: B,
    bounds: EventBounds,
    ends: Pin<&'a mut E>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The stream has to end. Data that has been received is still passed on.
    Ending,
    /// All received data was passed on, and an event is incomplete: nothing after that event is passed on.
    LastEvent,
    Ended,
}

impl<'a, B: BodySource, E: Future<Output = ()>> EndingStream<'a, B, E> {
    /// An event stream that ends when `ends` is ready and no event is incomplete.
    pub(super) fn new(body: B, ends: Pin<&'a mut E>) -> EndingStream<'a, B, E> {
        EndingStream { body, bounds: EventBounds::default(), ends, stage: Stage::Open }
    }

    /// Whether the stream was ended before its source.
    pub(super) fn has_ended_early(&self) -> bool {
        self.stage == Stage::Ended
    }
}

impl<B: BodySource, E: Future<Output = ()>> BodySource for EndingStream<'_, B, E> {
    fn next(&mut self) -> Result<Piece, BodyError> {
        if self.stage == Stage::Ended {
            return Ok(Piece::End);
        }
        match self.body.next()? {
            Piece::Data(mut data) if self.stage == Stage::LastEvent => {
                if let Some(len) = self.bounds.feed_to_bound(&data) {
                    data.truncate(len);
                    self.stage = Stage::Ended;
                }
                Ok(Piece::Data(data))
            }
            Piece::Data(data) => {
                self.bounds.feed(&data);
                Ok(Piece::Data(data))
            }
            Piece::Wait if self.stage != Stage::Open => {
                self.stage = if self.bounds.is_between() { Stage::Ended } else { Stage::LastEvent };
                Ok(if self.stage == Stage::Ended { Piece::End } else { Piece::Wait })
            }
            other => Ok(other),
        }
    }

    async fn more(&mut self) -> Result<(), StreamError> {
        if self.stage != Stage::Open {
            return self.body.more().await;
        }
        let mut more = pin!(self.body.more());
        poll_fn(|cx| {
            if let received @ Poll::Ready(_) = more.as_mut().poll(cx) {
                return received;
            }
            self.ends.as_mut().poll(cx).map(|()| {
                self.stage = Stage::Ending;
                Ok(())
            })
        })
        .await
    }

    fn trailers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.body.trailers().filter(|_| self.stage != Stage::Ended)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::VecDeque;
    use std::task::{Context, Waker};

    use super::*;
    use crate::engine::{Class, Lease, Pool};
    use crate::exchange::{BodySink, CarryError, carry_body};

    /// A body in pieces, each received after a wait; it stays open after the last.
    struct Pieces {
        pool: Pool,
        left: VecDeque<&'static str>,
        is_received: bool,
        has_waited: bool,
    }

    impl BodySource for &mut Pieces {
        fn next(&mut self) -> Result<Piece, BodyError> {
            if !std::mem::take(&mut self.is_received) {
                return Ok(Piece::Wait);
            }
            let mut lease = self.pool.take(Class::Small).unwrap();
            lease.append(self.left.pop_front().unwrap().as_bytes());
            Ok(Piece::Data(lease))
        }

        async fn more(&mut self) -> Result<(), StreamError> {
            poll_fn(|_| {
                let waits = self.left.is_empty() || !std::mem::replace(&mut self.has_waited, true);
                if waits { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
            (self.is_received, self.has_waited) = (true, false);
            Ok(())
        }

        fn trailers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
            [(&b"X"[..], &b"y"[..])].into_iter()
        }
    }

    #[derive(Default)]
    struct Sent(RefCell<String>, Cell<bool>);

    impl BodySink for &Sent {
        async fn ready(&mut self) -> Result<(), StreamError> {
            Ok(())
        }

        async fn data(&mut self, data: Lease) -> Result<(), CarryError> {
            self.0.borrow_mut().push_str(std::str::from_utf8(&data).unwrap());
            Ok(())
        }

        fn flush(&mut self) -> Result<(), StreamError> {
            Ok(())
        }

        async fn end<'a>(&mut self, trailers: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<(), CarryError> {
            assert_eq!(trailers.count(), 0, "the source's trailers were not received");
            self.1.set(true);
            Ok(())
        }
    }

    /// The forwarded part of a stream that has to end after `ends_after` bytes, and whether it has ended.
    fn passed_on(pieces: &[&'static str], ends_after: usize) -> (String, bool) {
        let left = pieces.iter().copied().collect();
        let mut body = Pieces { pool: Pool::new(1 << 20), left, is_received: false, has_waited: false };
        let sent = Sent::default();
        let ends = poll_fn(|_| if sent.0.borrow().len() >= ends_after { Poll::Ready(()) } else { Poll::Pending });
        let mut to = &sent;
        let mut carried = pin!(async {
            let ends = pin!(ends);
            let mut stream = EndingStream::new(&mut body, ends);
            carry_body(&mut stream, &mut to, |_| Ok(())).await.map(|()| stream.has_ended_early())
        });
        let cx = &mut Context::from_waker(Waker::noop());
        let ended = (0..10).find_map(|_| match carried.as_mut().poll(cx) {
            Poll::Ready(ended) => Some(ended),
            Poll::Pending => None,
        });
        assert_eq!(ended, sent.1.get().then_some(Ok(true)));
        (sent.0.take(), sent.1.get())
    }

    #[test]
    fn a_stream_ends_behind_an_event_and_with_all_that_was_received_before_its_end() {
        let ended = |text: &str| (text.to_owned(), true);
        assert_eq!(passed_on(&[], 0), ended(""));
        assert_eq!(passed_on(&["data: a\n\n"], 9), ended("data: a\n\n"));
        assert_eq!(passed_on(&["data: a\n\nda", "ta: b\n", "\n"], 10), ended("data: a\n\ndata: b\n\n"));
        assert_eq!(passed_on(&["data: a", "\n\ndata: b\n\n"], 7), ended("data: a\n\n"));
        assert_eq!(passed_on(&["data: a\n\nda"], 10), ("data: a\n\nda".to_owned(), false), "it waits for the event");
        assert_eq!(passed_on(&["data: a\n\n"], 10), ("data: a\n\n".to_owned(), false), "it is not to end yet");
    }
}
