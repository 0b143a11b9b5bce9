use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::{Duration, Instant};

use crate::audit::ChainNote;
use crate::base::Trouble;
use crate::control::audit::archive::{Archive, Keeping};
use crate::control::audit::dir::AuditDir;
use crate::control::audit::disk::{AuditDisk, SystemDisk};
use crate::control::audit::error::AuditError;
use crate::control::audit::worker::Worker;
use crate::engine::MailSender;
use crate::serve::{AUDIT_WAIT_MAX, AuditEntries, AuditEntry, AuditLog};

/// The longest time that lines stay without a checkpoint, and without being synced to disk if no call waits for that.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
/// How often writing is retried after an error.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// How often closing a log is retried while its queue is full.
const CLOSE_INTERVAL: Duration = Duration::from_millis(10);
/// How often the age of closed files is checked.
const TIDY_INTERVAL: Duration = Duration::from_secs(3_600);

/// How an audit log is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditWriterSettings {
    /// The directory of the log.
    pub dir: PathBuf,
    /// The file of the key that signs checkpoints.
    pub key_file: PathBuf,
    /// Whether calls wait for their lines.
    pub is_required: bool,
    /// Whether a line counts as written only once it is on the disk, and not when the operating system has it.
    pub is_synced: bool,
    /// The longest arguments of a call that its line contains, in bytes; 0 for none.
    pub arguments_len_max: usize,
    /// The length at which a file is closed, in bytes.
    pub file_len_max: u64,
    /// Whether closed files are compressed.
    pub compress: bool,
    /// The age at which closed files are removed.
    pub keep_age: Duration,
    /// The most bytes that closed files may take together.
    pub keep_len_max: u64,
}

/// The threads that write a log and process its closed files.
pub struct AuditWriter {
    log: AuditLog,
    thread: Worker,
    archive: Archive,
}

impl AuditWriter {
    /// Opens the log and starts its threads.
    ///
    /// # Errors
    ///
    /// If another process writes to it, the key cannot be used, the last file cannot be continued, or the system cannot
    /// create a thread.
    pub fn start(settings: AuditWriterSettings, version: &str) -> Result<AuditWriter, AuditError> {
        let dir = AuditDir::open(SystemDisk, &settings.dir, &settings.key_file, version)?;
        let (log, entries) = AuditLog::new(settings.is_required);
        log.keep_arguments(settings.arguments_len_max);
        let keeping =
            Keeping { compress: settings.compress, age_max: settings.keep_age, len_max: settings.keep_len_max };
        let archive = Archive::start(keeping, dir.path(), dir.lock(), log.clone());
        let (archive, tidies) = archive.map_err(AuditError::io(&settings.dir))?;
        let writing = Writing::new(dir, log.clone(), tidies, &settings, Instant::now());
        let thread = Worker::start("adit-audit", move || writing.run(&entries));
        Ok(AuditWriter { log, thread: thread.map_err(AuditError::io(&settings.dir))?, archive })
    }

    /// The sending end of the log.
    #[must_use]
    pub fn log(&self) -> AuditLog {
        self.log.clone()
    }

    /// Closes the log after all lines that were sent to it. If the disk hangs, this gives up and logs an error.
    pub fn close(self) {
        self.close_within(AUDIT_WAIT_MAX);
    }

    fn close_within(self, max: Duration) {
        self.archive.stop();
        let until = Instant::now() + max;
        while !self.log.close() && Instant::now() < until {
            thread::park_timeout(CLOSE_INTERVAL);
        }
        self.thread.end_by(until);
        // The archive ends after the writer, because it may be waiting for a note to be written.
        self.archive.end_by(until.max(Instant::now() + CLOSE_INTERVAL));
    }
}

/// The state of the writing thread.
struct Writing<D = SystemDisk> {
    dir: AuditDir<D>,
    log: AuditLog,
    /// Asks the archive thread to process closed files.
    tidies: SyncSender<()>,
    is_synced: bool,
    file_len_max: u64,
    /// How many lost lines the log has recorded.
    lost_noted: u64,
    checkpoint_at: Instant,
    tidy_at: Instant,
    /// The earliest time at which the next file is begun.
    rotate_at: Instant,
    /// Whether saving the last checkpoint fails.
    head: Trouble,
    /// Whether beginning the next file fails.
    rotation: Trouble,
}

impl<D: AuditDisk> Writing<D> {
    fn new(
        dir: AuditDir<D>,
        log: AuditLog,
        tidies: SyncSender<()>,
        settings: &AuditWriterSettings,
        now: Instant,
    ) -> Writing<D> {
        let &AuditWriterSettings { is_synced, file_len_max, .. } = settings;
        let (checkpoint_at, tidy_at) = (now + CHECKPOINT_INTERVAL, now + TIDY_INTERVAL);
        let (lost_noted, head, rotation) = Default::default();
        let rotate_at = now;
        Writing {
            dir,
            log,
            tidies,
            is_synced,
            file_len_max,
            lost_noted,
            checkpoint_at,
            tidy_at,
            rotate_at,
            head,
            rotation,
        }
    }

