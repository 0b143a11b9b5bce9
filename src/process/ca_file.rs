use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The certificate of an authority in a file, for other programs to read. The file is removed when this is dropped.
#[derive(Debug)]
pub struct CaFile {
    dir: PathBuf,
    path: PathBuf,
}

impl CaFile {
    /// Writes the file into a fresh directory below `parent`, both for this user alone. `mark` keeps the name from being
    /// guessed.
    pub(super) fn write(parent: &Path, mark: u64, pem: &str) -> io::Result<CaFile> {
        let dir = parent.join(format!("adit-up-{mark:016x}"));
        // Not recursive: a directory that somebody else put there is an error.
        DirBuilder::new().mode(0o700).create(&dir)?;
        let file = CaFile { path: dir.join("ca.pem"), dir };
        let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file.path)?;
        out.write_all(pem.as_bytes())?;
        Ok(file)
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for CaFile {
    fn drop(&mut self) {
        // A file that stays holds a certificate that nothing trusts any more.
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_dir(&self.dir);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

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
}
