use std::io;
use std::path::{Path, PathBuf};

/// Why a file cannot be read, whether it is private or not. The error never repeats the file's content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It cannot be opened or read.
    #[error("cannot read {}: {cause}", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        cause: Box<str>,
    },
    /// It is a folder, a device or another special file. Reading it might never end.
    #[error("{} is not a plain file: write what it holds to one, and name that", path.display())]
    NotAFile {
        /// The file or folder.
        path: PathBuf,
    },
    /// It is longer than any of its kind should be.
    #[error("{} is longer than {len_max} bytes: is it the right file?", path.display())]
    TooLong {
        /// The file or folder.
        path: PathBuf,
        /// The most bytes that were expected.
        len_max: usize,
    },
}

impl FileError {
    /// The error of the system when this file was opened or read.
    #[must_use]
    pub fn unreadable(path: &Path, cause: &io::Error) -> FileError {
        FileError::Unreadable { path: path.to_path_buf(), cause: cause.to_string().into() }
    }
}
