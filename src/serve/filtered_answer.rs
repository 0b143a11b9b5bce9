//! Answers with lists that arrive in one message and are filtered as a whole.

use crate::base::{Budget, Share};
use crate::engine::{LARGE_LEN, StreamError};
use crate::exchange::{BodySource, CarryError, Piece};
use crate::policy::{AnswerFilter, AnswerWithheld, LIST_LEN_MAX};
use crate::serve::incoming::{Responder, ResponseExtras};
use crate::wire::event_stream::{BOM, EventBounds};
use crate::wire::http1::{BodyError, Framing, ResponseHead};

/// The divisor of the buffer memory: this share may be used in addition for lists while they are filtered and sent.
const LISTS_SHARE: usize = 8;
/// The bytes that each list may use without a share.
const LIST_LEN_FREE: usize = 4 * 1024;

/// The memory for filtering lists on one core with this much buffer memory. The longest list fits.
#[must_use]
pub fn list_memory(buffers_bytes_max: usize) -> Budget {
    Budget::new((buffers_bytes_max / LISTS_SHARE).max(LIST_LEN_MAX), LIST_LEN_FREE)
}

/// Whether an answer is read to its end before it is passed on: a single message, or an event stream with a known
/// length.
pub(super) fn is_carried_whole(head: &ResponseHead) -> bool {
    !head.is_event_stream() || matches!(head.framing(), Framing::Length(_))
}

/// Checks that an answer is not compressed; adit did not offer that.
///
/// # Errors
///
/// If it is.
pub(super) fn check_coding(head: &ResponseHead) -> Result<(), CarryError> {
    let is_coded = head.get("content-encoding").is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity"));
    if is_coded { Err(CarryError::Body(BodyError::UnreadableList)) } else { Ok(()) }
}

/// An answer with lists of which the caller sees a part, held until it is sent.
#[derive(Debug)]
pub(super) struct FilteredList {
    body: Vec<u8>,
    share: Share,
}

impl FilteredList {
    /// Receives the body of an answer, and removes what the caller may not use.
    ///
    /// # Errors
    ///
    /// If it is too long, cannot be read, or `memory` is used up.
    pub(super) async fn read(
        from: impl BodySource,
        filter: &AnswerFilter,
        memory: &Budget,
    ) -> Result<FilteredList, CarryError> {
        let mut list = FilteredList { body: Vec::new(), share: memory.share() };
        list.receive(from, filter).await?;
        // Clients disagree on which header fields distinguish JSON from events. No text is both.
        let filtered = match is_json(&list.body) {
            true => filter.apply(&list.body),
            false => filter_events(&list.body, filter).map(Some),
        };
        if let Some(filtered) = filtered.map_err(BodyError::from)? {
            list.body = filtered;
            // The filtered text may be a few bytes longer. If the memory is used up, the share stays as it is.
            let _ = list.share.set(list.body.capacity());
        }
        Ok(list)
    }

    /// Receives the body. It is copied, because a body in small pieces would hold a buffer for each.
    async fn receive(&mut self, mut from: impl BodySource, filter: &AnswerFilter) -> Result<(), CarryError> {
        loop {
            match from.next()? {
                Piece::Data(piece) => {
                    filter.on_bytes(piece.len()).map_err(BodyError::from)?;
                    self.make_room(piece.len(), filter)?;
                    self.body.extend_from_slice(&piece);
                }
                Piece::Wait => from.more().await.map_err(CarryError::From)?,
                Piece::End => return Ok(()),
            }
        }
    }

    fn make_room(&mut self, len: usize, filter: &AnswerFilter) -> Result<(), BodyError> {
        let len = self.body.len() + len;
        if len > LIST_LEN_MAX {
            return Err(filter.too_long().into());
        }
        if len > self.body.capacity() {
            let capacity = len.next_power_of_two();
            if !self.share.set(capacity) {
                return Err(BodyError::CrowdedLists);
            }
            self.body.reserve_exact(capacity - self.body.len());
        }
        Ok(())
    }

    /// The part of the body that is sent.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Sends the head of the answer.
    ///
    /// # Errors
    ///
    /// If the caller's connection failed.
    pub(super) async fn send_head(
        &self,
        head: &ResponseHead,
        extras: ResponseExtras<'_>,
        responder: &mut impl Responder,
    ) -> Result<(), StreamError> {
        let len = (head.framing() != Framing::None).then_some(self.body.len() as u64);
        responder.head(head, len, extras).await
    }

    /// Sends the rest of the answer.
    ///
    /// # Errors
    ///
    /// If the caller's connection failed.
    pub(super) async fn send_body(self, responder: &mut impl Responder) -> Result<(), CarryError> {
        for part in self.body.chunks(LARGE_LEN) {
            responder.ready().await.map_err(CarryError::To)?;
            responder.copy(part).await?;
        }
        responder.end(std::iter::empty()).await
    }
}

/// Whether any reader could take the body for JSON.
fn is_json(body: &[u8]) -> bool {
    let body = body.strip_prefix(BOM).unwrap_or(body);
    matches!(body.trim_ascii_start().first(), Some(b'{' | b'[' | 0 | 0xfe | 0xff))
}

/// Filters the events of a whole stream.
fn filter_events(stream: &[u8], filter: &AnswerFilter) -> Result<Vec<u8>, AnswerWithheld> {
    let (mut out, mut rest, mut bounds) = (Vec::with_capacity(stream.len()), stream, EventBounds::default());
    while !rest.is_empty() {
        let len = bounds.feed_to_bound(rest).filter(|len| *len > 0).unwrap_or(rest.len());
        let (event, behind) = rest.split_at(len);
        out.extend_from_slice(filter.apply_to_event(event)?.as_deref().unwrap_or(event));
        rest = behind;
    }
    Ok(out)
}
