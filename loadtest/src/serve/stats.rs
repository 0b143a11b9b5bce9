//! What an upstream counts.

use std::collections::HashSet;

use serde_json::{Value, json};

/// Ids that are remembered at the most; with more, calls that come twice are no longer told.
const IDS_MAX: usize = 10_000_000;

/// Counts of one server.
#[derive(Debug)]
pub(super) struct Stats {
    pub(super) calls: u64,
    pub(super) connections: u64,
    /// Calls that are kept until they are released.
    pub(super) held: u64,
    doubled: u64,
    /// The ids of calls, where calls that come twice are counted.
    seen: Option<HashSet<u64>>,
}

impl Stats {
    pub(super) fn new(count_doubled: bool) -> Stats {
        Stats { calls: 0, connections: 0, held: 0, doubled: 0, seen: count_doubled.then(HashSet::new) }
    }

    /// One more tool call, with this id as JSON text.
    pub(super) fn call(&mut self, id: &str) {
        self.calls += 1;
        if let (Some(seen), Ok(id)) = (&mut self.seen, id.parse::<u64>()) {
            self.doubled += u64::from(seen.len() < IDS_MAX && !seen.insert(id));
        }
    }

    /// Starts to count anew; connections that are open and calls that are kept stay.
    pub(super) fn reset(&mut self) {
        (self.calls, self.doubled) = (0, 0);
        if let Some(seen) = &mut self.seen {
            seen.clear();
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let doubled = self.seen.as_ref().filter(|seen| seen.len() < IDS_MAX).map(|_| self.doubled);
        json!({ "calls": self.calls, "connections_open": self.connections, "held": self.held, "doubled": doubled })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_come_twice_are_told_where_that_is_asked_for() {
        let mut stats = Stats::new(true);
        ["1", "2", "1", "\"a\"", "\"a\""].iter().for_each(|id| stats.call(id));
        assert_eq!(stats.to_json(), json!({ "calls": 5, "connections_open": 0, "held": 0, "doubled": 1 }));
        stats.reset();
        stats.call("1");
        assert_eq!(stats.to_json()["doubled"], 0);
        let mut plain = Stats::new(false);
        ["1", "1"].iter().for_each(|id| plain.call(id));
        assert_eq!(plain.to_json()["doubled"], Value::Null);
    }
}
