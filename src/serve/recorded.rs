//! Answers that leave only once their call is written to the audit log.

use std::cell::Cell;

use crate::base::Time;
use crate::exchange::{BodySource, CarryError, Piece};
use crate::serve::incoming::Responder;
use crate::serve::label::CallLabel;
use crate::serve::relay::{RelayError, RelayHooks, of_body};
use crate::wire::http1::{Method, RequestHead, ResponseHead};

/// How much of an answer is held until it is whole, in bytes. Of a longer one the head and all but the last piece leave before.
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
    if receipt.is_written().await { Ok(()) } else { Err(RelayError::Unrecorded) }
}

/// Carries an answer of which nothing leaves until it is whole and its call recorded; of a long one its last piece is held.
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
    let mut held = Vec::new();
    let is_whole = hold(&mut from, &mut held).await.map_err(of_body)?;
    if is_whole {
        record(&Answered { head, received_at, rest: &held, is_whole }, hooks, label).await?;
    }
    has_begun.set(true);
    let extras = hooks.on_response_head(head, received_at);
    responder.head(head, None, extras).await.map_err(RelayError::Respond)?;
    hooks.on_response_head_queued();
    hooks.on_body_bytes(&held);
    responder.copy(&held).await.map_err(of_body)?;
    drop(held);
    if is_whole {
        return responder.end(from.trailers()).await.map_err(of_body);
    }
    let mut last = None;
    loop {
        match from.next().map_err(|error| of_body(error.into()))? {
            Piece::Data(data) => {
                if let Some(before) = last.replace(data) {
                    hooks.on_body_bytes(&before);
                    responder.data(before).await.map_err(of_body)?;
                }
            }
            Piece::Wait => {
                responder.flush().map_err(RelayError::Respond)?;
                responder.ready().await.map_err(RelayError::Respond)?;
                from.more().await.map_err(|error| of_body(CarryError::From(error)))?;
            }
            Piece::End => break,
        }
    }
    let rest = last.as_deref().unwrap_or_default();
    record(&Answered { head, received_at, rest, is_whole: true }, hooks, label).await?;
    if let Some(last) = last {
        hooks.on_body_bytes(&last);
        responder.data(last).await.map_err(of_body)?;
    }
    responder.end(from.trailers()).await.map_err(of_body)
}

/// Receives as much of a body as is held. True if it is whole. It is copied: a body that comes in small pieces would hold a buffer
/// for each.
async fn hold(from: &mut impl BodySource, held: &mut Vec<u8>) -> Result<bool, CarryError> {
    loop {
        match from.next()? {
            Piece::Data(data) => {
                held.extend_from_slice(&data);
                if held.len() >= HELD_LEN_MAX {
                    return Ok(false);
                }
            }
            Piece::Wait => from.more().await.map_err(CarryError::From)?,
            Piece::End => return Ok(true),
        }
    }
}
