//! The sessions of agents of revisions before 2026-07-28.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use crate::base::{Budget, Share, Time};
use crate::engine::Signal;
use crate::exchange::Inbox;
use crate::stdio::mail::Mail;
use crate::wire::stdio::StdioSession;

/// The most events of a session that are kept for an agent that comes back for them.
const EVENTS_KEPT_MAX: usize = 256;
/// The number of the stream that a GET opens.
pub(super) const GET_STREAM: u64 = 0;

/// A session of an agent.
pub(super) struct Session {
    pub(super) id: Box<str>,
    pub(super) key: StdioSession,
    /// What is sent on the stream that a GET opens.
    pub(super) inbox: Inbox<Mail>,
    /// How often such a stream was opened. A new one replaces the one before.
    pub(super) streams: Cell<u64>,
    pub(super) used: Cell<Time>,
    /// The number of its exchanges that are open.
    pub(super) open: Cell<usize>,
    pub(super) is_over: Cell<bool>,
    kept: RefCell<KeptEvents>,
    /// Raised when an event is kept.
    pub(super) kept_more: Signal,
}

/// The last events that were sent, or could not be.
struct KeptEvents {
    events: VecDeque<KeptEvent>,
    next: u64,
    len: usize,
    share: Share,
}

/// An event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeptEvent {
    pub(super) at: EventPlace,
    pub(super) message: Vec<u8>,
    /// Whether it ends its stream.
    pub(super) is_last: bool,
}

/// The id of an event: its stream and its number, which grows within a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventPlace {
    pub(super) stream: u64,
    pub(super) number: u64,
}

impl EventPlace {
    /// Reads an id, as [`event`](super::mail::event) writes it.
    pub(super) fn parse(text: &[u8]) -> Option<EventPlace> {
        let (stream, number) = std::str::from_utf8(text).ok()?.split_once('-')?;
        Some(EventPlace { stream: stream.parse().ok()?, number: number.parse().ok()? })
    }
}

impl Session {
    pub(super) fn new(id: Box<str>, key: StdioSession, memory: &Budget, now: Time) -> Session {
        Session {
            id,
            key,
            inbox: Inbox::default(),
            streams: Cell::new(0),
            used: Cell::new(now),
            open: Cell::new(0),
            is_over: Cell::new(false),
            kept: RefCell::new(KeptEvents { events: VecDeque::new(), next: 1, len: 0, share: memory.share() }),
            kept_more: Signal::default(),
        }
    }

    /// Keeps an event; returns its id. Older ones make room.
    pub(super) fn keep(&self, stream: u64, message: &[u8], is_last: bool) -> EventPlace {
        let mut kept = self.kept.borrow_mut();
        let at = EventPlace { stream, number: kept.next };
        kept.next += 1;
        while kept.events.len() >= EVENTS_KEPT_MAX {
            kept.drop_oldest();
        }
        loop {
            let len = kept.len + message.len();
            if kept.share.set(len) {
                kept.len = len;
                kept.events.push_back(KeptEvent { at, message: message.to_vec(), is_last });
                break;
            }
            if !kept.drop_oldest() {
                break;
            }
        }
        drop(kept);
        self.kept_more.raise();
        at
    }

    /// The next event of a stream after this one; none if there is none yet.
    pub(super) fn kept_after(&self, at: EventPlace) -> Option<KeptEvent> {
        let kept = self.kept.borrow();
        kept.events.iter().find(|event| event.at.stream == at.stream && event.at.number > at.number).cloned()
    }

    /// Ends it: its streams end.
    pub(super) fn end(&self) {
        self.is_over.set(true);
        self.inbox.wake();
        self.kept_more.raise();
    }
}

impl KeptEvents {
    fn drop_oldest(&mut self) -> bool {
        let Some(event) = self.events.pop_front() else { return false };
        self.len -= event.message.len();
        // Less than before always fits.
        let _ = self.share.set(self.len);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_back_in_order_and_old_ones_make_room() {
        let memory = Budget::new(1_000, 0);
        let session = Session::new("s".into(), 1, &memory, Time::ZERO);
        let first = session.keep(7, b"a", false);
        session.keep(GET_STREAM, b"b", false);
        let last = session.keep(7, b"c", true);
        assert_eq!(EventPlace::parse(b"7-1"), Some(first));
        let after = session.kept_after(first).unwrap();
        assert_eq!((&after.message[..], after.is_last, after.at), (&b"c"[..], true, last));
        assert_eq!(session.kept_after(last), None);
        session.keep(7, &[0; 999], false);
        assert_eq!((session.kept_after(first).unwrap().message.len(), memory.used()), (1, 1_000));
        session.keep(7, &[0; 2_000], false);
        assert_eq!((session.kept_after(first), memory.used()), (None, 0));
        for _ in 0..1_000 {
            session.keep(7, b"", false);
        }
        assert_eq!(session.kept.borrow().events.len(), EVENTS_KEPT_MAX);
        for wrong in ["", "7", "7-", "-1", "7-1-2", "a-1"] {
            assert_eq!(EventPlace::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
