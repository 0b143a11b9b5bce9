//! Commands for the data directory of an edge: create it, back up its store, restore the store.

use std::path::PathBuf;

use rustls_pki_types::UnixTime;
use serde_json::Value;

use crate::control::store::{CopyProgress, Restored, SqliteStore, Store, is_half_restored, newest_backup, restore};
use crate::control::{DataDir, Initialised, WallTime};
use crate::process::error::RunError;
use crate::route::Hostname;

/// The names under which connectors on the same machine dial an edge.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The result of restoring the store.
pub struct RestoredFrom {
    /// The back-up that was used.
    pub backup: PathBuf,
    /// What happened to the former store, and which secrets are valid again.
    pub restored: Restored,
}

/// Creates what is missing in the directory, including its store. Without `names`, a new certificate is for the names
/// of this machine.
///
/// # Errors
///
/// If something that exists cannot be used, or something cannot be created.
pub fn init_data_dir(dir: &DataDir, names: &[String]) -> Result<Initialised, RunError> {
    let fresh = !dir.edge_cert().exists();
    let names = if names.is_empty() && fresh { local_names() } else { names.to_vec() };
    let mut done = dir.init(&names, UnixTime::now())?;
    let had_store = dir.store().exists();
    SqliteStore::open(&dir.store(), &dir.backups())?;
    if !had_store {
        done.made.push(dir.store());
    }
    Ok(done)
}

/// The public keys by which connectors check what the edge forwards (JWKS). `rotate` puts the next key in place of the one that signs.
///
/// # Errors
///
/// If the keys cannot be read or written.
pub fn identity_key_set(dir: &DataDir, rotate: bool) -> Result<Value, RunError> {
    let keys = if rotate { dir.rotate_identity_keys()? } else { dir.identity_keys()? };
    Ok(keys.key_set())
}

/// Copies the store to the file `to`, or to a new file in the directory's back-ups, and returns that file. `progress` is told
/// how far the copy has come.
///
/// # Errors
///
/// If there is no store, or the copy cannot be made.
pub fn back_up_store(dir: &DataDir, to: Option<PathBuf>, progress: CopyProgress) -> Result<PathBuf, RunError> {
    if !dir.store().exists() && !is_half_restored(&dir.store())? {
        return Err(RunError::Other(format!("there is no store in {}: nothing to back up", dir.path().display())));
    }
    let mut store = SqliteStore::open(&dir.store(), &dir.backups())?.with_copy_progress(progress);
    match to {
        Some(to) => store.backup(&to).map(|()| to).map_err(Into::into),
        None => store.keep_backup(WallTime::now()).map_err(Into::into),
    }
}

/// Restores the store from the back-up `from`, or from the newest one. `progress` is told how far the copy has come.
///
/// # Errors
///
/// If an edge runs on the directory, there is no back-up, or it cannot be used.
pub fn restore_store(
    dir: &DataDir,
    from: Option<PathBuf>,
    keep_withdrawn: bool,
    mut progress: CopyProgress,
) -> Result<RestoredFrom, RunError> {
    let _lock = dir.lock()?;
    let none = || RunError::Other(format!("there is no back-up in {}: name one with --from", dir.backups().display()));
    let backup = from.or_else(|| newest_backup(&dir.backups())).ok_or_else(none)?;
    let restored = restore(&backup, &dir.store(), keep_withdrawn, WallTime::now(), Some(&mut progress))?;
    Ok(RestoredFrom { backup, restored })
}

/// The host name of this machine, and the names of its loopback addresses.
fn local_names() -> Vec<String> {
    let own = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    let own = Some(own).filter(|name| name.parse::<Hostname>().is_ok() && name != LOCAL_NAMES[0]);
    own.into_iter().chain(LOCAL_NAMES.map(str::to_owned)).collect()
}
