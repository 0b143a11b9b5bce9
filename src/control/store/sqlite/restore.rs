//! Restores a back-up. Objects that were revoked since the back-up stay revoked.
//!
//! A store consists of up to four files, which no file system moves atomically. The complete copy is therefore first
//! renamed, in one step, to a name that marks it as the next store. Before that step the old store is untouched. After
//! it, the next process that opens the store first completes the moves, so that no intermediate state is ever opened.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, params};

use super::backup::{CopyFailure, CopyProgress, copy};
use super::schema::{self, SCHEMA_VERSION};
use super::{parsed, time_if};
use crate::base::TunnelId;
use crate::control::store::StoreError;
use crate::control::wall_time::WallTime;

/// Files that SQLite keeps beside a store. They belong to that store alone, and would damage any other.
const SIBLINGS: [&str; 3] = ["-wal", "-shm", "-journal"];
/// The suffix of a copy that is to become the store, followed by the time at which the restore began.
const PENDING: &str = ".restored-";
/// The suffix of a former store.
const ASIDE: &str = ".replaced-";

/// The result of a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Where the former store is now, if there was one.
    pub aside: Option<PathBuf>,
    /// The objects that were revoked after the copy was made, and are valid again unless they were kept revoked.
    /// `None` if the former store cannot be read.
    pub reinstated: Option<Vec<Reinstated>>,
}

/// Something that is no longer valid in the former store, but is in the copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reinstated {
    /// The kind of the object.
    pub kind: ReinstatedKind,
    /// The tunnel that it belongs to, or that it is; `None` for a provisioning key.
    pub tunnel: Option<TunnelId>,
    /// The id of the object.
    pub id: String,
    /// When it was revoked, or was to end because another replaced it.
    pub ended_at: WallTime,
}

/// A kind of object that a restore brings back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReinstatedKind {
    /// A tunnel that was archived.
    Tunnel,
    /// A credential that was revoked or replaced.
    Credential,
    /// A certificate of an authority that was archived.
    Certificate,
    /// A provisioning key that was revoked.
    ProvisioningKey,
}

/// Replaces the store with a copy, and keeps the former files aside. With `keep_withdrawn`, objects that were
/// revoked after the copy was made stay revoked. No edge may use the store. An interrupted restore is completed first.
///
/// # Errors
///
/// If the copy is not a valid store or is of a newer version, or a file cannot be moved or written. The store is then
/// unchanged, or if only the last moves failed, it is not opened before [`finish_restore`] has made them.
pub fn restore(
    backup: &Path,
    store: &Path,
    keep_withdrawn: bool,
    now: WallTime,
    progress: Option<&mut CopyProgress>,
) -> Result<Restored, StoreError> {
    finish_restore(store)?;
    let reinstated = stage(backup, store, keep_withdrawn, now, progress)?;
    Ok(Restored { aside: finish_restore(store)?, reinstated })
}

/// Completes an interrupted restore, if there is one. The caller excludes edges and other restores. Returns where the
/// former store is now, if there was one.
///
/// # Errors
///
/// If a file cannot be moved. The call can be repeated.
pub fn finish_restore(store: &Path) -> Result<Option<PathBuf>, StoreError> {
    finish(store, usize::MAX)
}

/// Whether a restore of the store was interrupted before its last move.
///
/// # Errors
///
/// If the directory cannot be read.
pub fn is_half_restored(store: &Path) -> Result<bool, StoreError> {
    Ok(pending(store)?.is_some())
}

/// The copy that is to become the store, if a restore was interrupted.
fn pending(store: &Path) -> Result<Option<PathBuf>, StoreError> {
    let folder = folder(store);
    let entries = fs::read_dir(&folder).map_err(|error| unusable(&folder, &error))?;
    let begin = beside(store, PENDING);
    let begins = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        name.starts_with(begin.file_name().unwrap_or_default().as_encoded_bytes())
    };
    Ok(entries.flatten().map(|entry| folder.join(entry.file_name())).find(begins))
}

