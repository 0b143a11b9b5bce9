//! The client's side of an exchange: HTTP/1.1 to the next hop.

use std::time::Duration;

use crate::base::{Budget, Share, Time};
use crate::exchange::{Intake, Outlet, clear_scratch};
use crate::wire::http1::{BodyDecoder, Framing, RequestEdits, RequestHead, ResponseHead, Version, write_request};
use crate::wire::jsonrpc::Peek;

/// The longest start of a body that is kept while there is memory, so that the request can be retried.
const REPLAY_LEN_MAX: usize = 64 << 10;
/// How many bytes are kept in any case, and how much memory stays allocated after an exchange.
const REPLAY_LEN_FREE: usize = 4096;

/// The limits of an answer that follow from the caller's time, in any state of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallerLimits {
    /// When it must have begun.
    pub begins_by: Time,
    /// How much later it must have ended, in milliseconds.
    pub ends_within_ms: u16,
}

impl CallerLimits {
    /// No limit: the caller's time is not known.
    pub const NONE: CallerLimits = CallerLimits { begins_by: Time::NEVER, ends_within_ms: 0 };

    /// The limits of an answer that must begin by `begins_by` and end by `ends_by`.
    #[must_use]
    pub fn new(begins_by: Time, ends_by: Time) -> CallerLimits {
        let ends_within_ms = u16::try_from((ends_by - begins_by).as_millis()).unwrap_or(u16::MAX);
        CallerLimits { begins_by, ends_within_ms }
    }

    /// When the answer must have ended.
    pub(super) fn ends_by(self) -> Time {
        self.begins_by + Duration::from_millis(self.ends_within_ms.into())
    }
}

/// The connection to the next hop, and the terms of the exchange.
pub struct NextHop<'a, T, F> {
    pub(super) to: &'a T,
    pub(super) from: &'a F,
    pub(super) work: &'a mut NextHopWork,
    /// Whether the sending direction is finished after the request.
    pub finish: bool,
    /// Whether the request counts as sent only when all of it has left the queue.
    pub flush: bool,
    /// How long the response may take to begin after the request was sent.
    pub first_byte_timeout: Option<Duration>,
    /// The limits of the caller's time.
    pub caller: CallerLimits,
    /// Keeps the start of the body, or sends the kept part first.
    pub replay: Option<&'a mut Replay>,
}

impl<'a, T, F> NextHop<'a, T, F> {
    /// Sends a request with this head, changed by `edits` except for its framing, to `to`, whose waits may have limits.
    /// Receives the response from `from`, the same connection without limits.
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

/// The state of the client's side. Reused by the next exchange, for its memory.
#[derive(Default)]
pub struct NextHopWork {
    pub(super) head: ResponseHead,
    pub(super) intake: Intake,
    pub(super) decoder: BodyDecoder,
    pub(super) outlet: Outlet,
    pub(super) scratch: Vec<u8>,
}

impl NextHopWork {
    /// Whether the connection can carry another exchange, now that the response was passed on to its end.
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        self.head.keep_alive() && self.head.framing() != Framing::UntilClose && !self.intake.has_rest()
    }

    /// How long the server keeps an idle connection, if the response says so.
    #[must_use]
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.head.idle_timeout()
    }

    /// Resets the state, and keeps the memory.
    pub fn clear(&mut self) {
        self.head.clear();
        *self.intake.rest() = None;
        self.outlet.clear();
        clear_scratch(&mut self.scratch);
    }
}

/// The start of a request's body, kept for a retry on another connection, and its parsed message, kept for a
/// cancellation.
#[derive(Default)]
pub struct Replay {
    bytes: Vec<u8>,
    state: ReplayState,
    /// Whether the message will be needed. While the body is kept, it is parsed only on demand.
    needs_message: bool,
    /// The message as far as it was read; none before that. Boxed, because it is seldom needed.
    message: Option<Box<Peek>>,
    /// The share of the core's memory for kept bodies; none if nothing is kept.
    share: Option<Share>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum ReplayState {
    /// Nothing is kept, or the body was too long.
    #[default]
    Off,
    /// Received bytes are kept.
    Keeping,
    /// Kept bytes are sent first, and later ones are kept too.
    Sending,
}

impl Replay {
    /// Whether a body with this framing is short enough to be kept in any case.
    #[must_use]
    pub fn holds(framing: Framing) -> bool {
        match framing {
            Framing::None => true,
            Framing::Length(len) => len <= REPLAY_LEN_FREE as u64,
            Framing::Chunked | Framing::UntilClose => false,
        }
    }

    /// Starts a request whose body is not received yet. Keeps the start of the body if memory is given. If
    /// `needs_message`, the message is parsed in any case.
    pub fn start(&mut self, memory: Option<&Budget>, needs_message: bool) {
        self.clear();
        self.needs_message = needs_message;
        self.share = memory.map(Budget::share);
        self.state = if memory.is_some() { ReplayState::Keeping } else { ReplayState::Off };
    }

    /// Stops keeping and frees the memory.
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

    /// Passes the parsed message to `read`; none if it was neither parsed nor kept.
    pub fn read_message<T>(&mut self, read: impl FnOnce(&Peek) -> T) -> Option<T> {
        if self.state != ReplayState::Off {
            let message = self.message.get_or_insert_default();
            message.clear();
            message.feed(&self.bytes);
        }
        let is_known = self.state != ReplayState::Off || self.needs_message;
        self.message.as_deref().filter(|_| is_known).map(read)
    }

    /// Sends the kept bytes first in the next exchange. False if the body was too long or was not kept.
    pub fn rewind(&mut self) -> bool {
        let can = self.state != ReplayState::Off;
        if can {
            self.state = ReplayState::Sending;
        }
        can
    }

    /// The received part of the body; none if it was too long or was not kept.
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
        // Some SDKs write the id at the end.
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
        assert_eq!(id(&mut replay), None, "the previous message is forgotten");
        replay.start(None, false);
        replay.keep(long.as_bytes());
        assert_eq!(id(&mut replay), None, "it is not needed");
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
