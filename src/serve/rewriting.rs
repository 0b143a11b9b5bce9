//! Rewrites a response whose body contains the server's own address, to its public address.

use std::cell::Cell;
use std::pin::Pin;

use crate::exchange::{BodySource, CarryError, Piece, carry_body};
use crate::serve::incoming::{Responder, ResponseExtras};
use crate::wire::http1::ResponseHead;
use crate::wire::oauth::rewrite_metadata;

/// The longest body that is rewritten, in bytes. Longer ones pass unchanged.
const BODY_LEN_MAX: usize = 64 * 1024;

/// Receives the body, then sends head and body, rewritten where needed. Sets `has_begun` before it sends the head.
///
/// Boxed, because it is rare and would enlarge the future of every call.
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

/// The body as far as it fits, and whether that is all. It is copied, because a body in small pieces would hold a
/// buffer for each.
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

    /// A body in pieces of one byte, each in its own buffer.
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
        // Far less memory than a buffer for each piece.
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