    fn run(mut self, entries: &AuditEntries) {
        // If this thread panics, calls that require the log must fail.
        let _broken = BrokenOnDrop(self.log.clone());
        let (mut taken, mut waiting) = (Vec::new(), Vec::new());
        loop {
            let until = if self.log.is_broken() { Instant::now() + RETRY_INTERVAL } else { self.due_at() };
            entries.take(&mut taken, until.saturating_duration_since(Instant::now()));
            let now = Instant::now();
            let is_closed = self.write(&mut taken, &mut waiting, now);
            if is_closed {
                return;
            }
            self.look_after_files(now);
        }
    }

    /// The time of the next task when no line arrives.
    fn due_at(&self) -> Instant {
        if self.dir.since_checkpoint() > 0 { self.checkpoint_at.min(self.tidy_at) } else { self.tidy_at }
    }

    /// Writes these lines. Returns whether the log was closed.
    fn write(&mut self, taken: &mut Vec<AuditEntry>, waiting: &mut Vec<MailSender<()>>, now: Instant) -> bool {
        let mut batch = self.dir.begin_batch();
        let was_broken = self.log.is_broken();
        let lost = self.log.lost();
        if lost > self.lost_noted {
            self.dir.add(&mut batch, &ChainNote::Lost { lines: lost - self.lost_noted }.body());
        }
        let (mut lines, mut is_closed) = (0, false);
        for entry in taken.drain(..) {
            match entry {
                AuditEntry::Line { body, written } => {
                    self.dir.add(&mut batch, &body);
                    waiting.extend(written);
                    lines += 1;
                }
                AuditEntry::Close => {
                    is_closed = true;
                    break;
                }
            }
        }
        let is_due = now >= self.checkpoint_at || was_broken;
        if is_closed {
            self.dir.add(&mut batch, &ChainNote::Close.body());
        }
        if is_closed || is_due {
            self.dir.add_checkpoint(&mut batch);
            self.checkpoint_at = now + CHECKPOINT_INTERVAL;
        }
        let sync = is_closed || is_due || (self.is_synced && !waiting.is_empty());
        match self.dir.write(batch, sync) {
            Ok(()) => {
                self.lost_noted = lost;
                self.log.on_written(lines as u64);
                // Checked again, because a call that waited for this write may have marked the log as broken meanwhile.
                if self.log.is_broken() {
                    self.log.set_broken(false);
                    tracing::info!("the audit log can be written again");
                }
                for written in waiting.drain(..) {
                    // The send fails if the call was cancelled.
                    let _ = written.send(());
                }
                match self.dir.keep_head() {
                    Err(error) if self.head.begins() => {
                        tracing::error!(%error, "the last checkpoint of the audit log cannot be saved; adit will retry");
                    }
                    Ok(()) if self.head.ends() => {
                        tracing::info!("the last checkpoint of the audit log can be saved again")
                    }
                    _ => {}
                }
            }
            Err(error) => {
                self.log.on_lost(lines as u64);
                if !was_broken {
                    let dir = self.dir.path().display();
                    tracing::error!(%dir, %error, "the audit log cannot be written: free some space on its disk, or check the directory");
                }
                self.log.set_broken(true);
                waiting.clear();
            }
        }
        is_closed
    }

    fn look_after_files(&mut self, now: Instant) {
        let is_full = !self.log.is_broken() && self.dir.is_full(self.file_len_max);
        if is_full && now >= self.rotate_at {
            match self.dir.rotate() {
                Ok(()) if self.rotation.ends() => tracing::info!("the next file of the audit log was started"),
                Ok(()) => {}
                Err(error) => {
                    self.rotate_at = now + RETRY_INTERVAL;
                    if self.rotation.begins() {
                        tracing::error!(%error, "the next file of the audit log cannot be started; adit will retry");
                    }
                }
            }
            self.tidy_at = now;
        }
        if now >= self.tidy_at {
            self.tidy_at = now + TIDY_INTERVAL;
            // A full channel means that a pass is already pending.
            let _ = self.tidies.try_send(());
        }
    }
}

/// Marks the log as broken when the writing thread ends by a panic.
struct BrokenOnDrop(AuditLog);

impl Drop for BrokenOnDrop {
    fn drop(&mut self) {
        self.0.set_broken(true);
    }
}

#[cfg(test)]
#[path = "kills_tests.rs"]
mod kills;
#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
