use std::time::Duration;

use crate::base::Time;

/// Which slow calls are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowCallSettings {
    /// A call that takes at least this long, in milliseconds, is slow, unless calls of its kind usually do. `None` logs
    /// no calls.
    pub slow_call_ms: Option<u64>,
    /// The most log lines per second on each core.
    pub lines_per_second_max: u32,
}

impl Default for SlowCallSettings {
    fn default() -> SlowCallSettings {
        SlowCallSettings { slow_call_ms: Some(1_000), lines_per_second_max: 10 }
    }
}

/// What to do with a call that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowVerdict {
    /// The call was not slow.
    Quick,
    /// The call is logged, together with the number of slow calls since the last line that were not.
    Log {
        /// How many slow calls were not logged since the last line.
        left_out: u64,
    },
    /// The call was slow, but the limit of lines per second is reached.
    LeftOut,
}

/// Decides which calls are logged as slow.
#[derive(Debug)]
pub struct SlowCalls {
    settings: SlowCallSettings,
    second_start: Time,
    lines: u32,
    left_out: u64,
}

impl SlowCalls {
    /// Creates the state from its settings.
    #[must_use]
    pub const fn new(settings: SlowCallSettings) -> SlowCalls {
        SlowCalls { settings, second_start: Time::ZERO, lines: 0, left_out: 0 }
    }

    /// Judges a call that ended at `now` and took `took`. `usual` returns how long calls of its kind usually take at
    /// most, if known. It is called only for calls above the threshold.
    pub fn judge(&mut self, now: Time, took: Duration, usual: impl FnOnce() -> Option<Duration>) -> SlowVerdict {
        let Some(threshold_ms) = self.settings.slow_call_ms else { return SlowVerdict::Quick };
        if took < Duration::from_millis(threshold_ms) || usual().is_some_and(|usual| took <= usual) {
            return SlowVerdict::Quick;
        }
        if now.since(self.second_start) >= Duration::from_secs(1) {
            self.second_start = now;
            self.lines = 0;
        }
        if self.lines >= self.settings.lines_per_second_max {
            self.left_out += 1;
            return SlowVerdict::LeftOut;
        }
        self.lines += 1;
        SlowVerdict::Log { left_out: std::mem::take(&mut self.left_out) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Duration = Duration::from_millis(50);

    fn unknown() -> Option<Duration> {
        None
    }

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn the_threshold_belongs_to_the_slow_side() {
        let mut calls = SlowCalls::new(SlowCallSettings { slow_call_ms: Some(50), lines_per_second_max: 1 });
        assert_eq!(calls.judge(at(0), SLOW - Duration::from_nanos(1), unknown), SlowVerdict::Quick);
        assert_eq!(calls.judge(at(0), SLOW, unknown), SlowVerdict::Log { left_out: 0 });
    }

    #[test]
    fn lines_are_limited_and_omitted_ones_are_counted() {
        let mut calls = SlowCalls::new(SlowCallSettings { slow_call_ms: Some(50), lines_per_second_max: 2 });
        assert_eq!(calls.judge(at(5_000), SLOW, unknown), SlowVerdict::Log { left_out: 0 });
        assert_eq!(calls.judge(at(5_400), SLOW, unknown), SlowVerdict::Log { left_out: 0 });
        assert_eq!(calls.judge(at(5_500), SLOW, unknown), SlowVerdict::LeftOut);
        assert_eq!(calls.judge(at(5_999), SLOW, unknown), SlowVerdict::LeftOut);
        assert_eq!(calls.judge(at(6_000), SLOW, unknown), SlowVerdict::Log { left_out: 2 });
        assert_eq!(calls.judge(at(6_001), SLOW, unknown), SlowVerdict::Log { left_out: 0 });
    }

    #[test]
    fn a_call_that_takes_as_long_as_its_kind_usually_does_is_not_slow() {
        let mut calls = SlowCalls::new(SlowCallSettings { slow_call_ms: Some(50), lines_per_second_max: 2 });
        assert_eq!(calls.judge(at(0), SLOW * 2, || Some(SLOW * 2)), SlowVerdict::Quick);
        assert_eq!(calls.judge(at(0), SLOW * 3, || Some(SLOW * 2)), SlowVerdict::Log { left_out: 0 });
        assert_eq!(calls.judge(at(0), SLOW / 2, || unreachable!("it is below the threshold")), SlowVerdict::Quick);
    }

    #[test]
    fn without_a_threshold_nothing_is_slow() {
        let mut calls = SlowCalls::new(SlowCallSettings { slow_call_ms: None, lines_per_second_max: 2 });
        assert_eq!(calls.judge(at(0), Duration::MAX, unknown), SlowVerdict::Quick);
    }
}
