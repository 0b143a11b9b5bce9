//! Back-ups of the store, and how many of them are kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::SqliteStore;
use crate::control::store::StoreError;
use crate::control::wall_time::WallTime;
use crate::private;

/// The most back-ups that are kept in their directory.
pub const BACKUPS_MAX: usize = 7;
/// The prefix and suffix of a back-up's name; its time stands between them.
const PREFIX: &str = "store-";
const SUFFIX: &str = ".sqlite";
/// How many pages are copied before other writers get a turn.
const PAGES_AT_ONCE: i32 = 256;
const PAUSE: Duration = Duration::from_millis(1);
/// How often a copy is restarted because the store was changed during it.
const BUSY_MAX: usize = 1_000;

/// Why a copy failed. The caller adds which store it was.
pub(super) enum CopyFailure {
    Sql(rusqlite::Error),
    File(String),
}

impl CopyFailure {
    pub(super) fn into_store_error(self, store: &SqliteStore, to: &Path) -> StoreError {
        match self {
            CopyFailure::Sql(error) => store.failed(error),
            CopyFailure::File(cause) => StoreError::Unusable { path: to.to_path_buf(), cause },
        }
    }
}

/// Is called with the number of pages that are copied, and that of all.
pub type CopyProgress = Box<dyn FnMut(usize, usize) + Send>;

/// Copies the store, page by page, into a new private file.
pub(super) fn copy(from: &Connection, to: &Path, progress: Option<&mut CopyProgress>) -> Result<(), CopyFailure> {
    if to.exists() {
        return Err(CopyFailure::File("there is a file already: name one that is not there".to_owned()));
    }
    private::ensure(to).map_err(|error| CopyFailure::File(error.to_string()))?;
    copy_into(from, to, progress).inspect_err(|_| {
        // A partial copy is useless.
        let _ = fs::remove_file(to);
    })
}

fn copy_into(from: &Connection, to: &Path, mut progress: Option<&mut CopyProgress>) -> Result<(), CopyFailure> {
    let mut copy = Connection::open_with_flags(to, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(CopyFailure::Sql)?;
    let backup = Backup::new(from, &mut copy).map_err(CopyFailure::Sql)?;
    let mut busy = 0;
    loop {
        match backup.step(PAGES_AT_ONCE).map_err(CopyFailure::Sql)? {
            StepResult::Done => break,
            StepResult::More => {
                let pages = backup.progress();
                let count = |pages: i32| usize::try_from(pages).unwrap_or_default();
                if let Some(progress) = &mut progress {
                    progress(count(pages.pagecount - pages.remaining), count(pages.pagecount));
                }
            }
            _ if busy == BUSY_MAX => return Err(CopyFailure::File("another process holds the store".to_owned())),
            _ => {
                busy += 1;
                std::thread::park_timeout(PAUSE);
            }
        }
    }
    drop(backup);
    // The copy must be a single file, without a log beside it.
    copy.pragma_update(None, "journal_mode", "DELETE").map_err(CopyFailure::Sql)?;
    copy.close().map_err(|(_, error)| CopyFailure::Sql(error))
}

/// The name of a back-up made now.
pub(super) fn name(backups: &Path, now: WallTime) -> PathBuf {
    let plain: String = now.to_string().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '.').collect();
    let fresh = (0..).map(|n| if n == 0 { plain.clone() } else { format!("{plain}-{n}") });
    let mut names = fresh.map(|when| backups.join(format!("{PREFIX}{when}{SUFFIX}")));
    names.find(|path| !path.exists()).expect("not every number is taken")
}

/// Removes the oldest back-ups beyond [`BACKUPS_MAX`].
pub(super) fn trim(backups: &Path) {
    let mut all = list(backups);
    let surplus = all.len().saturating_sub(BACKUPS_MAX);
    for old in all.drain(..surplus) {
        if let Err(error) = fs::remove_file(&old) {
            tracing::warn!(%error, file = %old.display(), "an old back-up of the store could not be removed");
        }
    }
}

/// The newest back-up in a directory.
#[must_use]
pub fn newest_backup(backups: &Path) -> Option<PathBuf> {
    list(backups).pop()
}

/// Back-ups, the oldest first.
fn list(backups: &Path) -> Vec<PathBuf> {
    let is_backup = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX))
    };
    let entries = fs::read_dir(backups).into_iter().flatten().flatten();
    let mut all: Vec<(std::time::SystemTime, PathBuf)> = entries
        .map(|entry| entry.path())
        .filter(is_backup)
        .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
        .collect();
    all.sort();
    all.into_iter().map(|(_, path)| path).collect()
}
