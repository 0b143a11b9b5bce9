//! What a connection, a TLS session and a stream on a link have in common.

use std::future::poll_fn;
use std::task::{Context, Poll};

use crate::engine::{LARGE_LEN, Lease, Pool};

/// Why a byte stream failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The peer broke the connection off.
    #[error("the peer reset the connection")]
    Reset,
    /// The other end of a stream on a link reset it, with a cause that `wire::mux` names.
    #[error("the stream was reset with cause {code:#06x}")]
    ResetWith {
        /// The cause's wire code.
        code: u16,
    },
    /// The bytes stopped before the peer said that it was done, as TLS requires it to.
    #[error("the connection ended in the middle, without a closing message")]
    Truncated,
    /// This side has closed it.
    #[error("the connection is closed")]
    Closed,
    /// Nothing came or went for too long.
    #[error("the connection timed out")]
    TimedOut,
    /// The peer broke the rules of a layer below.
    #[error("{0}")]
    Protocol(std::rc::Rc<str>),
    /// As the system reports it.
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

/// A two-way stream of bytes on a core, whose operations belong to it and not to a future: dropping a future that waits
/// on it loses nothing.
///
/// One task receives and one task sends at a time (they may be the same one); each direction keeps one waker.
pub trait ByteStream {
    /// The next bytes, one or more; none when the peer finished.
    ///
    /// Bytes that came before an error are given before it.
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>>;

    /// Ready when it is known that nothing more will come after what lies unread: the peer has finished, or the connection has failed.
    /// Never ready where that is not told. Receiving goes no further than the stream's allowance, behind which an end is
    /// not seen. Waits in place of [`ByteStream::poll_recv`].
    fn poll_ended(&self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// Queues bytes to be sent. Never waits: a caller that respects [`ByteStream::poll_ready`] keeps the queue bounded.
    ///
    /// # Errors
    ///
    /// When the sending direction has failed or was finished.
    fn send(&self, lease: Lease) -> Result<(), StreamError>;

    /// Ready when the queue is below its high-water mark, or the sending direction has failed.
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>>;

    /// Ready when everything queued was handed to the layer below, or the sending direction has failed.
    fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>>;

    /// Ready when the sending direction has failed, for those who wait for something else before they send: without it, a task
    /// that waits for a buffer would learn only with the buffer that nobody wants what it has to say.
    fn poll_send_failed(&self, cx: &mut Context<'_>) -> Poll<StreamError> {
        match self.poll_ready(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(error),
            _ => Poll::Pending,
        }
    }

    /// Says that nothing more will be sent, after what is queued. Sending afterwards is an error; finishing twice is not.
    fn finish(&self);

    /// Breaks both directions off and drops what is queued.
    fn abort(&self);

    /// Says that more is to come from the peer before it is sent anything: a peer that keeps it back for want of an
    /// acknowledgement gets one.
    fn expect_more(&self) {}

    /// Says that the stream carries a link: it receives and sends from the part of the core's buffers that is kept for links.
    fn serve_link(&self) {}

    /// Bytes to leave free before the content of a lease that will be sent, so that the layers below need not copy.
    fn headroom(&self) -> usize {
        0
    }

    /// Bytes to leave free after it.
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

/// Copies `bytes` into buffers, as many as they need; waits where none is left.
pub async fn leases_of(pool: &Pool, bytes: &[u8]) -> Vec<Lease> {
    let mut leases = Vec::new();
    for piece in bytes.chunks(LARGE_LEN) {
        let mut lease = pool.lease_for(piece.len()).await;
        lease.append(piece);
        leases.push(lease);
    }
    leases
}

/// Sends a copy of `bytes`, however many they are; waits for room and for buffers.
///
/// # Errors
///
/// When they cannot be sent any more.
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
