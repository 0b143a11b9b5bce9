use crate::engine::{ByteStream, Pool, StreamError};
use crate::exchange::{Intake, Outlet};
use crate::wire::http1::{BodyDecoder, BodyEncoder, BodyError, Decoded, EncodeError};

/// Why a body could not be carried over to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CarryError {
    /// The side that it comes from failed.
    #[error("receiving the body: {0}")]
    From(StreamError),
    /// Its framing is broken, or it ended early.
    #[error("receiving the body: {0}")]
    Body(#[from] BodyError),
    /// It is not as long as was announced.
    #[error("sending the body: {0}")]
    Length(#[from] EncodeError),
    /// The side that it goes to failed.
    #[error("sending the body: {0}")]
    To(StreamError),
}

/// One end of a carried body.
pub struct Carry<'a, A, B> {
    /// Where it comes from.
    pub from: &'a A,
    /// What of it is received already.
    pub intake: &'a mut Intake,
    /// How it is framed there.
    pub decoder: &'a mut BodyDecoder,
    /// Where it goes.
    pub to: &'a B,
    /// What is to go out before it.
    pub outlet: &'a mut Outlet,
    /// How it is framed there.
    pub encoder: &'a mut BodyEncoder,
    /// Buffers.
    pub pool: &'a Pool,
    /// For trailers; kept for its memory.
    pub scratch: &'a mut Vec<u8>,
}

/// Carries a body over, each piece as soon as it is there, the end in the same write as the last of it. Shows each piece
/// to `seen` first. Returns when the end was queued; what the outlet had gathered before goes out with the first piece,
/// or at once when none is there.
///
/// # Errors
///
/// When either side failed: what was carried so far must not pass for the whole.
pub async fn carry_body<A: ByteStream, B: ByteStream>(
    carry: Carry<'_, A, B>,
    mut seen: impl FnMut(&[u8]),
) -> Result<(), CarryError> {
    let Carry { from, intake, decoder, to, outlet, encoder, pool, scratch } = carry;
    let mut open = true;
    loop {
        let done = if open && !decoder.is_done() {
            match intake.rest().as_mut() {
                Some(input) => match decoder.next(input)? {
                    Decoded::Data(data) => {
                        seen(&data);
                        // One buffer may hold many pieces, each of them several sends.
                        to.ready().await.map_err(CarryError::To)?;
                        let wrap = encoder.data(data.len())?;
                        let framed = outlet.put_framed(to, pool, wrap.before.as_ref(), data, wrap.after);
                        framed.await.map_err(CarryError::To)?;
                        continue;
                    }
                    Decoded::More => {
                        *intake.rest() = None;
                        false
                    }
                    Decoded::End => true,
                },
                None => false,
            }
        } else {
            decoder.finish()?;
            true
        };
        if done {
            if intake.rest().as_ref().is_some_and(|lease| lease.is_empty()) {
                *intake.rest() = None;
            }
            scratch.clear();
            encoder.end(decoder.trailers(), scratch)?;
            outlet.put(to, pool, scratch).await.map_err(CarryError::To)?;
            return outlet.flush(to).map_err(CarryError::To);
        }
        outlet.flush(to).map_err(CarryError::To)?;
        to.ready().await.map_err(CarryError::To)?;
        open = intake.fill(from).await.map_err(CarryError::From)?;
    }
}

/// Reads on, without carrying it anywhere, what of a body is still to come, until it ends or breaks off, or `seen` has
/// enough.
pub async fn read_on(
    from: &impl ByteStream,
    intake: &mut Intake,
    decoder: &mut BodyDecoder,
    mut seen: impl FnMut(&[u8]) -> bool,
) {
    while !decoder.is_done() && seen(&[]) {
        let Some(input) = intake.rest().as_mut() else {
            match intake.fill(from).await {
                Ok(true) => continue,
                _ => break,
            }
        };
        match decoder.next(input) {
            Ok(Decoded::Data(data)) if seen(&data) => {}
            Ok(Decoded::More) => *intake.rest() = None,
            Ok(Decoded::Data(_) | Decoded::End) | Err(_) => break,
        }
    }
}
