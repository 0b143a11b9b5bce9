//! Closed files: they are compressed, and removed when they are too old or too many.

use std::fs::{File, FileTimes, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::audit::ChainNote;
use crate::control::audit::reading::AuditFile;
use crate::control::audit::waiting::written_in_time;
use crate::serve::AuditLog;

/// How hard zstd tries: its own default.
const LEVEL: i32 = 3;

/// What is kept of closed files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Keeping {
    /// Whether they are compressed.
    pub(super) compress: bool,
    /// How old they become.
    pub(super) age_max: Duration,
    /// How many bytes they are together.
    pub(super) len_max: u64,
}

impl Keeping {
    /// Goes through the closed files of a directory. What goes wrong is logged, and tried again next time.
    pub(super) fn tidy(&self, dir: &Path, log: &AuditLog) {
        if let Err(error) = self.try_tidy(dir, log, SystemTime::now()) {
            tracing::error!(dir = %dir.display(), %error, "closed files of the audit log cannot be compressed or removed");
        }
    }

    fn try_tidy(&self, dir: &Path, log: &AuditLog, now: SystemTime) -> io::Result<()> {
        let mut closed = AuditFile::list(dir)?;
        let last = closed.pop();
        if self.compress {
            for file in closed.iter_mut().filter(|file| !file.is_compressed) {
                *file = compress(dir, file)?;
            }
        }
        let mut sizes = Vec::with_capacity(closed.len());
        for file in &closed {
            let about = std::fs::metadata(&file.path)?;
            sizes.push((about.len(), about.modified()?));
        }
        let mut total: u64 = sizes.iter().map(|(len, _)| len).sum();
        let is_old = |made: SystemTime| now.duration_since(made).is_ok_and(|age| age > self.age_max);
        let gone = sizes.iter().take_while(|(len, made)| {
            let goes = total > self.len_max || is_old(*made);
            total -= if goes { *len } else { 0 };
            goes
        });
        let gone = gone.count();
        let next = closed.get(gone).or(last.as_ref());
        let (Some(first), Some(next)) = (closed.first().filter(|_| gone > 0), next) else { return Ok(()) };
        // It is noted first: removed files of which nothing says so are a fault.
        let note = ChainNote::Removed { first: first.first, last: next.first - 1 }.body();
        if !written_in_time(log, log.submit_and_wait(note)) {
            return Err(io::Error::other("that files are removed could not be noted, so they were kept"));
        }
        for file in &closed[..gone] {
            std::fs::remove_file(&file.path)?;
            tracing::info!(file = file.name(), "a file of the audit log was removed for its age or size");
        }
        Ok(())
    }
}

/// Compresses a closed file. It keeps the time of its last line, by which its age counts.
fn compress(dir: &Path, file: &AuditFile) -> io::Result<AuditFile> {
    let to = AuditFile::compressed(dir, file.first);
    let aside = to.path.with_extension("zst.tmp");
    let mut plain = File::open(&file.path)?;
    let made = plain.metadata()?.modified()?;
    let out = OpenOptions::new().create(true).truncate(true).write(true).mode(0o640).open(&aside)?;
    zstd::stream::copy_encode(&mut plain, &out, LEVEL)?;
    out.set_times(FileTimes::new().set_modified(made))?;
    out.sync_all()?;
    std::fs::rename(&aside, &to.path)?;
    File::open(dir)?.sync_all()?;
    std::fs::remove_file(&file.path)?;
    Ok(to)
}
