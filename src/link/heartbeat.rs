//! Whether the other side is there: how long it has been silent, when it is sent a PING, and the timer of a link.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future;

use crate::base::{Clock, Time};
use crate::engine::{Lease, Signal};
use crate::link::running::{Link, LinkEnded};
use crate::link::unproven::Liveness;
use crate::wire::mux::{Fault, Mux};

/// How long a link may be silent before a waiting call makes it send a PING.
const PROBE_AFTER: Duration = Duration::from_millis(500);
/// How long to wait for the answer to a PING before sending another one.
const PING_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// The most that is subtracted from a caller's time for the transit to the connector. A link that was stalled measures
/// one long round trip, which says nothing about the next.
const WAY_MAX: Duration = Duration::from_millis(500);

impl Link {
    /// The one-way latency: half of the last round-trip time, at most 500 ms.
    #[must_use]
    pub fn way(&self) -> Duration {
        (self.round_trip().unwrap_or_default() / 2).min(WAY_MAX)
    }

    /// The last measured round-trip time.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.0.round_trip.get()
    }

    /// Whether the other side has recently shown that it is alive.
    #[must_use]
    pub fn liveness(&self) -> Liveness {
        let (now, mux) = (self.0.core.turn_time(), self.0.mux.borrow());
        let owing = mux.owing_since().map_or(Duration::ZERO, |since| now - since);
        Liveness { silent: now - mux.heard_at(), owing, unproven: self.0.unproven.calls() }
    }

    /// Notes that a call begins. If the other side has been silent, the link sends a PING with it.
    pub fn on_call(&self) {
        self.0.unproven.on_call();
        let (now, mut mux) = (self.0.core.turn_time(), self.0.mux.borrow_mut());
        let probe_at = mux.heard_at() + PROBE_AFTER;
        let probes = probe_at <= now;
        if probes {
            mux.ping(now);
        }
        drop(mux);
        if probes {
            self.wake_transmitter();
        }
        if self.0.stalls.is_watched() && (probes || probe_at < self.0.timer_at.get()) {
            self.wake_waiting();
        }
    }

    /// At the edge: from now on, counts how often the peer did not answer for `after`.
    pub fn watch_stalls(&self, after: Duration) {
        self.0.stalls.watch(after);
        self.wake_waiting();
    }

    /// Waits until the other side has stalled in that way more than `seen` times. Returns how often it has.
    pub async fn stalled_after(&self, seen: u64) -> u64 {
        self.0.stalls.after(seen).await
    }

    /// From now on, raises `heard` when data arrives after calls were begun.
    pub fn set_heard_signal(&self, heard: Rc<Signal>) {
        self.0.unproven.set_signal(heard);
    }

    /// Keeps the times of the link until it ends. `acked` is how many bytes the peer's system has acknowledged, if others are in
    /// flight.
    pub(super) async fn run_time(&self, acked: impl Fn() -> Option<u64>) -> LinkEnded {
        let mut timer = self.0.core.timer();
        loop {
            if let Some(ended) = self.ended() {
                return ended;
            }
            let deadline = self.deadline();
            timer.set(deadline);
            self.0.timer_at.set(deadline);
            let earlier = self.wait_for(|link| (link.deadline() < deadline || link.ended().is_some()).then_some(()));
            future::or(poll_fn(|cx| timer.poll_elapsed(cx)), earlier).await;
            let now = self.0.core.now();
            let mut mux = self.0.mux.borrow_mut();
            mux.set_pressed(!self.0.core.pool().can_receive());
            mux.handle_timeout(now);
            if self.probe_at(&mux) <= now {
                mux.ping(now);
            }
            if self.0.progress.due_at() <= now {
                let (heard_at, round_trip) = (mux.heard_at(), self.round_trip().unwrap_or_default());
                if self.0.progress.look(now, acked(), heard_at, round_trip) {
                    mux.close(Fault::Stuck);
                }
            }
            if self.ping_again_at(&mux) <= now {
                self.0.pinged_again_at.set(now);
                mux.ping_again();
            }
            let owing_since = mux.owing_since();
            drop(mux);
            self.0.stalls.look(owing_since, now);
            self.process_events();
        }
    }

    fn deadline(&self) -> Time {
        let mux = self.0.mux.borrow();
        let stalls_at = self.0.stalls.due_at(mux.owing_since());
        let mux_at = mux.poll_timeout().unwrap_or(Time::NEVER);
        let pings_at = self.probe_at(&mux).min(self.ping_again_at(&mux));
        mux_at.min(stalls_at).min(pings_at).min(self.0.progress.due_at())
    }

    /// When to send a PING because calls wait for the peer.
    fn probe_at(&self, mux: &Mux<Lease>) -> Time {
        let waits = self.0.stalls.is_watched() && self.0.unproven.calls() > 0 && mux.owing_since().is_none();
        if waits { mux.heard_at() + PROBE_AFTER } else { Time::NEVER }
    }

    /// When to send another PING because streams wait and the last one is unanswered. The peer's answer may have been
    /// lost, which its system notices only if data arrives from this side.
    fn ping_again_at(&self, mux: &Mux<Lease>) -> Time {
        match mux.owing_since().filter(|_| mux.streams_live() > 0) {
            Some(since) => since.max(self.0.pinged_again_at.get()) + PING_AGAIN_AFTER,
            None => Time::NEVER,
        }
    }
}
