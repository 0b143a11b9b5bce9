//! The audit log on disk: files of lines that [`crate::audit`] chains, written by a thread of its own.
//!
//! A directory holds the files of one process, named after the number of their first line:
//! `audit-00000000000000000001.jsonl`. The last file is being written. The others are closed and, by default,
//! compressed with zstd. Beside them are `audit.head` with the last checkpoint, `audit.pub` with the public key of the
//! checkpoints, and `audit.lock`.

mod archive;
mod checking;
mod dir;
mod disk;
mod error;
mod index;
mod key;
mod line_filter;
mod reading;
mod waiting;
mod worker;
mod writer;

pub use checking::verify;
pub use error::AuditError;
pub use index::{AuditIndex, AuditIndexError};
pub use line_filter::LineFilter;
pub use reading::{AuditFile, AuditLines};
pub(in crate::control) use waiting::written_in_time;
pub use writer::{AuditWriter, AuditWriterSettings};
