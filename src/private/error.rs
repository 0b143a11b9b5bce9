use std::io;
use std::path::{Path, PathBuf};

use crate::base::shell_word;
use crate::private::file_error::FileError;

/// Why a file or folder cannot be trusted with a secret, or cannot be used. The error never repeats the file's content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrivateError {
    /// It cannot be read, private or not.
    #[error(transparent)]
    File(#[from] FileError),
    /// It cannot be created or written.
    #[error("cannot write {}: {cause}", path.display())]
    Unwritable {
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        cause: Box<str>,
    },
    /// Others may read or change the file.
    #[error("{} is open to others than its owner (mode {mode:04o}): run `chmod 600 {}`", path.display(), shell(path))]
    FileOpenToOthers {
        /// The file or folder.
        path: PathBuf,
        /// The permission bits of the file, as `stat` gives them.
        mode: u32,
    },
    /// Others may list a private folder.
    #[error("the folder {} is open to others than its owner (mode {mode:04o}): run `chmod 700 {}`", path.display(), shell(path))]
    FolderOpenToOthers {
        /// The file or folder.
        path: PathBuf,
        /// The permission bits of the folder, as `stat` gives them.
        mode: u32,
    },
    /// Others may put another file in the place of this one.
    #[error(
        "others may change what lies in {} (mode {mode:04o}), and so put a file of theirs in the place of {}: run \
         `chmod go-w {}`",
        folder.display(), path.display(), shell(folder)
    )]
    ParentOpenToOthers {
        /// The file in that folder.
        path: PathBuf,
        /// The folder in which it lies.
        folder: PathBuf,
        /// The permission bits of the folder.
        mode: u32,
    },
    /// It belongs to another user, who can read and change it.
    #[error(
        "{} belongs to the user {owner}, and neither to this one ({user}) nor to root: if what it holds can be trusted, \
         run `chown {user} {}`", path.display(), shell(path)
    )]
    ForeignOwner {
        /// The file or folder.
        path: PathBuf,
        /// The user id of its owner.
        owner: u32,
        /// The user id of this process.
        user: u32,
    },
}

impl PrivateError {
    pub(super) fn unwritable(path: &Path, cause: &io::Error) -> PrivateError {
        PrivateError::Unwritable { path: path.to_path_buf(), cause: cause.to_string().into() }
    }
}

/// A path, quoted for a shell, and never taken for a flag.
fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    shell_word(&if text.starts_with('-') { format!("./{text}") } else { text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_quoted_where_a_shell_would_take_it_apart() {
        for (path, want) in
            [("/etc/adit/a.key", "/etc/adit/a.key"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("-r", "./-r")]
        {
            assert_eq!(shell(Path::new(path)), want);
        }
    }
}
