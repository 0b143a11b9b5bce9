//! Compresses closed files, and removes them when they are too old or too large together.

use std::fs::{File, FileTimes};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use crate::audit::{ChainNote, ChainedLine};
use crate::control::audit::dir::HEAD;
use crate::control::audit::disk::{AuditDisk, SystemDisk};
use crate::control::audit::reading::{AuditFile, COMPRESSING};
use crate::control::audit::waiting::written_in_time;
use crate::control::audit::worker::Worker;
use crate::control::file_lock::FileLock;
use crate::serve::AuditLog;

/// The compression level. Hashes do not compress, and the search of higher levels gains nothing from them: lines of calls are 16 %
/// larger at level 3, the default, and take several times the CPU.
const LEVEL: i32 = 1;
/// How soon closed files are processed again after an error.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// The rules for closed files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Keeping {
    /// Whether they are compressed.
    pub(super) compress: bool,
    /// The age at which a file is removed.
    pub(super) age_max: Duration,
    /// The most bytes that all files together may take.
    pub(super) len_max: u64,
}

/// The thread that compresses and removes closed files.
pub(super) struct Archive {
    thread: Worker,
    is_stopped: Arc<AtomicBool>,
}

impl Archive {
    /// Starts the thread. It processes the directory's files at once, and then whenever the returned sender asks for
    /// it. `lock` is held until the thread has ended.
    ///
    /// # Errors
    ///
    /// If the system cannot create a thread.
    pub(super) fn start(
        keeping: Keeping,
        dir: &Path,
        lock: Arc<FileLock>,
        log: AuditLog,
    ) -> io::Result<(Archive, SyncSender<()>)> {
        let (tidies, wanted) = sync_channel(1);
        let is_stopped = Arc::new(AtomicBool::new(false));
        let tidying = Tidying { keeping, dir: dir.into(), log, is_stopped: is_stopped.clone() };
        let run = move || {
            let _lock = lock;
            tidying.run(&wanted);
        };
        Ok((Archive { thread: Worker::start("adit-audit-files", run)?, is_stopped }, tidies))
    }

    /// Makes the thread stop before the next file.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    /// Waits for the end of the thread, which comes when all senders are dropped.
    pub(super) fn end_by(self, until: Instant) {
        self.thread.end_by(until);
    }
}

/// The state of the thread.
struct Tidying {
    keeping: Keeping,
    dir: Box<Path>,
    log: AuditLog,
    is_stopped: Arc<AtomicBool>,
}

