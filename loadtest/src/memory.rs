//! The memory of each process under test, read from `/proc`.

use procfs::process::Process;
use serde_json::{Value, json};

use crate::watch::{self, Watched};

/// Memory of one process, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident memory; pages that are shared with other processes count fully.
    pub rss_kib: u64,
    /// Proportional memory: pages that are shared count in parts. `None` if the system does not report it.
    pub pss_kib: Option<u64>,
}

/// A process, with its memory at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The id of the process.
    pub pid: u32,
    /// The name of its command, as the kernel shows it.
    pub name: String,
    /// Its memory at that moment.
    pub memory: Memory,
}

/// The memory of the watched processes and their children. Processes that have ended are omitted.
#[must_use]
pub fn read(watched: &Watched) -> Vec<Reading> {
    let mut readings: Vec<Reading> = watch::tree(&watched.pids).iter().filter_map(reading).collect();
    readings.sort_by_key(|reading| reading.pid);
    readings
}

fn reading(process: &Process) -> Option<Reading> {
    let status = process.status().ok()?;
    let rollup = process.smaps_rollup().ok();
    let maps = rollup.iter().flat_map(|rollup| rollup.memory_map_rollup.iter());
    let of = |key: &str| maps.clone().find_map(|map| map.extension.map.get(key)).map(|bytes| bytes / 1024);
    // Take both values from one reading, if possible.
    let rss_kib = of("Rss").or(status.vmrss)?;
    Some(Reading { pid: process.pid.unsigned_abs(), name: status.name, memory: Memory { rss_kib, pss_kib: of("Pss") } })
}

/// How the memory of a process changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Growth {
    /// The id of the process.
    pub pid: u32,
    /// Its role in the test, or its command.
    pub name: String,
    /// Its memory at the first moment.
    pub before: Memory,
    /// Its memory at the second moment; `None` if it had ended.
    pub after: Option<Memory>,
}

impl Growth {
    /// Combines two readings of the same processes. A process that started in between had no memory before.
    #[must_use]
    pub fn between(before: &[Reading], after: &[Reading]) -> Vec<Growth> {
        let find = |readings: &[Reading], pid| readings.iter().find(|reading| reading.pid == pid).map(|r| r.memory);
        let known = before.iter().chain(after.iter().filter(|reading| find(before, reading.pid).is_none()));
        let growth = |reading: &Reading| Growth {
            pid: reading.pid,
            name: reading.name.clone(),
            before: find(before, reading.pid).unwrap_or_default(),
            after: find(after, reading.pid),
        };
        known.map(growth).collect()
    }

    /// By how much it grew, in KiB; negative if it shrank. Resident, and proportional.
    #[must_use]
    pub fn grown_kib(&self) -> Option<(i64, Option<i64>)> {
        let after = self.after?;
        let pss = after.pss_kib.zip(self.before.pss_kib.or((self.before == Memory::default()).then_some(0)));
        Some((difference(after.rss_kib, self.before.rss_kib), pss.map(|(after, before)| difference(after, before))))
    }

    /// The result as JSON, with the memory per stream.
    #[must_use]
    pub fn to_json(&self, streams: usize) -> Value {
        let grown = self.grown_kib();
        json!({
            "process": self.name,
            "pid": self.pid,
            "rss_before_kib": self.before.rss_kib,
            "rss_after_kib": self.after.map(|after| after.rss_kib),
            "pss_before_kib": self.before.pss_kib,
            "pss_after_kib": self.after.and_then(|after| after.pss_kib),
            "rss_kib_per_stream": grown.and_then(|(rss, _)| per_stream(rss, streams)),
            "pss_kib_per_stream": grown.and_then(|(_, pss)| per_stream(pss?, streams)),
        })
    }
}

/// The memory of one of `streams` streams, in KiB; `None` if there are none.
#[must_use]
pub fn per_stream(grown_kib: i64, streams: usize) -> Option<f64> {
    (streams > 0).then(|| (grown_kib as f64 / streams as f64 * 100.0).round() / 100.0)
}

fn difference(after: u64, before: u64) -> i64 {
    let signed = |kib| i64::try_from(kib).unwrap_or(i64::MAX);
    signed(after) - signed(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_grows() {
        let own = Watched::pids([std::process::id()]);
        let before = read(&own);
        let grown = vec![7_u8; 32 << 20];
        let after = read(&own);
        assert!(grown.iter().all(|byte| *byte == 7));
        let growth = Growth::between(&before, &after);
        let own = growth.iter().find(|growth| growth.pid == std::process::id()).expect("it exists");
        let (rss, pss) = own.grown_kib().expect("it is still there");
        assert!(rss > 16 << 10, "{own:?}");
        assert!(pss.is_none_or(|pss| pss > 16 << 10), "{own:?}");
        assert!(own.to_json(1024)["rss_kib_per_stream"].as_f64() > Some(16.0));
    }

    #[test]
    fn ended_and_new_processes_are_reported() {
        let reading = |pid, rss_kib| Reading {
            pid,
            name: format!("p{pid}"),
            memory: Memory { rss_kib, pss_kib: Some(rss_kib / 2) },
        };
        let growth = Growth::between(&[reading(1, 100), reading(2, 50)], &[reading(1, 90), reading(3, 40)]);
        assert_eq!(growth.iter().map(|growth| growth.pid).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(growth[0].grown_kib(), Some((-10, Some(-5))));
        assert_eq!(growth[1].grown_kib(), None, "it went");
        assert_eq!(growth[2].grown_kib(), Some((40, Some(20))), "it came");
        assert_eq!(per_stream(10, 0), None);
    }
}
