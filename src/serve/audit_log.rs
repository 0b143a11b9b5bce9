//! The end of the audit log that the roles hold: lines go to the thread that writes them, and calls wait for that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use futures_lite::future::or;

use crate::base::counters;
use crate::engine::{Core, MailReceiver, MailSender, mailbox};

/// The most lines that wait to be written, all cores together. Beyond it calls are refused, or their lines are lost.
pub const AUDIT_QUEUE_MAX: usize = 16 * 1024;

/// How long a call waits for its line. The log then counts as broken until lines are written again: a disk that hangs fails nothing.
pub const AUDIT_WAIT_MAX: Duration = Duration::from_secs(5);

/// The most bytes of answers that are held until their calls are written, all cores together.
const HELD_BYTES_MAX: usize = 32 * 1024 * 1024;

counters! {
    /// What became of lines of the audit log.
    pub struct AuditCounters {
        audit_lines, "Lines written to the audit log";
        audit_lines_lost, "Lines that could not be written to the audit log";
        audit_calls_refused, "Calls refused because the audit log cannot be written";
    }
}

/// What the thread of the log is asked.
pub enum AuditEntry {
    /// To write a line.
    Line {
        /// What follows the number, hash and time of the line.
        body: Vec<u8>,
        /// Who waits until it is written; a reply that is dropped says that it was not.
        written: Option<MailSender<()>>,
    },
    /// To close the log behind the lines before.
    Close,
}

/// Writes lines to the audit log, from any thread.
#[derive(Clone)]
pub struct AuditLog(Arc<Shared>);

struct Shared {
    queue: SyncSender<AuditEntry>,
    is_required: bool,
    /// Whether the thread cannot write at present.
    is_broken: AtomicBool,
    /// How many bytes of answers are held.
    held: AtomicUsize,
    counters: AuditCounters,
}

/// Whether a line is on the disk, in time.
pub struct AuditReceipt(Option<(AuditLog, MailReceiver<()>)>);

/// What an answer that is held takes of the memory for all of them. It is given back when the share is dropped.
pub(super) struct HeldShare {
    log: AuditLog,
    bytes: usize,
}

impl AuditLog {
    /// A log, and the end from which its thread takes the lines. `is_required`: calls wait for their lines, and are refused while
    /// none can be written.
    #[must_use]
    pub fn new(is_required: bool) -> (AuditLog, Receiver<AuditEntry>) {
        let (queue, entries) = sync_channel(AUDIT_QUEUE_MAX);
        let counters = AuditCounters::default();
        let (is_broken, held) = (AtomicBool::new(false), AtomicUsize::new(0));
        (AuditLog(Arc::new(Shared { queue, is_required, is_broken, held, counters })), entries)
    }

    /// Whether an answer may leave only once its line is written.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.0.is_required
    }

    /// Whether calls are refused at present.
    #[must_use]
    pub fn refuses(&self) -> bool {
        self.0.is_required && self.is_broken()
    }

    /// Whether lines cannot be written at present.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.0.is_broken.load(Ordering::Relaxed)
    }

    /// Says whether lines can be written.
    pub fn set_broken(&self, is_broken: bool) {
        self.0.is_broken.store(is_broken, Ordering::Relaxed);
    }

    /// Says that a line was waited for too long.
    pub fn on_late(&self) {
        if !self.0.is_broken.swap(true, Ordering::Relaxed) {
            let waited_s = AUDIT_WAIT_MAX.as_secs();
            tracing::error!(waited_s, "the audit log is not written in time: its disk hangs or is far too slow");
        }
    }

    /// A share of the memory for answers that are held, of zero bytes.
    pub(super) fn held_share(&self) -> HeldShare {
        HeldShare { log: self.clone(), bytes: 0 }
    }

    /// What became of lines.
    #[must_use]
    pub fn counters(&self) -> &AuditCounters {
        &self.0.counters
    }

    /// Counts lines that were written.
    pub fn on_written(&self, lines: u64) {
        self.0.counters.audit_lines.fetch_add(lines, Ordering::Relaxed);
    }

    /// How many lines could not be written.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.counters.audit_lines_lost.load(Ordering::Relaxed)
    }

    /// Counts lines that could not be written.
    pub fn on_lost(&self, lines: u64) {
        self.0.counters.audit_lines_lost.fetch_add(lines, Ordering::Relaxed);
    }

    /// Counts a call that is refused because it could not be recorded.
    pub fn on_refused(&self) {
        AuditCounters::add(&self.0.counters.audit_calls_refused);
    }

    /// Writes a line, for which nobody waits.
    pub fn write(&self, body: Vec<u8>) {
        self.send(body, None);
    }

    /// Writes a line. The receipt waits for it where the log is required.
    #[must_use]
    pub fn submit(&self, body: Vec<u8>) -> AuditReceipt {
        if self.is_required() {
            return self.submit_and_wait(body);
        }
        self.write(body);
        AuditReceipt(None)
    }

    /// The same, but nobody waits while lines cannot be written: the receipt then says at once that this one was not.
    #[must_use]
    pub(super) fn submit_if_sound(&self, body: Vec<u8>) -> AuditReceipt {
        if !self.refuses() {
            return self.submit(body);
        }
        self.write(body);
        let (_, receipt) = mailbox(1);
        AuditReceipt(Some((self.clone(), receipt)))
    }

    /// Writes a line. The receipt waits for it.
    #[must_use]
    pub fn submit_and_wait(&self, body: Vec<u8>) -> AuditReceipt {
        let (written, receipt) = mailbox(1);
        self.send(body, Some(written));
        AuditReceipt(Some((self.clone(), receipt)))
    }

    /// Closes the log behind what was written before. What is written afterwards is lost. Returns false if the queue has no room
    /// for that yet.
    #[must_use]
    pub fn close(&self) -> bool {
        // One whose thread has ended is closed.
        !matches!(self.0.queue.try_send(AuditEntry::Close), Err(TrySendError::Full(_)))
    }

    fn send(&self, body: Vec<u8>, written: Option<MailSender<()>>) {
        // The reply is dropped with a line that has no room, so that its receipt says so.
        if self.0.queue.try_send(AuditEntry::Line { body, written }).is_err() {
            self.on_lost(1);
        }
    }
}

