//! A message of HTTP/1.1 that is sent over HTTP/2.

use std::rc::Rc;

use bytes::Bytes;
use h2::SendStream;
use memchr::memmem;

use crate::engine::{Lease, StreamError};
use crate::http2::queue::{Content, SendPiece, StreamQueue};
use crate::wire::http1::{BodyDecoder, Decoded, HEAD_LEN_MAX};
use crate::wire::http2::trailers_of;

/// The end of an HTTP/1.1 head.
const HEAD_END: &[u8] = b"\r\n\r\n";
/// Pieces up to this length are copied if others are waiting. Otherwise each would hold a much larger buffer.
const COPY_LEN_MAX: usize = 2048;

/// Why a message cannot be sent.
pub enum MessageSendError {
    /// The message, or its place, does not allow it.
    Stream(StreamError),
    /// The stream of HTTP/2 has failed.
    H2(h2::Error),
}

impl From<h2::Error> for MessageSendError {
    fn from(error: h2::Error) -> MessageSendError {
        MessageSendError::H2(error)
    }
}

/// The received part of an incomplete head, which this process wrote.
#[derive(Default)]
pub struct HeadText(Vec<u8>);

impl HeadText {
    /// Takes the head off the front of `bytes`. Once it is complete, passes it to `begin`.
    ///
    /// # Errors
    ///
    /// If the head is longer than any that this process writes.
    pub fn take<T>(
        &mut self,
        bytes: &mut Lease,
        begin: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, MessageSendError> {
        if self.0.is_empty()
            && let Some(at) = memmem::find(bytes, HEAD_END)
        {
            let begun = begin(&bytes[..at + HEAD_END.len()]);
            bytes.advance(at + HEAD_END.len());
            return Ok(Some(begun));
        }
        let kept_len = self.0.len();
        self.0.extend_from_slice(bytes);
        match memmem::find(&self.0, HEAD_END).map(|at| at + HEAD_END.len()) {
            Some(end) => {
                bytes.advance(end - kept_len);
                Ok(Some(begin(&std::mem::take(&mut self.0)[..end])))
            }
            // This process wrote the head, from one within the limit and with a few more fields.
            None if self.0.len() > 2 * HEAD_LEN_MAX => Err(MessageSendError::Stream(StreamError::Closed)),
            None => {
                bytes.advance(bytes.len());
                Ok(None)
            }
        }
    }
}

/// Sends the next bytes of a body, whose framing `decoder` removes. Returns whether that was its end.
///
/// # Errors
///
/// If the body does not fit its framing, or the stream has failed.
pub fn send_body(
    stream: &mut SendStream<SendPiece>,
    decoder: &mut BodyDecoder,
    mut lease: Lease,
    queue: &Rc<StreamQueue>,
) -> Result<bool, MessageSendError> {
    let mut piece: Option<Lease> = None;
    loop {
        let decoded = decoder.next(&mut lease);
        match decoded.map_err(|error| MessageSendError::Stream(StreamError::Protocol(error.to_string().into())))? {
            Decoded::Data(data) => {
                if let Some(before) = piece.replace(data) {
                    stream.send_data(SendPiece::new(content(before, queue), queue), false)?;
                }
            }
            Decoded::More => {
                if let Some(piece) = piece {
                    stream.send_data(SendPiece::new(content(piece, queue), queue), false)?;
                }
                return Ok(false);
            }
            Decoded::End => break,
        }
    }
    let trailers = trailers_of(decoder.trailers());
    let last = piece.map(|piece| content(piece, queue));
    if trailers.is_empty() {
        stream.send_data(SendPiece::new(last.unwrap_or(Content::End), queue), true)?;
    } else {
        if let Some(last) = last {
            stream.send_data(SendPiece::new(last, queue), false)?;
        }
        stream.send_trailers(trailers)?;
    }
    Ok(true)
}

/// Prepares a piece for the queue. A small piece behind others is copied.
fn content(piece: Lease, queue: &StreamQueue) -> Content {
    if piece.len() <= COPY_LEN_MAX && queue.has_queued() {
        Content::Bytes(Bytes::copy_from_slice(&piece))
    } else {
        Content::Lease(piece)
    }
}
