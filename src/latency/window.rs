//! The durations of the last calls of one label: a few rotating sets of counters of fixed size.

use std::time::Duration;

use crate::base::Time;

/// How many parts the window has. One is being filled; the oldest is dropped when the next one begins.
const PARTS: usize = 6;
/// How long a part is filled, if enough calls come. All parts together cover 48 s.
const PART_TIME: Duration = Duration::from_secs(8);
/// The fewest calls of a part, however long they take to come. All parts together have 48.
const PART_CALLS_MIN: u32 = 8;
/// The most calls of a part, which is the range of its counters.
const PART_CALLS_MAX: u32 = u16::MAX as u32;
/// How long a part counts, from its beginning: a server that is called this rarely may have changed.
const PART_AGE_MAX: Duration = Duration::from_secs(900);
/// The fewest calls from which quantiles are computed.
pub(super) const CALLS_MIN: u32 = 20;

/// The steps of each doubling, as a power of two. Each step is at most 1/16.
const STEPS_LOG2: u32 = 4;
const STEPS: usize = 1 << STEPS_LOG2;
/// The upper end of the first bucket: 2^20 ns, about a millisecond.
const SHORTEST_LOG2: u32 = 20;
/// The number of doublings above that, up to 73 minutes. Longer durations count as the longest.
const DOUBLINGS: u32 = 22;
const BUCKETS: usize = 1 + STEPS * DOUBLINGS as usize;

/// The quantiles of the last calls of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsualLatency {
    /// The median of the durations.
    pub p50: Duration,
    /// The 95th percentile of the durations.
    pub p95: Duration,
}

/// The durations of the last calls of one label, for their quantiles, in 4.2 KiB of fixed size.
///
/// It covers the calls of the last 40 to 48 s, but at least the last 40 and at most the last 393,210 calls. No call is
/// much older than 15 minutes. After a step change in the durations, the window therefore contains only the new ones
/// after 48 s, if there is a call every second.
pub(super) struct Window {
    parts: [Part; PARTS],
    /// The part that is being filled.
    at: usize,
}

struct Part {
    began: Time,
    calls: u32,
    counts: [u16; BUCKETS],
}

impl Window {
    pub(super) const fn new() -> Window {
        Window { parts: [const { Part { began: Time::ZERO, calls: 0, counts: [0; BUCKETS] } }; PARTS], at: 0 }
    }

    /// Adds a call that took this long.
    #[cfg(test)]
    fn record(&mut self, took: Duration, now: Time) {
        self.add(bucket_of(took), now);
    }

    /// Adds a call by the bucket of its duration.
    pub(super) fn add(&mut self, bucket: usize, now: Time) {
        let part = &self.parts[self.at];
        let is_over = part.calls >= PART_CALLS_MIN && now - part.began >= PART_TIME;
        if part.calls == 0 || is_over || part.calls == PART_CALLS_MAX || is_old(part, now) {
            self.at = (self.at + usize::from(part.calls > 0)) % PARTS;
            let part = &mut self.parts[self.at];
            part.counts.fill(0);
            (part.began, part.calls) = (now, 0);
        }
        let part = &mut self.parts[self.at];
        part.calls += 1;
        // The part is closed before one of its counters could overflow.
        part.counts[bucket] += 1;
    }

    /// How many calls are in the window.
    pub(super) fn calls(&self, now: Time) -> u32 {
        self.parts.iter().filter(|part| !is_old(part, now)).map(|part| part.calls).sum()
    }

    /// The quantiles; `None` if there are too few calls. A quantile is at most 1/16 above the true value.
    pub(super) fn usual(&self, now: Time) -> Option<UsualLatency> {
        let calls = self.calls(now);
        if calls < CALLS_MIN {
            return None;
        }
        let counts = self.parts.each_ref().map(|part| (!is_old(part, now)).then_some(&part.counts));
        let (mut seen, mut bucket) = (0, 0);
        // Of an ascending sequence of percentages.
        let mut quantile = |percent: u32| {
            let rank = (u64::from(calls) * u64::from(percent)).div_ceil(100);
            while seen < rank && bucket < BUCKETS {
                for counts in &counts {
                    seen += counts.map_or(0, |counts| u64::from(counts[bucket]));
                }
                bucket += 1;
            }
            bucket_end(bucket.saturating_sub(1))
        };
        Some(UsualLatency { p50: quantile(50), p95: quantile(95) })
    }
}

fn is_old(part: &Part, now: Time) -> bool {
    now - part.began >= PART_AGE_MAX
}

