use std::io;
use std::path::PathBuf;

use crate::private::PrivateError;

/// Why an audit log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The key is accessible to others, or cannot be read or written.
    #[error(transparent)]
    Private(#[from] PrivateError),
    /// The file contains no key.
    #[error("{} contains no Ed25519 key: restore it, or move it away to have a new one made; the log must then be verified with both keys", path.display())]
    NoKey {
        /// The path of the file.
        path: PathBuf,
    },
    /// The system provides no random bytes.
    #[error("the operating system provides no random bytes")]
    NoRandom,
    /// Another process writes to the log.
    #[error("another process writes the audit log in {}: stop it, or give this one a directory of its own (audit.dir)", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The last file cannot be continued.
    #[error("{} does not end with a line of an audit log, so it cannot be continued: check it with `adit audit verify`, then move the directory away", path.display())]
    NotContinued {
        /// The path of the file.
        path: PathBuf,
    },
    /// There is no log.
    #[error("{} holds no audit log: name the directory in which audit-….jsonl files are, that of audit.dir", path.display())]
    NoLog {
        /// The directory.
        path: PathBuf,
    },
    /// A file or the directory cannot be read or written.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The path of the file or directory.
        path: PathBuf,
        /// The error of the system.
        cause: io::Error,
    },
}

impl AuditError {
    /// Wraps an I/O error with its path, for `map_err`.
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> AuditError {
        let path = path.into();
        |cause| AuditError::Io { path, cause }
    }
}
