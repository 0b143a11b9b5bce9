//! What the commands share: how they run on the control thread, and their exit codes.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use crate::cli::EXIT_USAGE;
use crate::control::ServiceManager;
use crate::process::{self, LoadedConfig, Log, ReadConfig};

pub use crate::process::RunError;

/// The exit code for a failure at run time.
pub const EXIT_FAILURE: u8 = 1;

/// Reads the configuration, starts the log, and runs a role on the control thread. Returns the exit code.
pub(super) fn run_role(
    mut read: ReadConfig,
    role: impl AsyncFnOnce(LoadedConfig, ReadConfig, Log) -> Result<u8, RunError>,
) -> u8 {
    let loaded = match read() {
        Ok(loaded) => loaded,
        Err(faults) => return refuse(&faults.into()),
    };
    let log = Log::start(&loaded.config.log);
    loaded.log_warnings();
    on_control_thread(role(loaded, read, log))
}

/// The service manager that these variables name, for this process.
pub(super) fn service_manager(env: &BTreeMap<String, String>) -> Arc<ServiceManager> {
    let found = ServiceManager::from_env(env, std::process::id());
    let found = found.inspect_err(|error| tracing::warn!(%error, "the service manager cannot be told of the start"));
    Arc::new(found.unwrap_or_default())
}

/// Runs a command on the calling thread, which becomes the control thread. Returns the exit code.
pub(super) fn on_control_thread(command: impl Future<Output = Result<u8, RunError>>) -> u8 {
    process::on_control_thread(command).unwrap_or_else(|error| refuse(&error))
}

/// Prints an error to standard error, and returns its exit code.
pub(super) fn refuse(error: &RunError) -> u8 {
    eprintln!("{error}");
    match error {
        RunError::Config(_) => EXIT_USAGE,
        _ => EXIT_FAILURE,
    }
}
