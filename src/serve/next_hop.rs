//! The client's side of an exchange: HTTP/1.1 to the next hop.

use std::time::Duration;

use crate::base::{Budget, Share, Time};
use crate::exchange::{Intake, Outlet, clear_scratch};
use crate::wire::http1::{BodyDecoder, Framing, RequestEdits, RequestHead, ResponseHead, Version, write_request};
use crate::wire::jsonrpc::Peek;

/// Up to how many bytes of a body are kept while there is memory for them, so that a request of which nothing was sent can be sent
/// again.
const REPLAY_LEN_MAX: usize = 64 << 10;
/// Up to how many bytes are kept in any case, and how much memory stays with an exchange that is over.
const REPLAY_LEN_FREE: usize = 4096;

/// The limits of an answer that follow from how long the caller waits, however far the request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallerLimits {
    /// When it has to have begun.
    pub begins_by: Time,
    /// How much later it has to have ended, in milliseconds.
    pub ends_within_ms: u16,
}

impl CallerLimits {
    /// The caller waits as long as it takes.
    pub const NONE: CallerLimits = CallerLimits { begins_by: Time::NEVER, ends_within_ms: 0 };

    /// An answer that has begun at `begins_by`, and ended at `ends_by`.
    #[must_use]
    pub fn new(begins_by: Time, ends_by: Time) -> CallerLimits {
        let ends_within_ms = u16::try_from((ends_by - begins_by).as_millis()).unwrap_or(u16::MAX);
        CallerLimits { begins_by, ends_within_ms }
    }

    /// When the answer has to have ended.
    pub(super) fn ends_by(self) -> Time {
        self.begins_by + Duration::from_millis(self.ends_within_ms.into())
    }
}

/// Where a request is sent, and how.
pub struct NextHop<'a, T, F> {
    pub(super) to: &'a T,
    pub(super) from: &'a F,
    pub(super) work: &'a mut NextHopWork,
    /// Whether the sending direction is finished after the request.
    pub finish: bool,
    /// Whether the request counts as sent only once nothing of it waits any more.
    pub flush: bool,
    /// How long the response may take to begin after the request was sent.
    pub first_byte_timeout: Option<Duration>,
    /// How long the caller waits.
    pub caller: CallerLimits,
    /// Keeps the start of the body, or sends what was kept first.
    pub replay: Option<&'a mut Replay>,
}

impl<'a, T, F> NextHop<'a, T, F> {
    /// Sends a request with this head, changed by `edits` except for its framing, to `to`, whose waits may have limits, and
    /// receives the response from `from`, which is the same connection without limits.
    pub fn new(
        to: &'a T,
        from: &'a F,
        work: &'a mut NextHopWork,
        head: &RequestHead,
        edits: RequestEdits<'_>,
    ) -> NextHop<'a, T, F> {
        work.clear();
        let framing = head.framing().toward(Version::Http11);
        write_request(head, &RequestEdits { framing, ..edits }, &mut work.scratch);
        let caller = CallerLimits::NONE;
        NextHop { to, from, work, finish: false, flush: false, first_byte_timeout: None, caller, replay: None }
    }
}

/// What the client's side needs; kept from one exchange to the next for its memory.
#[derive(Default)]
pub struct NextHopWork {
    pub(super) head: ResponseHead,
    pub(super) intake: Intake,
    pub(super) decoder: BodyDecoder,
    pub(super) outlet: Outlet,
    pub(super) scratch: Vec<u8>,
}

impl NextHopWork {
    /// Whether the connection can carry another exchange after the response, which was passed on to its end.
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        self.head.keep_alive() && self.head.framing() != Framing::UntilClose && !self.intake.has_rest()
    }

    /// How long the server keeps the connection open, if the response says so.
    #[must_use]
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.head.idle_timeout()
    }

    /// Forgets the exchange, and keeps the memory for the next one.
    pub fn clear(&mut self) {
        self.head.clear();
        *self.intake.rest() = None;
        self.outlet.clear();
        clear_scratch(&mut self.scratch);
    }
}

