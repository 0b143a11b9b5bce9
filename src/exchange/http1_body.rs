//! Bodies of HTTP/1.1 messages.

use crate::engine::{ByteStream, Lease, Pool, StreamError};
use crate::exchange::{BodySink, BodySource, CarryError, Intake, Outlet, Piece};
use crate::wire::http1::{BodyDecoder, BodyEncoder, BodyError, Decoded, Framing};

/// A body that is received on a byte stream.
pub struct Http1Source<'a, S> {
    stream: &'a S,
    intake: &'a mut Intake,
    decoder: &'a mut BodyDecoder,
    /// Whether the peer may send more.
    is_open: bool,
}

/// A body that is sent on a byte stream.
pub struct Http1Sink<'a, S> {
    stream: &'a S,
    pool: &'a Pool,
    outlet: &'a mut Outlet,
    encoder: BodyEncoder,
    /// The piece that is being sent. It is kept here so that each of the futures that send it need not hold a copy.
    piece: Option<Lease>,
    /// A buffer for trailers, kept to reuse its memory.
    scratch: &'a mut Vec<u8>,
}

impl<'a, S> Http1Source<'a, S> {
    /// Reads the body for which `decoder` was started. `intake` may already hold a part of it.
    pub fn new(stream: &'a S, intake: &'a mut Intake, decoder: &'a mut BodyDecoder) -> Http1Source<'a, S> {
        Http1Source { stream, intake, decoder, is_open: true }
    }
}

impl<S: ByteStream> Http1Source<'_, S> {
    /// Waits until the peer closes its side or `connection` fails, even if bytes that it sent ahead are still unread.
    /// `connection` is the stream without time limits.
    pub async fn peer_ended(&mut self, connection: &impl ByteStream) {
        self.intake.ended(connection).await;
    }
}

impl<S: ByteStream> BodySource for Http1Source<'_, S> {
    fn next(&mut self) -> Result<Piece, BodyError> {
        if self.is_open && !self.decoder.is_done() {
            let Some(input) = self.intake.rest().as_mut() else { return Ok(Piece::Wait) };
            match self.decoder.next(input)? {
                Decoded::Data(data) => return Ok(Piece::Data(data)),
                Decoded::More => {
                    *self.intake.rest() = None;
                    return Ok(Piece::Wait);
                }
                Decoded::End => {}
            }
        } else {
            self.decoder.finish()?;
        }
        if self.intake.rest().as_ref().is_some_and(|lease| lease.is_empty()) {
            *self.intake.rest() = None;
        }
        Ok(Piece::End)
    }

    async fn more(&mut self) -> Result<(), StreamError> {
        self.is_open = self.intake.fill(self.stream).await?;
        Ok(())
    }

    fn trailers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.decoder.trailers()
    }
}

impl<'a, S: ByteStream> Http1Sink<'a, S> {
    /// A sink that has no body yet; [`Http1Sink::begin`] starts one.
    pub fn new(stream: &'a S, pool: &'a Pool, outlet: &'a mut Outlet, scratch: &'a mut Vec<u8>) -> Http1Sink<'a, S> {
        Http1Sink { stream, pool, outlet, encoder: BodyEncoder::new(Framing::None), piece: None, scratch }
    }

    /// Writes a head with `write`, which appends to an empty buffer. [`Http1Sink::send_head`] then queues it.
    pub fn write_head(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.scratch.clear();
        write(self.scratch);
    }

    /// Queues the head that [`Http1Sink::write_head`] wrote.
    ///
    /// # Errors
    ///
    /// If the connection failed.
    pub fn send_head(&mut self) -> impl Future<Output = Result<(), StreamError>> {
        self.outlet.put(self.stream, self.pool, self.scratch)
    }

    /// Starts a body with this framing.
    pub fn begin(&mut self, framing: Framing) {
        self.encoder = BodyEncoder::new(framing);
    }

    /// Queues a copy of a few bytes of the body.
    ///
    /// # Errors
    ///
    /// As for [`BodySink::data`].
    pub async fn copy(&mut self, bytes: &[u8]) -> Result<(), CarryError> {
        let wrap = self.encoder.data(bytes.len())?;
        for part in [wrap.before.as_ref(), bytes, wrap.after] {
            self.outlet.put(self.stream, self.pool, part).await.map_err(CarryError::To)?;
        }
        Ok(())
    }
}

impl<S: ByteStream> Http1Sink<'_, S> {
    async fn send_piece(&mut self) -> Result<(), CarryError> {
        // One buffer may hold many pieces, and each of them takes several sends.
        self.stream.ready().await.map_err(CarryError::To)?;
        let wrap = self.encoder.data(self.piece.as_ref().map_or(0, |piece| piece.len()))?;
        let framed = self.outlet.put_framed(self.stream, self.pool, wrap.before.as_ref(), &mut self.piece, wrap.after);
        framed.await.map_err(CarryError::To)
    }
}

impl<S: ByteStream> BodySink for Http1Sink<'_, S> {
    fn ready(&mut self) -> impl Future<Output = Result<(), StreamError>> {
        self.stream.ready()
    }

    fn data(&mut self, data: Lease) -> impl Future<Output = Result<(), CarryError>> {
        self.piece = Some(data);
        self.send_piece()
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        self.outlet.flush(self.stream)
    }

    async fn end<'a>(&mut self, trailers: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<(), CarryError> {
        self.scratch.clear();
        self.encoder.end(trailers, self.scratch)?;
        self.outlet.put(self.stream, self.pool, self.scratch).await.map_err(CarryError::To)?;
        self.outlet.flush(self.stream).map_err(CarryError::To)
    }
}
