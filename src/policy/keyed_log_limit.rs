use std::time::Duration;

use crate::base::Time;

/// The minimum time between two lines of the same key.
const INTERVAL: Duration = Duration::from_secs(60);
/// The maximum number of keys remembered at the same time.
const ENTRIES_MAX: usize = 256;

/// Limits log lines that others can cause to one per key and minute. A key identifies the subject of a line, such as a source and
/// its action. The next line reports how many were suppressed.
///
/// Lines of keys beyond the maximum are suppressed and counted together.
#[derive(Debug)]
pub struct KeyedLogLimit<K> {
    entries: Vec<Entry<K>>,
    others: u64,
}

/// How many lines were suppressed before this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Lines of the same key.
    pub same: u64,
    /// Lines of keys for which there was no room.
    pub others: u64,
}

#[derive(Debug)]
struct Entry<K> {
    key: K,
    last: Time,
    left_out: u64,
}

impl<K> Default for KeyedLogLimit<K> {
    fn default() -> KeyedLogLimit<K> {
        KeyedLogLimit { entries: Vec::new(), others: 0 }
    }
}

impl<K: PartialEq> KeyedLogLimit<K> {
    /// Asks to write a line for this key; `None` if there was one within a minute.
    pub fn allow(&mut self, key: K, now: Time) -> Option<LeftOut> {
        let is_due = |entry: &Entry<K>| now.since(entry.last) >= INTERVAL;
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.key == key) {
            if !is_due(entry) {
                entry.left_out += 1;
                return None;
            }
            entry.last = now;
            return Some(LeftOut {
                same: std::mem::take(&mut entry.left_out),
                others: std::mem::take(&mut self.others),
            });
        }
        let entry = Entry { key, last: now, left_out: 0 };
        if self.entries.len() < ENTRIES_MAX {
            self.entries.push(entry);
        } else if let Some(oldest) =
            self.entries.iter_mut().filter(|entry| is_due(entry)).min_by_key(|entry| entry.last)
        {
            self.others += oldest.left_out;
            *oldest = entry;
        } else {
            self.others += 1;
            return None;
        }
        Some(LeftOut { same: 0, others: std::mem::take(&mut self.others) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Time {
        Time::ZERO + Duration::from_secs(1_000 + s)
    }

    #[test]
    fn a_key_gets_one_line_in_a_minute_and_the_rest_is_counted() {
        let mut lines = KeyedLogLimit::default();
        assert_eq!(lines.allow("a", at(0)), Some(LeftOut::default()));
        assert!((0..299).all(|n| lines.allow("a", at(n / 10)).is_none()));
        assert_eq!(lines.allow("b", at(1)), Some(LeftOut::default()));
        assert_eq!(lines.allow("a", at(60)), Some(LeftOut { same: 299, others: 0 }));
        assert_eq!(lines.allow("a", at(61)), None);
    }

    #[test]
    fn a_flood_of_keys_takes_no_more_memory_and_is_counted() {
        let mut lines = KeyedLogLimit::default();
        let allowed = (0..10_000).filter(|n| lines.allow(*n, at(0)).is_some()).count();
        assert_eq!((allowed, lines.entries.len()), (ENTRIES_MAX, ENTRIES_MAX));
        let others = 10_000 - ENTRIES_MAX as u64;
        assert_eq!(lines.allow(20_000, at(60)), Some(LeftOut { same: 0, others }));
        assert_eq!(lines.allow(20_001, at(60)), Some(LeftOut::default()));
    }
}
