//! Streams of a connection: opened, written, read, ended.

use bytes::Bytes;
use quinn_proto::{Dir, ReadError, StreamId, VarInt, WriteError};

use super::machine::{ConnectionKey, QuicMachine};

/// A stream, or the direction of it, that is gone: its end or reset was sent, the peer has stopped it, or the connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream is gone")]
pub struct QuicStreamGone;

/// What a stream has to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuicRead {
    /// The next bytes, in order.
    Bytes(Bytes),
    /// Nothing at the moment; [`QuicEvent::Readable`](super::QuicEvent::Readable) follows.
    Blocked,
    /// The peer has finished, or the stream is gone.
    Finished,
    /// The peer has reset the stream, with this code.
    Reset(u64),
}

impl QuicMachine {
    /// Opens a two-way stream; `None` if the peer permits no further one, or the connection has ended.
    pub fn open_stream(&mut self, key: ConnectionKey) -> Option<StreamId> {
        self.connection(key)?.streams().open(Dir::Bi)
    }

    /// The next stream that the peer has opened.
    pub fn accept_stream(&mut self, key: ConnectionKey) -> Option<StreamId> {
        self.connection(key)?.streams().accept(Dir::Bi)
    }

    /// Writes as much of `bytes` as there is room for, and returns how much that was. If it is less than all,
    /// [`QuicEvent::Writable`](super::QuicEvent::Writable) follows.
    ///
    /// # Errors
    ///
    /// If nothing can be sent on the stream any more.
    pub fn write(&mut self, key: ConnectionKey, stream: StreamId, bytes: &[u8]) -> Result<usize, QuicStreamGone> {
        let Some(connection) = self.connection(key) else { return Err(QuicStreamGone) };
        let mut sending = connection.send_stream(stream);
        let mut written = 0;
        // The library accepts a part, and says that it is blocked only when it is asked again.
        while written < bytes.len() {
            match sending.write(&bytes[written..]) {
                Ok(n) => written += n,
                Err(WriteError::Blocked) => break,
                Err(WriteError::Stopped(_) | WriteError::ClosedStream) => return Err(QuicStreamGone),
            }
        }
        self.touch_key(key);
        Ok(written)
    }

    /// Finishes the sending direction after what was written. Does nothing if it is gone.
    pub fn finish(&mut self, key: ConnectionKey, stream: StreamId) {
        if let Some(connection) = self.connection(key) {
            // An error means that it has ended in another way.
            let _ = connection.send_stream(stream).finish();
            self.touch_key(key);
        }
    }

    /// Drops what was written and not sent, and tells the peer so. Does nothing if the sending direction is gone.
    pub fn reset(&mut self, key: ConnectionKey, stream: StreamId, code: u32) {
        if let Some(connection) = self.connection(key) {
            let _ = connection.send_stream(stream).reset(VarInt::from_u32(code));
            self.touch_key(key);
        }
    }

    /// Reads no more from a stream, and asks the peer to stop sending. Does nothing if the receiving direction is gone.
    pub fn stop(&mut self, key: ConnectionKey, stream: StreamId, code: u32) {
        if let Some(connection) = self.connection(key) {
            let _ = connection.recv_stream(stream).stop(VarInt::from_u32(code));
            self.touch_key(key);
        }
    }

    /// Reads the next bytes of a stream in order, at most `max`.
    pub fn read(&mut self, key: ConnectionKey, stream: StreamId, max: usize) -> QuicRead {
        let Some(connection) = self.connection(key) else { return QuicRead::Finished };
        let mut receiving = connection.recv_stream(stream);
        let Ok(mut chunks) = receiving.read(true) else { return QuicRead::Finished };
        let read = match chunks.next(max) {
            Ok(Some(chunk)) => QuicRead::Bytes(chunk.bytes),
            Ok(None) => QuicRead::Finished,
            Err(ReadError::Blocked) => QuicRead::Blocked,
            Err(ReadError::Reset(code)) => QuicRead::Reset(code.into_inner()),
        };
        if chunks.finalize().should_transmit() {
            self.touch_key(key);
        }
        read
    }
}
