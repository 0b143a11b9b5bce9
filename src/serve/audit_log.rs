//! The sending end of the audit log: roles queue lines for the thread that writes them, and calls wait until their
//! lines are written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::base::counters;
use crate::engine::{Core, MailReceiver, MailSender, mailbox};
use crate::serve::audit_queue::{AuditEntries, AuditEntry, AuditQueue};

/// How long a call waits for its line. After that the log counts as broken until lines are written again, so that a
/// disk that hangs does not block calls.
pub const AUDIT_WAIT_MAX: Duration = Duration::from_secs(5);

/// The most bytes of answers that are held until their calls are written, over all cores.
const HELD_BYTES_MAX: usize = 32 * 1024 * 1024;

counters! {
    /// Counters of the lines of the audit log.
    pub struct AuditCounters {
        audit_lines, "Lines written to the audit log";
        audit_lines_lost, "Lines that could not be written to the audit log";
        audit_calls_refused, "Calls refused because the audit log cannot be written";
    }
}

/// Writes lines to the audit log, from any thread.
#[derive(Clone)]
pub struct AuditLog(Arc<Shared>);

struct Shared {
    queue: AuditQueue,
    is_required: bool,
    /// The longest arguments of a call that its line contains, in bytes.
    arguments_len_max: AtomicUsize,
    /// Whether lines cannot be written at present.
    is_broken: AtomicBool,
    /// Bytes of answers that are held.
    held: AtomicUsize,
    counters: AuditCounters,
}

/// Waits until a line is on the disk.
pub struct AuditReceipt(Option<Awaited>);

/// A line that is waited for.
struct Awaited {
    log: AuditLog,
    written: MailReceiver<()>,
    /// Whether the queue was told that somebody waits.
    is_hurried: bool,
}

/// The bytes that one held answer takes of [`HELD_BYTES_MAX`]; released on drop.
pub(super) struct HeldShare {
    log: AuditLog,
    bytes: usize,
}

impl AuditLog {
    /// A log, and the receiving end for its thread. If `is_required`, calls wait for their lines and are refused while
    /// lines cannot be written.
    #[must_use]
    pub fn new(is_required: bool) -> (AuditLog, AuditEntries) {
        let (queue, entries) = AuditQueue::new();
        let counters = AuditCounters::default();
        let (is_broken, held) = (AtomicBool::new(false), AtomicUsize::new(0));
        let arguments_len_max = AtomicUsize::new(0);
        let shared = Shared { queue, is_required, arguments_len_max, is_broken, held, counters };
        (AuditLog(Arc::new(shared)), entries)
    }

    /// Has lines contain the arguments of calls that are no longer than this, in bytes.
    pub fn keep_arguments(&self, len_max: usize) {
        self.0.arguments_len_max.store(len_max, Ordering::Relaxed);
    }

    /// The longest arguments of a call that its line contains; 0 if lines contain none.
    #[must_use]
    pub fn arguments_len_max(&self) -> usize {
        self.0.arguments_len_max.load(Ordering::Relaxed)
    }

    /// Whether an answer may be sent only after its line is written.
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

    /// Sets whether lines can be written.
    pub fn set_broken(&self, is_broken: bool) {
        self.0.is_broken.store(is_broken, Ordering::Relaxed);
    }

    /// Marks the log as broken because the wait for a line timed out.
    pub fn on_late(&self) {
        if !self.0.is_broken.swap(true, Ordering::Relaxed) {
            let waited_s = AUDIT_WAIT_MAX.as_secs();
            tracing::error!(waited_s, "the audit log was not written in time: its disk hangs or is too slow");
        }
    }

    /// An empty share of the memory for held answers.
    pub(super) fn held_share(&self) -> HeldShare {
        HeldShare { log: self.clone(), bytes: 0 }
    }

    /// Counters of the log's lines.
    #[must_use]
    pub fn counters(&self) -> &AuditCounters {
        &self.0.counters
    }

