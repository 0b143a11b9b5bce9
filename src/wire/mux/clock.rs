use crate::base::{Chunk, Time};

use super::event::Side;
use super::fault::Fault;
use super::machine::{LinkState, Mux};
use super::schedule::Schedule;

/// A busy link measures its round-trip time again after this many ping intervals.
const ROUND_TRIP_INTERVALS: u32 = 4;
/// The most unanswered PINGs: fewer than the burst that a peer accepts.
const PINGS_OUT_MAX: usize = 32;

/// Timers: pings, the silence timeout, and frames with a rate limit.
impl<B: Chunk> Mux<B> {
    /// Measures the round-trip time now, unless a PING is unanswered.
    pub fn ping(&mut self, now: Time) {
        if self.progress == LinkState::Ready && !self.is_pinging() {
            self.ping_due = true;
            self.pinged_at = now;
        }
    }

    /// Sends another PING after an unanswered one, so that the peer receives data even if its answers are lost. A link
    /// with a stalled peer sends only a limited number.
    pub fn ping_again(&mut self) {
        let may = self.progress == LinkState::Ready && !self.ping_due;
        self.ping_due |= may && (1..PINGS_OUT_MAX).contains(&self.pings_out.len());
    }

    /// When [`handle_timeout`](Mux::handle_timeout) must be called next. Any other call may change it.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        match self.progress {
            LinkState::Over => None,
            LinkState::Ready => {
                Some(self.alive_at().min(self.relief_at.unwrap_or(Time::NEVER)).min(self.hosts.due_at()))
            }
            _ => Some(self.started_at + self.settings.hello_timeout()),
        }
    }

    /// Handles the timers that are due. Feed received bytes first, so that a process that was suspended does not
    /// mistake its own pause for the peer's silence.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        if self.progress != LinkState::Ready {
            self.end(Fault::HelloTimeout, Side::Local, true, u32::MAX);
            return;
        }
        self.hosts.release(now);
        self.relieve(now);
        if now < self.alive_at() {
            return;
        }
        if self.is_pinging() {
            self.end(Fault::PeerSilent, Side::Local, true, u32::MAX);
        } else {
            self.shrink_tables();
            self.ping(now);
        }
    }

    /// Frees the memory that many streams needed, once there are none.
    fn shrink_tables(&mut self) {
        // The queue of capped streams may name slots of streams that have ended.
        if self.capped.is_empty() && self.streams.shrink() {
            self.schedule = Schedule::default();
        }
    }

    /// The deadline for data from the peer: then a PING is sent, or after a PING the link ends.
    fn alive_at(&self) -> Time {
        if self.is_pinging() { self.dead_at() } else { self.ping_at() }
    }

    /// When data last arrived from the peer.
    #[must_use]
    pub fn heard_at(&self) -> Time {
        self.heard_at
    }

    /// Since when a PING has been unanswered while nothing arrived. `None` if none is.
    #[must_use]
    pub fn owing_since(&self) -> Option<Time> {
        let owes = self.progress == LinkState::Ready && self.is_pinging();
        owes.then(|| self.heard_at.max(self.pinged_at))
    }

    /// Whether a PING is unanswered or about to be sent.
    fn is_pinging(&self) -> bool {
        self.ping_due || !self.pings_out.is_empty()
    }

    fn ping_at(&self) -> Time {
        let interval = self.settings.ping_interval();
        let quiet = self.heard_at.max(self.pinged_at) + interval;
        quiet.min(self.pinged_at + interval * ROUND_TRIP_INTERVALS)
    }

    fn dead_at(&self) -> Time {
        let silent = self.heard_at + self.settings.silence_max();
        silent.max(self.pinged_at + self.settings.ping_interval())
    }
}
