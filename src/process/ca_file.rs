use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, openat, unlinkat};
use rustix::io::Errno;

/// The prefix of each directory's name. Sixteen hexadecimal digits follow.
const DIR_PREFIX: &str = "adit-up-";
const MARK_DIGITS: usize = 16;
const DIR_MODE: u32 = 0o700;
const PERMISSIONS: u32 = 0o777;
const FILE: &str = "ca.pem";
/// How often creating a directory is tried. If another process removes it as abandoned before it is locked, the next
/// attempt uses another name.
const MAKE_ATTEMPTS: u64 = 8;
/// The most entries of the folder for temporary files that are examined, so that a full folder does not delay the
/// start.
const ENTRIES_MAX: usize = 10_000;

/// The certificate of an authority in a file, for other programs to read. Dropping this removes the file. If the
/// process is killed, the next `adit up` removes it.
#[derive(Debug)]
pub struct CaFile {
    dir: PathBuf,
    path: PathBuf,
    /// The locked directory. The lock ends with the process, even if it is killed.
    lock: File,
}

impl CaFile {
    /// Writes the file into a new directory below `parent`. Only this user can access either. `mark` makes the name
    /// hard to guess.
    pub(super) fn write(parent: &Path, mark: u64, pem: &str) -> io::Result<CaFile> {
        for attempt in 0..MAKE_ATTEMPTS {
            if let Some(file) = CaFile::make(&dir_path(parent, mark.wrapping_add(attempt)), pem)? {
                return Ok(file);
            }
        }
        Err(io::Error::other("other processes of adit removed each directory before it was in use"))
    }

    /// Removes what killed processes left behind: directories below `parent` that [`CaFile::write`] created for this
    /// user and that no process has locked. What cannot be removed stays.
    pub(super) fn remove_abandoned(parent: &Path) {
        let Ok(entries) = fs::read_dir(parent) else { return };
        for entry in entries.take(ENTRIES_MAX).flatten() {
            if is_dir_name(&entry.file_name().to_string_lossy()) && remove_if_abandoned(&entry.path()) {
                tracing::info!(dir = %entry.path().display(), "removed files that a killed adit process had left behind");
            }
        }
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the directory and its file; `None` if another process removed the directory as abandoned before it was
    /// locked.
    fn make(dir: &Path, pem: &str) -> io::Result<Option<CaFile>> {
        // Not recursive, so a directory that someone else created is an error.
        DirBuilder::new().mode(DIR_MODE).create(dir)?;
        let lock = match open_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        // On a file system without locks, processes that remove abandoned directories cannot lock either.
        if try_lock(&lock) == Err(Errno::WOULDBLOCK) {
            return Ok(None);
        }
        let file = CaFile { path: dir.join(FILE), dir: dir.to_path_buf(), lock };
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        // Relative to the locked directory, in which nothing can be created once it was removed.
        match openat(&file.lock, FILE, flags, Mode::RUSR | Mode::WUSR) {
            Ok(out) => File::from(out).write_all(pem.as_bytes())?,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        Ok(Some(file))
    }
}

impl Drop for CaFile {
    fn drop(&mut self) {
        remove(&self.lock, &self.dir);
    }
}

fn dir_path(parent: &Path, mark: u64) -> PathBuf {
    parent.join(format!("{DIR_PREFIX}{mark:0MARK_DIGITS$x}"))
}

fn is_dir_name(name: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    name.strip_prefix(DIR_PREFIX).is_some_and(|mark| mark.len() == MARK_DIGITS && mark.bytes().all(is_digit))
}

/// Removes a directory if it belongs to this user alone and no process has locked it. Returns whether it is gone.
fn remove_if_abandoned(path: &Path) -> bool {
    let Ok(dir) = open_dir(path) else { return false };
    let is_ours = dir
        .metadata()
        .is_ok_and(|meta| meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & PERMISSIONS == DIR_MODE);
    is_ours && try_lock(&dir).is_ok() && remove(&dir, path)
}

/// Opens a directory without following a symbolic link.
fn open_dir(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(path)
}

fn try_lock(dir: &File) -> Result<(), Errno> {
    flock(dir, FlockOperation::NonBlockingLockExclusive)
}

/// Removes the file, and then the directory if it is empty. Returns whether the directory is gone.
fn remove(dir: &File, path: &Path) -> bool {
    // If the file stays, it holds a certificate that nothing trusts any more.
    let _ = unlinkat(dir, FILE, AtFlags::empty());
    fs::remove_dir(path).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// Creates what a killed process leaves behind: the directory without its lock.
    fn abandoned(parent: &Path, mark: u64) -> PathBuf {
        let dir = dir_path(parent, mark);
        DirBuilder::new().mode(DIR_MODE).create(&dir).unwrap();
        fs::write(dir.join(FILE), "PEM").unwrap();
        dir
    }

    #[test]
    fn the_file_is_for_this_user_alone_and_goes_with_its_owner() {
        let parent = tempfile::tempdir().unwrap();
        let file = CaFile::write(parent.path(), 7, "PEM").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(file.path()), mode(&file.dir)), (0o600, 0o700));
        assert_eq!(fs::read_to_string(file.path()).unwrap(), "PEM");
        assert!(CaFile::write(parent.path(), 7, "PEM").is_err(), "a directory that is there is not used");
        drop(file);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_abandoned_files_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let gone = [abandoned(parent.path(), 1), abandoned(parent.path(), 2)];
        fs::remove_file(gone[1].join(FILE)).unwrap();
        let used = CaFile::write(parent.path(), 3, "PEM").unwrap();
        let open_to_others = abandoned(parent.path(), 4);
        fs::set_permissions(&open_to_others, fs::Permissions::from_mode(0o755)).unwrap();
        let with_more = abandoned(parent.path(), 5);
        fs::write(with_more.join("notes"), "").unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let target = abandoned(elsewhere.path(), 6);
        symlink(&target, dir_path(parent.path(), 6)).unwrap();
        fs::write(dir_path(parent.path(), 7), "a file").unwrap();
        let renamed = parent.path().join("adit-up-0000000000000008.old");
        fs::rename(abandoned(parent.path(), 8), &renamed).unwrap();

        CaFile::remove_abandoned(parent.path());
        assert!(gone.iter().all(|dir| !dir.exists()));
        assert!(used.path().exists() && open_to_others.join(FILE).exists() && with_more.join("notes").exists());
        assert!(target.join(FILE).exists() && dir_path(parent.path(), 7).exists() && renamed.join(FILE).exists());
    }

    #[test]
    fn a_directory_that_is_being_made_is_not_lost_to_a_process_that_removes_abandoned_ones() {
        let parent = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            let making = (0..2_u64).map(|maker| {
                let parent = parent.path();
                scope.spawn(move || {
                    for round in 0..200 {
                        let file = CaFile::write(parent, maker << 32 | round << 8, "PEM").unwrap();
                        CaFile::remove_abandoned(parent);
                        assert_eq!(fs::read_to_string(file.path()).unwrap(), "PEM");
                    }
                })
            });
            making.collect::<Vec<_>>().into_iter().for_each(|maker| maker.join().unwrap());
        });
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
