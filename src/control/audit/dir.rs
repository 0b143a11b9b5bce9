use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::audit::{CHECKPOINT_LINES, Chain, ChainNote, ChainedLine, CheckpointKey, Resumed, Resumer};
use crate::control::audit::disk::{AuditDisk, FILE_MODE, SystemDisk};
use crate::control::audit::error::AuditError;
use crate::control::audit::key;
use crate::control::audit::reading::AuditFile;
use crate::control::file_lock::FileLock;
use crate::control::wall_time::WallTime;

/// The file with the last checkpoint.
pub(super) const HEAD: &str = "audit.head";
/// The file with the public key.
pub(super) const PUBLIC_KEY: &str = "audit.pub";
const LOCK: &str = "audit.lock";
const DIR_MODE: u32 = 0o750;
const DAY_MS: i64 = 24 * 3_600 * 1_000;

/// The directory of a log, and its current file.
pub(super) struct AuditDir<D = SystemDisk> {
    disk: D,
    path: PathBuf,
    key: CheckpointKey,
    file: File,
    /// How many bytes of the file are valid. Anything behind them must be cut off.
    len: u64,
    is_torn: bool,
    chain: Chain,
    since_checkpoint: u64,
    last_time: WallTime,
    /// The day of the file, counted from 1970.
    day: i64,
    /// Whether the file is new and does not contain its first note yet.
    file_note_due: bool,
    /// The last checkpoint, if it is not saved in its file yet.
    head_due: Option<Vec<u8>>,
    /// Held while this process writes to the log or processes closed files.
    lock: Arc<FileLock>,
}

/// Lines that are written together.
pub(super) struct Batch {
    bytes: Vec<u8>,
    chain: Chain,
    since_checkpoint: u64,
    time: WallTime,
    time_text: String,
    /// The last checkpoint among them.
    head: Option<Vec<u8>>,
}

impl<D: AuditDisk> AuditDir<D> {
    /// Opens the log, or creates it if there is none. If its process was killed, the log is continued: a partial line
    /// is removed, which is recorded in the log.
    ///
    /// # Errors
    ///
    /// If another process writes to it, the key cannot be used, or the last file cannot be continued.
    pub(super) fn open(disk: D, path: &Path, key_file: &Path, version: &str) -> Result<AuditDir<D>, AuditError> {
        DirBuilder::new().recursive(true).mode(DIR_MODE).create(path).map_err(AuditError::io(path))?;
        let lock = lock(path)?;
        let key = key::load_or_make(key_file)?;
        let public = key.public();
        let named = path.join(PUBLIC_KEY);
        replace(&disk, path, PUBLIC_KEY, format!("{}\n", public.text()).as_bytes()).map_err(AuditError::io(named))?;
        let (file, resumed, len, last_time) = resume(&disk, path)?;
        let Resumed { chain, notes } = resumed;
        let path = path.to_path_buf();
        let day = if len > 0 { day_of(last_time) } else { day_of(disk.now()) };
        let since_checkpoint = 0;
        let mut dir = AuditDir {
            disk,
            path,
            key,
            file,
            len,
            is_torn: true,
            chain,
            since_checkpoint,
            last_time,
            day,
            file_note_due: false,
            head_due: None,
            lock: Arc::new(lock),
        };
        let mut batch = dir.begin_batch();
        dir.add(&mut batch, &ChainNote::Open { version, key: public }.body());
        notes.iter().for_each(|note| dir.add(&mut batch, &note.body()));
        dir.add_checkpoint(&mut batch);
        let path = dir.path.clone();
        let written = dir.write(batch, true).and_then(|()| dir.keep_head());
        // From now on there is a checkpoint in its file, whatever is written and lost.
        written.and_then(|()| dir.disk.sync_names(&dir.path)).map_err(AuditError::io(path))?;
        Ok(dir)
    }

    /// Begins a batch. Its first lines record a new file and a clock that was set back, if there are any.
    pub(super) fn begin_batch(&self) -> Batch {
        let time = self.disk.now();
        let mut batch = Batch {
            bytes: Vec::new(),
            chain: self.chain,
            since_checkpoint: self.since_checkpoint,
            time,
            time_text: time.to_string(),
            head: None,
        };
        if self.file_note_due {
            self.add(&mut batch, &ChainNote::File { key: self.key.public() }.body());
        }
        if time < self.last_time {
            let ms = u64::try_from(self.last_time.since(time).as_millis()).unwrap_or(u64::MAX);
            self.add(&mut batch, &ChainNote::ClockBack { ms }.body());
        }
        batch
    }

