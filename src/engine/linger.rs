//! The ends of sockets that lose nothing of what was sent last.
//!
//! A socket that is closed while received bytes lie unread, or receives some later, resets its connection, which drops what the
//! system has still to send. So what comes is read and thrown away until the peer's system has everything.

use std::future::pending;
use std::time::Duration;

use crate::base::Clock;
use crate::engine::{ByteStream, Socket, StreamError};

/// How many bytes of a peer that goes on sending are thrown away. More is left unread.
const DISCARD_MAX: usize = 1024 * 1024;
/// How soon it is looked again whether the peer has taken anything, first and at the longest: the system does not tell by itself.
const STEP_MIN: Duration = Duration::from_millis(5);
const STEP_MAX: Duration = Duration::from_millis(500);

impl Socket {
    /// Finishes sending, and waits until the peer's system has acknowledged everything, for as long as it takes some of it in
    /// each `limit`, which is asked again and again. What the peer sends meanwhile is thrown away.
    ///
    /// # Errors
    ///
    /// [`StreamError::TimedOut`] when the peer took nothing for so long; otherwise why the connection failed.
    pub async fn taken(&self, limit: impl Fn() -> Duration) -> Result<(), StreamError> {
        self.finish();
        let core = self.core();
        let (mut spare, mut step) = (DISCARD_MAX, STEP_MIN);
        let (mut left, mut moved_at) = (usize::MAX, core.now());
        let mut listens = true;
        loop {
            let news = async { if listens { self.discard(&mut spare).await } else { pending().await } };
            let news = core.timeout(step.min(moved_at + limit() - core.now()), news).await;
            listens &= news.is_err();
            let (left_now, now) = (self.untaken_bytes(), core.now());
            match news {
                _ if left_now == 0 => return Ok(()),
                // It has everything, and did not wait for the end.
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

    /// Finishes sending and waits for the peer to finish, throwing away what it still sends, so that it can read what
    /// was sent last. Bounded in bytes and, by `patience`, in time.
    pub async fn close_gracefully(self, patience: Duration) {
        self.finish();
        let mut spare = DISCARD_MAX;
        // Either way the socket is dropped now.
        let _ = self.core().timeout(patience, self.discard(&mut spare)).await;
    }

    /// Throws away what comes, up to `spare` bytes; returns at the end of it, or when there was more.
    async fn discard(&self, spare: &mut usize) -> Result<(), StreamError> {
        while *spare > 0 {
            let Some(lease) = self.recv().await? else { break };
            *spare = spare.saturating_sub(lease.len());
        }
        Ok(())
    }
}