/// Completes the copy and syncs it to disk, then marks it as the next store in one step.
fn stage(
    backup: &Path,
    store: &Path,
    keep_withdrawn: bool,
    now: WallTime,
    progress: Option<&mut CopyProgress>,
) -> Result<Option<Vec<Reinstated>>, StoreError> {
    let draft = store.with_extension("restoring");
    // Removes the leftovers of an earlier restore.
    for left in std::iter::once(draft.clone()).chain(SIBLINGS.map(|tail| beside(&draft, tail))) {
        match fs::remove_file(&left) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(&left, &error)),
            _ => {}
        }
    }
    let from = checked(backup)?;
    copy(&from, &draft, progress).map_err(|failure| match failure {
        CopyFailure::Sql(error) => unusable(&draft, &error),
        CopyFailure::File(cause) => unusable(&draft, &cause),
    })?;
    let reinstated = reinstated(store, &draft, now);
    if keep_withdrawn && let Some(reinstated) = &reinstated {
        withdraw(&draft, reinstated, now).map_err(|error| unusable(&draft, &error))?;
    }
    let synced = File::open(&draft).and_then(|file| file.sync_all());
    synced.map_err(|error| unusable(&draft, &error))?;
    let pending = beside(store, &format!("{PENDING}{}", free(store, now)));
    moved(&draft, &pending)?;
    Ok(reinstated)
}

/// Opens a copy, and checks that it is a store that this version can read.
fn checked(backup: &Path) -> Result<Connection, StoreError> {
    let damaged = |cause: String| StoreError::Damaged { path: backup.to_path_buf(), cause, backup: None };
    let from = Connection::open_with_flags(backup, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .map_err(|error| unusable(backup, &error))?;
    match from.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0)) {
        Ok(found) if found == "ok" => {}
        Ok(cause) => return Err(damaged(cause)),
        Err(error) => return Err(damaged(error.to_string())),
    }
    match schema::version(&from).map_err(|error| damaged(error.to_string()))? {
        0 => Err(damaged("it is not the store of an edge".to_owned())),
        1..=SCHEMA_VERSION => Ok(from),
        found => Err(StoreError::Newer { path: backup.to_path_buf(), found, known: SCHEMA_VERSION }),
    }
}

/// Makes the remaining moves of a restore, but at most `moves_max`: tests interrupt it.
fn finish(store: &Path, moves_max: usize) -> Result<Option<PathBuf>, StoreError> {
    let Some(pending) = pending(store)? else { return Ok(None) };
    let name = pending.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let when = name.rsplit_once(PENDING).map_or("", |(_, when)| when);
    let aside = beside(store, &format!("{ASIDE}{when}"));
    // A former store is moved together with its log. The log goes first: it is useless alone, but a store that is
    // opened without its log loses what the log contains.
    let tails = SIBLINGS.iter().copied().chain([""]);
    let moves = tails.map(|tail| (beside(store, tail), beside(&aside, tail))).filter(|(from, _)| from.exists());
    let moves = moves.chain([(pending.clone(), store.to_path_buf())]);
    for (from, to) in moves.collect::<Vec<_>>().into_iter().take(moves_max) {
        moved(&from, &to)?;
    }
    Ok(Some(aside).filter(|aside| aside.exists()))
}

/// Moves a file to a free name. When it returns, the move survives a power failure.
fn moved(from: &Path, to: &Path) -> Result<(), StoreError> {
    if to.exists() {
        return Err(unusable(to, &"a file is in the way: move it elsewhere, then run `adit edge restore` again"));
    }
    let moved = fs::rename(from, to).and_then(|()| File::open(folder(to))?.sync_all());
    moved.map_err(|error| unusable(from, &error))
}

/// A time for the names of this restore's files, such that none of the names is taken.
fn free(store: &Path, now: WallTime) -> String {
    let plain: String = now.to_string().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '.').collect();
    let is_free = |when: &String| {
        let aside = beside(store, &format!("{ASIDE}{when}"));
        !SIBLINGS.iter().chain(&[""]).any(|tail| beside(&aside, tail).exists())
    };
    let mut times = (0..).map(|n| if n == 0 { plain.clone() } else { format!("{plain}-{n}") });
    times.find(is_free).expect("not every number is taken")
}

