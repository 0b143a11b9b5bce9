use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use tokio::sync::oneshot;

use super::{Store, StoreError};

/// The most that may wait for the store. What comes beyond is refused.
pub const STORE_QUEUE_MAX: usize = 64;

type Job = Box<dyn FnOnce(&mut dyn Store) + Send>;

/// A store on a thread of its own, which ends when the last handle is dropped and what was asked of it is done.
#[derive(Clone)]
pub struct StoreHandle {
    jobs: SyncSender<Job>,
}

impl StoreHandle {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// When the system gives none.
    pub fn start(store: impl Store + 'static) -> std::io::Result<StoreHandle> {
        let (jobs, queue) = sync_channel(STORE_QUEUE_MAX);
        thread::Builder::new().name("adit-store".to_owned()).spawn(move || serve(store, &queue))?;
        Ok(StoreHandle { jobs })
    }

    /// Runs something with the store, after all that waits before it.
    ///
    /// # Errors
    ///
    /// What `run` tells, or that too much waits for the store.
    pub async fn with<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |store| {
            // Who asked may have gone; what was asked is done all the same.
            let _ = reply.send(run(store));
        });
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => StoreError::Closed,
        })?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }
}

fn serve(mut store: impl Store, queue: &Receiver<Job>) {
    while let Ok(job) = queue.recv() {
        job(&mut store);
    }
}