    /// Adds a line, and a checkpoint when one is due.
    pub(super) fn add(&self, batch: &mut Batch, body: &[u8]) {
        batch.chain.append(&batch.time_text, body, &mut batch.bytes);
        batch.since_checkpoint += 1;
        if batch.since_checkpoint >= CHECKPOINT_LINES {
            self.add_checkpoint(batch);
        }
    }

    /// Adds a checkpoint, if there are lines that have none.
    pub(super) fn add_checkpoint(&self, batch: &mut Batch) {
        if batch.since_checkpoint == 0 {
            return;
        }
        let start = batch.bytes.len();
        self.key.append(&mut batch.chain, &batch.time_text, &mut batch.bytes);
        batch.since_checkpoint = 0;
        batch.head = Some(batch.bytes[start..].to_vec());
    }

    /// Writes the lines. With `sync`, they are on the disk when it returns. After an error none of them is in the log.
    ///
    /// # Errors
    ///
    /// The error of the system. The next call tries again.
    pub(super) fn write(&mut self, batch: Batch, sync: bool) -> io::Result<()> {
        if std::mem::replace(&mut self.is_torn, true) {
            self.disk.set_len(&self.file, self.len)?;
        }
        self.disk.write(&self.file, &batch.bytes)?;
        if sync {
            self.disk.sync(&self.file)?;
        }
        (self.is_torn, self.file_note_due) = (false, false);
        self.len += batch.bytes.len() as u64;
        (self.chain, self.since_checkpoint, self.last_time) = (batch.chain, batch.since_checkpoint, batch.time);
        self.head_due = batch.head.or(self.head_due.take());
        Ok(())
    }

    /// Saves the last checkpoint in its file, if it is not there yet.
    ///
    /// # Errors
    ///
    /// The error of the system. The next call tries again.
    pub(super) fn keep_head(&mut self) -> io::Result<()> {
        if let Some(head) = &self.head_due {
            replace(&self.disk, &self.path, HEAD, head)?;
            self.head_due = None;
        }
        Ok(())
    }

    /// Whether the file must be closed: it has reached this length, or is of another day.
    pub(super) fn is_full(&self, len_max: u64) -> bool {
        self.len >= len_max || (self.len > 0 && day_of(self.disk.now()) != self.day)
    }

    /// Closes the file and begins the next one.
    ///
    /// # Errors
    ///
    /// The error of the system. The log continues in the old file, or in a new one whose first note is written before
    /// the next line.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        let mut batch = self.begin_batch();
        self.add_checkpoint(&mut batch);
        self.write(batch, true)?;
        // A process that continues the next file finds this checkpoint at the end of the file before, and no older one.
        self.keep_head()?;
        let file = create(&self.disk, &self.path, self.chain.next())?;
        (self.file, self.len, self.is_torn, self.file_note_due) = (file, 0, false, true);
        let batch = self.begin_batch();
        self.day = day_of(batch.time);
        self.write(batch, true)
    }

    /// How many lines have no checkpoint yet.
    pub(super) fn since_checkpoint(&self) -> u64 {
        self.since_checkpoint
    }

    /// The lock that excludes other processes from the directory.
    pub(super) fn lock(&self) -> Arc<FileLock> {
        self.lock.clone()
    }

    /// The path of the directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn day_of(time: WallTime) -> i64 {
    time.0 / DAY_MS
}

fn lock(path: &Path) -> Result<FileLock, AuditError> {
    let file = path.join(LOCK);
    let options = OpenOptions::new().create(true).truncate(false).write(true).mode(FILE_MODE).open(&file);
    let lock = options.and_then(FileLock::try_lock).map_err(AuditError::io(&file))?;
    lock.ok_or_else(|| AuditError::InUse { path: path.to_path_buf() })
}

