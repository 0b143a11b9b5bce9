//! The queue in front of the thread that writes the audit log.
//!
//! A thread that is woken for each line costs more than the line. Lines that calls wait for are written together at the
//! end of a core's turn; other lines are collected for a while.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::engine::MailSender;

/// The most lines that may wait to be written, over all cores. When the queue is full, calls are refused or their lines
/// are lost.
pub const AUDIT_QUEUE_MAX: usize = 16 * 1024;

/// The most entries that are taken together. As many are taken at once, whether a call waits for them or not.
const BATCH_MAX: usize = 4_096;

/// How long lines are collected that no call waits for.
const COLLECT_TIME: Duration = Duration::from_millis(10);

/// A message to the thread that writes the log.
pub enum AuditEntry {
    /// Write this line, then notify `written`.
    Line {
        /// The line without its number, hash and time.
        body: Vec<u8>,
        /// Notified when the line is written. If the reply is dropped, the line was not written.
        written: Option<MailSender<()>>,
    },
    /// Close the log after all earlier lines.
    Close,
}

/// The sending end of the queue.
#[derive(Clone)]
pub(super) struct AuditQueue(Arc<Shared>);

/// The receiving end of the queue. Entries that it has not taken are dropped with it, and later ones are refused.
pub struct AuditEntries(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    entries: VecDeque<AuditEntry>,
    /// Whether the entries are to be taken now.
    is_due: bool,
    /// Whether the receiver sleeps.
    is_waiting: bool,
    is_closed: bool,
}

impl AuditQueue {
    /// An empty queue, and its receiving end.
    pub(super) fn new() -> (AuditQueue, AuditEntries) {
        let shared = Arc::<Shared>::default();
        (AuditQueue(Arc::clone(&shared)), AuditEntries(shared))
    }

    /// Adds an entry. Returns false if the queue is full or its receiver is gone. Unless the sender of a line for which a
    /// call waits calls [`AuditQueue::hurry`], that line stays in the queue.
    pub(super) fn push(&self, entry: AuditEntry) -> bool {
        let mut state = self.0.lock();
        if state.is_closed || state.entries.len() >= AUDIT_QUEUE_MAX {
            return false;
        }
        let must_notify = match &entry {
            AuditEntry::Line { written: Some(_), .. } => false,
            // The receiver must learn when to take what it collects.
            AuditEntry::Line { written: None, .. } => true,
            AuditEntry::Close => {
                state.is_due = true;
                true
            }
        };
        state.entries.push_back(entry);
        let is_first = state.entries.len() == 1;
        let is_full = state.entries.len() == BATCH_MAX;
        if is_full || state.is_due || is_first && must_notify {
            self.0.notify(state);
        }
        true
    }

    /// Whether the receiver is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.0.lock().is_closed
    }

    /// Has the entries taken now.
    pub(super) fn hurry(&self) {
        let mut state = self.0.lock();
        if !state.is_due && !state.entries.is_empty() {
            state.is_due = true;
            self.0.notify(state);
        }
    }
}

impl AuditEntries {
    /// Waits for entries, and appends them to `taken` in the order in which they were sent. It appends none if none comes
    /// within `wait`.
    pub fn take(&self, taken: &mut Vec<AuditEntry>, wait: Duration) {
        let state = self.0.wait_while(self.0.lock(), wait, |state| state.entries.is_empty());
        let collects = |state: &State| (1..BATCH_MAX).contains(&state.entries.len()) && !state.is_due;
        let mut state = self.0.wait_while(state, COLLECT_TIME, collects);
        let count = state.entries.len().min(BATCH_MAX);
        taken.extend(state.entries.drain(..count));
        state.is_due &= !state.entries.is_empty();
    }

    /// The next entry, if there is one.
    #[cfg(feature = "internals")]
    pub fn try_next(&self) -> Option<AuditEntry> {
        self.0.lock().entries.pop_front()
    }
}