impl AuditReceipt {
    /// Waits until the line is on the disk; true at once where nobody has to wait. False if it could not be written.
    pub async fn written(self) -> bool {
        match self.0 {
            Some((_, mut receipt)) => receipt.recv().await.is_some(),
            None => true,
        }
    }

    /// The same. A line that is not written within [`AUDIT_WAIT_MAX`] counts as one that could not be; it may still be written.
    pub async fn written_in_time(self, core: &Core) -> bool {
        let Some(log) = self.0.as_ref().map(|(log, _)| log.clone()) else { return true };
        let late = async {
            core.sleep(AUDIT_WAIT_MAX).await;
            log.on_late();
            false
        };
        or(self.written(), late).await
    }
}

impl HeldShare {
    /// Makes the share so large. Returns false and changes nothing if there is no memory for that.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let add = |held: usize| held.checked_add(more).filter(|held| *held <= HELD_BYTES_MAX);
        let is_taken = self.log.0.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok();
        self.bytes += if is_taken { more } else { 0 };
        is_taken
    }
}

impl Drop for HeldShare {
    fn drop(&mut self) {
        self.log.0.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn a_receipt_says_whether_the_line_was_written() {
        let (log, entries) = AuditLog::new(true);
        let (one, two) = (log.submit(b"a".to_vec()), log.submit(b"b".to_vec()));
        let mut one = Box::pin(one.written());
        assert_eq!(block_on(poll_once(one.as_mut())), None);
        let AuditEntry::Line { body, written } = entries.recv().unwrap() else { panic!("it is not closed") };
        assert_eq!(body, b"a");
        written.unwrap().send(()).unwrap();
        assert!(block_on(one));
        drop(entries.recv().unwrap());
        assert!(!block_on(two.written()));
    }

    #[test]
    fn held_answers_share_one_memory() {
        let (log, _entries) = AuditLog::new(true);
        let (mut one, mut two) = (log.held_share(), log.held_share());
        assert!(one.grow(1) && one.grow(HELD_BYTES_MAX - 10));
        assert!(two.grow(10) && !two.grow(11) && two.grow(10));
        drop(one);
        assert!(two.grow(HELD_BYTES_MAX) && !log.held_share().grow(1));
        drop(two);
        assert!(log.held_share().grow(HELD_BYTES_MAX));
    }

    #[test]
    fn lines_beyond_the_queue_or_without_a_thread_are_lost_and_counted() {
        let (log, entries) = AuditLog::new(true);
        (0..AUDIT_QUEUE_MAX).for_each(|_| log.write(Vec::new()));
        assert!(!block_on(log.submit(Vec::new()).written()));
        drop(entries);
        assert!(!block_on(log.submit(Vec::new()).written()));
        assert_eq!(log.lost(), 2);
        let (log, entries) = AuditLog::new(false);
        drop(entries);
        assert!(block_on(log.submit(Vec::new()).written()), "nobody waits");
        assert_eq!(log.lost(), 1);
    }
}
