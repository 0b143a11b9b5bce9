use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

/// A thread for whose end one waits no longer than one likes.
pub(super) struct Worker {
    thread: JoinHandle<()>,
    /// Nothing is sent here: the other end goes with the thread.
    ended: Receiver<()>,
}

impl Worker {
    /// Starts a thread of this name, which ends with its work.
    ///
    /// # Errors
    ///
    /// When the system gives none.
    pub(super) fn start(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<Worker> {
        let (ends, ended): (SyncSender<()>, Receiver<()>) = sync_channel(1);
        let run = move || {
            let _ends = ends;
            work();
        };
        Ok(Worker { thread: thread::Builder::new().name(name.to_owned()).spawn(run)?, ended })
    }

    /// Waits for its end. One that does not come in time, or has failed, is logged.
    pub(super) fn end_by(self, until: Instant) {
        let name = self.thread.thread().name().unwrap_or_default().to_owned();
        match self.ended.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Err(RecvTimeoutError::Timeout) => {
                tracing::error!(
                    name,
                    "a thread of the audit log has not ended in time and is left: its disk hangs or is far too slow"
                );
            }
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                if self.thread.join().is_err() {
                    tracing::error!(name, "a thread of the audit log has failed");
                }
            }
        }
    }
}
