//! How many calls of a route may be in flight at one time, by how long they take.
//!
//! A server that has more calls than it can work on at one time lets them wait, so that each takes longer. The limit grows while
//! calls take about as long as they do on a server that is not busy, and falls in proportion when they take longer. How long they
//! take on such a server is the [`Baseline`] of their label. It is learned only from calls that came while few others were in
//! flight. If calls stay slow, the limit falls until few are, and the baseline is learned again: that is how a server that has
//! become slow for good is told from one that is overloaded.

use std::time::Duration;

use crate::base::{ConcurrencyTerms, Time};

/// The limit of a route of which nothing is known.
const LIMIT_FIRST: f64 = 20.0;
/// The limit falls when calls take more than so many times their baseline. Queueing theory gives no exact value: below it, noise
/// lowers the limit, above it, the server's own queue is longer than it needs to be.
const SLOWDOWN_MAX: f64 = 1.5;
/// So much is added to every time before it is compared. A call waits for up to some milliseconds on the way, where many go together:
/// for the link, and for the cores of edge and connector. To a quick server that is many times what it takes, and says nothing of it.
const WAY: Duration = Duration::from_millis(10);
/// One step lowers the limit to this part at the least.
const STEP_DOWN_MAX: f64 = 0.5;
/// The limit changes after so many calls,
const WINDOW_CALLS: u32 = 10;
/// and after this time at the earliest.
const WINDOW_TIME: Duration = Duration::from_millis(250);
/// One call counts as so many times its baseline at the most (and one part in so many at the least), so that a single one among ten
/// does not lower the limit.
const OUTLIER: f64 = 8.0;
/// So many calls make a baseline.
const BASELINE_CALLS_MIN: u32 = 10;
/// After so many calls each further one moves the baseline by one part in so many.
const BASELINE_CALLS: u32 = 32;
/// A call that finds fewer than one in so many places taken came to a server that is not busy.
const IDLE_PART: u32 = 2;

/// How many calls may be in flight. It takes 32 bytes.
pub(super) struct ConcurrencyLimit {
    limit: f64,
    /// When it was changed last. Calls that began before say nothing of it.
    changed: Time,
    /// The calls since then, and the sum of their slowdowns.
    calls: u32,
    slowdowns: f64,
}

/// How busy a route was when a call began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    /// Whether so many calls were in flight that their times say something of the limit.
    pub(super) is_high: bool,
    /// Whether so few were in flight that their times are those of a server that is not busy.
    pub(super) is_low: bool,
}

/// How long the calls of one label take on a server that is not busy: their geometric mean, so that a few very long ones matter
/// little.
#[derive(Default)]
pub(super) struct Baseline {
    /// The natural logarithm of the time in nanoseconds, with [`WAY`].
    mean: f64,
    calls: u32,
}

impl ConcurrencyLimit {
    pub(super) const fn new() -> ConcurrencyLimit {
        ConcurrencyLimit { limit: LIMIT_FIRST, changed: Time::ZERO, calls: 0, slowdowns: 0.0 }
    }

    /// How many calls may be in flight, at least one.
    pub(super) fn get(&self, terms: &ConcurrencyTerms) -> u32 {
        (self.limit as u32).clamp(terms.min.min(terms.max), terms.max).max(1)
    }

    /// How busy the route is to a call with which so many are in flight.
    pub(super) fn load(&self, in_flight: u32, terms: &ConcurrencyTerms) -> Load {
        let limit = self.get(terms);
        let is_high = in_flight.saturating_mul(IDLE_PART) > limit;
        Load { is_high, is_low: !is_high || in_flight <= terms.min }
    }

    /// A call has ended that began then, under a high load, with this [slowdown](Baseline::slowdown).
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
            // The fraction is kept: it is what a small limit grows by.
            self.limit.clamp(limit, limit + 1.0) + limit.sqrt() * room.min(1.0)
        };
        (self.changed, self.calls, self.slowdowns) = (now, 0, 0.0);
    }
}

impl Baseline {
    /// By how much longer than usual a call took: the natural logarithm of the quotient. None if too few calls were seen. A call
    /// that `teaches` is known from then on.
    pub(super) fn slowdown(&mut self, took: Duration, teaches: bool) -> Option<f64> {
        let took = (took.saturating_add(WAY).as_nanos() as f64).ln();
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
