//! What is learned of the calls of each label, by all cores together.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::Time;
use crate::latency::concurrency_limit::Baseline;
use crate::latency::label::Label;
use crate::latency::window::{CALLS_MIN, UsualLatency, Window};

/// How often the quantiles are computed at the most, which takes some microseconds.
const COMPUTE_EVERY: Duration = Duration::from_millis(200);
/// After how long without a call nothing is said of a label.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(900);
/// Stands for quantiles that are not known.
const UNKNOWN: u64 = 0;

/// How long the last calls of one label took. Reading it takes no lock.
pub struct Learned {
    /// p50 and p95 in microseconds, 32 bits each.
    usual: AtomicU64,
    /// When the last call ended, in nanoseconds.
    last: AtomicU64,
    window: Mutex<Computing>,
    /// How long they take while few calls are in flight.
    baseline: Mutex<Baseline>,
}

struct Computing {
    window: Window,
    computed: Time,
    /// Whether the quantiles are known.
    is_known: bool,
}

impl Learned {
    pub(super) fn new() -> Learned {
        let window = Computing { window: Window::new(), computed: Time::ZERO, is_known: false };
        Learned {
            usual: AtomicU64::new(UNKNOWN),
            last: AtomicU64::new(0),
            window: Mutex::new(window),
            baseline: Mutex::default(),
        }
    }

    /// By how much longer a call took than calls do while few are in flight, as a natural logarithm; none if too few were seen. A call
    /// that `teaches` is known from then on.
    pub fn slowdown(&self, took: Duration, teaches: bool) -> Option<f64> {
        self.baseline.lock().unwrap_or_else(PoisonError::into_inner).slowdown(took, teaches)
    }

    /// What the last calls have in common, if enough were seen.
    #[must_use]
    pub fn usual(&self, now: Time) -> Option<UsualLatency> {
        let packed = self.usual.load(Ordering::Relaxed);
        let is_old = now - Time::from_nanos(self.last.load(Ordering::Relaxed)) >= FORGOTTEN_AFTER;
        if packed == UNKNOWN || is_old {
            return None;
        }
        let [p50, p95] = [packed >> 32, packed & u64::from(u32::MAX)].map(Duration::from_micros);
        Some(UsualLatency { p50, p95 })
    }

    /// Adds a call that counts as so long and ended `now`.
    pub fn record(&self, took: Duration, now: Time) {
        let mut state = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        state.window.record(took, now);
        self.last.store(now.as_nanos(), Ordering::Relaxed);
        let is_due = now - state.computed >= COMPUTE_EVERY;
        if is_due || (!state.is_known && state.window.calls(now) >= CALLS_MIN) {
            state.computed = now;
            let usual = state.window.usual(now);
            state.is_known = usual.is_some();
            let us = |time: Duration| u64::from(u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
            let packed = usual.map_or(UNKNOWN, |UsualLatency { p50, p95 }| us(p50) << 32 | us(p95));
            self.usual.store(packed, Ordering::Relaxed);
        }
    }
}

/// What was learned of each label. Each takes 4.3 KiB. There are as many as the recorders of all cores have labels.
#[derive(Default)]
pub struct LearnedTable(Mutex<HashMap<Label, Arc<Learned>>>);

impl LearnedTable {
    /// What is learned of one label, from now on if nothing was.
    pub(super) fn of(&self, label: &Label) -> Arc<Learned> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(learned) = table.get(label) {
            return Arc::clone(learned);
        }
        let learned = Arc::new(Learned::new());
        table.insert(label.clone(), Arc::clone(&learned));
        learned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn nothing_is_said_of_few_calls_nor_of_old_ones() {
        let learned = Learned::new();
        let at = |n: u32| Time::ZERO + SECOND * n;
        for nth in 1..CALLS_MIN {
            learned.record(SECOND, at(nth));
            assert_eq!(learned.usual(at(nth)), None);
        }
        learned.record(SECOND, at(CALLS_MIN));
        let usual = learned.usual(at(CALLS_MIN)).unwrap();
        assert!(usual.p50 == usual.p95 && (SECOND..SECOND * 17 / 16).contains(&usual.p95), "{usual:?}");
        assert!(learned.usual(at(CALLS_MIN + 899)).is_some());
        assert_eq!(learned.usual(at(CALLS_MIN + 900)), None);
    }

    #[test]
    fn all_who_ask_for_a_label_share_what_is_learned() {
        let table = LearnedTable::default();
        let label = |tool: &str| Label { route: "r".into(), method: "tools/call".into(), tool: tool.into() };
        let (one, other) = (table.of(&label("a")), table.of(&label("b")));
        (0..CALLS_MIN).for_each(|_| table.of(&label("a")).record(SECOND, Time::ZERO));
        assert!(one.usual(Time::ZERO).is_some() && other.usual(Time::ZERO).is_none());
    }

    #[test]
    fn times_beyond_the_range_are_its_end() {
        let learned = Learned::new();
        (0..CALLS_MIN).for_each(|_| learned.record(Duration::MAX, Time::ZERO));
        let usual = learned.usual(Time::ZERO).unwrap();
        assert!(usual.p95 > Duration::from_secs(4_000) && usual.p50 == usual.p95, "{usual:?}");
    }
}
