//! What is learned from the calls of each label, on all cores together.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::Time;
use crate::latency::concurrency_limit::Baseline;
use crate::latency::label::Label;
use crate::latency::window::{CALLS_MIN, UsualLatency, Window, bucket_of};

/// The quantiles are computed at most this often, because it takes some microseconds.
const COMPUTE_EVERY: Duration = Duration::from_millis(200);
/// After this time without a call, what was learned about a label is no longer used.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(900);
/// The longest time for which a core gathers the calls of a label before it adds them to the shared window.
const GATHER_FOR: Duration = Duration::from_millis(100);
/// The most calls that a core gathers.
const GATHERED_MAX: usize = 32;
/// Stands for quantiles that are not known.
const UNKNOWN: u64 = 0;

/// The durations of the last calls of one label. Reading them takes no lock.
pub struct Learned {
    /// p50 and p95 in microseconds, 32 bits each.
    usual: AtomicU64,
    /// When the last call ended, in nanoseconds.
    last: AtomicU64,
    window: Mutex<Computing>,
    /// How long calls take while few are in flight.
    baseline: Mutex<Baseline>,
}

/// The learned durations as one core uses them. While little is known it takes the lock to add each call. After that it
/// adds several at once.
pub struct CoreLearned {
    of: Arc<Learned>,
    /// The window buckets of the gathered calls.
    gathered: [u16; GATHERED_MAX],
    gathered_len: usize,
    /// When calls were last added.
    added: Time,
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

    /// How much longer a call took than calls do while few are in flight, as the natural logarithm of the ratio; `None`
    /// if too few calls were seen. A call that `teaches` moves that baseline.
    pub fn slowdown(&self, took: Duration, teaches: bool) -> Option<f64> {
        self.baseline.lock().unwrap_or_else(PoisonError::into_inner).slowdown(took, teaches)
    }

    /// The quantiles of the last calls, if enough were seen.
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

    /// Adds a call that counts as this long.
    #[cfg(test)]
    pub fn record(&self, took: Duration, now: Time) {
        self.add(std::iter::once(bucket_of(took)), now);
    }

    fn is_known(&self) -> bool {
        self.usual.load(Ordering::Relaxed) != UNKNOWN
    }

    /// Adds calls by the buckets of their durations.
    fn add(&self, buckets: impl Iterator<Item = usize>, now: Time) {
        let mut state = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.for_each(|bucket| state.window.add(bucket, now));
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

impl CoreLearned {
    pub(super) fn new(of: Arc<Learned>) -> CoreLearned {
        CoreLearned { of, gathered: [0; GATHERED_MAX], gathered_len: 0, added: Time::ZERO }
    }

    /// Adds a call that counts as this long, at once or together with later ones.
    pub(super) fn record(&mut self, took: Duration, now: Time) {
        let bucket = bucket_of(took);
        if self.of.is_known() && self.gathered_len < GATHERED_MAX && now - self.added < GATHER_FOR {
            self.gathered[self.gathered_len] = bucket as u16;
            self.gathered_len += 1;
            return;
        }
        // After a long pause, the gathered calls are as old as those that were added last, and are forgotten with them.
        let is_forgotten = now - self.added >= FORGOTTEN_AFTER;
        let gathered = &self.gathered[..if is_forgotten { 0 } else { self.gathered_len }];
        self.of.add(gathered.iter().map(|bucket| usize::from(*bucket)).chain([bucket]), now);
        (self.gathered_len, self.added) = (0, now);
    }
}

impl Deref for CoreLearned {
    type Target = Arc<Learned>;

    fn deref(&self) -> &Arc<Learned> {
        &self.of
    }
}

/// What was learned of each label. There are as many labels as in the recorders of all cores, and each takes 4.3 KiB.
#[derive(Default)]
pub struct LearnedTable(Mutex<HashMap<Label, Arc<Learned>>>);

impl LearnedTable {
    /// The learned durations of one label; empty if the label is new.
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
    fn few_or_old_calls_teach_nothing() {
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
    fn all_users_of_a_label_share_its_figures() {
        let table = LearnedTable::default();
        let label = |tool: &str| Label { route: "r".into(), method: "tools/call".into(), tool: tool.into() };
        let (one, other) = (table.of(&label("a")), table.of(&label("b")));
        (0..CALLS_MIN).for_each(|_| table.of(&label("a")).record(SECOND, Time::ZERO));
        assert!(one.usual(Time::ZERO).is_some() && other.usual(Time::ZERO).is_none());
    }

    #[test]
    fn a_core_gathers_calls_once_they_are_known_and_loses_none() {
        let of = Arc::new(Learned::new());
        let mut cores = [(); 2].map(|()| CoreLearned::new(Arc::clone(&of)));
        let calls = |now| of.window.lock().unwrap().window.calls(now);
        let at = |ms: u64| Time::ZERO + Duration::from_millis(ms);
        (0..CALLS_MIN).for_each(|_| cores[0].record(SECOND, at(1)));
        assert_eq!((calls(at(1)), of.is_known()), (CALLS_MIN, true), "the first are added at once");
        (0..5).for_each(|_| cores[0].record(SECOND, at(50)));
        assert_eq!(calls(at(50)), CALLS_MIN);
        cores[1].record(SECOND, at(150));
        assert_eq!(calls(at(150)), CALLS_MIN + 1, "this core has not added any for long");
        cores[0].record(SECOND, at(150));
        assert_eq!(calls(at(150)), CALLS_MIN + 7);
        (0..200).for_each(|_| cores[0].record(3 * SECOND, at(200)));
        assert!(calls(at(200)) > CALLS_MIN + 7 + 200 - GATHERED_MAX as u32 - 1, "no more than fit are gathered");
        cores[0].record(3 * SECOND, at(400));
        assert_eq!(calls(at(400)), CALLS_MIN + 7 + 201);
        assert!(of.usual(at(400)).unwrap().p50 > 2 * SECOND);
    }

    #[test]
    fn samples_from_before_a_long_pause_count_as_old() {
        let of = Arc::new(Learned::new());
        let mut core = CoreLearned::new(Arc::clone(&of));
        let at = |ms: u64| Time::ZERO + Duration::from_millis(ms);
        (0..CALLS_MIN).for_each(|_| core.record(SECOND, at(1)));
        (0..GATHERED_MAX).for_each(|_| core.record(SECOND, at(50)));
        let later = at(50) + FORGOTTEN_AFTER;
        core.record(SECOND, later);
        assert_eq!(of.window.lock().unwrap().window.calls(later), 1);
        assert_eq!(of.usual(later), None, "one call says nothing");
    }

    #[test]
    fn times_beyond_the_range_are_its_end() {
        let learned = Learned::new();
        (0..CALLS_MIN).for_each(|_| learned.record(Duration::MAX, Time::ZERO));
        let usual = learned.usual(Time::ZERO).unwrap();
        assert!(usual.p95 > Duration::from_secs(4_000) && usual.p50 == usual.p95, "{usual:?}");
    }
}