impl Drop for AuditEntries {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_closed = true;
        let left = std::mem::take(&mut state.entries);
        // Those who wait for lines are woken without the lock.
        drop(state);
        drop(left);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps while `must_wait` says so, for at most `timeout`.
    fn wait_while<'s>(
        &self,
        state: MutexGuard<'s, State>,
        timeout: Duration,
        must_wait: impl Fn(&State) -> bool,
    ) -> MutexGuard<'s, State> {
        let waits = |state: &mut State| {
            state.is_waiting = must_wait(state);
            state.is_waiting
        };
        let waited = self.changed.wait_timeout_while(state, timeout, waits);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.is_waiting = false;
        state
    }

    /// Wakes the receiver, if it sleeps.
    fn notify(&self, mut state: MutexGuard<'_, State>) {
        if std::mem::take(&mut state.is_waiting) {
            drop(state);
            self.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;
    use crate::engine::mailbox;

    const LONG: Duration = Duration::from_secs(3_600);

    fn line(nth: u8) -> AuditEntry {
        AuditEntry::Line { body: vec![nth], written: None }
    }

    fn awaited(nth: u8) -> AuditEntry {
        AuditEntry::Line { body: vec![nth], written: Some(mailbox(1).0) }
    }

    fn bodies(taken: &[AuditEntry]) -> Vec<u8> {
        let body = |entry: &AuditEntry| match entry {
            AuditEntry::Line { body, .. } => body[0],
            AuditEntry::Close => u8::MAX,
        };
        taken.iter().map(body).collect()
    }

    #[test]
    fn lines_are_taken_together_and_in_order() {
        let (queue, entries) = AuditQueue::new();
        let mut taken = Vec::new();
        entries.take(&mut taken, Duration::ZERO);
        assert!(taken.is_empty());
        assert!(queue.push(line(1)) && queue.push(awaited(2)) && queue.push(line(3)));
        // No sender hurries: they are taken when they have been collected for a while.
        entries.take(&mut taken, LONG);
        assert_eq!(bodies(&taken), [1, 2, 3]);
        assert!(queue.push(awaited(4)) && queue.push(AuditEntry::Close));
        entries.take(&mut taken, LONG);
        assert_eq!(bodies(&taken), [1, 2, 3, 4, u8::MAX]);
        drop(entries);
        assert!(!queue.push(line(5)));
    }

    /// The receiver sleeps for an hour unless it is woken.
    #[test]
    fn senders_wake_the_receiver_when_there_is_work() {
        let (queue, entries) = AuditQueue::new();
        let (report, reported) = channel();
        let receiving = thread::spawn(move || {
            loop {
                let mut taken = Vec::new();
                entries.take(&mut taken, LONG);
                let is_closed = taken.iter().any(|entry| matches!(entry, AuditEntry::Close));
                report.send(bodies(&taken)).unwrap();
                if is_closed {
                    return;
                }
            }
        });
        for nth in 0..50 {
            assert!(queue.push(awaited(nth)) && queue.push(awaited(nth + 100)));
            queue.hurry();
            assert_eq!(reported.recv().unwrap(), [nth, nth + 100]);
            assert!(queue.push(line(nth)));
            assert_eq!(reported.recv().unwrap(), [nth]);
        }
        assert!(queue.push(AuditEntry::Close));
        assert_eq!(reported.recv().unwrap(), [u8::MAX]);
        receiving.join().unwrap();
    }

    #[test]
    fn a_full_batch_is_taken_at_once_and_the_rest_after_it() {
        let (queue, entries) = AuditQueue::new();
        (0..BATCH_MAX + 1).for_each(|_| assert!(queue.push(awaited(1))));
        queue.hurry();
        for count in [BATCH_MAX, 1] {
            let mut taken = Vec::new();
            entries.take(&mut taken, LONG);
            assert_eq!(taken.len(), count);
        }
        (0..AUDIT_QUEUE_MAX).for_each(|_| assert!(queue.push(line(1))));
        assert!(!queue.push(line(1)), "the queue is full");
    }
}
