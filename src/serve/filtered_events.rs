//! Event streams with lists of which the caller sees a part.

use std::collections::VecDeque;

use crate::base::Share;
use crate::engine::{Class, LARGE_LEN, Lease, Pool, SMALL_LEN, StreamError, push_packed};
use crate::exchange::{BodySource, Piece};
use crate::policy::{AnswerFilter, LIST_LEN_MAX};
use crate::wire::event_stream::EventBounds;
use crate::wire::http1::BodyError;

/// The body of an event stream; each event is filtered as soon as it is complete.
pub(super) struct FilteredEvents<'a, B> {
    body: B,
    pool: &'a Pool,
    filter: AnswerFilter,
    bounds: EventBounds,
    /// Bytes received after the last filtered event.
    rest: Option<Lease>,
    /// The incomplete event that is being received.
    held: VecDeque<Lease>,
    held_len: usize,
    /// An event that the filter left unchanged.
    same: VecDeque<Lease>,
    /// The rest of a changed event that is not passed on yet.
    changed: Vec<u8>,
    passed_on: usize,
    /// The share of the memory for lists that the event takes.
    share: Share,
    has_ended: bool,
}

impl<'a, B: BodySource> FilteredEvents<'a, B> {
    pub(super) fn new(body: B, pool: &'a Pool, filter: AnswerFilter, share: Share) -> FilteredEvents<'a, B> {
        FilteredEvents {
            body,
            pool,
            filter,
            bounds: EventBounds::default(),
            rest: None,
            held: VecDeque::new(),
            held_len: 0,
            same: VecDeque::new(),
            changed: Vec::new(),
            passed_on: 0,
            share,
            has_ended: false,
        }
    }

    /// How much of a changed event is passed on next.
    fn left(&self) -> usize {
        (self.changed.len() - self.passed_on).min(LARGE_LEN)
    }

    /// Copies the next part of a changed event.
    fn fill(&mut self, mut lease: Lease) -> Lease {
        self.passed_on += lease.append_some(&self.changed[self.passed_on..]);
        if self.passed_on == self.changed.len() {
            self.changed.clear();
            self.changed.shrink_to(0);
            self.passed_on = 0;
            self.share.clear();
        }
        lease
    }

    fn hold(&mut self, data: Lease) -> Result<(), BodyError> {
        self.filter.on_bytes(data.len())?;
        self.held_len += data.len();
        if self.held_len > LIST_LEN_MAX {
            return Err(self.filter.too_long().into());
        }
        push_packed(&mut self.held, 0, data);
        self.take_memory(self.held_len.max(self.held.len() * SMALL_LEN))
    }

    fn take_memory(&mut self, len: usize) -> Result<(), BodyError> {
        if self.share.set(len) { Ok(()) } else { Err(BodyError::CrowdedLists) }
    }

    /// Filters the event that is held.
    fn end_event(&mut self) -> Result<(), BodyError> {
        let mut event = Vec::with_capacity(std::mem::take(&mut self.held_len));
        self.held.iter().for_each(|piece| event.extend_from_slice(piece));
        match self.filter.apply_to_event(&event)? {
            None => {
                std::mem::swap(&mut self.same, &mut self.held);
                self.share.clear();
                Ok(())
            }
            Some(changed) => {
                self.held.clear();
                self.changed = changed;
                self.take_memory(self.changed.capacity())
            }
        }
    }
}

impl<B: BodySource> BodySource for FilteredEvents<'_, B> {
    fn next(&mut self) -> Result<Piece, BodyError> {
        loop {
            if let Some(piece) = self.same.pop_front() {
                return Ok(Piece::Data(piece));
            }
            if self.left() > 0 {
                let Some(lease) = self.pool.take(Class::for_len(self.left())) else { return Ok(Piece::Wait) };
                return Ok(Piece::Data(self.fill(lease)));
            }
            if let Some(mut data) = self.rest.take() {
                match self.bounds.feed_to_bound(&data) {
                    Some(len) if len < data.len() => {
                        self.hold(data.split_to(len))?;
                        self.rest = Some(data);
                        self.end_event()?;
                    }
                    Some(_) => {
                        self.hold(data)?;
                        self.end_event()?;
                    }
                    None => self.hold(data)?,
                }
                continue;
            }
            if self.has_ended {
                return Ok(Piece::End);
            }
            match self.body.next()? {
                Piece::Data(data) => self.rest = Some(data),
                Piece::Wait => return Ok(Piece::Wait),
                Piece::End => {
                    self.has_ended = true;
                    // Some readers accept a last event without its empty line.
                    self.end_event()?;
                }
            }
        }
    }

    async fn more(&mut self) -> Result<(), StreamError> {
        if self.left() > 0 {
            let lease = self.pool.lease_for(self.left()).await;
            let piece = self.fill(lease);
            self.same.push_back(piece);
            return Ok(());
        }
        self.body.more().await
    }

    fn trailers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.body.trailers()
    }
}
