//! Answers that are sent only after their call is in the audit log.

use std::cell::Cell;

use crate::base::Time;
use crate::engine::Lease;
use crate::exchange::{BodySource, CarryError, Piece, carry_body};
use crate::serve::audit_log::{AuditLog, HeldShare};
use crate::serve::incoming::Responder;
use crate::serve::label::CallLabel;
use crate::serve::relay::{RelayError, RelayHooks, of_body};
use crate::wire::http1::{Method, RequestHead, ResponseHead};

/// The longest answer in bytes that is held until it is complete. For longer ones the line is written before the answer
/// begins.
const HELD_LEN_MAX: usize = 64 * 1024;

/// An answer that is complete or has begun.
#[derive(Clone, Copy)]
pub struct Answered<'a> {
    /// The head of the answer.
    pub head: &'a ResponseHead,
    /// When its first bytes were received.
    pub received_at: Time,
    /// The part of the body that has not been read for the log.
    pub rest: &'a [u8],
    /// Whether the answer is complete.
    pub is_whole: bool,
}

impl<'a> Answered<'a> {
    /// An answer whose body is not awaited.
    pub(super) fn begun(head: &'a ResponseHead, received_at: Time) -> Answered<'a> {
        Answered { head, received_at, rest: b"", is_whole: false }
    }
}

/// Whether the call is logged only when its answer is complete. Event streams may last, so they are logged before they
/// begin; so are answers to GET, which are event streams or metadata.
pub(super) fn holds_answer(request: &RequestHead, head: &ResponseHead) -> bool {
    request.method() != Method::Get && !head.is_event_stream()
}

/// Writes the call to the log and waits until it is written.
///
/// # Errors
///
/// If it could not be written in time.
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

/// Carries an answer that is sent once it is complete and its call logged. If it is too long to be held, or no memory
/// is left, the call is logged first and the answer sent from then on.
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

/// The held part of an answer. It is copied, because a body in small pieces would hold a buffer for each.
struct HeldAnswer {
    bytes: Vec<u8>,
    share: Option<HeldShare>,
}

impl HeldAnswer {
    fn new(log: Option<&AuditLog>) -> HeldAnswer {
        HeldAnswer { bytes: Vec::new(), share: log.map(AuditLog::held_share) }
    }

    /// Receives a body. None if all of it is held; otherwise the piece that could not be held, which more may follow.
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

    /// Makes room for a piece, if the limits allow it.
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