/// Opens the last file of the log, and finds the end of its valid lines. A log without a complete line starts over.
fn resume(disk: &impl AuditDisk, path: &Path) -> Result<(File, Resumed, u64, WallTime), AuditError> {
    let head = std::fs::read(path.join(HEAD)).ok();
    let mut files = AuditFile::list(path).map_err(AuditError::io(path))?;
    let mut rest = Vec::new();
    while let Some(last) = files.pop() {
        let at_last = || AuditError::io(&last.path);
        let before = files.iter().rev().find_map(|file| end_of(file).transpose()).transpose()?;
        let mut resumer = Resumer::new(head.as_deref(), before);
        let (mut lines, mut len, mut time) = (last.lines().map_err(at_last())?, 0, None);
        rest.clear();
        while let Some((line, is_whole)) = lines.next_line().map_err(at_last())? {
            if !is_whole {
                rest = line.to_vec();
                break;
            }
            len += line.len() as u64 + 1;
            time = ChainedLine::parse(line).and_then(|line| line.time.parse().ok()).or(time);
            resumer.line(line);
        }
        if len == 0 {
            // The file is empty: its process was killed after creating it, or it was truncated.
            disk.remove(&last.path).map_err(at_last())?;
            continue;
        }
        let Some(resumed) = resumer.finish(&rest) else {
            return Err(AuditError::NotContinued { path: last.path });
        };
        if last.is_compressed {
            // The rest of the file is lost, so the log continues in a new one.
            let file = create(disk, path, resumed.chain.next()).map_err(at_last())?;
            return Ok((file, resumed, 0, time.unwrap_or_default()));
        }
        let file = disk.open(&last.path).map_err(at_last())?;
        return Ok((file, resumed, len, time.unwrap_or_default()));
    }
    let resumed = Resumed::anew(head.as_deref(), &rest);
    let file = create(disk, path, resumed.chain.next()).map_err(AuditError::io(path))?;
    Ok((file, resumed, 0, WallTime::default()))
}

/// The chain at the end of a closed file.
fn end_of(file: &AuditFile) -> Result<Option<Chain>, AuditError> {
    let mut lines = file.lines().map_err(AuditError::io(&file.path))?;
    let mut end = None;
    while let Some((line, _)) = lines.next_line().map_err(AuditError::io(&file.path))? {
        end = Chain::after(line);
    }
    Ok(end)
}

fn create(disk: &impl AuditDisk, dir: &Path, first: u64) -> io::Result<File> {
    let path = AuditFile::plain(dir, first).path;
    let file = disk.open(&path)?;
    if let Err(error) = disk.sync_names(dir) {
        // The next line goes elsewhere.
        let _ = disk.remove(&path);
        return Err(error);
    }
    Ok(file)
}

/// Replaces a small file of the directory atomically.
fn replace(disk: &impl AuditDisk, dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let aside = dir.join(format!("{name}.tmp"));
    let file = disk.open_empty(&aside)?;
    disk.write(&file, content)?;
    disk.sync(&file)?;
    disk.rename(&aside, &dir.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::AuditCallLine;

    #[test]
    fn a_file_begins_with_its_note_even_if_that_could_not_be_written_at_once() {
        let home = tempfile::tempdir().unwrap();
        let mut dir =
            AuditDir::open(SystemDisk, &home.path().join("log"), &home.path().join("audit.key"), "1.2.3").unwrap();
        let next = AuditFile::plain(dir.path(), dir.chain.next()).path;
        std::os::unix::fs::symlink("/dev/full", &next).unwrap();
        dir.rotate().unwrap_err();
        // There is space again.
        std::fs::remove_file(&next).unwrap();
        dir.file = create(&SystemDisk, dir.path(), dir.chain.next()).unwrap();
        for _ in 0..2 {
            let mut batch = dir.begin_batch();
            dir.add(&mut batch, &AuditCallLine { role: "edge", outcome: "ok", ..AuditCallLine::default() }.body());
            dir.write(batch, true).unwrap();
        }
        let text = std::fs::read_to_string(&next).unwrap();
        let kinds: Vec<bool> = text.lines().map(|line| line.contains("\"kind\":\"file\"")).collect();
        assert_eq!(kinds, [true, false, false], "{text}");
        dir.keep_head().unwrap();
        assert_eq!(crate::control::audit::verify(dir.path(), None, &mut |_, _| {}).unwrap().faults, []);
    }
}