/// The objects that are valid in the copy, but no longer in the store; `None` if the store cannot be read.
fn reinstated(store: &Path, copy: &Path, now: WallTime) -> Option<Vec<Reinstated>> {
    let [former, copy] = [store, copy].map(|path| {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
        // The store is only read, and the content of its log must stay there.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).ok()?;
        ends(&connection).ok()
    });
    let (former, copy) = (former?, copy?);
    let in_copy: HashMap<_, _> = copy.into_iter().map(|(what, end)| ((what.kind, what.id), end)).collect();
    let reinstated = former.into_iter().filter_map(|(what, end)| {
        let later = *in_copy.get(&(what.kind, what.id.clone()))?;
        let is_good = later.is_none_or(|later| later > now);
        end.filter(|end| is_good && later.is_none_or(|later| later > *end))
            .map(|ended_at| Reinstated { ended_at, ..what })
    });
    Some(reinstated.collect())
}

/// Everything that can be revoked, with the time of its revocation or planned end. The query uses only tables of the
/// first schema.
fn ends(connection: &Connection) -> rusqlite::Result<Vec<(Reinstated, Option<WallTime>)>> {
    let mut all = Vec::new();
    for (kind, sql) in [
        (ReinstatedKind::Tunnel, "SELECT id, id, archived_at FROM tunnel ORDER BY seq"),
        (
            ReinstatedKind::Credential,
            // The smaller of the two, spelled this way because min() with a null is null.
            "SELECT tunnel, id, min(coalesce(revoked_at, until), coalesce(until, revoked_at)) FROM credential ORDER BY seq",
        ),
        (ReinstatedKind::Certificate, "SELECT tunnel, id, archived_at FROM certificate ORDER BY seq"),
        (ReinstatedKind::ProvisioningKey, "SELECT NULL, id, revoked_at FROM provisioning_key ORDER BY seq"),
    ] {
        let mut rows = connection.prepare(sql)?;
        let rows = rows.query_map([], |row| {
            let tunnel = if kind == ReinstatedKind::ProvisioningKey { None } else { Some(parsed(row, 0)?) };
            let what = Reinstated { kind, tunnel, id: row.get(1)?, ended_at: WallTime::default() };
            Ok((what, time_if(row, 2)?))
        })?;
        for row in rows {
            all.push(row?);
        }
    }
    Ok(all)
}

/// Revokes these objects in a copy, and records the revocations.
fn withdraw(copy: &Path, reinstated: &[Reinstated], now: WallTime) -> rusqlite::Result<()> {
    let mut copy = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let change = copy.transaction()?;
    for Reinstated { kind, tunnel, id, ended_at } in reinstated {
        let set = |sql| change.execute(sql, params![ended_at.0, id]);
        let what = match kind {
            ReinstatedKind::Tunnel => {
                set("UPDATE tunnel SET archived_at = ?1 WHERE id = ?2")?;
                change.execute("UPDATE host SET retired = 1 WHERE tunnel = ? AND retired = 0", [id])?;
                "tunnel.archived"
            }
            ReinstatedKind::Credential if *ended_at > now => {
                set("UPDATE credential SET until = ?1 WHERE id = ?2")?;
                "credential.rotated"
            }
            ReinstatedKind::Credential => {
                set("UPDATE credential SET revoked_at = ?1 WHERE id = ?2")?;
                "credential.revoked"
            }
            ReinstatedKind::Certificate => {
                set("UPDATE certificate SET archived_at = ?1 WHERE id = ?2")?;
                "certificate.archived"
            }
            ReinstatedKind::ProvisioningKey => {
                set("UPDATE provisioning_key SET revoked_at = ?1 WHERE id = ?2")?;
                "provisioning_key.revoked"
            }
        };
        change.execute(
            "INSERT INTO event (at, kind, tunnel, subject, reason) VALUES (?, ?, ?, ?, 'it was so before a restore')",
            params![
                now.0,
                what,
                tunnel.as_ref().map(TunnelId::as_str),
                (*kind != ReinstatedKind::Tunnel).then_some(id)
            ],
        )?;
    }
    change.commit()?;
    copy.close().map_err(|(_, error)| error)
}

fn beside(path: &Path, more: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(more);
    PathBuf::from(name)
}

fn folder(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    folder.unwrap_or(Path::new(".")).to_path_buf()
}

