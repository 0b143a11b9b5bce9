use std::collections::VecDeque;

use crate::base::{Chunk, Time};
use crate::wire::RegistrationRefusal;
use crate::wire::flood::Flood;

use super::cause::Cause;
use super::event::{Event, Side, StreamId};
use super::fault::Fault;
use super::flow::{Credit, Window};
use super::hello::{Hello, HelloError, Refused, VERSION, Welcome};
use super::hosts::{HOSTS_BURST, HOSTS_PER_S, HostsToSend};
use super::receive::Inbound;
use super::schedule::Schedule;
use super::settings::Settings;
use super::stream::{SendState, Stream, StreamTable, Withdrawal};

/// How many frames without data a peer may have in flight for each stream that has ended.
pub(super) const STALE_FRAMES_EACH: u32 = 16;
/// The most such frames for all ended streams together.
pub(super) const STALE_FRAMES_MAX: u32 = 65_536;
/// The most streams that wait to be rejected because no slot is free.
pub(super) const TURNED_AWAY_MAX: usize = 1_024;
/// The most received PINGs that wait for an answer.
pub(super) const PONGS_MAX: usize = 32;
const PINGS_BURST: u32 = 64;
const PINGS_PER_S: u32 = 20;
const EMPTY_DATA_BURST: u32 = 256;
const EMPTY_DATA_PER_S: u32 = 100;
/// The ids of streams that the edge opens are odd. Even ids are reserved for a later version in which the connector
/// opens streams.
const FIRST_STREAM: u32 = 1;

/// The role of this side of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkRole {
    Edge,
    Connector,
}

/// The state of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkState {
    /// The edge waits for HELLO.
    HelloAwaited,
    /// The edge's application has not answered HELLO yet.
    AnswerAwaited,
    /// The connector waits for WELCOME or REFUSED.
    WelcomeAwaited,
    /// The handshake is done; streams may be opened.
    Ready,
    /// The link has ended: nothing is read, and at most one last frame is left to send.
    Over,
}

/// The message of the handshake that is still to be sent.
#[derive(Debug)]
pub(super) enum Greeting {
    Hello(Box<Hello>),
    Welcome(Welcome),
    Refused(Refused),
}

/// One side of an adit link (`docs/PROTOCOL.md`): bytes and the time in, bytes and events out.
///
/// The transport feeds [`receive`](Mux::receive) and [`handle_timeout`](Mux::handle_timeout), then handles every
/// [`poll_event`](Mux::poll_event), and sends what [`poll_transmit`](Mux::poll_transmit) hands out, which may cause
/// more events. Queues in between are bounded by the windows and by the bytes that were fed.
#[derive(Debug)]
pub struct Mux<B> {
    pub(super) role: LinkRole,
    pub(super) settings: Settings,
    pub(super) progress: LinkState,
    /// The version of the protocol: during the greeting the latest that this side supports, then the agreed one.
    pub(super) version: u16,
    pub(super) inbound: Inbound,
    /// Each call has a transport stream of its own: frames of different calls may overtake each other.
    pub(super) has_lanes: bool,
    /// While one of several transport streams is read: the call that it belongs to; none for the control stream.
    pub(super) lane: Option<Option<u32>>,
    pub(super) events: VecDeque<Event<B>>,
    pub(super) streams: StreamTable<B>,
    pub(super) schedule: Schedule,
    /// The number of streams that can send now, as far as their own credit allows.
    pub(super) ready: usize,
    /// The number of streams that have ended on the wire and whose bytes the application has not consumed.
    pub(super) lingering: usize,

    pub(super) greeting: Option<Greeting>,
    /// Slots with a control frame to send.
    pub(super) control: VecDeque<u32>,
    /// Streams that were rejected without ever having a slot.
    pub(super) turned_away: VecDeque<(u32, Cause)>,
    pub(super) pongs: VecDeque<u64>,
    pub(super) ping_due: bool,
    /// The timestamps of the PINGs that are not answered yet.
    pub(super) pings_out: VecDeque<u64>,
    pub(super) link_credit_due: bool,
    pub(super) drain_due: bool,
    pub(super) drain_sent: bool,
    pub(super) drain_received: bool,
    pub(super) close_due: Option<Fault>,
    pub(super) hosts: HostsToSend,
    pub(super) scratch: Vec<u8>,

