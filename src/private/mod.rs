//! Floor 2: private files and folders. Everything that holds a secret or a key is read, created and written here.
//!
//! The rule is checked on every read, not only at the start. A private file belongs to this user or to root, and nobody else
//! may read or write it (mode 0600 or less). One exception: the group of a file that belongs to root may read it, where this
//! user is not root; Kubernetes and systemd hand secrets to a service in this way. Others may list the folder of a private
//! file, but only its owner may change it. A folder that [`folder`] creates has mode 0700.
//!
//! Each error names the command that corrects the permissions.

mod access;
mod error;
mod file_error;

pub use error::PrivateError;
pub use file_error::FileError;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use zeroize::Zeroizing;

use crate::private::access::{Reader, check_file, check_folder, check_parent_folder};

/// The mode of a private file that is created here.
pub const FILE_MODE: u32 = 0o600;
/// The mode of a private folder that is created here.
pub const FOLDER_MODE: u32 = 0o700;

/// Reads a private file of at most `len_max` bytes. What was read is wiped from memory when it is dropped.
///
/// # Errors
///
/// It cannot be read, is longer, or is not private.
pub fn read(path: &Path, len_max: usize) -> Result<Zeroizing<Vec<u8>>, PrivateError> {
    let unreadable = |cause: io::Error| FileError::unreadable(path, &cause);
    let file = open(path)?;
    check_opened(path, &file)?;
    // A buffer that grew would leave parts of the secret in freed memory, so it has its final size from the start.
    let mut content = Zeroizing::new(vec![0; len_max + 1]);
    let len = read_full(file, &mut content).map_err(unreadable)?;
    if len > len_max {
        return Err(FileError::TooLong { path: path.to_path_buf(), len_max }.into());
    }
    content.truncate(len);
    Ok(content)
}

/// Checks that a file exists and is private, before other code opens it, such as a database.
///
/// # Errors
///
/// It cannot be opened, or is not private.
pub fn check(path: &Path) -> Result<(), PrivateError> {
    check_opened(path, &open(path)?)
}

/// Creates an empty private file at this path, unless there is one.
///
/// # Errors
///
/// It cannot be created, or exists and is not private.
pub fn ensure(path: &Path) -> Result<(), PrivateError> {
    match OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path) {
        Ok(file) => check_opened(path, &file),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check(path),
        Err(error) => Err(PrivateError::unwritable(path, &error)),
    }
}

/// Writes a private file, in place of one that exists. A reader finds the whole old content or the whole new content, also
/// after a power failure. Nobody else can read it at any time.
///
/// # Errors
///
/// It cannot be written, or others may change its folder. The old file is then unchanged.
pub fn write(path: &Path, content: &[u8]) -> Result<(), PrivateError> {
    let unwritable = |cause: io::Error| PrivateError::unwritable(path, &cause);
    let reader = Reader::current();
    for folder in parent_folders(path) {
        check_parent_folder(path, &folder, reader)?;
    }
    let draft = draft_path(path);
    let written = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&draft).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(parent(path))?.sync_all()
    });
    written.map_err(|cause| {
        // After the rename there is no draft; before it no other process knows its name.
        let _ = fs::remove_file(&draft);
        unwritable(cause)
    })
}

/// Creates a folder that only this user can list, and its parents, unless it exists.
///
/// # Errors
///
/// It cannot be created, or exists and is open to others.
pub fn folder(path: &Path) -> Result<(), PrivateError> {
    let made = DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path);
    made.map_err(|cause| PrivateError::unwritable(path, &cause))?;
    let meta = fs::metadata(path).map_err(|cause| FileError::unreadable(path, &cause))?;
    check_folder(path, &meta, Reader::current())
}

/// Opens a file for reading. A pipe, which is refused later, is opened without waiting for its other end.
fn open(path: &Path) -> Result<File, PrivateError> {
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    opened.map_err(|cause| FileError::unreadable(path, &cause).into())
}

/// Checks the file that was opened, not another that may have got its name since.
fn check_opened(path: &Path, file: &File) -> Result<(), PrivateError> {
    let reader = Reader::current();
    let meta = file.metadata().map_err(|cause| FileError::unreadable(path, &cause))?;
    check_file(path, &meta, reader)?;
    parent_folders(path).iter().try_for_each(|folder| check_parent_folder(path, folder, reader))
}

