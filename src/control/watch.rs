//! Detection of changed files. Files are polled, which works on every file system and through the symbolic links that
//! orchestrators replace.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The properties that show whether a file has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified_s: i64,
    modified_ns: i64,
}

impl Stamp {
    /// The stamp of the file at the end of all symbolic links; `None` if there is none now.
    fn of(path: &Path) -> Option<Stamp> {
        let meta = std::fs::metadata(path).ok()?;
        Some(Stamp {
            device: meta.dev(),
            inode: meta.ino(),
            len: meta.len(),
            modified_s: meta.mtime(),
            modified_ns: meta.mtime_nsec(),
        })
    }
}

/// The files that are watched.
///
/// A change is reported once it is the same in two checks, so that a file is not read while it is being written. A file
/// that is briefly missing, as during a replacement, has not changed.
#[derive(Debug, Default)]
pub struct FileWatch {
    files: BTreeMap<PathBuf, Watched>,
}

#[derive(Debug)]
struct Watched {
    known: Option<Stamp>,
    /// The stamp at the last check, if it differs from the known one.
    moving: Option<Stamp>,
}

impl FileWatch {
    /// Begins to watch these files in their present state.
    #[must_use]
    #[cfg(test)]
    pub fn new(files: impl IntoIterator<Item = PathBuf>) -> FileWatch {
        let mut watch = FileWatch::default();
        watch.set(files);
        watch
    }

    /// Replaces the set of watched files. Files that were watched before keep their known state.
    pub fn set(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        let mut old = std::mem::take(&mut self.files);
        self.files = files
            .into_iter()
            .map(|path| {
                let watched = old.remove(&path);
                let watched = watched.unwrap_or_else(|| Watched { known: Stamp::of(&path), moving: None });
                (path, watched)
            })
            .collect();
    }

    /// Checks every file, and returns those whose change has settled.
    pub fn look(&mut self) -> Vec<PathBuf> {
        let changed = self.files.iter_mut().filter_map(|(path, watched)| watched.look(path).then(|| path.clone()));
        changed.collect()
    }
}

impl Watched {
    fn look(&mut self, path: &Path) -> bool {
        let Some(seen) = Stamp::of(path) else { return false };
        if Some(seen) == self.known {
            self.moving = None;
            return false;
        }
        let settled = self.moving == Some(seen);
        if settled {
            (self.known, self.moving) = (Some(seen), None);
        } else {
            self.moving = Some(seen);
        }
        settled
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_change_is_reported_once_after_it_has_settled() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&a, "1").unwrap();
        fs::write(&b, "1").unwrap();
        let mut watch = FileWatch::new([a.clone(), b.clone()]);
        assert!(watch.look().is_empty());
        fs::write(&a, "22").unwrap();
        assert!(watch.look().is_empty());
        fs::write(&a, "333").unwrap();
        assert!(watch.look().is_empty(), "it is still being written");
        assert_eq!(watch.look(), std::slice::from_ref(&a));
        assert!(watch.look().is_empty());
    }

    #[test]
    fn a_swapped_link_is_a_change_and_an_absent_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("v1")).unwrap();
        fs::create_dir(at("v2")).unwrap();
        fs::write(at("v1/tls.crt"), "one").unwrap();
        fs::write(at("v2/tls.crt"), "two").unwrap();
        std::os::unix::fs::symlink(at("v1"), at("current")).unwrap();
        let file = at("current/tls.crt");
        let mut watch = FileWatch::new([file.clone()]);
        fs::remove_file(at("current")).unwrap();
        assert!(watch.look().is_empty());
        assert!(watch.look().is_empty());
        std::os::unix::fs::symlink(at("v2"), at("next")).unwrap();
        fs::rename(at("next"), at("current")).unwrap();
        assert!(watch.look().is_empty());
        assert_eq!(watch.look(), [file]);
    }

    #[test]
    fn a_new_list_keeps_the_state_of_known_files() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&a, "1").unwrap();
        let mut watch = FileWatch::new([a.clone()]);
        fs::write(&a, "22").unwrap();
        fs::write(&b, "1").unwrap();
        watch.set([a.clone(), b.clone()]);
        assert!(watch.look().is_empty());
        assert_eq!(watch.look(), std::slice::from_ref(&a));
        watch.set([b]);
        fs::write(&a, "4444").unwrap();
        assert!(watch.look().is_empty() && watch.look().is_empty());
    }
}