    pub(super) credit: Credit,
    pub(super) window: Window,
    /// Slots of streams that have used up their share, and of some that no longer have.
    pub(super) capped: VecDeque<u32>,
    /// Little of this side's window is left, so that credit is returned early.
    pub(super) is_tight: bool,
    /// Whether memory is too short for more unread bytes.
    pub(super) pressed: bool,
    #[cfg(test)]
    pub(super) ignores_shares: bool,
    /// The id of the next stream; `None` when they are used up.
    pub(super) next_id: Option<u32>,
    /// The highest stream id opened so far.
    pub(super) last_id: u32,
    /// How many bytes and frames can still be in flight for streams that have ended.
    pub(super) stale_bytes: u32,
    pub(super) stale_frames: u32,
    pub(super) resets: Flood,
    pub(super) pings: Flood,
    pub(super) empties: Flood,
    pub(super) hosts_received: Flood,

    pub(super) started_at: Time,
    pub(super) heard_at: Time,
    pub(super) pinged_at: Time,
    /// When slow readers are reset, while they clog the link.
    pub(super) relief_at: Option<Time>,
}

impl<B: Chunk> Mux<B> {
    /// Creates the edge's side of a new connection, which waits for HELLO.
    #[must_use]
    pub fn edge(now: Time, settings: Settings) -> Mux<B> {
        Mux::new(now, settings, LinkRole::Edge, LinkState::HelloAwaited, None)
    }

    /// Creates the connector's side of a new connection, which sends HELLO.
    ///
    /// # Errors
    ///
    /// If the secret is empty or too long.
    pub fn connector(now: Time, settings: Settings, hello: Hello) -> Result<Mux<B>, HelloError> {
        hello.check()?;
        let greeting = Some(Greeting::Hello(Box::new(hello)));
        Ok(Mux::new(now, settings, LinkRole::Connector, LinkState::WelcomeAwaited, greeting))
    }

    fn new(now: Time, settings: Settings, role: LinkRole, progress: LinkState, greeting: Option<Greeting>) -> Mux<B> {
        let settings = settings.bounded();
        Mux {
            role,
            settings,
            progress,
            version: VERSION,
            inbound: Inbound::new(),
            has_lanes: false,
            lane: None,
            events: VecDeque::new(),
            streams: StreamTable::new(),
            schedule: Schedule::default(),
            ready: 0,
            lingering: 0,
            greeting,
            control: VecDeque::new(),
            turned_away: VecDeque::new(),
            pongs: VecDeque::new(),
            ping_due: false,
            pings_out: VecDeque::new(),
            link_credit_due: false,
            drain_due: false,
            drain_sent: false,
            drain_received: false,
            close_due: None,
            hosts: HostsToSend::new(),
            scratch: Vec::new(),
            credit: Credit::new(settings.link_window),
            window: Window::new(settings.link_window),
            capped: VecDeque::new(),
            is_tight: false,
            pressed: false,
            #[cfg(test)]
            ignores_shares: false,
            next_id: Some(FIRST_STREAM),
            last_id: 0,
            stale_bytes: 0,
            stale_frames: STALE_FRAMES_EACH,
            resets: Flood::new(settings.resets_burst, settings.resets_per_s),
            pings: Flood::new(PINGS_BURST, PINGS_PER_S),
            empties: Flood::new(EMPTY_DATA_BURST, EMPTY_DATA_PER_S),
            hosts_received: Flood::new(HOSTS_BURST, HOSTS_PER_S),
            started_at: now,
            heard_at: now,
            pinged_at: now,
            relief_at: None,
        }
    }

    /// Ends the handshake, so that streams can be opened.
    pub(super) fn become_ready(&mut self, now: Time) {
        self.progress = LinkState::Ready;
        self.heard_at = now;
        self.hosts.release(now);
        self.ping(now);
    }

    /// Ends the link with REFUSED instead of CLOSE.
    pub(super) fn turn_down(&mut self, refusal: RegistrationRefusal, reason: &str, fault: Fault) {
        self.end(fault, Side::Local, false, u32::MAX);
        self.greeting = Some(Greeting::Refused(Refused::new(refusal, reason)));
    }