fn unusable(path: &Path, cause: &dyn std::fmt::Display) -> StoreError {
    StoreError::Unusable { path: path.to_path_buf(), cause: cause.to_string() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::{Secret, SecretHash, Traffic};
    use crate::control::store::{NewCredential, NewKey, NewTunnel, Note, ProvisioningKey, SqliteStore, Store};
    use crate::policy::TunnelLists;

    const NOW: WallTime = WallTime(1_800_000_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    fn note(at: WallTime) -> Note {
        Note { at, reason: None }
    }

    fn credential(id: &str) -> NewCredential {
        NewCredential { id: id.parse().unwrap(), hash: SecretHash::of(&Secret::from(id)) }
    }

    fn create(store: &mut SqliteStore, name: &str) {
        let new = NewTunnel {
            id: format!("tnl_{name}").parse().unwrap(),
            display_name: None,
            hosts: vec![format!("{name}.test").parse().unwrap()],
            hosts_made_up: false,
            traffic: Traffic::Plain,
            lists: TunnelLists::default(),
            credential: credential(&format!("crd_{name}")),
            requester: None,
        };
        store.create_tunnel(&new, &note(NOW)).unwrap();
    }

    fn open(dir: &Path) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(&dir.join("store.sqlite"), &dir.join("backups"))
    }

    fn served(dir: &Path) -> Vec<String> {
        open(dir).unwrap().active_tunnels().unwrap().into_iter().map(|tunnel| tunnel.id.to_string()).collect()
    }

    /// A directory with a store as a killed edge leaves it, its last changes still in the log, and a back-up from
    /// before `then`.
    fn killed(then: impl FnOnce(&mut SqliteStore)) -> (tempfile::TempDir, PathBuf, PathBuf) {
        let (before, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut store = open(before.path()).unwrap();
        create(&mut store, "a");
        let backup = dir.path().join("backup.sqlite");
        store.backup(&backup).unwrap();
        then(&mut store);
        for tail in ["", "-wal", "-shm"] {
            let name = format!("store.sqlite{tail}");
            fs::copy(before.path().join(&name), dir.path().join(&name)).unwrap();
        }
        assert!(fs::metadata(dir.path().join("store.sqlite-wal")).unwrap().len() > 0);
        let path = dir.path().join("store.sqlite");
        (dir, path, backup)
    }

    #[test]
    fn wherever_a_restore_is_cut_off_there_is_the_old_store_or_the_new_one() {
        let aside_name = "store.sqlite.replaced-20270115T080000Z";
        for moves in 0..=4 {
            let (dir, path, backup) = killed(|store| create(store, "b"));
            let log = fs::read(dir.path().join("store.sqlite-wal")).unwrap();
            // Interrupted before the decisive step: the old store stays, whatever other files exist.
            fs::write(path.with_extension("restoring"), "half").unwrap();
            fs::write(path.with_extension("restoring-journal"), "half").unwrap();
            stage(&backup, &path, false, NOW, None).unwrap();
            finish(&path, moves).unwrap();
            if moves < 4 {
                // In between, nothing opens a store.
                let error = open(dir.path()).err().unwrap();
                assert_eq!(error, StoreError::HalfRestored { path: path.clone() });
                assert!(error.to_string().contains("adit edge restore"), "{error}");
            }
            let aside = finish_restore(&path).unwrap();
            assert_eq!(aside, (moves < 4).then(|| dir.path().join(aside_name)));
            assert_eq!(served(dir.path()), ["tnl_a"], "after {moves} moves");
            assert_eq!(finish_restore(&path).unwrap(), None, "it is done once");
            // The former store is complete.
            assert_eq!(fs::read(dir.path().join(format!("{aside_name}-wal"))).unwrap(), log);
            let kept = tempfile::tempdir().unwrap();
            for tail in ["", "-wal"] {
                let to = kept.path().join(format!("store.sqlite{tail}"));
                fs::copy(dir.path().join(format!("{aside_name}{tail}")), to).unwrap();
            }
            assert_eq!(served(kept.path()), ["tnl_a", "tnl_b"]);
        }
    }

    #[test]
    fn a_restore_that_meets_an_obstacle_parts_no_store_from_its_log() {
        let (dir, path, backup) = killed(|store| create(store, "b"));
        // Something occupies the name for the former store.
        fs::create_dir(dir.path().join("store.sqlite.replaced-20270115T080000Z")).unwrap();
        let restored = restore(&backup, &path, false, NOW, None).unwrap();
        assert_eq!(restored.aside, Some(dir.path().join("store.sqlite.replaced-20270115T080000Z-1")));
        assert_eq!((served(dir.path()), restored.reinstated), (vec!["tnl_a".to_owned()], Some(Vec::new())));
    }

    #[test]
    fn restored_credentials_are_listed_and_can_stay_revoked() {
        let key = ProvisioningKey {
            id: "pkey_a".to_owned(),
            display_name: None,
            name_template: "*".to_owned(),
            hosts: Vec::new(),
            uses_max: 1,
            uses: 0,
            created_at: NOW,
            expires_at: NOW.after(MINUTE * 100),
            revoked_at: None,
        };
        let key = NewKey { key, hash: SecretHash::of(&Secret::from("key")) };
        let at = NOW.after(MINUTE);
        for keep in [false, true] {
            let (dir, path, first) = killed(|store| {
                for name in ["b", "c", "d", "e", "f"] {
                    create(store, name);
                }
                store.add_key(&key, &note(NOW)).unwrap();
                store.revoke(&"tnl_d".parse().unwrap(), None, &note(NOW)).unwrap();
            });
            let backup = dir.path().join("second.sqlite");
            let mut store = open(dir.path()).unwrap();
            store.backup(&backup).unwrap();
            let id = |name: &str| format!("tnl_{name}").parse::<TunnelId>().unwrap();
            store.revoke(&id("a"), None, &note(at)).unwrap();
            store.archive_tunnel(&id("b"), &note(at)).unwrap();
            store.rotate(&id("c"), &credential("crd_new"), at, &note(NOW)).unwrap();
            store.rotate(&id("f"), &credential("crd_g"), at.after(MINUTE), &note(NOW)).unwrap();
            store.revoke_key("pkey_a", &note(at)).unwrap();
            drop(store);

            let reinstated = restore(&backup, &path, keep, at, None).unwrap().reinstated.unwrap();
            let of = |kind, tunnel: &str, id: &str| Reinstated {
                kind,
                tunnel: tunnel.parse().ok(),
                id: id.to_owned(),
                ended_at: at,
            };
            let want = [
                of(ReinstatedKind::Tunnel, "tnl_b", "tnl_b"),
                of(ReinstatedKind::Credential, "tnl_a", "crd_a"),
                of(ReinstatedKind::Credential, "tnl_b", "crd_b"),
                of(ReinstatedKind::Credential, "tnl_c", "crd_c"),
                Reinstated { ended_at: at.after(MINUTE), ..of(ReinstatedKind::Credential, "tnl_f", "crd_f") },
                of(ReinstatedKind::ProvisioningKey, "", "pkey_a"),
            ];
            assert_eq!(reinstated, want);
            let mut store = open(dir.path()).unwrap();
            let tunnels = store.active_tunnels().unwrap();
            let good: Vec<String> = (tunnels.iter())
                .flat_map(|tunnel| tunnel.known_credentials(at))
                .map(|credential| credential.id.to_string())
                .collect();
            let is_good = |id: &str| good.contains(&id.to_owned());
            assert_eq!(["a", "b", "c"].map(|name| is_good(&format!("crd_{name}"))), [!keep; 3]);
            assert!(is_good("crd_e") && !is_good("crd_d"), "what was so before stays so");
            assert_eq!(store.good_key(&key.hash, at).is_ok(), !keep);
            assert_eq!(store.tunnel(&id("b")).unwrap().archived_at.is_some(), keep);
            let until = store.tunnel(&id("f")).unwrap().credentials[0].until;
            assert_eq!((is_good("crd_f"), until), (true, keep.then_some(at.after(MINUTE))), "it was to end later");
            if keep {
                let events =
                    store.events(Some(&id("a")), crate::control::store::Page { limit: 1, before: None }).unwrap();
                assert_eq!(events.rows[0].kind, "credential.revoked");
            }
            drop(store);
            // An unreadable store yields nothing.
            fs::write(&path, "no store").unwrap();
            assert_eq!(restore(&first, &path, keep, at, None).unwrap().reinstated, None);
        }
    }
}
