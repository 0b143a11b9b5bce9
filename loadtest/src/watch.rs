//! The CPU time and memory of the processes under test, read from `/proc`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use procfs::process::Process;
use serde_json::{Value, json};

/// The most processes of one tree.
const PROCESSES_MAX: usize = 1024;

/// The processes under test. Their descendants are watched too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// The ids of the processes.
    pub pids: Vec<u32>,
}

impl Watched {
    /// No process: nothing is measured.
    #[must_use]
    pub fn nothing() -> Watched {
        Watched::default()
    }

    /// The processes with these ids.
    #[must_use]
    pub fn pids(pids: impl IntoIterator<Item = u32>) -> Watched {
        Watched { pids: pids.into_iter().collect() }
    }
}

/// The resources that all watched processes used together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// CPU time during the measurement.
    pub cpu: Duration,
    /// The peak of resident memory in the samples, in KiB.
    pub rss_kib_max: u64,
    /// One sample for each second of the measured time.
    pub seconds: Vec<Second>,
    /// Watched processes that had ended before the end.
    pub gone: Vec<u32>,
    processes: usize,
}

/// A sample of one second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Second {
    /// The time since the measurement began, in seconds.
    pub at_s: f64,
    /// CPU time since the previous sample.
    pub cpu: Duration,
    /// Good calls since the previous sample.
    pub calls: u64,
    /// Resident memory, in KiB.
    pub rss_kib: u64,
}

impl Usage {
    /// Whether any process was watched.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.processes > 0
    }

    /// The usage as JSON; null if nothing was watched.
    #[must_use]
    pub fn to_json(&self) -> Value {
        if !self.is_watched() {
            return Value::Null;
        }
        let seconds: Vec<Value> = self.seconds.iter().map(|second| second.to_json()).collect();
        json!({
            "processes": self.processes,
            "cpu_s": self.cpu.as_secs_f64(),
            "rss_kib": self.rss_kib_max,
            "seconds": seconds,
            "gone": self.gone,
        })
    }
}

impl Second {
    fn to_json(self) -> Value {
        let per_call = (self.calls > 0).then(|| self.cpu.as_nanos() as f64 / 1e3 / self.calls as f64);
        json!({
            "at_s": self.at_s,
            "cpu_us": self.cpu.as_micros() as u64,
            "calls": self.calls,
            "cpu_us_per_call": per_call,
            "rss_kib": self.rss_kib,
        })
    }
}

/// Samples the watched processes.
///
/// CPU time is the scheduler's value for each thread, in nanoseconds. The time of a thread between its last sample and
/// its end is lost.
#[derive(Debug, Default)]
pub struct Watch {
    pids: Vec<u32>,
    /// CPU time of each thread in the last sample, in nanoseconds.
    threads: BTreeMap<i32, u64>,
    /// CPU time of all processes at [`Watch::begin`].
    began: Duration,
    last: Duration,
    usage: Usage,
}

impl Watch {
    /// Watches these processes from now on.
    #[must_use]
    pub fn new(watched: &Watched) -> Watch {
        Watch { pids: watched.pids.clone(), ..Watch::default() }
    }

    /// Starts the measurement: earlier usage does not count.
    pub fn begin(&mut self) {
        let (cpu, rss_kib) = self.look();
        (self.began, self.last) = (cpu, cpu);
        self.usage = Usage { rss_kib_max: rss_kib, processes: self.usage.processes, ..Usage::default() };
    }

    /// Takes a sample, `elapsed` after measuring began, with `calls` good calls since the previous one.
    pub fn sample(&mut self, elapsed: Duration, calls: u64) {
        if self.pids.is_empty() {
            return;
        }
        let (cpu, rss_kib) = self.look();
        let used = cpu.saturating_sub(self.last);
        self.last = cpu;
        self.usage.rss_kib_max = self.usage.rss_kib_max.max(rss_kib);
        self.usage.seconds.push(Second { at_s: elapsed.as_secs_f64(), cpu: used, calls, rss_kib });
    }

    /// Ends the measurement with the last sample.
    #[must_use]
    pub fn end(mut self) -> Usage {
        self.usage.cpu = self.last.saturating_sub(self.began);
        self.usage.gone = self.pids.iter().copied().filter(|pid| !is_alive(*pid)).collect();
        self.usage
    }

    /// CPU time of all threads so far, and resident memory in KiB.
    fn look(&mut self) -> (Duration, u64) {
        let processes = tree(&self.pids);
        self.usage.processes = self.usage.processes.max(processes.len());
        let mut rss_kib = 0;
        for process in &processes {
            rss_kib += process.status().ok().and_then(|status| status.vmrss).unwrap_or(0);
            for task in process.tasks().into_iter().flatten().flatten() {
                if let Ok(schedule) = task.schedstat() {
                    self.threads.insert(task.tid, schedule.sum_exec_runtime);
                }
            }
        }
        (Duration::from_nanos(self.threads.values().sum()), rss_kib)
    }
}

/// Whether a process with this id runs. A zombie does not.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    let stat = i32::try_from(pid).ok().and_then(|pid| Process::new(pid).ok()?.stat().ok());
    stat.is_some_and(|stat| !matches!(stat.state, 'Z' | 'X'))
}

/// The ids of a process and of its descendants.
pub(crate) fn tree_ids(pid: u32) -> BTreeSet<u32> {
    tree(&[pid]).iter().map(|process| process.pid.unsigned_abs()).collect()
}

/// The running processes of `pids`, with their descendants.
pub(crate) fn tree(pids: &[u32]) -> Vec<Process> {
    let mut left: Vec<u32> = pids.to_vec();
    let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
    while let Some(pid) = left.pop() {
        if found.len() == PROCESSES_MAX || !seen.insert(pid) {
            continue;
        }
        let Some(process) = i32::try_from(pid).ok().and_then(|pid| Process::new(pid).ok()) else { continue };
        for task in process.tasks().into_iter().flatten().flatten() {
            left.extend(task.children().into_iter().flatten());
        }
        found.push(process);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_cpu_and_memory() {
        let mut watch = Watch::new(&Watched::pids([std::process::id()]));
        watch.begin();
        let mut n = 0_u64;
        for i in 0..20_000_000_u64 {
            n = std::hint::black_box(n.wrapping_mul(31).wrapping_add(i));
        }
        watch.sample(Duration::from_secs(1), 10);
        let usage = watch.end();
        assert!(usage.is_watched() && usage.gone.is_empty());
        assert!(usage.cpu > Duration::ZERO && usage.rss_kib_max > 0);
        assert_eq!(usage.seconds.len(), 1);
        assert_eq!(usage.seconds[0].cpu, usage.cpu);
        assert!(usage.to_json()["seconds"][0]["cpu_us_per_call"].as_f64().unwrap() > 0.0);
    }

    #[test]
    fn children_are_watched_and_ended_processes_are_reported() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let (alone, with_child) = (std::process::id(), child.id());
        assert!(tree(&[alone]).iter().any(|process| process.pid == with_child as i32));
        let mut watch = Watch::new(&Watched::pids([with_child]));
        watch.begin();
        child.kill().unwrap();
        child.wait().unwrap();
        watch.sample(Duration::from_secs(1), 0);
        assert_eq!(watch.end().gone, [with_child]);
    }

    #[test]
    fn nothing_watched_is_nothing_used() {
        let mut watch = Watch::new(&Watched::nothing());
        watch.begin();
        watch.sample(Duration::from_secs(1), 1);
        let usage = watch.end();
        assert_eq!((usage.is_watched(), usage.to_json()), (false, Value::Null));
    }
}
