//! Closes sockets without losing the last bytes that were sent.
//!
//! If a socket is closed while received bytes are unread, or receives more later, the system resets the connection and
//! drops what it has not sent. Therefore received bytes are read and discarded until the peer's system has acknowledged
//! everything.

use std::future::pending;
use std::time::Duration;

use crate::base::Clock;
use crate::engine::{ByteStream, Socket, StreamError};

/// How many bytes of a peer that keeps sending are discarded. More bytes are left unread.
const DISCARD_MAX: usize = 1024 * 1024;
/// The shortest and the longest interval at which acknowledgements are polled, because the system does not report them.
const STEP_MIN: Duration = Duration::from_millis(5);
const STEP_MAX: Duration = Duration::from_millis(500);

impl Socket {
    /// Finishes sending, and waits until the peer's system has acknowledged everything, as long as it acknowledges some
    /// bytes within each `limit`, which is asked again each time. What the peer sends meanwhile is discarded.
    ///
    /// # Errors
    ///
    /// [`StreamError::TimedOut`] if the peer acknowledged nothing for too long; otherwise the error of the connection.
    pub async fn finish_acknowledged(&self, limit: impl Fn() -> Duration) -> Result<(), StreamError> {
        self.finish();
        let core = self.core();
        let (mut spare, mut step) = (DISCARD_MAX, STEP_MIN);
        let (mut left, mut moved_at) = (usize::MAX, core.now());
        let mut listens = true;
        loop {
            let news = async { if listens { self.discard(&mut spare).await } else { pending().await } };
            let news = core.timeout_at((moved_at + limit()).min(core.now() + step), news).await;
            listens &= news.is_err();
            let (left_now, now) = (self.outstanding_bytes(), core.now());
            match news {
                _ if left_now == 0 => return Ok(()),
                // The peer has received everything, and did not wait for the end.
                Ok(Err(_)) if left_now == 1 => return Ok(()),
                Ok(Err(error)) => return Err(error),
                _ if self.is_over() => return if left_now == 1 { Ok(()) } else { Err(StreamError::Reset) },
                _ if left_now < left => (left, moved_at) = (left_now, now),
                _ if now - moved_at >= limit() => return Err(StreamError::TimedOut),
                _ => {}
            }
            step = (step * 2).min(STEP_MAX);
        }
    }

    /// Finishes sending and waits for the peer to finish, so that it can read the last bytes. What it still sends is
    /// discarded. Limited in bytes, and by `patience` in time.
    pub async fn close_gracefully(self, patience: Duration) {
        self.finish();
        let mut spare = DISCARD_MAX;
        // The socket is dropped now in any case.
        let _ = self.core().timeout(patience, self.discard(&mut spare)).await;
    }

    /// Discards received bytes, up to `spare`; returns at the end of the stream, or if there were more.
    async fn discard(&self, spare: &mut usize) -> Result<(), StreamError> {
        while *spare > 0 {
            let Some(lease) = self.recv().await? else { break };
            *spare = spare.saturating_sub(lease.len());
        }
        Ok(())
    }
}
