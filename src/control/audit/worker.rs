use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

/// A thread that can be joined with a time limit.
pub(super) struct Worker {
    thread: JoinHandle<()>,
    /// Nothing is sent on this channel. It closes when the thread ends.
    ended: Receiver<()>,
}

impl Worker {
    /// Starts a thread with this name, which ends when `work` returns.
    ///
    /// # Errors
    ///
    /// If the system cannot create a thread.
    pub(super) fn start(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<Worker> {
        let (ends, ended): (SyncSender<()>, Receiver<()>) = sync_channel(1);
        let run = move || {
            let _ends = ends;
            work();
        };
        Ok(Worker { thread: thread::Builder::new().name(name.to_owned()).spawn(run)?, ended })
    }

    /// Waits for the thread to end. A timeout or a panic is logged.
    pub(super) fn end_by(self, until: Instant) {
        let name = self.thread.thread().name().unwrap_or_default().to_owned();
        match self.ended.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Err(RecvTimeoutError::Timeout) => {
                tracing::error!(
                    name,
                    "a thread of the audit log has not ended in time and is abandoned: its disk hangs or is far too slow"
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
