//! An index of the lines of a log, so that a search reads few of them: `audit.index`, an SQLite file beside the log.
//!
//! It is made and brought up to date by whoever searches, never by the process that writes the log. It contains where lines begin,
//! and hashes of what they contain; each line that it names is read from the log and compared again. It can be removed at any time.

mod numbers;
mod search;
mod segment;

use std::collections::HashMap;
use std::fs::{Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior, params};

use crate::control::audit::index::segment::Segment;
use crate::control::audit::reading::AuditFile;

/// The file of the index.
const INDEX: &str = "audit.index";
/// The mode of the file, which is that of the log.
const FILE_MODE: u32 = 0o640;
/// The version of the tables. An index of another version is made anew.
const VERSION: i64 = 1;
/// The most pages of the index, of 4 KiB each.
const PAGES_MAX: i64 = 1 << 20;
/// How much of its disk has to be free for an index to grow, in bytes: the log needs it more.
const DISK_FREE_MIN: u64 = 256 << 20;
/// How long another search that brings the index up to date is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

const TABLES: &str = "
    CREATE TABLE file (first INTEGER PRIMARY KEY, stamp BLOB NOT NULL, is_whole INTEGER NOT NULL);
    CREATE TABLE segment (
        id INTEGER PRIMARY KEY, file INTEGER NOT NULL, nth INTEGER NOT NULL, start INTEGER NOT NULL, lengths BLOB NOT NULL,
        first_time INTEGER NOT NULL, last_time INTEGER NOT NULL, last_line BLOB NOT NULL, UNIQUE (file, nth));
    CREATE TABLE posting (
        segment INTEGER NOT NULL, term INTEGER NOT NULL, lines BLOB NOT NULL, PRIMARY KEY (segment, term)) WITHOUT ROWID;";

/// Why an index cannot be used. The log can be read without it.
#[derive(Debug, thiserror::Error)]
pub enum AuditIndexError {
    /// The database reports an error.
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
    /// A file cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// There is too little room on the disk.
    #[error("less than {} MiB of its disk are free", DISK_FREE_MIN >> 20)]
    DiskFull,
}

/// The index of a log, as far as the log had been written when it was opened.
pub struct AuditIndex {
    connection: Connection,
    files: Vec<AuditFile>,
}

/// What is known of a file of the log.
struct IndexedFile {
    stamp: Vec<u8>,
    /// Whether it is closed and all of it is in the index.
    is_whole: bool,
}

impl AuditIndex {
    /// The path of the index of the log in this directory.
    #[must_use]
    pub fn path(dir: &Path) -> PathBuf {
        dir.join(INDEX)
    }

    /// Opens the index of a log and brings it up to date. One that is damaged is made anew. None if there is no log.
    ///
    /// # Errors
    ///
    /// If it cannot be read or written, or the log cannot be read.
    pub fn open(dir: &Path) -> Result<Option<AuditIndex>, AuditIndexError> {
        let files = AuditFile::list(dir)?;
        if files.is_empty() {
            return Ok(None);
        }
        let free = rustix::fs::statvfs(dir).map_err(io::Error::from)?;
        if free.f_bavail.saturating_mul(free.f_frsize) < DISK_FREE_MIN {
            return Err(AuditIndexError::DiskFull);
        }
        let path = AuditIndex::path(dir);
        match AuditIndex::try_open(&path, &files) {
            Err(error) if error.is_damage() || (error.is_full() && !may_be_full(&path)) => {
                std::fs::remove_file(&path)?;
                AuditIndex::try_open(&path, &files).map(Some)
            }
            opened => opened.map(Some),
        }
    }

    /// Removes the index of a log if this says that it is damaged. It is then made anew.
    pub fn remove_damaged(dir: &Path, error: &AuditIndexError) {
        if error.is_damage() {
            // Whoever searches next meets the same.
            let _ = std::fs::remove_file(AuditIndex::path(dir));
        }
    }

