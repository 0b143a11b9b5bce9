use std::future::Future;

use tokio::task::JoinHandle;

use crate::process::error::RunError;
use crate::process::file_limit::raise_file_limit;

/// The most threads for blocking work beside the control thread, such as resolving names.
const BLOCKING_THREADS_MAX: usize = 16;

/// Runs a command on the control thread, which is the calling thread.
///
/// # Errors
///
/// Those of the command, or if the thread's runtime cannot be created.
pub fn on_control_thread<T>(command: impl Future<Output = Result<T, RunError>>) -> Result<T, RunError> {
    // Every connection is an open file, and the usual limit is meant for programs that have only a few.
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .map_err(RunError::io("the control thread could not start"))?;
    let ended = runtime.block_on(command);
    // Does not wait for names that are still being resolved.
    runtime.shutdown_background();
    ended
}

/// A task that is aborted when this is dropped.
pub(super) struct AbortOnDrop(pub(super) JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
