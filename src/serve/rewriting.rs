//! A response whose body names the server itself, and is to name it by its public address.

use std::cell::Cell;
use std::pin::Pin;

use crate::exchange::{BodySource, CarryError, Piece, carry_body};
use crate::serve::incoming::{Responder, ResponseExtras};
use crate::wire::http1::ResponseHead;
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
        let (received, is_whole) = collect(&mut from).await?;
        has_begun.set(true);
        let public = extras.public.filter(|_| is_whole);
        let rewritten = public.and_then(|public| rewrite_metadata(&received, &public));
        let body_len = rewritten.as_ref().map(|body| body.len() as u64);
        responder.head(head, body_len, extras).await.map_err(CarryError::To)?;
        if let Some(body) = rewritten {
            responder.copy(&body).await?;
            return responder.end(std::iter::empty()).await;
        }
        responder.copy(&received).await?;
        carry_body(&mut from, responder, |_| Ok(())).await
    })
}

/// What of the body fits, and whether it is whole. It is copied: a body that comes in small pieces would hold a buffer for each.
async fn collect(from: &mut impl BodySource) -> Result<(Vec<u8>, bool), CarryError> {
    let mut received = Vec::new();
    loop {
        match from.next()? {
            Piece::Data(data) => {
                received.extend_from_slice(&data);
                if received.len() > BODY_LEN_MAX {
                    return Ok((received, false));
                }
            }
            Piece::Wait => from.more().await.map_err(CarryError::From)?,
            Piece::End => return Ok((received, true)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::engine::{Class, Pool, StreamError};
    use crate::wire::http1::BodyError;

    /// A body that comes in pieces of one byte, each in a buffer of its own.
    struct Bytes {
        pool: Pool,
        left: usize,
    }

    impl BodySource for Bytes {
        fn next(&mut self) -> Result<Piece, BodyError> {
            if self.left == 0 {
                return Ok(Piece::End);
            }
            self.left -= 1;
            let mut lease = self.pool.take(Class::Small).expect("no piece keeps its buffer");
            lease.append(b"x");
            Ok(Piece::Data(lease))
        }

        async fn more(&mut self) -> Result<(), StreamError> {
            unreachable!("it never waits")
        }

        fn trailers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
            std::iter::empty()
        }
    }

    fn collected(len: usize) -> (usize, bool) {
        // Far less than a buffer for each piece.
        let mut body = Bytes { pool: Pool::new(1 << 20), left: len };
        match pin!(collect(&mut body)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok((received, is_whole))) => (received.len(), is_whole),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_body_in_tiny_pieces_holds_no_buffers() {
        assert_eq!(collected(0), (0, true));
        assert_eq!(collected(BODY_LEN_MAX), (BODY_LEN_MAX, true));
        assert_eq!(collected(BODY_LEN_MAX + 10), (BODY_LEN_MAX + 1, false));
    }
}
