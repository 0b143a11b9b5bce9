use std::io;
use std::net::SocketAddr;

use crate::config::ConfigErrors;
use crate::control::audit::AuditError;
use crate::control::store::StoreError;
use crate::control::{ControlError, DataDirError, InventoriesError};
use crate::engine::StartError;
use crate::tls::CertError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration, or a file that it names, is not valid.
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    /// The process cannot listen on an address.
    #[error("cannot listen for {what} at {address}: {error}; choose another with {flag}")]
    Listen {
        /// What would have connected to it, as text.
        what: &'static str,
        /// The address that was asked for.
        address: SocketAddr,
        /// The error of the system.
        error: io::Error,
        /// The flag that sets it.
        flag: &'static str,
    },
    /// The cores could not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A role failed, or did not end in time.
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
    /// The inventory of tools cannot be used.
    #[error(transparent)]
    Inventories(#[from] InventoriesError),
    /// The audit log cannot be used.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The system refused something else.
    #[error("{what}: {error}")]
    Io {
        /// What failed, as a clause.
        what: &'static str,
        /// The error of the system.
        error: io::Error,
    },
    /// Something else went wrong.
    #[error("{0}")]
    Other(String),
}

impl RunError {
    /// Wraps an I/O error with what failed, for `map_err`.
    pub(super) fn io(what: &'static str) -> impl FnOnce(io::Error) -> RunError {
        move |error| RunError::Io { what, error }
    }
}
