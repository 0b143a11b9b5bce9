use crate::engine::{Lease, StreamError};
use crate::wire::http1::{BodyError, EncodeError};

/// A message body that is received piece by piece, independent of the protocol.
pub trait BodySource {
    /// What has been received, without waiting.
    ///
    /// # Errors
    ///
    /// If the body is malformed or ended early.
    fn next(&mut self) -> Result<Piece, BodyError>;

    /// Waits until more has been received or the sender has finished.
    fn more(&mut self) -> impl Future<Output = Result<(), StreamError>>;

    /// The trailer fields; complete once [`BodySource::next`] has returned [`Piece::End`].
    fn trailers(&self) -> impl Iterator<Item = (&[u8], &[u8])>;
}

/// The next part of a body, as [`BodySource::next`] returns it.
#[derive(Debug)]
pub enum Piece {
    /// Bytes of the body, at least one.
    Data(Lease),
    /// Nothing has been received since the last call.
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

    /// Sends the end of the body with its trailer fields, together with any pieces that were gathered.
    fn end<'a>(
        &mut self,
        trailers: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> impl Future<Output = Result<(), CarryError>>;
}

/// Why a body was not carried to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CarryError {
    /// The connection from which the body is received failed.
    #[error("receiving the body: {0}")]
    From(StreamError),
    /// The body is malformed, or ended early.
    #[error("receiving the body: {0}")]
    Body(#[from] BodyError),
    /// The body does not have the announced length.
    #[error("sending the body: {0}")]
    Length(#[from] EncodeError),
    /// The connection to which the body is sent failed.
    #[error("sending the body: {0}")]
    To(StreamError),
}

/// Carries a body from a source to a sink. Each piece is sent as soon as it arrives; the end goes out in the same write
/// as the last piece. `seen` is called with each piece first. If it refuses the piece, the piece is not sent. Returns
/// when the end is queued.
///
/// What the sink had gathered before goes out with the first piece, or at once if no piece has arrived.
///
/// # Errors
///
/// If either side failed, or `seen` refused a piece. The receiver then does not have the whole body.
pub async fn carry_body(
    from: &mut impl BodySource,
    to: &mut impl BodySink,
    mut seen: impl FnMut(&[u8]) -> Result<(), BodyError>,
) -> Result<(), CarryError> {
    loop {
        // No piece is held across an await point, which keeps the future small.
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

/// Receives and drops the rest of a body, until it ends or fails, or `seen` returns false.
pub async fn read_on(from: &mut impl BodySource, mut seen: impl FnMut(&[u8]) -> bool) {
    while seen(&[]) {
        match from.next() {
            Ok(Piece::Data(data)) if seen(&data) => {}
            Ok(Piece::Wait) if from.more().await.is_ok() => {}
            Ok(_) | Err(_) => break,
        }
    }
}
