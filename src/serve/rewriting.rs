//! A response whose body names the server itself, and is to name it by its public address.

use std::cell::Cell;
use std::pin::Pin;

use crate::engine::Lease;
use crate::exchange::{BodySource, CarryError, Piece, carry_body};
use crate::serve::incoming::{Responder, ResponseExtras};
use crate::wire::http1::{PublicAddress, ResponseHead};
use crate::wire::oauth::rewrite_metadata;

/// The longest body that is rewritten, in bytes. A longer one passes as it is.
const BODY_LEN_MAX: usize = 64 * 1024;

/// Receives the body, then sends head and body, rewritten if there is something to rewrite. `has_begun` is set when the head
/// is about to be sent.
///
/// In a box: it is rare, and a call would have the room for it all its life otherwise.
pub(super) fn carry_rewritten<'a>(
    mut from: impl BodySource + 'a,
    head: &'a ResponseHead,
    extras: ResponseExtras<'a>,
    responder: &'a mut impl Responder,
    has_begun: &'a Cell<bool>,
) -> Pin<Box<dyn Future<Output = Result<(), CarryError>> + 'a>> {
    Box::pin(async move {
        let (pieces, is_whole) = collect(&mut from).await?;
        has_begun.set(true);
        if let Some(body) = extras.public.filter(|_| is_whole).and_then(|public| rewritten(&pieces, &public)) {
            let extras = ResponseExtras { body_len: Some(body.len() as u64), ..extras };
            responder.head(head, extras).await.map_err(CarryError::To)?;
            responder.copy(&body).await?;
            return responder.end(std::iter::empty()).await;
        }
        responder.head(head, extras).await.map_err(CarryError::To)?;
        for piece in pieces {
            responder.data(piece).await?;
        }
        carry_body(&mut from, responder, |_| {}).await
    })
}

fn rewritten(pieces: &[Lease], public: &PublicAddress<'_>) -> Option<Vec<u8>> {
    let whole: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
    rewrite_metadata(&whole, public)
}

/// What of the body fits, and whether it is whole.
async fn collect(from: &mut impl BodySource) -> Result<(Vec<Lease>, bool), CarryError> {
    let (mut pieces, mut len) = (Vec::new(), 0);
    loop {
        match from.next()? {
            Piece::Data(data) => {
                len += data.len();
                pieces.push(data);
                if len > BODY_LEN_MAX {
                    return Ok((pieces, false));
                }
            }
            Piece::Wait => from.more().await.map_err(CarryError::From)?,
            Piece::End => return Ok((pieces, true)),
        }
    }
}