    fn try_open(path: &Path, files: &[AuditFile]) -> Result<AuditIndex, AuditIndexError> {
        OpenOptions::new().create(true).truncate(false).write(true).mode(FILE_MODE).open(path)?;
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "max_page_count", PAGES_MAX)?;
        let made = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version: i64 = made.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version != VERSION {
            made.execute_batch(
                "DROP TABLE IF EXISTS file; DROP TABLE IF EXISTS segment; DROP TABLE IF EXISTS posting;",
            )?;
            made.execute_batch(TABLES)?;
            made.pragma_update(None, "user_version", VERSION)?;
        }
        made.commit()?;
        let mut index = AuditIndex { connection, files: files.to_vec() };
        index.forget_removed()?;
        for nth in 0..index.files.len() {
            index.bring_up_to_date(nth)?;
        }
        Ok(index)
    }

    /// Forgets the files that are not there any more.
    fn forget_removed(&mut self) -> Result<(), AuditIndexError> {
        let change = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let known: Vec<i64> =
            change.prepare("SELECT first FROM file")?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        for first in known {
            if !self.files.iter().any(|file| key_of(file) == first) {
                forget(&change, first, 0)?;
            }
        }
        change.commit()?;
        Ok(())
    }

    /// Adds the lines of a file that are not in the index yet. What does not fit the file any more is made anew.
    fn bring_up_to_date(&mut self, nth: usize) -> Result<(), AuditIndexError> {
        let is_last = nth + 1 == self.files.len();
        let (file, key) = (&self.files[nth], key_of(&self.files[nth]));
        let change = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let metadata = file.metadata()?;
        let known = indexed_file(&change, key)?;
        if known.as_ref().is_some_and(|known| known.is_whole && known.stamp == stamp(&metadata)) {
            return Ok(());
        }
        let goes_on = known.is_some_and(|known| !known.is_whole && known.stamp == inode(&metadata));
        let last = if goes_on { Segment::last_of(&change, key)? } else { None };
        let (from, nth) = match last {
            Some(last) if last.fits(file)? => last.next(),
            _ => (0, 0),
        };
        forget(&change, key, nth)?;
        segment::add_lines(&change, file, (from, nth), is_last)?;
        let stamp = if is_last { inode(&metadata) } else { stamp(&metadata) };
        change.execute("INSERT OR REPLACE INTO file VALUES (?1, ?2, ?3)", params![key, stamp, !is_last])?;
        change.commit()?;
        Ok(())
    }
}

/// Forgets the segments of a file from this one on, and with all of them the file.
fn forget(change: &Transaction<'_>, file: i64, from: i64) -> rusqlite::Result<()> {
    change.execute(
        "DELETE FROM posting WHERE segment IN (SELECT id FROM segment WHERE file = ?1 AND nth >= ?2)",
        [file, from],
    )?;
    change.execute("DELETE FROM segment WHERE file = ?1 AND nth >= ?2", [file, from])?;
    if from == 0 {
        change.execute("DELETE FROM file WHERE first = ?1", [file])?;
    }
    Ok(())
}

fn indexed_file(connection: &Connection, key: i64) -> rusqlite::Result<Option<IndexedFile>> {
    let mut statement = connection.prepare("SELECT stamp, is_whole FROM file WHERE first = ?1")?;
    statement.query_row([key], |row| Ok(IndexedFile { stamp: row.get(0)?, is_whole: row.get(1)? })).optional()
}

/// A file by the number of its first line.
fn key_of(file: &AuditFile) -> i64 {
    file.first.cast_signed()
}

/// What stays the same while lines are added to a file.
fn inode(metadata: &Metadata) -> Vec<u8> {
    [metadata.dev(), metadata.ino()].iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// What changes whenever a file does: nobody can set the time of the last change.
fn stamp(metadata: &Metadata) -> Vec<u8> {
    let numbers = [metadata.len(), metadata.ctime().cast_unsigned(), metadata.ctime_nsec().cast_unsigned()];
    [inode(metadata), numbers.iter().flat_map(|number| number.to_be_bytes()).collect()].concat()
}

impl AuditIndexError {
    /// Whether the index itself is at fault, so that it has to be made anew.
    fn is_damage(&self) -> bool {
        let AuditIndexError::Sql(error) = self else { return false };
        !matches!(
            error.sqlite_error_code(),
            Some(
                ErrorCode::CannotOpen
                    | ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::DiskFull
                    | ErrorCode::FileLockingProtocolFailed
                    | ErrorCode::OutOfMemory
                    | ErrorCode::PermissionDenied
                    | ErrorCode::ReadOnly
                    | ErrorCode::SystemIoFailure
            )
        )
    }

    fn is_full(&self) -> bool {
        let AuditIndexError::Sql(error) = self else { return false };
        error.sqlite_error_code() == Some(ErrorCode::DiskFull)
    }
}

/// Whether an index is so large that it has reached its limit. A smaller one only says so, as its disk has room.
fn may_be_full(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > (PAGES_MAX as u64) << 11)
}

/// A term by which lines are found: a member and its value, by their hash. Different ones may share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Term(i64);

/// The lines of a segment that have a term, in ascending order.
type Postings = HashMap<Term, Vec<u32>>;
