use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Store, StoreError};

/// The most operations that may wait for the store. Further ones are refused.
pub const STORE_QUEUE_MAX: usize = 64;
/// After this time without an operation the store may do maintenance.
const PAUSE: Duration = Duration::from_millis(100);

/// An operation on the store.
type StoreTask = Box<dyn FnOnce(&mut dyn Store) + Send>;

/// A request to the store's thread.
enum Job {
    /// Run an operation on the store.
    Run(StoreTask),
    /// Close the store, and confirm it.
    Close(oneshot::Sender<()>),
}

/// A store on its own thread. The thread ends on [`close`](StoreHandle::close) or when the last handle is dropped,
/// after all earlier requests.
#[derive(Clone)]
pub struct StoreHandle {
    jobs: SyncSender<Job>,
}

impl StoreHandle {
    /// Starts the store's thread.
    ///
    /// # Errors
    ///
    /// If the system cannot create a thread.
    pub fn start(store: impl Store + 'static) -> std::io::Result<StoreHandle> {
        let (jobs, queue) = sync_channel(STORE_QUEUE_MAX);
        thread::Builder::new().name("adit-store".to_owned()).spawn(move || serve(store, &queue))?;
        Ok(StoreHandle { jobs })
    }

    /// Runs an operation on the store, after all that wait before it.
    ///
    /// # Errors
    ///
    /// The errors of `run`, or if too many operations are waiting.
    pub async fn with<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Run(Box::new(move |store| {
            // The send fails if the requester is gone. The operation has taken effect nevertheless.
            let _ = reply.send(run(store));
        })))?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Closes the store after everything that waits before, so that opening it again needs no recovery. Later requests
    /// are refused.
    ///
    /// # Errors
    ///
    /// If it is already closed, or too many operations are waiting.
    pub async fn close(&self) -> Result<(), StoreError> {
        let (reply, closed) = oneshot::channel();
        self.send(Job::Close(reply))?;
        closed.await.map_err(|_| StoreError::Closed)
    }

    fn send(&self, job: Job) -> Result<(), StoreError> {
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => StoreError::Closed,
        })
    }
}

fn serve(mut store: impl Store, queue: &Receiver<Job>) {
    let closed = loop {
        let job = match queue.recv_timeout(PAUSE) {
            Err(RecvTimeoutError::Timeout) => {
                store.on_idle();
                queue.recv().ok()
            }
            job => job.ok(),
        };
        match job {
            Some(Job::Run(run)) => run(&mut store),
            Some(Job::Close(reply)) => break Some(reply),
            None => break None,
        }
    };
    drop(store);
    if let Some(closed) = closed {
        // The send fails if the requester is gone.
        let _ = closed.send(());
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::pin::pin;
    use std::sync::mpsc::channel;

    use futures_lite::future::poll_once;

    use super::*;
    use crate::control::store::SqliteStore;

    fn store(dir: &Path) -> SqliteStore {
        SqliteStore::open(&dir.join("store.sqlite"), &dir.join("backups")).unwrap()
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_a_closed_store_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let handle = StoreHandle::start(store(dir.path())).unwrap();
        let (release, gate) = channel::<()>();
        let (begun, beginning) = channel();
        let mut holding = pin!(handle.with(move |_| {
            begun.send(()).unwrap();
            gate.recv().unwrap();
            Ok(())
        }));
        assert!(poll_once(holding.as_mut()).await.is_none());
        beginning.recv().unwrap();
        let mut waiting: Vec<_> = (0..STORE_QUEUE_MAX).map(|_| Box::pin(handle.with(|_| Ok(())))).collect();
        for waiting in &mut waiting {
            assert!(poll_once(waiting.as_mut()).await.is_none());
        }
        assert_eq!(handle.with(|_| Ok(())).await, Err(StoreError::Busy));
        release.send(()).unwrap();
        holding.await.unwrap();
        for waiting in waiting {
            waiting.await.unwrap();
        }
        handle.close().await.unwrap();
        assert_eq!(handle.with(|_| Ok(())).await, Err(StoreError::Closed));
        assert!(!dir.path().join("store.sqlite-wal").exists(), "its log was taken in");
    }
}
