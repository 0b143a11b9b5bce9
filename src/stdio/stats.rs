//! What happens to the children of a route, counted for the status and the metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// What is counted, in the order of [`StdioEvent::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StdioEvent {
    /// A child was started.
    Started,
    /// A child could not be started.
    StartFailed,
    /// A child was started again, because the one before has failed.
    Restarted,
    /// A child has ended with exit code 0.
    Ended,
    /// A child has ended with another exit code.
    Failed,
    /// A child was killed by a signal that adit did not send.
    Killed,
    /// A child did not answer in time after its start.
    StartTimedOut,
    /// A child was not used for long enough, or made room for another.
    Idled,
    /// A child was ended with its session, its route or the connector.
    Closed,
    /// A line of standard output that is other text.
    TextLine,
    /// A line of standard output that is too long.
    LongLine,
    /// A line of standard output that looks like a message and is none.
    MalformedLine,
    /// A message that refers to a request that the child never got.
    UnknownId,
    /// An answer that came late, or twice.
    LateAnswer,
    /// A message that may be meant for several agents, and went to none.
    Unowned,
    /// A line of standard error that was not logged.
    ErrorLineDropped,
    /// A message that its agent did not take.
    MessageDropped,
    /// An answer that was longer than allowed, or that its agent did not take.
    AnswerDropped,
    /// A request refused because no child could be added.
    ChildRefused,
    /// A request refused because no session could be added.
    SessionRefused,
    /// A request refused because too many wait for an answer.
    CallRefused,
    /// A request refused because it, or all together, are too long.
    LengthRefused,
    /// A request refused because no child runs, and none is started for a while.
    DownRefused,
}

impl StdioEvent {
    /// All events, in their order.
    pub const ALL: [StdioEvent; 23] = [
        StdioEvent::Started,
        StdioEvent::StartFailed,
        StdioEvent::Restarted,
        StdioEvent::Ended,
        StdioEvent::Failed,
        StdioEvent::Killed,
        StdioEvent::StartTimedOut,
        StdioEvent::Idled,
        StdioEvent::Closed,
        StdioEvent::TextLine,
        StdioEvent::LongLine,
        StdioEvent::MalformedLine,
        StdioEvent::UnknownId,
        StdioEvent::LateAnswer,
        StdioEvent::Unowned,
        StdioEvent::ErrorLineDropped,
        StdioEvent::MessageDropped,
        StdioEvent::AnswerDropped,
        StdioEvent::ChildRefused,
        StdioEvent::SessionRefused,
        StdioEvent::CallRefused,
        StdioEvent::LengthRefused,
        StdioEvent::DownRefused,
    ];

    /// The family of the metric, and the kind within it.
    #[must_use]
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            StdioEvent::Started => ("starts", "started"),
            StdioEvent::StartFailed => ("starts", "failed"),
            StdioEvent::Restarted => ("starts", "restarted"),
            StdioEvent::Ended => ("exits", "code_0"),
            StdioEvent::Failed => ("exits", "other_code"),
            StdioEvent::Killed => ("exits", "signal"),
            StdioEvent::StartTimedOut => ("exits", "start_timeout"),
            StdioEvent::Idled => ("exits", "idle"),
            StdioEvent::Closed => ("exits", "closed"),
            StdioEvent::TextLine => ("strays", "text"),
            StdioEvent::LongLine => ("strays", "too_long"),
            StdioEvent::MalformedLine => ("strays", "malformed"),
            StdioEvent::UnknownId => ("strays", "unknown_id"),
            StdioEvent::LateAnswer => ("strays", "late"),
            StdioEvent::Unowned => ("strays", "unowned"),
            StdioEvent::ErrorLineDropped => ("dropped", "error_line"),
            StdioEvent::MessageDropped => ("dropped", "message"),
            StdioEvent::AnswerDropped => ("dropped", "answer"),
            StdioEvent::ChildRefused => ("refused", "children"),
            StdioEvent::SessionRefused => ("refused", "sessions"),
            StdioEvent::CallRefused => ("refused", "calls"),
            StdioEvent::LengthRefused => ("refused", "length"),
            StdioEvent::DownRefused => ("refused", "not_running"),
        }
    }
}

/// The counts of the children of one route, which its core writes and others read.
#[derive(Debug, Default)]
pub struct StdioStats {
    counts: [AtomicU64; StdioEvent::ALL.len()],
    children: AtomicU64,
    sessions: AtomicU64,
    down: Mutex<Option<Box<str>>>,
}

impl StdioStats {
    /// How often this has happened.
    #[must_use]
    pub fn count(&self, event: StdioEvent) -> u64 {
        self.counts[event as usize].load(Ordering::Relaxed)
    }

    /// The number of children that run.
    #[must_use]
    pub fn children(&self) -> u64 {
        self.children.load(Ordering::Relaxed)
    }

    /// The number of open sessions.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Why the last child has failed; none once another one was started.
    #[must_use]
    pub fn down(&self) -> Option<Box<str>> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_down(&self, why: Option<&str>) {
        *self.down.lock().unwrap_or_else(PoisonError::into_inner) = why.map(Into::into);
    }

    pub(super) fn add(&self, event: StdioEvent) {
        self.add_many(event, 1);
    }

    pub(super) fn add_many(&self, event: StdioEvent, many: u64) {
        if many > 0 {
            self.counts[event as usize].fetch_add(many, Ordering::Relaxed);
        }
    }

    pub(super) fn set_children(&self, children: usize) {
        self.children.store(children as u64, Ordering::Relaxed);
    }

    pub(super) fn add_session(&self) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn remove_sessions(&self, many: usize) {
        self.sessions.fetch_sub(many as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_a_place_and_a_name_of_its_own() {
        let mut names: Vec<_> = StdioEvent::ALL.iter().map(|event| event.names()).collect();
        assert!(StdioEvent::ALL.iter().enumerate().all(|(index, event)| *event as usize == index));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), StdioEvent::ALL.len());
    }
}
