//! The interface that sockets, TLS sessions and streams of a link have in common.

use std::future::poll_fn;
use std::task::{Context, Poll};

use crate::base::CallFailure;
use crate::engine::{LARGE_LEN, Lease, Pool};

/// Why a byte stream failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The peer reset the connection.
    #[error("the peer reset the connection")]
    Reset,
    /// The stream of a call was reset by the other side, or ended with the connection that carried it.
    #[error("the stream of the call was reset: {failure}")]
    ResetWith {
        /// Why it was reset.
        failure: CallFailure,
    },
    /// The stream ended without the closing message that TLS requires.
    #[error("the connection ended in the middle, without a closing message")]
    Truncated,
    /// This side has closed the stream.
    #[error("the connection is closed")]
    Closed,
    /// No bytes were transferred for too long.
    #[error("the connection timed out")]
    TimedOut,
    /// The peer violated the protocol of a layer below.
    #[error("{0}")]
    Protocol(std::rc::Rc<str>),
    /// An error of the system.
    #[error("{0}")]
    Io(std::io::ErrorKind),
}

impl From<&std::io::Error> for StreamError {
    fn from(error: &std::io::Error) -> StreamError {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => StreamError::Reset,
            ErrorKind::TimedOut => StreamError::TimedOut,
            kind => StreamError::Io(kind),
        }
    }
}

/// A two-way byte stream on a core. Operations belong to the stream and not to a future, so dropping a future that
/// waits on it loses nothing.
///
/// One task receives and one task sends at a time (they may be the same one). Each direction keeps one waker.
pub trait ByteStream {
    /// The next bytes, at least one; `None` when the peer has finished.
    ///
    /// Bytes that arrived before an error are returned before it.
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>>;

    /// Ready when nothing can follow the unread bytes: the peer has finished, or the connection has failed. It is never
    /// ready on a stream that cannot tell, nor on a stream of a link that has received its whole allowance, because
    /// nothing more is read from it and the end stays unseen. Wait on this instead of [`ByteStream::poll_recv`], not in
    /// addition to it.
    fn poll_ended(&self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// Queues bytes to be sent, without waiting. The queue stays bounded if the caller respects
    /// [`ByteStream::poll_ready`].
    ///
    /// # Errors
    ///
    /// If the sending direction has failed or was finished.
    fn send(&self, lease: Lease) -> Result<(), StreamError>;

    /// Ready when the queue is below its limit, or the sending direction has failed.
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>>;

    /// Ready when all queued bytes were given to the layer below, or the sending direction has failed.
    fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>>;

    /// Ready when the sending direction has failed. This is for a task that waits for something else before it sends,
    /// such as a buffer. It would otherwise learn of the failure only after that wait.
    fn poll_send_failed(&self, cx: &mut Context<'_>) -> Poll<StreamError> {
        match self.poll_ready(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(error),
            _ => Poll::Pending,
        }
    }

    /// Finishes the sending direction after the bytes that are queued. Sending afterwards is an error; finishing twice
    /// is not.
    fn finish(&self);

    /// Resets both directions and drops queued bytes.
    fn abort(&self);

    /// Whether an incomplete message of a lower layer was received, whose content cannot be read yet.
    fn has_partial(&self) -> bool {
        false
    }

    /// How many bytes the peer's system has acknowledged, if others are in flight; `None` if the stream cannot tell.
    /// Costs system calls.
    fn acked_before_others(&self) -> Option<u64> {
        None
    }

    /// Declares that the peer is expected to send more before anything is sent to it. If the peer holds bytes back
    /// until it gets an acknowledgement, it then gets one.
    fn expect_more(&self) {}

    /// Declares that the stream carries a link. It then takes its buffers from the part of the pool that is reserved
    /// for links.
    fn serve_link(&self) {}

    /// The number of bytes to leave free before the content of a lease that will be sent, so that lower layers need not
    /// copy.
    fn headroom(&self) -> usize {
        0
    }

    /// The number of bytes to leave free after the content.
    fn tailroom(&self) -> usize {
        0
    }

    /// [`ByteStream::poll_recv`] as a future.
    fn recv(&self) -> impl Future<Output = Result<Option<Lease>, StreamError>> {
        poll_fn(|cx| self.poll_recv(cx))
    }

    /// [`ByteStream::poll_ready`] as a future.
    fn ready(&self) -> impl Future<Output = Result<(), StreamError>> {
        poll_fn(|cx| self.poll_ready(cx))
    }

    /// [`ByteStream::poll_flushed`] as a future.
    fn flushed(&self) -> impl Future<Output = Result<(), StreamError>> {
        poll_fn(|cx| self.poll_flushed(cx))
    }
}

/// Copies `bytes` into as many buffers as needed; waits while the pool is empty.
pub async fn leases_of(pool: &Pool, bytes: &[u8]) -> Vec<Lease> {
    let mut leases = Vec::new();
    for piece in bytes.chunks(LARGE_LEN) {
        let mut lease = pool.lease_for(piece.len()).await;
        lease.append(piece);
        leases.push(lease);
    }
    leases
}

/// Sends a copy of `bytes`, of any length; waits for room in the queue and for buffers.
///
/// # Errors
///
/// If the sending direction fails.
pub async fn send_bytes(to: &impl ByteStream, pool: &Pool, bytes: &[u8]) -> Result<(), StreamError> {
    let around = to.headroom() + to.tailroom();
    for piece in bytes.chunks(LARGE_LEN - around) {
        to.ready().await?;
        let mut lease = pool.lease_for(piece.len() + around).await;
        lease.reserve_headroom(to.headroom());
        lease.append(piece);
        to.send(lease)?;
    }
    Ok(())
}
