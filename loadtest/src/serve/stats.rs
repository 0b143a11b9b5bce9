//! The counts of an upstream.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use serde_json::{Value, json};

/// The most ids that are remembered. After that, calls that arrive twice are not detected.
const IDS_MAX: usize = 10_000_000;
/// Bytes of an id in a file.
const ID_BYTES: usize = 8;

/// Counts of one server.
#[derive(Debug)]
pub(crate) struct Stats {
    pub(super) calls: u64,
    pub(super) connections: u64,
    /// Calls that are held until they are released.
    pub(super) held: u64,
    doubled: u64,
    /// The ids of calls, if calls that arrive twice are counted.
    seen: Option<HashSet<u64>>,
    /// The file of ids for the next server.
    file: Option<File>,
}

impl Stats {
    pub(crate) fn new(count_doubled: bool) -> Stats {
        let seen = count_doubled.then(HashSet::new);
        Stats { calls: 0, connections: 0, held: 0, doubled: 0, seen, file: None }
    }

    /// Continues the counts of a server that wrote to this file, even if it was killed: calls, and calls that arrived
    /// twice.
    pub(super) fn continued(path: &Path) -> io::Result<Stats> {
        let mut file = File::options().read(true).append(true).create(true).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut stats = Stats::new(true);
        // The last write may be incomplete.
        for id in bytes.as_chunks::<ID_BYTES>().0 {
            stats.count(u64::from_le_bytes(*id));
        }
        file.set_len((bytes.len() - bytes.len() % ID_BYTES) as u64)?;
        stats.file = Some(file);
        Ok(stats)
    }

    /// Counts a tool call with this id (JSON text).
    pub(super) fn call(&mut self, id: &str) {
        let Ok(id) = id.parse::<u64>() else {
            self.calls += 1;
            return;
        };
        // Written at once, so that the next server knows it even if this one is killed.
        let kept = self.file.as_mut().is_none_or(|file| file.write_all(&id.to_le_bytes()).is_ok());
        self.count(id);
        if !kept {
            self.seen = None;
        }
    }

    fn count(&mut self, id: u64) {
        self.calls += 1;
        if let Some(seen) = &mut self.seen {
            self.doubled += u64::from(seen.len() < IDS_MAX && !seen.insert(id));
        }
    }

    /// Resets the counts. Open connections and held calls stay.
    pub(super) fn reset(&mut self) {
        (self.calls, self.doubled) = (0, 0);
        if let Some(seen) = &mut self.seen {
            seen.clear();
        }
        if self.file.as_mut().is_some_and(|file| file.set_len(0).is_err()) {
            self.seen = None;
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
    fn calls_that_arrive_twice_are_counted_if_enabled() {
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

    #[test]
    fn a_server_that_was_killed_is_counted_on_from() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("calls");
        let mut first = Stats::continued(&path).expect("it can be made");
        ["1", "2", "2"].iter().for_each(|id| first.call(id));
        // The first server is not notified, as if it was killed, and the last write is incomplete.
        File::options().append(true).open(&path).expect("it exists").write_all(&[7; 3]).expect("the file is writable");
        let mut second = Stats::continued(&path).expect("the file is readable");
        assert_eq!(second.to_json(), first.to_json());
        second.call("1");
        assert_eq!((second.to_json()["calls"].as_u64(), second.to_json()["doubled"].as_u64()), (Some(4), Some(2)));
        second.reset();
        second.call("1");
        let third = Stats::continued(&path).expect("the file is readable");
        assert_eq!((third.to_json()["calls"].as_u64(), third.to_json()["doubled"].as_u64()), (Some(1), Some(0)));
        assert!(Stats::continued(folder.path()).is_err(), "a folder is not a file");
    }
}
