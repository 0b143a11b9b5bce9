//! What the commands that run a role have in common.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::cli::EXIT_USAGE;
use crate::config::{Config, Faults};
use crate::control::api::Access;
use crate::control::doctor::raise_file_limit;
use crate::control::store::StoreError;
use crate::control::{ControlError, DataDirError, Facts, State, serve_admin};
use crate::engine::{Cores, Reservation, StartError};
use crate::tls::CertError;

/// The exit code for what went wrong while running.
pub const EXIT_FAILURE: u8 = 1;
/// Threads for what blocks, beside the control thread: the system's name resolver.
const BLOCKING_THREADS_MAX: usize = 16;

/// The pause between two tries to listen at an address that is taken.
const TAKEN_POLL: Duration = Duration::from_millis(10);
/// So many pauses at the most: two seconds, which a killed process's listener was never seen to last.
const TAKEN_POLLS_MAX: usize = 200;

/// Why a command ended before it had done its work.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration is wrong, or a file that it names.
    #[error("{0}")]
    Config(#[from] Faults),
    /// An address cannot be listened at.
    #[error("cannot listen for {what} at {address}: {error}; choose another with {flag}")]
    Listen {
        /// For whom.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// As the system says it.
        error: io::Error,
        /// The flag that sets it.
        flag: &'static str,
    },
    /// The cores could not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The roles did not run, or did not end well.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A certificate could not be made.
    #[error(transparent)]
    Cert(#[from] CertError),
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system refused something else.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// As the system says it.
        error: io::Error,
    },
    /// Something else went wrong.
    #[error("{0}")]
    Other(String),
}

impl RunError {
    /// What was tried and refused, for `map_err`.
    pub(super) fn io(what: &'static str) -> impl FnOnce(io::Error) -> RunError {
        move |error| RunError::Io { what, error }
    }

    /// The exit code that says so.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::Config(_) => EXIT_USAGE,
            _ => EXIT_FAILURE,
        }
    }
}

/// Runs a command on the control thread, which is the one that calls, and gives back the exit code.
pub(super) fn on_control_thread(command: impl Future<Output = Result<u8, RunError>>) -> u8 {
    // Every connection is a file, and the usual limit is made for programs that have a few.
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .map_err(RunError::io("the control thread could not start"));
    let ended = runtime.and_then(|runtime| {
        let ended = runtime.block_on(command);
        // A name that is still being resolved is not waited for.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(code) => code,
        Err(error) => refuse(&error),
    }
}

/// Says on standard error what went wrong, and gives back the exit code.
pub(super) fn refuse(error: &RunError) -> u8 {
    eprintln!("{error}");
    error.exit_code()
}

/// Logs what is allowed and yet unwise.
pub(super) fn log_warnings(config: &Config) {
    config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
}

/// Keeps an address for all cores.
///
/// One that is taken is tried for a while, as it may be that of a predecessor which was killed: the kernel takes down an
/// io_uring, and with it the listener that it accepts on, some time after the process has gone, and whoever restarts
/// edges at once would find them not starting.
pub(super) async fn reserve(
    what: &'static str,
    address: SocketAddr,
    flag: &'static str,
) -> Result<Reservation, RunError> {
    let reserved = reserve_patiently(address, async || tokio::time::sleep(TAKEN_POLL).await).await;
    reserved.map_err(|error| RunError::Listen { what, address, error, flag })
}

async fn reserve_patiently(address: SocketAddr, mut pause: impl AsyncFnMut()) -> io::Result<Reservation> {
    for _ in 0..TAKEN_POLLS_MAX {
        match Reservation::new(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => pause().await,
            reserved => return reserved,
        }
    }
    Reservation::new(address)
}

/// Listens for readers of the admin API, if that is wanted.
pub(super) fn listen_admin(address: Option<SocketAddr>) -> Result<Option<TcpListener>, RunError> {
    let Some(address) = address else { return Ok(None) };
    let listen = |error| RunError::Listen { what: "readers of the admin API", address, error, flag: "--admin" };
    TcpListener::bind(address).map(Some).map_err(listen)
}

/// Serves the admin API, if there is a listener for it, until what comes back is dropped.
pub(super) fn serve_admin_if(
    listener: Option<TcpListener>,
    state: Arc<State>,
    access: Option<Access>,
) -> Result<Option<AbortOnDrop>, RunError> {
    let served = listener.map(|listener| serve_admin(listener, state, access)).transpose();
    Ok(served.map_err(RunError::io("the admin API could not start"))?.map(AbortOnDrop))
}

/// A task that ends with its owner.
pub(super) struct AbortOnDrop(pub(super) JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where a listener is, as a URL.
pub(super) fn admin_url(listener: Option<&TcpListener>) -> Option<String> {
    let address = listener?.local_addr().ok()?;
    Some(format!("http://{address}"))
}

/// A number that no other process has.
pub(super) fn instance() -> Result<u64, RunError> {
    random().map(u64::from_ne_bytes)
}

/// Bytes that nobody can guess.
pub(super) fn random<const N: usize>() -> Result<[u8; N], RunError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| RunError::Other("the system gives no random bytes".to_owned()))?;
    Ok(bytes)
}

/// What is known of the cores.
pub(super) fn facts(cores: &Cores) -> Facts {
    Facts {
        version: env!("CARGO_PKG_VERSION"),
        commit: super::COMMIT,
        driver: cores.driver().to_string(),
        driver_why: cores.why().to_owned(),
        ..Facts::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_its_last_owner_lets_go_of_late_is_taken_all_the_same() {
        let mut last = Some(TcpListener::bind("127.0.0.1:0").unwrap());
        let address = last.as_ref().unwrap().local_addr().unwrap();
        let reserved = reserve_patiently(address, async || drop(last.take())).await.unwrap();
        assert_eq!(reserved.address(), address);
    }

    #[tokio::test]
    async fn an_address_that_stays_taken_is_told_in_the_end() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut pauses = 0;
        let error = reserve_patiently(other.local_addr().unwrap(), async || pauses += 1).await.unwrap_err();
        assert_eq!((error.kind(), pauses), (io::ErrorKind::AddrInUse, TAKEN_POLLS_MAX));
        // Of any other kind of fault waiting mends nothing.
        let nowhere = "192.0.2.1:1".parse().unwrap();
        reserve_patiently(nowhere, async || panic!("there is nothing to wait for")).await.unwrap_err();
    }
}