/// The start of a request's body, kept in case the request has to be sent again on another connection; and what its message says, in
/// case it has to be cancelled.
#[derive(Default)]
pub struct Replay {
    bytes: Vec<u8>,
    state: ReplayState,
    /// Whether the message is to be known. As long as the body is kept, it is read only when it is asked for.
    needs_message: bool,
    /// What was seen of the message; none before the first that was read. In a box, as most are not.
    message: Option<Box<Peek>>,
    /// What it takes of the memory for the kept bodies of a core; none if nothing is kept.
    share: Option<Share>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum ReplayState {
    /// Nothing is kept, or the body was too long for it.
    #[default]
    Off,
    /// What is received is kept.
    Keeping,
    /// What was kept is sent first, and what is received behind it is kept too.
    Sending,
}

impl Replay {
    /// Whether a body with this framing is short enough to be kept whole in any case.
    #[must_use]
    pub fn holds(framing: Framing) -> bool {
        match framing {
            Framing::None => true,
            Framing::Length(len) => len <= REPLAY_LEN_FREE as u64,
            Framing::Chunked | Framing::UntilClose => false,
        }
    }

    /// Starts with a request whose body is not received yet. Keeps its start if it is given memory for that. What its message says
    /// will be known in any case if `needs_message` is true.
    pub fn start(&mut self, memory: Option<&Budget>, needs_message: bool) {
        self.clear();
        self.needs_message = needs_message;
        self.share = memory.map(Budget::share);
        self.state = if memory.is_some() { ReplayState::Keeping } else { ReplayState::Off };
    }

    /// Keeps nothing any more.
    pub fn clear(&mut self) {
        self.needs_message = false;
        if let Some(message) = self.message.as_mut().filter(|message| message.inspected() > 0) {
            message.clear();
        }
        self.forget_bytes();
    }

    fn forget_bytes(&mut self) {
        self.state = ReplayState::Off;
        self.share = None;
        self.bytes.clear();
        self.bytes.shrink_to(REPLAY_LEN_FREE);
    }

    /// Passes what is known of the message to `read`; none if it was not to be known, and was not kept.
    pub fn read_message<T>(&mut self, read: impl FnOnce(&Peek) -> T) -> Option<T> {
        if self.state != ReplayState::Off {
            let message = self.message.get_or_insert_default();
            message.clear();
            message.feed(&self.bytes);
        }
        let is_known = self.state != ReplayState::Off || self.needs_message;
        self.message.as_deref().filter(|_| is_known).map(read)
    }

    /// Sends what was kept first, next time, and keeps what follows. False if the body was too long to be kept, or was not to be.
    pub fn rewind(&mut self) -> bool {
        let can = self.state != ReplayState::Off;
        if can {
            self.state = ReplayState::Sending;
        }
        can
    }

    /// What was received of the body so far; none if it was too long to be kept, or was not to be.
    #[must_use]
    pub fn kept(&self) -> Option<&[u8]> {
        (self.state != ReplayState::Off).then_some(&self.bytes)
    }

    /// The bytes to send first.
    pub(super) fn sent_first(&self) -> &[u8] {
        if self.state == ReplayState::Sending { &self.bytes } else { &[] }
    }

