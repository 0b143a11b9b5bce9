//! Answers that leave only once their call is written to the audit log.

use std::cell::Cell;

use crate::base::Time;
use crate::engine::Lease;
use crate::exchange::{BodySource, CarryError, Piece, carry_body};
use crate::serve::audit_log::{AuditLog, HeldShare};
use crate::serve::incoming::Responder;
use crate::serve::label::CallLabel;
use crate::serve::relay::{RelayError, RelayHooks, of_body};
use crate::wire::http1::{Method, RequestHead, ResponseHead};

/// How much of an answer is held until it is whole, in bytes. The line of a longer one is written before it begins.
const HELD_LEN_MAX: usize = 64 * 1024;

/// An answer that was received, or has begun to be.
#[derive(Clone, Copy)]
pub struct Answered<'a> {
    /// The head of it.
    pub head: &'a ResponseHead,
    /// When its first bytes were received.
    pub received_at: Time,
    /// The part of its body that has not been seen before.
    pub rest: &'a [u8],
    /// Whether it is whole.
    pub is_whole: bool,
}

impl<'a> Answered<'a> {
    /// An answer whose body is not waited for.
    pub(super) fn begun(head: &'a ResponseHead, received_at: Time) -> Answered<'a> {
        Answered { head, received_at, rest: b"", is_whole: false }
    }
}

/// Whether the end of an answer is waited for before the call is recorded. Event streams may last, and are recorded before they
/// begin; so are the answers to GET, which are event streams and metadata.
pub(super) fn holds_answer(request: &RequestHead, head: &ResponseHead) -> bool {
    request.method() != Method::Get && !head.is_event_stream()
}

/// Records the call, and waits until that is done.
///
/// # Errors
///
/// If it could not be written.
pub(super) async fn record(
    answered: &Answered<'_>,
    hooks: &mut impl RelayHooks,
    label: &Cell<Option<&mut CallLabel>>,
) -> Result<(), RelayError> {
    let mut taken = label.take();
    let receipt = hooks.record_answer(answered, taken.as_deref_mut());
    label.set(taken);
    let Some(receipt) = receipt else { return Ok(()) };
    if receipt.written_in_time(hooks.core()).await { Ok(()) } else { Err(RelayError::Unrecorded) }
}

/// Carries an answer that leaves once it is whole and its call recorded. One that is longer than what is held, or for which there is
/// no memory, is recorded when that shows, before it begins.
///
/// # Errors
///
/// If either side failed, or the call could not be written.
pub(super) async fn carry_recorded(
    mut from: impl BodySource,
    head: &ResponseHead,
    received_at: Time,
    responder: &mut impl Responder,
    hooks: &mut impl RelayHooks,
    label: &Cell<Option<&mut CallLabel>>,
    has_begun: &Cell<bool>,
) -> Result<(), RelayError> {
    let mut held = HeldAnswer::new(hooks.records_in());
    let beyond = held.fill(&mut from).await.map_err(of_body)?;
    let answered = match beyond {
        None => Answered { head, received_at, rest: &held.bytes, is_whole: true },
        Some(_) => Answered::begun(head, received_at),
    };
    record(&answered, hooks, label).await?;
    has_begun.set(true);
    let extras = hooks.on_response_head(head, received_at);
    responder.head(head, None, extras).await.map_err(RelayError::Respond)?;
    hooks.on_response_head_queued();
    hooks.on_body_bytes(&held.bytes);
    responder.copy(&held.bytes).await.map_err(of_body)?;
    drop(held);
    let Some(beyond) = beyond else { return responder.end(from.trailers()).await.map_err(of_body) };
    hooks.on_body_bytes(&beyond);
    responder.data(beyond).await.map_err(of_body)?;
    let seen = |bytes: &[u8]| {
        hooks.on_body_bytes(bytes);
        Ok(())
    };
    carry_body(&mut from, responder, seen).await.map_err(of_body)
}

/// What is held of an answer. It is copied: a body that comes in small pieces would hold a buffer for each.
struct HeldAnswer {
    bytes: Vec<u8>,
    share: Option<HeldShare>,
}

impl HeldAnswer {
    fn new(log: Option<&AuditLog>) -> HeldAnswer {
        HeldAnswer { bytes: Vec::new(), share: log.map(AuditLog::held_share) }
    }

    /// Receives a body. None once it is held whole; otherwise the piece that could not be held, behind which there may be more.
    async fn fill(&mut self, from: &mut impl BodySource) -> Result<Option<Lease>, CarryError> {
        loop {
            match from.next()? {
                Piece::Data(data) if self.has_room(data.len()) => self.bytes.extend_from_slice(&data),
                Piece::Data(data) => return Ok(Some(data)),
                Piece::Wait => from.more().await.map_err(CarryError::From)?,
                Piece::End => return Ok(None),
            }
        }
    }

    /// Makes room for a piece, if it may have that.
    fn has_room(&mut self, len: usize) -> bool {
        let len = self.bytes.len() + len;
        if len > HELD_LEN_MAX {
            return false;
        }
        if len > self.bytes.capacity() {
            let capacity = len.next_power_of_two();
            if self.share.as_mut().is_some_and(|share| !share.grow(capacity)) {
                return false;
            }
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        true
    }
}