    /// Ends the link, and sends CLOSE if `notify_peer`. The peer never processed streams with an id above `last_taken`.
    pub(super) fn end(&mut self, fault: Fault, by: Side, notify_peer: bool, last_taken: u32) {
        if self.progress == LinkState::Over {
            return;
        }
        self.progress = LinkState::Over;
        self.control.clear();
        let cause_of_begun = if fault == Fault::Revoked { Cause::Revoked } else { Cause::LinkLost };
        let slots: Vec<u32> = self.streams.slots_by_id().collect();
        for slot in slots {
            let Stream { id, open_due, withdrawal, reset_due, .. } = *self.streams.at(slot);
            if reset_due.is_none() {
                let is_unsent = open_due || withdrawal != Withdrawal::Forbidden || id > last_taken;
                let cause = if is_unsent { Cause::NotSent } else { cause_of_begun };
                self.events.push_back(Event::Reset { stream: StreamId { id, slot }, cause });
            }
            self.release(slot);
        }
        self.turned_away.clear();
        self.pongs.clear();
        self.link_credit_due = false;
        self.ping_due = false;
        self.drain_due = false;
        self.hosts = HostsToSend::new();
        self.greeting = None;
        self.close_due = notify_peer.then_some(fault);
        self.events.push_back(Event::Closed { fault, by });
    }

    /// Counts bytes that are no longer held for any application.
    pub(super) fn give_back(&mut self, n: u32) {
        self.window.consume(n);
        self.link_credit_due |= self.window.is_due_on_link();
    }

    /// Adds a slot to the queue of control frames.
    pub(super) fn list(&mut self, slot: u32) {
        let stream = self.streams.at(slot);
        if !stream.listed {
            stream.listed = true;
            self.control.push_back(slot);
        }
    }

    /// Removes a slot from the queue of control frames. Otherwise the next stream in the slot would take over this
    /// position, and its OPEN would be sent before that of an older stream.
    fn unlist(&mut self, slot: u32) {
        if self.control.front() == Some(&slot) {
            self.control.pop_front();
        } else {
            self.control.retain(|listed| *listed != slot);
        }
    }

    /// Updates the schedule and the count of ready streams after anything that may change whether a stream can send.
    pub(super) fn touch(&mut self, slot: u32) {
        let stream = self.streams.at(slot);
        let can = stream.id != 0 && stream.can_send();
        if can == stream.ready {
            return;
        }
        stream.ready = can;
        if can {
            self.ready += 1;
            self.schedule.wake(slot);
        } else {
            self.ready -= 1;
        }
    }

    /// Releases a stream that has ended on the wire, unless the application still holds bytes of it.
    pub(super) fn release_if_done(&mut self, slot: u32) {
        let stream = self.streams.at(slot);
        if stream.id == 0 || stream.sending != SendState::Finished || !stream.peer_finished {
            return;
        }
        if stream.window.held() == 0 {
            self.release(slot);
        } else if !stream.lingers {
            stream.lingers = true;
            self.lingering += 1;
        }
    }

    /// Frees a slot, so that a new stream can use it.
    pub(super) fn release(&mut self, slot: u32) {
        let stream = self.streams.at(slot);
        let (held, left) = (stream.window.held(), stream.window.left());
        let (lingers, ready, ended) = (stream.lingers, stream.ready, stream.peer_finished);
        stream.ready = false;
        if std::mem::take(&mut stream.listed) {
            self.unlist(slot);
        }
        self.lingering -= usize::from(lingers);
        self.ready -= usize::from(ready);
        self.schedule.leave(slot);
        self.streams.remove(slot);
        self.give_back(held);
        self.expect_stale(if ended { 0 } else { left });
    }

    /// Counts the bytes that can still be in flight for a stream that has ended. For all such streams together they
    /// cannot exceed the link's window.
    pub(super) fn expect_stale(&mut self, bytes: u32) {
        self.stale_bytes = self.stale_bytes.saturating_add(bytes).min(self.window.size());
        self.stale_frames = (self.stale_frames + STALE_FRAMES_EACH).min(STALE_FRAMES_MAX);
    }

    /// Makes the next stream of both sides start at `id`, so that a test need not open two billion streams.
    #[cfg(test)]
    pub(super) fn skip_to(&mut self, id: u32) {
        self.next_id = Some(id);
        self.last_id = id - 2;
    }

    /// Limits the protocol version, to imitate an older peer.
    #[cfg(test)]
    pub(super) fn speak_at_most(&mut self, version: u16) {
        self.version = version;
    }
}