    pub(super) fn keep(&mut self, bytes: &[u8]) {
        if self.state == ReplayState::Off {
            if self.needs_message {
                self.message.get_or_insert_default().feed(bytes);
            }
            return;
        }
        let len = self.bytes.len() + bytes.len();
        if len <= REPLAY_LEN_MAX && self.share.as_mut().is_some_and(|share| share.set(len)) {
            self.bytes.extend_from_slice(bytes);
            return;
        }
        if self.needs_message {
            let message = self.message.get_or_insert_default();
            message.clear();
            message.feed(&self.bytes);
            message.feed(bytes);
        }
        self.forget_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_body_can_be_sent_again_and_a_long_one_never() {
        let (mut replay, memory) = (Replay::default(), Budget::new(REPLAY_LEN_MAX, REPLAY_LEN_FREE));
        replay.start(Some(&memory), false);
        replay.keep(b"abc");
        replay.keep(b"def");
        assert!(replay.rewind());
        assert_eq!(replay.sent_first(), b"abcdef");
        replay.keep(b"ghi");
        assert!(replay.rewind());
        assert_eq!((replay.sent_first(), replay.kept()), (&b"abcdefghi"[..], Some(&b"abcdefghi"[..])));
        replay.keep(&[0; REPLAY_LEN_MAX]);
        assert!(!replay.rewind() && replay.kept().is_none(), "it has become too long");
        replay.start(Some(&memory), false);
        assert!(replay.sent_first().is_empty());
        replay.keep(&[0; REPLAY_LEN_MAX]);
        replay.keep(b"a");
        assert!(!replay.rewind());
        replay.start(None, false);
        replay.keep(b"abc");
        assert!(!replay.rewind() && replay.sent_first().is_empty());
    }

    #[test]
    fn a_message_is_known_whether_or_not_its_body_is_kept() {
        let memory = Budget::new(REPLAY_LEN_MAX, REPLAY_LEN_FREE);
        let id = |replay: &mut Replay| replay.read_message(|message| message.id().map(str::to_owned)).flatten();
        // As some SDKs write it, the id is at the end.
        let long =
            format!(r#"{{"method":"tools/call","params":{{"a":"{}"}},"id":7}}"#, "x".repeat(REPLAY_LEN_MAX - 50));
        let mut replay = Replay::default();
        for (is_kept, body) in [(true, r#"{"method":"ping","id":7}"#), (true, &long), (false, &long)] {
            for len in [7, 1_000, body.len()] {
                replay.start(is_kept.then_some(&memory), true);
                body.as_bytes().chunks(len).for_each(|piece| replay.keep(piece));
                assert_eq!((replay.kept().is_some(), id(&mut replay)), (is_kept, Some("7".to_owned())));
            }
        }
        let other = Budget::new(REPLAY_LEN_MAX, REPLAY_LEN_FREE);
        let mut shares: Vec<_> = (0..20).map(|_| other.share()).collect();
        shares.iter_mut().for_each(|share| _ = share.set(REPLAY_LEN_MAX / 8));
        replay.start(Some(&other), true);
        long.as_bytes().chunks(1_000).for_each(|piece| replay.keep(piece));
        assert!(replay.kept().is_none(), "there is no memory for the body");
        assert_eq!(id(&mut replay), Some("7".to_owned()));
        replay.start(None, true);
        assert_eq!(id(&mut replay), None, "what the one before said is forgotten");
        replay.start(None, false);
        replay.keep(long.as_bytes());
        assert_eq!(id(&mut replay), None, "it is not to be known");
    }

    #[test]
    fn many_long_bodies_share_the_memory_for_them_and_give_it_back() {
        let memory = Budget::new(REPLAY_LEN_MAX, REPLAY_LEN_FREE);
        let mut kept: Vec<Replay> = (0..20).map(|_| Replay::default()).collect();
        for replay in &mut kept {
            replay.start(Some(&memory), false);
            (0..8).for_each(|_| replay.keep(&[0; 4096]));
        }
        let whole = kept.iter().filter(|replay| replay.kept().is_some()).count();
        assert_eq!(whole, REPLAY_LEN_MAX / (8 * 4096 - REPLAY_LEN_FREE), "as many as there is memory for");
        kept.iter_mut().for_each(Replay::clear);
        assert_eq!(memory.used(), 0);
        assert!(kept.iter().all(|replay| replay.bytes.capacity() <= REPLAY_LEN_FREE));
    }
}
