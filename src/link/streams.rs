//! The table of streams that tasks hold: the state that the mux reported for each, and the task that waits for it.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use crate::base::Time;
use crate::engine::{Lease, StreamError, push_packed};
use crate::wire::mux::{Cause, Phases, StreamId};

/// At most this many empty places keep the memory of their queue.
const WARM_PLACES_MAX: usize = 64;
/// The most entries of a queue that an empty place keeps. A large body needs more for a while.
const QUEUE_KEPT: usize = 16;
/// The most places of a table that is kept while no task holds a stream.
const PLACES_KEPT: usize = 256;

/// The streams of one link. A place in the table is used while a task holds its stream.
#[derive(Default)]
pub(super) struct LinkStreams {
    places: Vec<StreamState>,
    free: Vec<usize>,
    /// For each slot of the mux, the place of the last stream in it.
    by_slot: Vec<usize>,
    live: usize,
}

/// The state of one stream.
#[derive(Default)]
pub(super) struct StreamState {
    id: Option<StreamId>,
    received: VecDeque<Lease>,
    received_at: Time,
    finished: bool,
    reset: Option<Cause>,
    /// It was withdrawn before anything of the call was sent.
    withdrawn: bool,
    pub(super) phases: Option<Phases>,
    receive_waker: Option<Waker>,
    send_waker: Option<Waker>,
    broken_waker: Option<Waker>,
}

impl LinkStreams {
    /// Adds a stream and returns its place.
    pub(super) fn add(&mut self, id: StreamId) -> usize {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(StreamState::default());
            self.places.len() - 1
        });
        self.places[place].id = Some(id);
        if self.by_slot.len() <= id.index() {
            self.by_slot.resize(id.index() + 1, usize::MAX);
        }
        self.by_slot[id.index()] = place;
        self.live += 1;
        place
    }

    /// Removes a stream that no task holds any more. Its memory is kept for the next one, unless enough other places
    /// keep theirs.
    pub(super) fn remove(&mut self, place: usize) {
        let state = &mut self.places[place];
        state.received.clear();
        let mut received = std::mem::take(&mut state.received);
        received.shrink_to(if self.free.len() < WARM_PLACES_MAX { QUEUE_KEPT } else { 0 });
        *state = StreamState { received, ..StreamState::default() };
        self.free.push(place);
        self.live -= 1;
        if self.live == 0 && self.places.len() > PLACES_KEPT {
            *self = LinkStreams::default();
        }
    }

    /// The stream at a place that is in use.
    pub(super) fn at(&mut self, place: usize) -> &mut StreamState {
        &mut self.places[place]
    }

    /// The stream with this id, if a task holds it.
    pub(super) fn find(&mut self, id: StreamId) -> Option<&mut StreamState> {
        let place = *self.by_slot.get(id.index())?;
        self.places.get_mut(place).filter(|state| state.id == Some(id))
    }

    /// The number of streams that tasks hold.
    pub(super) fn live(&self) -> usize {
        self.live
    }
}

impl StreamState {
    pub(super) fn receive(&mut self, chunk: Lease, now: Time) {
        if self.received.is_empty() {
            self.received_at = now;
        }
        push_packed(&mut self.received, 0, chunk);
        wake(&mut self.receive_waker);
    }

    pub(super) fn finish(&mut self) {
        self.finished = true;
        wake(&mut self.receive_waker);
    }

    pub(super) fn reset(&mut self, cause: Cause) {
        self.reset.get_or_insert(cause);
        wake(&mut self.receive_waker);
        wake(&mut self.send_waker);
        wake(&mut self.broken_waker);
    }

    pub(super) fn withdraw(&mut self) {
        self.withdrawn = true;
        self.reset(Cause::NotSent);
    }

    pub(super) fn is_withdrawn(&self) -> bool {
        self.withdrawn
    }

    pub(super) fn writable(&mut self) {
        wake(&mut self.send_waker);
    }

    /// The next bytes, the end, or the error. Bytes that arrived before a reset are returned first.
    pub(super) fn poll_recv(&mut self, cx: &Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
        if let Some(lease) = self.received.pop_front() {
            return Poll::Ready(Ok(Some(lease)));
        }
        if self.finished {
            return Poll::Ready(Ok(None));
        }
        if let Some(error) = self.error() {
            return Poll::Ready(Err(error));
        }
        keep(&mut self.receive_waker, cx);
        Poll::Pending
    }

    /// Ready when nothing can follow the unread bytes.
    pub(super) fn poll_ended(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.finished || self.reset.is_some() {
            return Poll::Ready(());
        }
        keep(&mut self.receive_waker, cx);
        Poll::Pending
    }

    pub(super) fn poll_broken(&mut self, cx: &Context<'_>) -> Poll<Cause> {
        if let Some(cause) = self.reset {
            return Poll::Ready(cause);
        }
        keep(&mut self.broken_waker, cx);
        Poll::Pending
    }

    /// Why the stream was reset, if it was.
    pub(super) fn reset_cause(&self) -> Option<Cause> {
        self.reset
    }

    /// Whether the other side has finished sending on the stream.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    pub(super) fn wait_to_send(&mut self, cx: &Context<'_>) {
        keep(&mut self.send_waker, cx);
    }

    pub(super) fn error(&self) -> Option<StreamError> {
        self.reset.map(|cause| StreamError::ResetWith { failure: cause.into() })
    }

    pub(super) fn received_at(&self) -> Time {
        self.received_at
    }
}

pub(super) fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

pub(super) fn keep(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_was_large_gives_its_memory_back_when_no_task_holds_a_stream() {
        let mut streams = LinkStreams::default();
        let id = |slot: u32| StreamId::for_tests(slot + 1, slot);
        let places: Vec<usize> = (0..1_000).map(|slot| streams.add(id(slot))).collect();
        let (last, others) = places.split_last().unwrap();
        others.iter().for_each(|place| streams.remove(*place));
        assert!(streams.find(id(999)).is_some());
        streams.remove(*last);
        assert_eq!((streams.places.capacity(), streams.by_slot.capacity(), streams.live()), (0, 0, 0));
        assert!(streams.find(id(999)).is_none());
        assert_eq!(streams.add(id(5)), 0);
        assert!(streams.find(id(5)).is_some());
    }
}
