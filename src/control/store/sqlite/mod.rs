//! The store in one SQLite file, with its write-ahead log beside it.

mod backup;
mod certificates;
mod keys;
mod records;
mod restore;
mod schema;
#[cfg(test)]
mod tests;
mod tunnels;

pub use backup::{BACKUPS_MAX, CopyProgress, newest_backup};
pub use restore::{Reinstated, ReinstatedKind, Restored, finish_restore, is_half_restored, restore};
pub use schema::SCHEMA_VERSION;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use super::{
    AuditEvent, Certificate, Listed, NewCredential, NewKey, NewTunnel, Note, Overlap, Page, ProvisioningKey, Requester,
    RuleViolation, Store, StoreError, Tunnel, TunnelChange, Usage,
};
use crate::base::{CredentialId, SecretHash, TunnelId};
use crate::control::wall_time::WallTime;
use crate::private;
use crate::serve::AuditLog;

/// How long a change waits for another process that has the file locked.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// The number of log pages after which a commit writes the log back into the file, unless a pause came before. Such a
/// commit takes several times as long as others. SQLite's own limit of 1,000 pages is reached after 70 new tunnels.
const LOG_PAGES_MAX: u32 = 8_000;
/// The size to which the log's file is truncated after it was written back, in bytes.
const LOG_KEPT_LEN: u32 = 4 * 1024 * 1024;

/// The store in one SQLite file.
pub struct SqliteStore {
    connection: Connection,
    /// Whether something was changed since the log was last written back.
    is_changed: bool,
    path: PathBuf,
    backups: PathBuf,
    /// Events are also written to this log.
    audit: Option<AuditLog>,
    /// Is told how far a copy has come.
    copy_progress: Option<CopyProgress>,
}

/// Why an operation failed. The caller adds which file it was.
enum Failure {
    Sql(rusqlite::Error),
    Unrecorded,
    RuleViolation(RuleViolation),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Failure {
        Failure::Sql(error)
    }
}

impl From<RuleViolation> for Failure {
    fn from(refused: RuleViolation) -> Failure {
        Failure::RuleViolation(refused)
    }
}

type SqlResult<T> = Result<T, Failure>;

impl SqliteStore {
    /// Opens the store, or creates it if there is none. A store with an older schema is copied into `backups` and then
    /// migrated. The whole file is checked first.
    ///
    /// # Errors
    ///
    /// If a restore was interrupted, or the file is accessible to others, locked by another process, damaged, or of a
    /// newer version. The file is then unchanged.
    pub fn open(path: &Path, backups: &Path) -> Result<SqliteStore, StoreError> {
        let unusable = |cause: String| StoreError::Unusable { path: path.to_path_buf(), cause };
        if is_half_restored(path)? {
            return Err(StoreError::HalfRestored { path: path.to_path_buf() });
        }
        private::ensure(path).map_err(|error| unusable(error.to_string()))?;
        private::folder(backups).map_err(|error| unusable(error.to_string()))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|error| unusable(error.to_string()))?;
        let (path, backups) = (path.to_path_buf(), backups.to_path_buf());
        let mut store = SqliteStore { connection, is_changed: false, path, backups, audit: None, copy_progress: None };
        store.prepare()?;
        Ok(store)
    }

    /// Also writes events to the audit log, before they take effect.
    pub fn record_in(&mut self, audit: Option<AuditLog>) {
        self.audit = audit;
    }

    /// Calls `progress` while a back-up is made.
    #[must_use]
    pub fn with_copy_progress(self, progress: CopyProgress) -> SqliteStore {
        SqliteStore { copy_progress: Some(progress), ..self }
    }

    fn prepare(&mut self) -> Result<(), StoreError> {
        let connection = &self.connection;
        let set_up = || {
            connection.busy_timeout(LOCK_WAIT)?;
            // Nothing is written before the file is verified, not even the content of its log.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES_MAX)?;
            connection.pragma_update(None, "journal_size_limit", LOG_KEPT_LEN)?;
            connection.pragma_update(None, "foreign_keys", true)?;
            connection.pragma_update(None, "trusted_schema", false)
        };
        set_up().map_err(|error| self.failed(error))?;
        self.check()?;
        let trusted = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
        trusted.map_err(|error| self.failed(error))?;
        let found = schema::version(&self.connection).map_err(|error| self.failed(error))?;
        if found > SCHEMA_VERSION {
            return Err(StoreError::Newer { path: self.path.clone(), found, known: SCHEMA_VERSION });
        }
        if (1..SCHEMA_VERSION).contains(&found) {
            self.keep_backup(WallTime::now())?;
        }
        schema::migrate(&mut self.connection).map_err(|error| self.failed(error))
    }

    /// Checks the whole file.
    fn check(&self) -> Result<(), StoreError> {
        let found = self.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
        match found.map_err(|error| self.failed(error))? {
            found if found == "ok" => Ok(()),
            found => Err(self.damaged(found)),
        }
    }

    /// Runs a transaction that changes something.
    fn change<T>(&mut self, run: impl FnOnce(&Transaction<'_>) -> SqlResult<T>) -> Result<T, StoreError> {
        let begun = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let done = begun.map_err(Failure::Sql).and_then(|change| {
            let last = records::last(&change)?;
            let value = run(&change)?;
            if let Some(audit) = &self.audit {
                records::tell(&change, last, audit)?;
            }
            change.commit()?;
            Ok(value)
        });
        self.is_changed = true;
        done.map_err(|failure| self.store_error(failure))
    }

    /// Runs a read-only transaction.
    fn look<T>(&mut self, run: impl FnOnce(&Transaction<'_>) -> SqlResult<T>) -> Result<T, StoreError> {
        let begun = self.connection.transaction_with_behavior(TransactionBehavior::Deferred);
        let done = begun.map_err(Failure::Sql).and_then(|look| run(&look));
        done.map_err(|failure| self.store_error(failure))
    }

    fn store_error(&self, failure: Failure) -> StoreError {
        match failure {
            Failure::Sql(error) => self.failed(error),
            Failure::RuleViolation(refused) => StoreError::Refused(refused),
            Failure::Unrecorded => StoreError::Unrecorded,
        }
    }

    fn failed(&self, error: rusqlite::Error) -> StoreError {
        let path = self.path.clone();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Locked { path },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => self.damaged(error.to_string()),
            Some(ErrorCode::DiskFull) => StoreError::Full { path },
            _ if matches!(error, rusqlite::Error::FromSqlConversionFailure(..)) => self.damaged(error.to_string()),
            _ => StoreError::Unusable { path, cause: error.to_string() },
        }
    }

    fn damaged(&self, cause: String) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), cause, backup: newest_backup(&self.backups) }
    }
}

