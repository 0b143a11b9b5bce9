use std::time::Duration;

use crate::base::Time;

/// Limits log lines that strangers can cause to a few per second. The next line reports how many were suppressed.
#[derive(Debug)]
pub struct LogRateLimit {
    per_second_max: u32,
    second_start: Time,
    lines: u32,
    left_out: u64,
}

impl LogRateLimit {
    /// Allows at most `per_second_max` lines per second.
    #[must_use]
    pub const fn new(per_second_max: u32) -> LogRateLimit {
        LogRateLimit { per_second_max, second_start: Time::ZERO, lines: 0, left_out: 0 }
    }

    /// Asks to write a line now: `None` if the limit is reached, otherwise the number of lines suppressed before it.
    pub fn allow(&mut self, now: Time) -> Option<u64> {
        if now.since(self.second_start) >= Duration::from_secs(1) {
            self.second_start = now;
            self.lines = 0;
        }
        if self.lines >= self.per_second_max {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_writes_few_lines_and_the_count_of_omitted_ones() {
        let mut lines = LogRateLimit::new(2);
        let at = |ms: u64| Time::ZERO + Duration::from_millis(5_000 + ms);
        assert_eq!(
            [lines.allow(at(0)), lines.allow(at(1)), lines.allow(at(2)), lines.allow(at(3))],
            [Some(0), Some(0), None, None]
        );
        assert_eq!([lines.allow(at(1_000)), lines.allow(at(1_001))], [Some(2), Some(0)]);
    }
}