/// The folder in a file's path, and the folder of the file itself, if the path is a symbolic link.
fn parent_folders(path: &Path) -> Vec<PathBuf> {
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

/// A path in the same folder that no other writer uses.
fn draft_path(path: &Path) -> PathBuf {
    static DRAFTS: AtomicU64 = AtomicU64::new(0);
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}-{}.tmp", std::process::id(), DRAFTS.fetch_add(1, Ordering::Relaxed)));
    parent(path).join(name)
}

/// Reads until the end of the file or of the buffer.
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

    /// Runs the command that a message advises, as a person would.
    fn follow(message: &str) {
        let command = message.split('`').nth(1).unwrap();
        assert!(std::process::Command::new("sh").args(["-c", command]).status().unwrap().success(), "{command}");
    }

    #[test]
    fn a_file_is_private_from_its_creation_and_can_be_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write(&path, b"first").unwrap();
        write(&path, b"second").unwrap();
        assert_eq!((mode_of(&path), read(&path, 6).unwrap().as_slice()), (0o600, &b"second"[..]));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
        assert_eq!(read(&path, 5).unwrap_err(), FileError::TooLong { path: path.clone(), len_max: 5 }.into());
        assert!(matches!(read(dir.path(), 5), Err(PrivateError::File(FileError::NotAFile { .. }))));
        assert!(matches!(read(&dir.path().join("none"), 5), Err(PrivateError::File(FileError::Unreadable { .. }))));
    }

    #[test]
    fn a_file_that_others_may_open_is_refused_and_the_command_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("it's a key");
        fs::write(&path, "secret").unwrap();
        for mode in [0o640, 0o604, 0o620, 0o602, 0o644, 0o660, 0o777] {
            chmod(&path, mode);
            let refused = read(&path, 100).unwrap_err();
            assert!(matches!(refused, PrivateError::FileOpenToOthers { .. }), "{mode:o}: {refused}");
            assert!(check(&path).is_err() && ensure(&path).is_err());
            follow(&refused.to_string());
            assert_eq!((mode_of(&path), read(&path, 100).unwrap().as_slice()), (0o600, &b"secret"[..]));
        }
        chmod(&path, 0o400);
        assert!(check(&path).is_ok());
    }

    #[test]
    fn the_command_for_a_file_of_somebody_else_names_the_reader_and_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("-it's a key");
        write(&path, b"secret").unwrap();
        // To give away a file takes root; to be given one's own does not.
        let user = rustix::process::geteuid().as_raw();
        follow(&PrivateError::ForeignOwner { path: path.clone(), owner: user + 1, user }.to_string());
        assert_eq!(read(&path, 100).unwrap().as_slice(), b"secret");
    }

    #[test]
    fn a_folder_where_others_may_change_files_is_refused_unless_theirs_stay_theirs() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("it's for keys");
        fs::create_dir(&folder).unwrap();
        let path = folder.join("key");
        write(&path, b"secret").unwrap();
        for (mode, private) in [(0o755, true), (0o750, true), (0o770, false), (0o757, false), (0o1777, true)] {
            chmod(&folder, mode);
            assert_eq!(read(&path, 10).is_ok(), private, "{mode:o}");
            assert_eq!(write(&path, b"secret").is_ok(), private, "{mode:o}");
        }
        chmod(&folder, 0o777);
        // A link does not hide where the file really is.
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        let refused = read(&link, 10).unwrap_err();
        assert!(matches!(refused, PrivateError::ParentOpenToOthers { .. }), "{refused}");
        assert_eq!(read(&path, 10).unwrap_err().to_string().split('`').nth(1), refused.to_string().split('`').nth(1));
        follow(&refused.to_string());
        assert_eq!((mode_of(&folder), read(&link, 10).is_ok()), (0o755, true));
    }

    #[test]
    fn a_folder_of_our_own_is_ours_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/it's b");
        folder(&path).unwrap();
        assert_eq!((mode_of(&path), mode_of(&dir.path().join("a"))), (0o700, 0o700));
        for mode in [0o750, 0o705, 0o755, 0o1777] {
            chmod(&path, mode);
            let refused = folder(&path).unwrap_err();
            assert!(matches!(refused, PrivateError::FolderOpenToOthers { .. }), "{mode:o}: {refused}");
            follow(&refused.to_string());
            assert_eq!((mode_of(&path), folder(&path).is_ok()), (0o700, true));
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