impl Store for SqliteStore {
    fn active_tunnels(&mut self) -> Result<Vec<Tunnel>, StoreError> {
        self.look(tunnels::all_active)
    }

    fn create_tunnel(&mut self, new: &NewTunnel, note: &Note) -> Result<Tunnel, StoreError> {
        self.change(|change| tunnels::create(change, new, None, note))
    }

    fn tunnel(&mut self, id: &TunnelId) -> Result<Tunnel, StoreError> {
        self.look(|look| tunnels::one(look, id))
    }

    fn tunnels(&mut self, archived_too: bool, page: Page) -> Result<Listed<Tunnel>, StoreError> {
        self.look(|look| tunnels::list(look, archived_too, page))
    }

    fn change_tunnel(&mut self, id: &TunnelId, wanted: &TunnelChange, note: &Note) -> Result<Tunnel, StoreError> {
        self.change(|change| tunnels::change(change, id, wanted, note))
    }

    fn overlaps(&mut self, id: &TunnelId) -> Result<Vec<Overlap>, StoreError> {
        self.look(|look| tunnels::overlaps(look, id))
    }

    fn archive_tunnel(&mut self, id: &TunnelId, note: &Note) -> Result<Tunnel, StoreError> {
        self.change(|change| tunnels::archive(change, id, note))
    }

    fn rotate(
        &mut self,
        id: &TunnelId,
        new: &NewCredential,
        old_until: WallTime,
        note: &Note,
    ) -> Result<Tunnel, StoreError> {
        self.change(|change| tunnels::rotate(change, id, new, old_until, note))
    }

    fn revoke(&mut self, id: &TunnelId, which: Option<&CredentialId>, note: &Note) -> Result<Tunnel, StoreError> {
        self.change(|change| tunnels::revoke(change, id, which, note))
    }

    fn add_certificate(&mut self, new: &Certificate, note: &Note) -> Result<(Tunnel, Certificate), StoreError> {
        self.change(|change| certificates::add(change, new, note))
    }

    fn certificate(&mut self, tunnel: &TunnelId, id: &str) -> Result<Certificate, StoreError> {
        self.look(|look| certificates::one(look, tunnel, id))
    }

    fn certificates(
        &mut self,
        tunnel: &TunnelId,
        archived_too: bool,
        page: Page,
    ) -> Result<Listed<Certificate>, StoreError> {
        self.look(|look| certificates::list(look, tunnel, archived_too, page))
    }

    fn archive_certificate(
        &mut self,
        tunnel: &TunnelId,
        id: &str,
        note: &Note,
    ) -> Result<(Tunnel, Certificate), StoreError> {
        self.change(|change| certificates::archive(change, tunnel, id, note))
    }

