use std::future::poll_fn;
use std::task::Poll;

use crate::engine::{ByteStream, Class, Lease, Pool, StreamError};

/// Pieces up to this length are copied into the gathered buffer, so that they share a TLS record and a send with their
/// neighbours.
const COPY_LEN_MAX: usize = 2048;

/// The sending half of a connection. It gathers small pieces in one buffer and passes large ones through.
///
/// Nothing is sent until [`Outlet::flush`] is called or a piece is too large to be gathered.
#[derive(Default)]
pub struct Outlet {
    gathered: Option<Lease>,
}

impl Outlet {
    /// Copies bytes into the gathered buffer. Waits for a new buffer if necessary.
    ///
    /// # Errors
    ///
    /// If the gathered bytes could not be sent, or the connection failed during the wait for a buffer.
    pub async fn put(&mut self, to: &impl ByteStream, pool: &Pool, mut bytes: &[u8]) -> Result<(), StreamError> {
        while !bytes.is_empty() {
            let mut lease = match self.gathered.take() {
                Some(lease) if lease.tailroom() > to.tailroom() => lease,
                Some(full) => {
                    to.send(full)?;
                    fresh(to, pool, bytes.len()).await?
                }
                None => fresh(to, pool, bytes.len()).await?,
            };
            let n = bytes.len().min(lease.tailroom() - to.tailroom());
            lease.append(&bytes[..n]);
            bytes = &bytes[n..];
            self.gathered = Some(lease);
        }
        Ok(())
    }

    /// Copies bytes into the gathered buffer if they fit. Returns whether they did.
    fn put_now(&mut self, to: &impl ByteStream, bytes: &[u8]) -> bool {
        let Some(lease) = self.gathered.as_mut().filter(|lease| lease.tailroom() >= bytes.len() + to.tailroom()) else {
            return false;
        };
        lease.append(bytes);
        true
    }

    /// Adds a piece, which is taken, with its frame around it. A small piece is copied, a large one moved.
    ///
    /// # Errors
    ///
    /// If something could not be sent.
    pub async fn put_framed(
        &mut self,
        to: &impl ByteStream,
        pool: &Pool,
        before: &[u8],
        piece: &mut Option<Lease>,
        after: &[u8],
    ) -> Result<(), StreamError> {
        if let Some(lease) = piece.as_ref().filter(|lease| lease.len() <= COPY_LEN_MAX) {
            // The common case: the piece is a short body without a frame, and fits behind its head.
            if !(before.is_empty() && after.is_empty() && self.put_now(to, lease)) {
                self.put(to, pool, before).await?;
                self.put(to, pool, lease).await?;
                self.put(to, pool, after).await?;
            }
            *piece = None;
            return Ok(());
        }
        let has_room = piece.as_ref().is_some_and(|lease| lease.headroom() >= before.len() + to.headroom());
        if !has_room {
            self.put(to, pool, before).await?;
        }
        self.flush(to)?;
        if let Some(mut lease) = piece.take() {
            if has_room {
                lease.prepend(before);
            }
            if lease.tailroom() >= after.len() + to.tailroom() {
                lease.append(after);
                return to.send(lease);
            }
            to.send(lease)?;
        }
        self.put(to, pool, after).await
    }

    /// Sends the gathered bytes.
    ///
    /// # Errors
    ///
    /// If they could not be sent.
    pub fn flush(&mut self, to: &impl ByteStream) -> Result<(), StreamError> {
        self.gathered.take().map_or(Ok(()), |lease| to.send(lease))
    }

    /// Drops the gathered bytes, because the connection is closed.
    pub fn clear(&mut self) {
        self.gathered = None;
    }
}

/// Takes an empty buffer. The wait ends with an error if the connection fails, since nobody would receive the bytes.
async fn fresh(to: &impl ByteStream, pool: &Pool, len: usize) -> Result<Lease, StreamError> {
    let around = to.headroom() + to.tailroom();
    let class = if len + around <= Class::Small.bytes() { Class::Small } else { Class::Large };
    let mut lease = poll_fn(|cx| match pool.poll_lease(class, cx) {
        Poll::Pending => to.poll_send_failed(cx).map(Err),
        Poll::Ready(lease) => Poll::Ready(Ok(lease)),
    })
    .await?;
    lease.reserve_headroom(to.headroom());
    Ok(lease)
}
