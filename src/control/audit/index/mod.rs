//! An index of a log, so that a search reads few of its lines: `audit.index`, an SQLite file beside the log.
//!
//! Searches create and update it, never the thread that writes the log. It contains the positions of lines and hashes
//! of their members; a search reads each candidate from the log and matches it again. The file can be deleted at any
//! time.

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
/// The mode of the file, the same as of the log.
const FILE_MODE: u32 = 0o640;
/// The version of the tables. An index of another version is rebuilt.
const VERSION: i64 = 1;
/// The limit of the index, in pages of 4 KiB.
const PAGES_MAX: i64 = 1 << 20;
/// The free disk space that an update needs, in bytes: the log must not run out of it.
const DISK_FREE_MIN: u64 = 256 << 20;
/// How long to wait for another search that updates the index.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

const TABLES: &str = "
    CREATE TABLE file (first INTEGER PRIMARY KEY, stamp BLOB NOT NULL, is_whole INTEGER NOT NULL);
    CREATE TABLE segment (
        id INTEGER PRIMARY KEY, file INTEGER NOT NULL, nth INTEGER NOT NULL, start INTEGER NOT NULL, lengths BLOB NOT NULL,
        first_time INTEGER NOT NULL, last_time INTEGER NOT NULL, last_line BLOB NOT NULL, UNIQUE (file, nth));
    CREATE TABLE posting (
        segment INTEGER NOT NULL, term INTEGER NOT NULL, lines BLOB NOT NULL, PRIMARY KEY (segment, term)) WITHOUT ROWID;";

/// Why an index cannot be used. Searches then read the log.
#[derive(Debug, thiserror::Error)]
pub enum AuditIndexError {
    /// The database returned an error.
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
    /// A file cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Too little disk space is free.
    #[error("less than {} MiB of its disk are free", DISK_FREE_MIN >> 20)]
    DiskFull,
}

/// The index of a log, up to date when it was opened.
pub struct AuditIndex {
    connection: Connection,
    files: Vec<AuditFile>,
}

/// The state of a file in the index.
struct IndexedFile {
    stamp: Vec<u8>,
    /// Whether the file is closed and completely indexed.
    is_whole: bool,
}

impl AuditIndex {
    /// The path of the index in this directory.
    #[must_use]
    pub fn path(dir: &Path) -> PathBuf {
        dir.join(INDEX)
    }

    /// Opens and updates the index of a log. A damaged index is rebuilt. `None` if there is no log. `progress` is called with
    /// the number of files that are up to date, and that of all.
    ///
    /// # Errors
    ///
    /// If the index cannot be read or written, or the log cannot be read.
    pub fn open(dir: &Path, progress: &mut dyn FnMut(usize, usize)) -> Result<Option<AuditIndex>, AuditIndexError> {
        let files = AuditFile::list(dir)?;
        if files.is_empty() {
            return Ok(None);
        }
        let free = rustix::fs::statvfs(dir).map_err(io::Error::from)?;
        if free.f_bavail.saturating_mul(free.f_frsize) < DISK_FREE_MIN {
            return Err(AuditIndexError::DiskFull);
        }
        let path = AuditIndex::path(dir);
        match AuditIndex::try_open(&path, &files, progress) {
            Err(error) if error.is_damage() || (error.is_full() && !may_be_full(&path)) => {
                std::fs::remove_file(&path)?;
                AuditIndex::try_open(&path, &files, progress).map(Some)
            }
            opened => opened.map(Some),
        }
    }

    /// Removes the index of a log if this error reports damage, so that it is rebuilt.
    pub fn remove_damaged(dir: &Path, error: &AuditIndexError) {
        if error.is_damage() {
            // On failure the next search finds the same damage.
            let _ = std::fs::remove_file(AuditIndex::path(dir));
        }
    }

    fn try_open(
        path: &Path,
        files: &[AuditFile],
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<AuditIndex, AuditIndexError> {
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
            progress(nth, index.files.len());
            index.bring_up_to_date(nth)?;
        }
        Ok(index)
    }

    /// Removes files from the index that no longer exist.
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

    /// Indexes the new lines of a file. Segments that no longer match the file are rebuilt.
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

/// Removes the segments of a file from `from` on. With all its segments, the file is removed, too.
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

/// The key of a file: the number of its first line.
fn key_of(file: &AuditFile) -> i64 {
    file.first.cast_signed()
}

/// Identifies a file to which lines are added.
fn inode(metadata: &Metadata) -> Vec<u8> {
    [metadata.dev(), metadata.ino()].iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// Changes with each change of a file: its change time cannot be set by programs.
fn stamp(metadata: &Metadata) -> Vec<u8> {
    let numbers = [metadata.len(), metadata.ctime().cast_unsigned(), metadata.ctime_nsec().cast_unsigned()];
    [inode(metadata), numbers.iter().flat_map(|number| number.to_be_bytes()).collect()].concat()
}

impl AuditIndexError {
    /// Whether the index must be rebuilt.
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

/// Whether an index may have reached its own limit. Below half of it, the disk is full instead.
fn may_be_full(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > (PAGES_MAX as u64) << 11)
}

/// A search term: the hash of a member and its value. Different terms may have the same hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Term(i64);

/// The lines of a segment for each term, in ascending order.
type Postings = HashMap<Term, Vec<u32>>;
