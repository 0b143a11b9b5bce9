//! Floor 2: files and folders that are their owner's alone. Whatever holds a secret or a key is read, made and written here.
//!
//! The rule, kept on every read and not only when the program starts: a private file belongs to this user or to root and
//! nobody else may read or write it (0600 or less); where it is root's and this user is not, its group may read it, for only
//! root can have meant that (Kubernetes and systemd hand secrets to a service so). The folder that it lies in may be seen
//! into, but only its owner may change what lies there. A folder of our own, made by [`folder`], is 0700.
//!
//! What is refused is refused with the command that mends it.

mod access;
mod error;

pub use error::PrivateError;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use zeroize::Zeroizing;

use crate::private::access::{Reader, judge_file, judge_folder, judge_folder_around};

/// The mode of a private file that is made here.
pub const FILE_MODE: u32 = 0o600;
/// The mode of a private folder that is made here.
pub const FOLDER_MODE: u32 = 0o700;

/// Reads a private file of at most `len_max` bytes. What was read is wiped from memory when it is dropped.
///
/// # Errors
///
/// It cannot be read, is longer, or is not private.
pub fn read(path: &Path, len_max: usize) -> Result<Zeroizing<Vec<u8>>, PrivateError> {
    let unreadable = |cause: io::Error| PrivateError::unreadable(path, &cause);
    let file = open(path)?;
    check_open(path, &file)?;
    // A buffer that grew would leave pieces of the secret behind, so it is as large as it can ever have to be.
    let mut content = Zeroizing::new(vec![0; len_max + 1]);
    let len = read_full(file, &mut content).map_err(unreadable)?;
    if len > len_max {
        return Err(PrivateError::TooLong { path: path.to_path_buf(), len_max });
    }
    content.truncate(len);
    Ok(content)
}

/// Checks a file that others will open, such as a database; it is there and private.
///
/// # Errors
///
/// It cannot be opened, or is not private.
pub fn check(path: &Path) -> Result<(), PrivateError> {
    check_open(path, &open(path)?)
}

/// Makes sure that there is a private file here, empty if there was none.
///
/// # Errors
///
/// It cannot be made, or is there and not private.
pub fn ensure(path: &Path) -> Result<(), PrivateError> {
    match OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path) {
        Ok(file) => check_open(path, &file),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check(path),
        Err(error) => Err(PrivateError::unwritable(path, &error)),
    }
}

/// Writes a private file, in the place of any that was there. Whoever reads it finds the old content or the new, whole, also
/// after a loss of power. Readable by this user alone from its first byte on.
///
/// # Errors
///
/// It cannot be written, or the folder is not such that a secret may lie there. The old file is then as it was.
pub fn write(path: &Path, content: &[u8]) -> Result<(), PrivateError> {
    let unwritable = |cause: io::Error| PrivateError::unwritable(path, &cause);
    let reader = Reader::current();
    for folder in folders_around(path) {
        judge_folder_around(path, &folder, reader)?;
    }
    let draft = draft_beside(path);
    let written = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&draft).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(parent(path))?.sync_all()
    });
    written.map_err(|cause| {
        // After the renaming there is none, before it nobody else knows it.
        let _ = fs::remove_file(&draft);
        unwritable(cause)
    })
}

/// Makes sure that there is a folder here that this user alone can look into, making it and those above it if need be.
///
/// # Errors
///
/// It cannot be made, or is there and open to others.
pub fn folder(path: &Path) -> Result<(), PrivateError> {
    let made = DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path);
    made.map_err(|cause| PrivateError::unwritable(path, &cause))?;
    let meta = fs::metadata(path).map_err(|cause| PrivateError::unreadable(path, &cause))?;
    judge_folder(path, &meta, Reader::current())
}

/// Opens what is to be read, without waiting for the other end where it is a pipe: that is no file, and refused.
fn open(path: &Path) -> Result<File, PrivateError> {
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    opened.map_err(|cause| PrivateError::unreadable(path, &cause))
}

/// Judges the file that was opened, not the one that may have taken its name since.
fn check_open(path: &Path, file: &File) -> Result<(), PrivateError> {
    let reader = Reader::current();
    let meta = file.metadata().map_err(|cause| PrivateError::unreadable(path, &cause))?;
    judge_file(path, &meta, reader)?;
    folders_around(path).iter().try_for_each(|folder| judge_folder_around(path, folder, reader))
}

