//! Answers with lists that are filtered as a whole, because they come in one message.

use std::collections::VecDeque;

use crate::engine::{Lease, push_packed};
use crate::exchange::{BodySource, CarryError, Piece};
use crate::policy::{LIST_LEN_MAX, ListFilter, UnreadableList};
use crate::serve::incoming::{Responder, ResponseExtras};
use crate::wire::event_stream::{BOM, EventBounds};
use crate::wire::http1::{BodyError, Framing, ResponseHead};

/// Whether an answer is read to its end before any of it is passed on: one message, or events whose length is told before.
pub(super) fn is_carried_whole(head: &ResponseHead) -> bool {
    !head.is_event_stream() || matches!(head.framing(), Framing::Length(_))
}

/// Checks that an answer is not compressed, which was not asked for.
///
/// # Errors
///
/// If it is.
pub(super) fn check_coding(head: &ResponseHead) -> Result<(), CarryError> {
    let is_coded = head.get("content-encoding").is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity"));
    if is_coded { Err(CarryError::Body(BodyError::UnreadableList)) } else { Ok(()) }
}

/// Receives the body of an answer, without what its caller may not use.
///
/// # Errors
///
/// If it is too long, or cannot be read.
pub(super) async fn read_filtered(
    mut from: impl BodySource,
    head: &ResponseHead,
    filter: &ListFilter,
) -> Result<Vec<u8>, CarryError> {
    let unreadable = |_: UnreadableList| CarryError::Body(BodyError::UnreadableList);
    let mut held: VecDeque<Lease> = VecDeque::new();
    let mut len = 0;
    loop {
        match from.next()? {
            Piece::Data(piece) => {
                len += piece.len();
                if len > LIST_LEN_MAX {
                    return Err(unreadable(UnreadableList));
                }
                push_packed(&mut held, 0, piece);
            }
            Piece::Wait => from.more().await.map_err(CarryError::From)?,
            Piece::End => break,
        }
    }
    let mut whole = Vec::with_capacity(len);
    held.into_iter().for_each(|piece| whole.extend_from_slice(&piece));
    let filtered = if head.is_event_stream() {
        filter_events(&whole, filter).map(Some)
    } else if is_json(&whole) {
        filter.apply(&whole)
    } else {
        // A page of a proxy, or the word that a message was accepted.
        Ok(None)
    };
    filtered.map(|filtered| filtered.unwrap_or(whole)).map_err(unreadable)
}

/// Sends an answer with this body.
///
/// # Errors
///
/// If the caller's connection failed.
pub(super) async fn send_filtered(
    body: &[u8],
    head: &ResponseHead,
    extras: ResponseExtras<'_>,
    responder: &mut impl Responder,
) -> Result<(), CarryError> {
    let len = (head.framing() != Framing::None).then_some(body.len() as u64);
    responder.head(head, len, extras).await.map_err(CarryError::To)?;
    if !body.is_empty() {
        responder.copy(body).await?;
    }
    responder.end(std::iter::empty()).await
}

/// Whether a body may be read as JSON by anybody.
fn is_json(body: &[u8]) -> bool {
    let body = body.strip_prefix(BOM).unwrap_or(body);
    matches!(body.trim_ascii_start().first(), Some(b'{' | b'[' | 0 | 0xfe | 0xff))
}

/// The events of a whole stream.
fn filter_events(stream: &[u8], filter: &ListFilter) -> Result<Vec<u8>, UnreadableList> {
    let (mut out, mut rest, mut bounds) = (Vec::with_capacity(stream.len()), stream, EventBounds::default());
    while !rest.is_empty() {
        let len = bounds.feed_to_bound(rest).filter(|len| *len > 0).unwrap_or(rest.len());
        let (event, behind) = rest.split_at(len);
        out.extend_from_slice(filter.apply_to_event(event)?.as_deref().unwrap_or(event));
        rest = behind;
    }
    Ok(out)
}
