use std::future::Future;

use tokio::task::JoinHandle;

use crate::process::error::RunError;
use crate::process::file_limit::raise_file_limit;

/// Threads for what blocks, beside the control thread: the system's name resolver.
const BLOCKING_THREADS_MAX: usize = 16;

/// Runs a command on the control thread, which is the one that calls.
///
/// # Errors
///
/// Those of the command, and when the thread's runtime cannot be made.
pub fn on_control_thread<T>(command: impl Future<Output = Result<T, RunError>>) -> Result<T, RunError> {
    // Every connection is a file, and the usual limit is made for programs that have a few.
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .map_err(RunError::io("the control thread could not start"))?;
    let ended = runtime.block_on(command);
    // A name that is still being resolved is not waited for.
    runtime.shutdown_background();
    ended
}

/// A task that ends with its owner.
pub(super) struct AbortOnDrop(pub(super) JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
