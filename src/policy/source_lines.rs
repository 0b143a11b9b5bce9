use std::time::Duration;

use crate::base::Time;
use crate::policy::SourceKey;

/// How long after a line the same source gets no other one.
const INTERVAL: Duration = Duration::from_secs(60);
/// The most sources and kinds that are remembered at the same time.
const ENTRIES_MAX: usize = 256;

/// Limits log lines that strangers can cause: one for each source, kind and minute. The next line says how many were left out.
///
/// When more sources come within a minute than are remembered, the further ones get no line, and are counted together.
#[derive(Debug)]
pub struct SourceLines<K> {
    entries: Vec<Entry<K>>,
    others: u64,
}

/// How many lines were left out before this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Of this source and kind.
    pub same: u64,
    /// Of sources for which there was no room.
    pub others: u64,
}

#[derive(Debug)]
struct Entry<K> {
    of: (Option<SourceKey>, K),
    last: Time,
    left_out: u64,
}

impl<K> Default for SourceLines<K> {
    fn default() -> SourceLines<K> {
        SourceLines { entries: Vec::new(), others: 0 }
    }
}

impl<K: PartialEq> SourceLines<K> {
    /// Asks to write a line about this source now; `None` if it had one of this kind within a minute.
    pub fn take(&mut self, source: Option<SourceKey>, kind: K, now: Time) -> Option<LeftOut> {
        let is_due = |entry: &Entry<K>| now.since(entry.last) >= INTERVAL;
        let of = (source, kind);
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.of == of) {
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
        let entry = Entry { of, last: now, left_out: 0 };
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
    use std::net::Ipv4Addr;

    use super::*;

    fn at(s: u64) -> Time {
        Time::ZERO + Duration::from_secs(1_000 + s)
    }

    fn source(n: u32) -> Option<SourceKey> {
        Some(SourceKey::of(Ipv4Addr::from(n).into()))
    }

    #[test]
    fn a_source_gets_one_line_of_a_kind_and_minute_and_the_rest_is_counted() {
        let mut lines = SourceLines::default();
        assert_eq!(lines.take(source(1), "tls", at(0)), Some(LeftOut::default()));
        assert!((0..299).all(|n| lines.take(source(1), "tls", at(n / 10)).is_none()));
        assert_eq!(lines.take(source(1), "timeout", at(1)), Some(LeftOut::default()));
        assert_eq!(lines.take(source(2), "tls", at(1)), Some(LeftOut::default()));
        assert_eq!(lines.take(None, "tls", at(1)), Some(LeftOut::default()));
        assert_eq!(lines.take(source(1), "tls", at(60)), Some(LeftOut { same: 299, others: 0 }));
        assert_eq!(lines.take(source(1), "tls", at(61)), None);
    }

    #[test]
    fn a_flood_of_sources_takes_no_more_memory_and_is_counted() {
        let mut lines = SourceLines::default();
        let told = (0..10_000).filter(|n| lines.take(source(*n), "tls", at(0)).is_some()).count();
        assert_eq!((told, lines.entries.len()), (ENTRIES_MAX, ENTRIES_MAX));
        let others = 10_000 - ENTRIES_MAX as u64;
        assert_eq!(lines.take(source(20_000), "tls", at(60)), Some(LeftOut { same: 0, others }));
        assert_eq!(lines.take(source(20_001), "tls", at(60)), Some(LeftOut::default()));
    }
}
