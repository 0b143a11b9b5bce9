//! Reads files that the configuration names and that contain no secret, such as public keys and certificates.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::private::FileError;

/// Opens a file. If it is a pipe, it does not wait until something opens that for writing.
pub(super) fn open_at_once(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// Reads a file of at most `len_max` bytes.
///
/// # Errors
///
/// If it is no plain file, is longer, or cannot be read.
pub fn read_named(path: &Path, len_max: usize) -> Result<Vec<u8>, FileError> {
    let unreadable = |cause: io::Error| FileError::unreadable(path, &cause);
    let file = open_at_once(path).map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(FileError::NotAFile { path: path.to_path_buf() });
    }
    let mut content = Vec::new();
    // The file may grow while it is read.
    file.take(len_max as u64 + 1).read_to_end(&mut content).map_err(unreadable)?;
    if content.len() > len_max {
        return Err(FileError::TooLong { path: path.to_path_buf(), len_max });
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn a_file_without_an_end_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error_of = |path: &Path| read_named(path, 4).unwrap_err().to_string();
        let pipe = dir.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
        for path in [&*pipe, Path::new("/dev/zero"), dir.path()] {
            assert!(error_of(path).contains("is not a plain file"), "{}", path.display());
        }
        let file = dir.path().join("file");
        assert!(error_of(&file).starts_with("cannot read "));
        std::fs::write(&file, "1234").unwrap();
        assert_eq!(read_named(&file, 4).unwrap(), b"1234");
        std::fs::write(&file, "12345").unwrap();
        assert!(error_of(&file).ends_with("is longer than 4 bytes: is it the right file?"));
    }
}
