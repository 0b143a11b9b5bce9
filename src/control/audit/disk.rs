use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::control::wall_time::WallTime;

/// The mode of all files. The group may read them, for programs that ship the log.
pub(super) const FILE_MODE: u32 = 0o640;

/// The steps by which the writer of a log changes its directory, and its clock. Tests let steps fail, and end a process at any of
/// them.
pub(super) trait AuditDisk {
    /// The time of the system clock.
    fn now(&self) -> WallTime {
        WallTime::now()
    }

    /// Opens a file to which lines are appended, and creates it if it does not exist.
    fn open(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).mode(FILE_MODE).open(path)
    }

    /// Opens a file without content.
    fn open_empty(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().create(true).truncate(true).write(true).mode(FILE_MODE).open(path)
    }

    /// Writes all of the bytes at the end of a file.
    fn write(&self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    /// Cuts a file off.
    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    /// Waits until the content of a file is on the disk.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// The same, with its times.
    fn sync_all(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    /// Waits until the names of the files in a directory are on the disk.
    fn sync_names(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    /// Gives a file another name, in place of the file that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }
}

/// The file system of the operating system.
pub(super) struct SystemDisk;

impl AuditDisk for SystemDisk {}
