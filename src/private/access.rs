use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::private::{FileError, PrivateError};

const ROOT: u32 = 0;
const GROUP_READS: u32 = 0o040;
const OTHERS: u32 = 0o077;
const OTHERS_WRITE: u32 = 0o022;
/// In a folder with this bit, nobody can remove or rename another user's file (inode(7)).
const STICKY: u32 = 0o1000;
const MODE: u32 = 0o7777;

/// The user of this process.
#[derive(Clone, Copy)]
pub(super) struct Reader {
    uid: u32,
}

impl Reader {
    pub(super) fn current() -> Reader {
        Reader { uid: rustix::process::geteuid().as_raw() }
    }

    fn trusts(self, owner: u32) -> bool {
        owner == self.uid || owner == ROOT
    }
}

pub(super) fn check_file(path: &Path, meta: &Metadata, reader: Reader) -> Result<(), PrivateError> {
    if !meta.is_file() {
        return Err(FileError::NotAFile { path: path.to_path_buf() }.into());
    }
    owned(path, meta, reader)?;
    if file_is_private(meta.mode(), meta.uid(), reader) {
        return Ok(());
    }
    Err(PrivateError::FileOpenToOthers { path: path.to_path_buf(), mode: meta.mode() & MODE })
}

pub(super) fn check_folder(path: &Path, meta: &Metadata, reader: Reader) -> Result<(), PrivateError> {
    owned(path, meta, reader)?;
    if meta.mode() & OTHERS == 0 {
        return Ok(());
    }
    Err(PrivateError::FolderOpenToOthers { path: path.to_path_buf(), mode: meta.mode() & MODE })
}

/// Checks a folder that holds a private file, or will.
pub(super) fn check_parent_folder(path: &Path, folder: &Path, reader: Reader) -> Result<(), PrivateError> {
    let meta = fs::metadata(folder).map_err(|cause| FileError::unreadable(folder, &cause))?;
    owned(folder, &meta, reader)?;
    if folder_protects(meta.mode()) {
        return Ok(());
    }
    let (path, folder) = (path.to_path_buf(), folder.to_path_buf());
    Err(PrivateError::ParentOpenToOthers { path, folder, mode: meta.mode() & MODE })
}

fn owned(path: &Path, meta: &Metadata, reader: Reader) -> Result<(), PrivateError> {
    if reader.trusts(meta.uid()) {
        return Ok(());
    }
    Err(PrivateError::ForeignOwner { path: path.to_path_buf(), owner: meta.uid(), user: reader.uid })
}

fn file_is_private(mode: u32, owner: u32, reader: Reader) -> bool {
    let shared_by_root = owner == ROOT && reader.uid != ROOT;
    let allowed = if shared_by_root { GROUP_READS } else { 0 };
    mode & OTHERS & !allowed == 0
}

fn folder_protects(mode: u32) -> bool {
    mode & OTHERS_WRITE == 0 || mode & STICKY != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_can_share_a_file_with_a_group() {
        let (root, service) = (Reader { uid: ROOT }, Reader { uid: 1000 });
        assert!(file_is_private(0o100440, ROOT, service) && file_is_private(0o100640, ROOT, service));
        assert!(!file_is_private(0o100640, 1000, service) && !file_is_private(0o100640, ROOT, root));
        assert!(!file_is_private(0o100660, ROOT, service) && !file_is_private(0o100644, ROOT, service));
        assert!(file_is_private(0o100600, 1000, service) && file_is_private(0o100400, ROOT, root));
    }

    #[test]
    fn the_owner_is_this_user_or_root() {
        assert!(Reader { uid: 1000 }.trusts(1000) && Reader { uid: 1000 }.trusts(ROOT));
        assert!(!Reader { uid: 1000 }.trusts(1001) && !Reader { uid: ROOT }.trusts(1000));
    }
}