    /// Counts lines that have been written.
    pub fn on_written(&self, lines: u64) {
        self.0.counters.audit_lines.fetch_add(lines, Ordering::Relaxed);
    }

    /// The number of lines that could not be written.
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

    /// Queues a line; no caller waits for it.
    pub fn write(&self, body: Vec<u8>) {
        self.send(body, None);
    }

    /// Queues a line. If the log is required, the receipt waits for it.
    #[must_use]
    pub fn submit(&self, body: Vec<u8>) -> AuditReceipt {
        if self.is_required() {
            return self.submit_and_wait(body);
        }
        self.write(body);
        AuditReceipt(None)
    }

    /// Like [`AuditLog::submit`], but while the log is broken the receipt reports a failure at once.
    #[must_use]
    pub(super) fn submit_if_sound(&self, body: Vec<u8>) -> AuditReceipt {
        if !self.refuses() {
            return self.submit(body);
        }
        self.write(body);
        AuditReceipt(Some(Awaited { log: self.clone(), written: mailbox(1).1, is_hurried: true }))
    }

    /// Queues a line. The receipt always waits for it.
    #[must_use]
    pub fn submit_and_wait(&self, body: Vec<u8>) -> AuditReceipt {
        let (sender, written) = mailbox(1);
        self.send(body, Some(sender));
        AuditReceipt(Some(Awaited { log: self.clone(), written, is_hurried: false }))
    }

    /// Closes the log after the lines that are queued. Later lines are lost. Returns false if the queue is full.
    #[must_use]
    pub fn close(&self) -> bool {
        // A log whose thread has ended is already closed.
        self.0.queue.push(AuditEntry::Close) || self.0.queue.is_closed()
    }

    fn send(&self, body: Vec<u8>, written: Option<MailSender<()>>) {
        // If the queue is full, the reply is dropped with the line, and the receipt reports that.
        if !self.0.queue.push(AuditEntry::Line { body, written }) {
            self.on_lost(1);
        }
    }
}

impl AuditReceipt {
    /// Waits until the line is on the disk; returns true at once if the call does not need to wait. False if the line
    /// could not be written.
    pub async fn written(self) -> bool {
        let Some(mut awaited) = self.0 else { return true };
        awaited.hurry();
        awaited.written.recv().await.is_some()
    }

    /// Like [`AuditReceipt::written`], together with the lines of other calls in this turn of the core, and with a timeout
    /// of [`AUDIT_WAIT_MAX`]. A line that timed out may still be written later.
    pub async fn written_in_time(self, core: &Core) -> bool {
        let Some(log) = self.0.as_ref().map(|awaited| awaited.log.clone()) else { return true };
        let written = async {
            core.turn_end().await;
            self.written().await
        };
        core.timeout(AUDIT_WAIT_MAX, written).await.unwrap_or_else(|_| {
            log.on_late();
            false
        })
    }
}

impl Awaited {
    fn hurry(&mut self) {
        if !std::mem::replace(&mut self.is_hurried, true) {
            self.log.0.queue.hurry();
        }
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.hurry();
    }
}

impl HeldShare {
    /// Sets the size of the share. Returns false, without a change, if too little memory is left.
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
    use crate::serve::audit_queue::AUDIT_QUEUE_MAX;

    #[test]
    fn a_receipt_says_whether_the_line_was_written() {
        let (log, entries) = AuditLog::new(true);
        let (one, two) = (log.submit(b"a".to_vec()), log.submit(b"b".to_vec()));
        let mut one = Box::pin(one.written());
        assert_eq!(block_on(poll_once(one.as_mut())), None);
        let AuditEntry::Line { body, written } = entries.try_next().unwrap() else { panic!("expected a line") };
        assert_eq!(body, b"a");
        written.unwrap().send(()).unwrap();
        assert!(block_on(one));
        drop(entries.try_next().unwrap());
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