impl Tidying {
    fn run(&self, wanted: &Receiver<()>) {
        sweep(&self.dir);
        while !self.is_stopped() {
            let next = match self.tidy(SystemTime::now()) {
                true => wanted.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => wanted.recv_timeout(RETRY_INTERVAL),
            };
            if next == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// Processes the closed files. An error with one file is logged and does not affect the others. Returns whether
    /// there were no errors.
    fn tidy(&self, now: SystemTime) -> bool {
        // Old files are removed first, which makes room if the disk is full. The size limit applies after compression.
        let mut is_well = self.remove(u64::MAX, now);
        if self.keeping.compress {
            is_well &= self.compress();
        }
        is_well & self.remove(self.keeping.len_max, now)
    }

    /// Compresses closed files.
    fn compress(&self) -> bool {
        let dir = self.dir.display();
        let mut closed = match AuditFile::list(&self.dir) {
            Ok(files) => files,
            Err(error) => {
                tracing::error!(%dir, %error, "the files of the audit log cannot be listed");
                return false;
            }
        };
        closed.pop();
        let mut is_well = true;
        for file in closed.iter().filter(|file| !file.is_compressed) {
            if self.is_stopped() {
                break;
            }
            if let Err(error) = compress(&SystemDisk, &self.dir, file) {
                is_well = false;
                tracing::error!(%dir, file = file.name(), %error, "a closed file of the audit log cannot be compressed; adit will retry");
            }
        }
        is_well
    }

    /// Removes closed files that are too old, or that exceed the size limit.
    fn remove(&self, len_max: u64, now: SystemTime) -> bool {
        let removed = if self.is_stopped() { Ok(()) } else { self.try_remove(len_max, now) };
        // A log that is being closed accepts no notes, so this error is expected then.
        if let Err(error) = removed
            && !self.is_stopped()
        {
            tracing::error!(dir = %self.dir.display(), %error, "closed files of the audit log cannot be removed; adit will retry");
            return false;
        }
        true
    }

    fn try_remove(&self, len_max: u64, now: SystemTime) -> io::Result<()> {
        let mut closed = AuditFile::list(&self.dir)?;
        let last = closed.pop();
        let mut sizes = Vec::with_capacity(closed.len());
        for file in &closed {
            let about = std::fs::metadata(&file.path)?;
            sizes.push((about.len(), about.modified()?));
        }
        let mut total: u64 = sizes.iter().map(|(len, _)| len).sum();
        let is_old = |made: SystemTime| now.duration_since(made).is_ok_and(|age| age > self.keeping.age_max);
        let gone = sizes.iter().take_while(|(len, made)| {
            let goes = total > len_max || is_old(*made);
            total -= if goes { *len } else { 0 };
            goes
        });
        let gone = before(head_of(&self.dir), &closed, last.as_ref(), gone.count());
        let next = closed.get(gone).or(last.as_ref());
        let (Some(first), Some(next)) = (closed.first().filter(|_| gone > 0), next) else { return Ok(()) };
        // The removal is recorded first, because missing files without a note would count as a fault.
        let note = ChainNote::Removed { first: first.first, last: next.first - 1 }.body();
        if !written_in_time(&self.log, self.log.submit_and_wait(note)) {
            return Err(io::Error::other("the removal of files could not be recorded in the log, so they were kept"));
        }
        for file in &closed[..gone] {
            std::fs::remove_file(&file.path)?;
            tracing::info!(file = file.name(), "a file of the audit log was removed for its age or size");
        }
        Ok(())
    }
}

/// How many of the first `gone` closed files may be removed: only those before the file with the last checkpoint, which
/// is needed to verify the end of the log.
fn before(head: Option<u64>, closed: &[AuditFile], last: Option<&AuditFile>, gone: usize) -> usize {
    let next = |nth: usize| closed.get(nth + 1).or(last).map(|file| file.first);
    (0..gone).take_while(|nth| next(*nth).is_some_and(|next| Some(next) <= head)).count()
}

/// The number of the last checkpoint that is saved beside the log.
fn head_of(dir: &Path) -> Option<u64> {
    let head = std::fs::read(dir.join(HEAD)).ok()?;
    Some(ChainedLine::parse(head.strip_suffix(b"\n").unwrap_or(&head))?.seq)
}

/// Removes the temporary files of interrupted compressions.
fn sweep(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.ends_with(COMPRESSING))
            && let Err(error) = std::fs::remove_file(entry.path())
        {
            tracing::error!(path = %entry.path().display(), %error, "a leftover of compression cannot be removed");
        }
    }
}

/// Compresses a closed file. After an error no partial file is left.
pub(super) fn compress(disk: &impl AuditDisk, dir: &Path, file: &AuditFile) -> io::Result<()> {
    let to = AuditFile::compressed(dir, file.first);
    let aside = AuditFile::compressing(dir, file.first);
    if let Err(error) = write_compressed(disk, file, &aside).and_then(|()| disk.rename(&aside, &to.path)) {
        // The file may not exist yet.
        let _ = disk.remove(&aside);
        return Err(error);
    }
    disk.sync_names(dir)?;
    disk.remove(&file.path)
}

/// The file keeps the modification time of its last line, which determines its age.
fn write_compressed(disk: &impl AuditDisk, file: &AuditFile, to: &Path) -> io::Result<()> {
    let mut plain = File::open(&file.path)?;
    let made = plain.metadata()?.modified()?;
    let out = disk.open_empty(to)?;
    zstd::stream::copy_encode(&mut plain, Output { disk, file: &out }, LEVEL)?;
    out.set_times(FileTimes::new().set_modified(made))?;
    disk.sync_all(&out)
}

/// A file that is written on a disk.
struct Output<'a, D> {
    disk: &'a D,
    file: &'a File,
}

impl<D: AuditDisk> io::Write for Output<'_, D> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk.write(self.file, bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
