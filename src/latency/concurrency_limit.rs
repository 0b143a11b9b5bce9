//! Learns how many calls of a route may be in flight at one time, from how long they take.
//!
//! A server with more calls than it can work on queues them, and each call takes longer. The limit therefore grows
//! while calls take about as long as on an idle server, and falls in proportion when they take longer. The duration on
//! an idle server is the [`Baseline`] of the label. It is learned only from calls that began while few others were in
//! flight. If calls stay slow, the limit falls until few are in flight, and the baseline is learned again. This
//! distinguishes a server that has become slower for good from an overloaded one.

use std::time::Duration;

use crate::base::{ConcurrencyTerms, Time};

/// The initial limit of a route.
const LIMIT_FIRST: f64 = 20.0;
/// The limit falls when calls take longer than this multiple of their baseline. Queueing theory gives no exact value:
/// with a smaller one, noise lowers the limit; with a larger one, the server's own queue is longer than necessary.
const SLOWDOWN_MAX: f64 = 1.5;
/// Added to every duration before two are compared. Where many calls go together, each waits up to some milliseconds for the link
/// and for the cores of edge and connector. For a fast server that is a multiple of its own time, and does not mean that it is
/// overloaded.
const WAY: Duration = Duration::from_millis(10);
/// The most by which one step lowers the limit, as a factor.
const STEP_DOWN_MAX: f64 = 0.5;
/// The limit changes at most once per this many calls.
const WINDOW_CALLS: u32 = 10;
/// The limit changes at most once in this time.
const WINDOW_TIME: Duration = Duration::from_millis(250);
/// A call counts as at most this multiple of its baseline, and as at least the same fraction of it. One outlier among
/// ten calls then does not lower the limit.
const OUTLIER: f64 = 8.0;
/// How many calls it takes until a baseline is known.
const BASELINE_CALLS_MIN: u32 = 10;
/// The weight of the baseline, in calls: each further call moves it by 1/32 of the difference.
const BASELINE_CALLS: u32 = 32;
/// A call that finds fewer than 1/2 of the places taken counts as a call to an idle server.
const IDLE_PART: u32 = 2;

/// The learned limit of one route. It takes 32 bytes.
pub(super) struct ConcurrencyLimit {
    limit: f64,
    /// When it last changed. Calls that began before that say nothing about it.
    changed: Time,
    /// The number of calls since then, and the sum of their slowdowns.
    calls: u32,
    slowdowns: f64,
}

/// How busy a route was when a call began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    /// Whether so many calls were in flight that their durations say something about the limit.
    pub(super) is_high: bool,
    /// Whether so few calls were in flight that their durations are those of an idle server.
    pub(super) is_low: bool,
}

/// How long the calls of one label take on an idle server: a geometric mean, so that a few very long calls matter
/// little.
#[derive(Default)]
pub(super) struct Baseline {
    /// The natural logarithm of the time in seconds, with [`WAY`].
    mean: f64,
    calls: u32,
}

impl ConcurrencyLimit {
    pub(super) const fn new() -> ConcurrencyLimit {
        ConcurrencyLimit { limit: LIMIT_FIRST, changed: Time::ZERO, calls: 0, slowdowns: 0.0 }
    }

    /// The limit, at least one.
    pub(super) fn get(&self, terms: &ConcurrencyTerms) -> u32 {
        (self.limit as u32).clamp(terms.min.min(terms.max), terms.max).max(1)
    }

    /// How busy the route is for a call that begins when this many are in flight.
    pub(super) fn load(&self, in_flight: u32, terms: &ConcurrencyTerms) -> Load {
        let limit = self.get(terms);
        let is_high = in_flight.saturating_mul(IDLE_PART) > limit;
        Load { is_high, is_low: !is_high || in_flight <= terms.min }
    }

    /// Records a call that began under a high load, with its [slowdown](Baseline::slowdown).
    pub(super) fn record(&mut self, began: Time, slowdown: f64, terms: &ConcurrencyTerms, now: Time) {
        if began < self.changed {
            return;
        }
        self.slowdowns += slowdown.clamp(-OUTLIER.ln(), OUTLIER.ln());
        self.calls += 1;
        if self.calls < WINDOW_CALLS || now - self.changed < WINDOW_TIME {
            return;
        }
        let slowdown = (self.slowdowns / f64::from(self.calls)).exp();
        let limit = f64::from(self.get(terms));
        self.limit = if slowdown > SLOWDOWN_MAX {
            limit * (SLOWDOWN_MAX / slowdown).max(STEP_DOWN_MAX)
        } else {
            let room = (SLOWDOWN_MAX - slowdown) / (SLOWDOWN_MAX - 1.0);
            // Keeps the fraction, since a small limit grows by less than one at a time.
            self.limit.clamp(limit, limit + 1.0) + limit.sqrt() * room.min(1.0)
        };
        (self.changed, self.calls, self.slowdowns) = (now, 0, 0.0);
    }
}

impl Baseline {
    /// How much longer than the baseline a call took, as the natural logarithm of the ratio; `None` if too few calls
    /// were seen. A call that `teaches` moves the baseline, and so do the first calls.
    pub(super) fn slowdown(&mut self, took: Duration, teaches: bool) -> Option<f64> {
        let took = took.saturating_add(WAY).as_secs_f64().ln();
        let slowdown = (self.calls >= BASELINE_CALLS_MIN).then_some(took - self.mean);
        if teaches || self.calls < BASELINE_CALLS_MIN {
            self.calls = (self.calls + 1).min(BASELINE_CALLS);
            self.mean += (took - self.mean) / f64::from(self.calls);
        }
        slowdown
    }
}

#[cfg(test)]
mod tests;
