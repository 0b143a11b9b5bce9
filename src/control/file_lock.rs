//! The lock that keeps two processes from using one directory at the same time.

use std::fs::File;
use std::io;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// An exclusive lock (`flock(2)`) on a file or directory, until this value is dropped.
#[derive(Debug)]
pub(super) struct FileLock(File);

impl FileLock {
    /// Locks an open file. `None` while another process, or another value of this one, holds the lock.
    pub(super) fn try_lock(file: File) -> io::Result<Option<FileLock>> {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(FileLock(file))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child process shares the lock from `fork` until `exec` closes its copy of the descriptor.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_lock_is_free_even_while_a_child_process_has_a_copy_of_its_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        let open = || File::open(dir.path()).unwrap();
        let lock = FileLock::try_lock(open()).unwrap().unwrap();
        assert!(FileLock::try_lock(open()).unwrap().is_none());
        let copy = lock.0.try_clone().unwrap();
        drop(lock);
        assert!(FileLock::try_lock(open()).unwrap().is_some());
        drop(copy);
    }
}