    fn add_key(&mut self, new: &NewKey, note: &Note) -> Result<ProvisioningKey, StoreError> {
        self.change(|change| keys::add(change, new, note))
    }

    fn key(&mut self, id: &str) -> Result<ProvisioningKey, StoreError> {
        self.look(|look| keys::one(look, id))
    }

    fn good_key(&mut self, hash: &SecretHash, now: WallTime) -> Result<ProvisioningKey, StoreError> {
        self.look(|look| keys::good(look, hash, now))
    }

    fn may_trade(&mut self, hash: &SecretHash, now: WallTime, since: WallTime) -> Result<bool, StoreError> {
        self.look(|look| keys::may_trade(look, hash, now, since))
    }

    fn keys(&mut self, page: Page) -> Result<Listed<ProvisioningKey>, StoreError> {
        self.look(|look| keys::list(look, page))
    }

    fn revoke_key(&mut self, id: &str, note: &Note) -> Result<ProvisioningKey, StoreError> {
        self.change(|change| keys::revoke(change, id, note))
    }

    fn traded(
        &mut self,
        key: &SecretHash,
        requester: &Requester,
        since: WallTime,
    ) -> Result<Option<Tunnel>, StoreError> {
        self.look(|look| keys::traded(look, key, requester, since))
    }

    fn trade_key(&mut self, id: &str, new: &NewTunnel, note: &Note) -> Result<Tunnel, StoreError> {
        self.change(|change| keys::trade(change, id, new, note))
    }

    fn events(&mut self, tunnel: Option<&TunnelId>, page: Page) -> Result<Listed<AuditEvent>, StoreError> {
        self.look(|look| records::events(look, tunnel, page))
    }

    fn add_usage(&mut self, rows: &[Usage]) -> Result<(), StoreError> {
        self.change(|change| records::add_usage(change, rows))
    }

    fn usage(
        &mut self,
        tunnel: &TunnelId,
        credential: Option<&CredentialId>,
        since: WallTime,
    ) -> Result<Vec<Usage>, StoreError> {
        self.look(|look| records::usage(look, tunnel, credential, since))
    }

    fn backup(&mut self, to: &Path) -> Result<(), StoreError> {
        let progress = self.copy_progress.as_mut();
        backup::copy(&self.connection, to, progress).map_err(|failure| failure.into_store_error(self, to))
    }

    fn keep_backup(&mut self, now: WallTime) -> Result<PathBuf, StoreError> {
        // A copy of a damaged store would displace a valid back-up.
        self.check()?;
        let to = backup::name(&self.backups, now);
        self.backup(&to)?;
        backup::trim(&self.backups);
        Ok(to)
    }

    fn on_idle(&mut self) {
        if !std::mem::take(&mut self.is_changed) {
            return;
        }
        // PASSIVE does not wait for other processes. The next checkpoint does the rest.
        if let Err(error) = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            tracing::warn!(%error, "the log of the store could not be written back; this is tried again after the next change");
        }
    }
}

/// Makes a page from rows, of which one more than the limit was requested to find out whether there is a next page.
fn listed<T>(mut rows: Vec<(i64, T)>, page: Page) -> Listed<T> {
    let limit = page.limit as usize;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|(seq, _)| *seq);
    Listed { rows: rows.into_iter().map(|(_, row)| row).collect(), next }
}

/// How many rows to request, and below which position.
fn window(page: Page) -> (i64, i64) {
    (i64::from(page.limit) + 1, page.before.unwrap_or(i64::MAX))
}

/// Parses a text of the file, such as an id or a host. If it is not valid, the file is damaged.
fn parsed<T: std::str::FromStr>(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<T> {
    value(&row.get::<_, String>(at)?, at)
}

/// Parses a text of the file with one value per line.
fn parsed_lines<T: std::str::FromStr>(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Vec<T>> {
    let text: String = row.get(at)?;
    text.lines().map(|line| value(line, at)).collect()
}

fn value<T: std::str::FromStr>(text: &str, at: usize) -> rusqlite::Result<T> {
    let bad = || FromSqlError::Other("a value that this version never writes".into());
    text.parse().map_err(|_| rusqlite::Error::FromSqlConversionFailure(at, Type::Text, Box::new(bad())))
}

fn time(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<WallTime> {
    row.get(at).map(WallTime)
}

fn time_if(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Option<WallTime>> {
    Ok(row.get::<_, Option<i64>>(at)?.map(WallTime))
}

fn hash(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<SecretHash> {
    row.get(at).map(SecretHash::from_bytes)
}