/// The folder in which a file stands by its name, and the one where it really is, if it is named by a link.
fn folders_around(path: &Path) -> Vec<PathBuf> {
    let named = parent(path);
    let real = fs::canonicalize(path).ok().map(|real| parent(&real));
    let same = |real: &PathBuf| fs::canonicalize(&named).is_ok_and(|named| named == *real);
    let elsewhere = real.filter(|real| !same(real));
    std::iter::once(named.clone()).chain(elsewhere).collect()
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// A name in the same folder that no other writer takes.
fn draft_beside(path: &Path) -> PathBuf {
    static DRAFTS: AtomicU64 = AtomicU64::new(0);
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}-{}.tmp", std::process::id(), DRAFTS.fetch_add(1, Ordering::Relaxed)));
    parent(path).join(name)
}

/// Reads until the end of the file or of the room.
fn read_full(mut file: File, room: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < room.len() {
        match file.read(&mut room[len..]) {
            Ok(0) => break,
            Ok(count) => len += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_was_written_is_private_from_the_start_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write(&path, b"first").unwrap();
        write(&path, b"second").unwrap();
        assert_eq!((mode_of(&path), read(&path, 6).unwrap().as_slice()), (0o600, &b"second"[..]));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
        assert_eq!(read(&path, 5).unwrap_err(), PrivateError::TooLong { path: path.clone(), len_max: 5 });
        assert!(matches!(read(dir.path(), 5), Err(PrivateError::NoFile { .. })));
        assert!(matches!(read(&dir.path().join("none"), 5), Err(PrivateError::Unreadable { .. })));
    }

    #[test]
    fn a_file_that_others_may_open_is_refused_and_the_command_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("it's a key");
        fs::write(&path, "secret").unwrap();
        for mode in [0o640, 0o604, 0o620, 0o602, 0o644, 0o660, 0o777] {
            chmod(&path, mode);
            let refused = read(&path, 100).unwrap_err();
            assert!(matches!(refused, PrivateError::LooseFile { .. }), "{mode:o}: {refused}");
            assert!(check(&path).is_err() && ensure(&path).is_err());
            let told = refused.to_string();
            let command = told.split('`').nth(1).unwrap();
            assert!(std::process::Command::new("sh").args(["-c", command]).status().unwrap().success(), "{command}");
            assert_eq!((mode_of(&path), read(&path, 100).unwrap().as_slice()), (0o600, &b"secret"[..]));
        }
        chmod(&path, 0o400);
        assert!(check(&path).is_ok());
    }

    #[test]
    fn a_folder_where_others_may_change_files_is_refused_unless_theirs_stay_theirs() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("keys");
        fs::create_dir(&folder).unwrap();
        let path = folder.join("key");
        write(&path, b"secret").unwrap();
        for (mode, private) in [(0o755, true), (0o750, true), (0o770, false), (0o757, false), (0o1777, true)] {
            chmod(&folder, mode);
            assert_eq!(read(&path, 10).is_ok(), private, "{mode:o}");
            assert_eq!(write(&path, b"secret").is_ok(), private, "{mode:o}");
        }
        chmod(&folder, 0o777);
        let told = read(&path, 10).unwrap_err().to_string();
        assert!(told.contains(&format!("`chmod go-w {}`", folder.display())), "{told}");
        // A link does not hide where the file really is.
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(matches!(read(&link, 10), Err(PrivateError::LooseFolderAround { .. })));
        chmod(&folder, 0o700);
        assert!(read(&link, 10).is_ok());
    }

    #[test]
    fn a_folder_of_our_own_is_ours_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        folder(&path).unwrap();
        assert_eq!((mode_of(&path), mode_of(&dir.path().join("a"))), (0o700, 0o700));
        for mode in [0o750, 0o705, 0o755, 0o1777] {
            chmod(&path, mode);
            let told = folder(&path).unwrap_err().to_string();
            assert!(told.contains(&format!("`chmod 700 {}`", path.display())), "{told}");
        }
        chmod(&path, 0o500);
        assert!(folder(&path).is_ok());
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(folder(&dir.path().join("file")).is_err());
    }

    #[test]
    fn a_file_is_made_once_and_then_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        ensure(&path).unwrap();
        assert_eq!(mode_of(&path), 0o600);
        fs::write(&path, "rows").unwrap();
        ensure(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"rows");
    }
}