/// The bucket of a duration. The first bucket takes everything up to a millisecond.
pub(super) fn bucket_of(took: Duration) -> usize {
    let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).saturating_sub(1);
    let doubling = ns.checked_ilog2().unwrap_or(0);
    if doubling < SHORTEST_LOG2 {
        return 0;
    }
    let step = (ns >> (doubling - STEPS_LOG2)) as usize & (STEPS - 1);
    (1 + (doubling - SHORTEST_LOG2) as usize * STEPS + step).min(BUCKETS - 1)
}

/// The longest duration in a bucket.
fn bucket_end(bucket: usize) -> Duration {
    let Some(above) = bucket.checked_sub(1) else { return Duration::from_nanos(1 << SHORTEST_LOG2) };
    let doubling = SHORTEST_LOG2 + (above / STEPS) as u32;
    Duration::from_nanos((1 << doubling) + (((above % STEPS) as u64 + 1) << (doubling - STEPS_LOG2)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: f64) -> Time {
        Time::ZERO + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn it_takes_the_documented_memory() {
        assert_eq!(size_of::<Window>() / 103, 42, "{}", size_of::<Window>());
    }

    #[test]
    fn each_time_is_in_a_bucket_that_ends_at_most_a_sixteenth_behind_it() {
        let mut rng = Rng::new(3);
        let mut last = 0;
        for nth in 0..2_000_u64 {
            let ns = if nth < 100 { (1 << 20) + nth } else { rng.next_u64() >> rng.between(22, 43) };
            let took = Duration::from_nanos(ns);
            let end = bucket_end(bucket_of(took));
            assert!(end >= took, "{took:?} ends at {end:?}");
            assert!(end <= Duration::from_nanos(1 << 20) || end - took <= took / 16, "{took:?} ends at {end:?}");
            assert_eq!(bucket_of(end), bucket_of(took), "the end is in the bucket");
        }
        for bucket in 0..BUCKETS {
            let end = bucket_end(bucket).as_nanos() as u64;
            assert!(end > last && bucket_of(Duration::from_nanos(end)) == bucket);
            last = end;
        }
        assert_eq!(bucket_of(Duration::MAX), BUCKETS - 1);
        assert_eq!(bucket_of(Duration::ZERO), 0);
    }

    #[test]
    fn quantiles_are_those_of_the_last_calls() {
        let mut window = Window::new();
        let mut rng = Rng::new(5);
        for calls in [CALLS_MIN - 1, 1_000] {
            let mut took: Vec<Duration> = Vec::new();
            for _ in 0..calls {
                took.push(Duration::from_micros(rng.between(2_000, 9_000_000)));
                window.record(*took.last().unwrap(), at(1.0));
            }
            if calls < CALLS_MIN {
                assert_eq!(window.usual(at(1.0)), None);
                window = Window::new();
                continue;
            }
            took.sort_unstable();
            let usual = window.usual(at(1.0)).unwrap();
            for (got, want) in [(usual.p50, took[499]), (usual.p95, took[949])] {
                assert!(got >= want && got - want <= want / 16, "{got:?}, not {want:?}");
            }
        }
    }

    #[test]
    fn samples_expire_after_48_s_and_rare_ones_are_kept_longer() {
        for (per_second, all_new_after) in [(100.0, 48.0), (1.0, 48.0), (0.1, 480.0)] {
            let mut window = Window::new();
            let record = |window: &mut Window, from: f64, to: f64, took| {
                let calls = ((to - from) * per_second) as u32;
                (0..calls).for_each(|nth| window.record(took, at(from + f64::from(nth) / per_second)));
            };
            record(&mut window, 0.0, 1_000.0, 10 * SECOND);
            record(&mut window, 1_000.0, 1_000.0 + all_new_after, SECOND);
            let usual = window.usual(at(1_000.0 + all_new_after)).unwrap();
            assert!(usual.p95 < SECOND * 11 / 10, "{per_second} per second: {usual:?}");
            assert!(window.calls(at(1_000.0 + all_new_after)) >= 40);
        }
    }

    #[test]
    fn old_samples_do_not_count() {
        let mut window = Window::new();
        (0..30).for_each(|_| window.record(SECOND, at(0.0)));
        assert!(window.usual(at(899.0)).is_some());
        assert_eq!(window.usual(at(900.0)), None);
        window.record(SECOND, at(2_000.0));
        assert_eq!(window.calls(at(2_000.0)), 1);
    }

    #[test]
    fn counters_never_overflow() {
        let mut window = Window::new();
        (0..8 * PART_CALLS_MAX).for_each(|_| window.record(SECOND, at(1.0)));
        assert_eq!(window.calls(at(1.0)), 6 * PART_CALLS_MAX);
    }
}
