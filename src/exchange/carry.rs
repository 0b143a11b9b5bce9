use crate::engine::{Lease, StreamError};
use crate::wire::http1::{BodyError, EncodeError};

/// A message body as it is received, piece by piece, whatever the protocol that carries it.
pub trait BodySource {
    /// What has been received, without waiting.
    ///
    /// # Errors
    ///
    /// If the body is malformed or ended early.
    fn next(&mut self) -> Result<Piece, BodyError>;

    /// Waits until more has been received or the sender has finished.
    fn more(&mut self) -> impl Future<Output = Result<(), StreamError>>;

    /// The fields after the body; complete once [`BodySource::next`] has returned [`Piece::End`].
    fn trailers(&self) -> impl Iterator<Item = (&[u8], &[u8])>;
}

/// What a [`BodySource`] has.
#[derive(Debug)]
pub enum Piece {
    /// Bytes of the body, at least one.
    Data(Lease),
    /// Nothing at the moment.
    Wait,
    /// The body is complete.
    End,
}

/// Where a message body is sent.
pub trait BodySink {
    /// Waits until the queue of the connection has room.
    fn ready(&mut self) -> impl Future<Output = Result<(), StreamError>>;

    /// Queues a piece. Small pieces are gathered until [`BodySink::flush`].
    fn data(&mut self, data: Lease) -> impl Future<Output = Result<(), CarryError>>;

    /// Sends what is gathered.
    ///
    /// # Errors
    ///
    /// If the connection failed.
    fn flush(&mut self) -> Result<(), StreamError>;

    /// Sends the end of the body, with the fields after it, together with what is gathered.
    fn end<'a>(
        &mut self,
        trailers: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> impl Future<Output = Result<(), CarryError>>;
}

/// Why a body could not be carried to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CarryError {
    /// The connection from which it is received failed.
    #[error("receiving the body: {0}")]
    From(StreamError),
    /// It is malformed, or ended early.
    #[error("receiving the body: {0}")]
    Body(#[from] BodyError),
    /// It is not as long as was announced.
    #[error("sending the body: {0}")]
    Length(#[from] EncodeError),
    /// The connection to which it is sent failed.
    #[error("sending the body: {0}")]
    To(StreamError),
}

/// Carries a body from a source to a sink: each piece as soon as it is there, the end in the same write as the last piece.
/// Each piece is first passed to `seen`, which may refuse it; it is then not sent. Returns when the end was queued. What the sink
/// had gathered before goes out with the first piece, or at once if there is none.
///
/// # Errors
///
/// If either side failed, or a piece was refused. What was carried so far is then not the whole body.
pub async fn carry_body(
    from: &mut impl BodySource,
    to: &mut impl BodySink,
    mut seen: impl FnMut(&[u8]) -> Result<(), BodyError>,
) -> Result<(), CarryError> {
    loop {
        // No piece is kept in the future while it waits.
        let mut is_end = false;
        let data = match from.next()? {
            Piece::Data(data) => Some(data),
            Piece::Wait => None,
            Piece::End => {
                is_end = true;
                None
            }
        };
        if let Some(data) = data {
            seen(&data)?;
            to.data(data).await?;
        } else if is_end {
            return to.end(from.trailers()).await;
        } else {
            to.flush().map_err(CarryError::To)?;
            to.ready().await.map_err(CarryError::To)?;
            from.more().await.map_err(CarryError::From)?;
        }
    }
}

/// Receives the rest of a body and drops it, until it ends or breaks off, or `seen` returns false.
pub async fn read_on(from: &mut impl BodySource, mut seen: impl FnMut(&[u8]) -> bool) {
    while seen(&[]) {
        match from.next() {
            Ok(Piece::Data(data)) if seen(&data) => {}
            Ok(Piece::Wait) if from.more().await.is_ok() => {}
            Ok(_) | Err(_) => break,
        }
    }
}
