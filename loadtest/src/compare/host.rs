//! The machine of a measurement, and the versions of the programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use procfs::{CpuInfo, Current, CurrentSI, KernelStats, LoadAverage, Meminfo};
use serde::{Deserialize, Serialize};

use super::cpus::CpuList;
use super::peer::Program;

/// The description of the machine for readers of the figures.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub(crate) struct Host {
    /// The model name of the CPU.
    pub(crate) cpu: String,
    /// The number of CPUs of the machine.
    pub(crate) cores: usize,
    /// The version of the kernel.
    pub(crate) kernel: String,
    /// The frequency governor of the first CPU; `none` if the system reports none.
    pub(crate) governor: String,
    /// The memory of the machine, in MiB.
    pub(crate) memory_mib: u64,
    /// The load average over a minute before the first round.
    pub(crate) load_before: f64,
    /// The load average after the last round.
    pub(crate) load_after: f64,
    /// CPU time that the hypervisor took during all rounds (steal), in percent.
    pub(crate) steal_percent: f64,
    /// The CPUs of generator and upstream; `any` if they were not pinned.
    pub(crate) load_cpus: String,
    /// The CPUs of the peers.
    pub(crate) peer_cpus: String,
    /// The version texts of each peer's programs.
    pub(crate) versions: BTreeMap<String, String>,
}

/// The machine's CPU times at one moment, to compute differences later.
#[derive(Clone, Debug, Default)]
pub(crate) struct CpuTime {
    machine: Ticks,
    cpus: Vec<Ticks>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Ticks {
    all: u64,
    idle: u64,
    stolen: u64,
}

impl Host {
    /// The values that are known before the first round.
    pub(crate) fn look() -> Self {
        let cpus = CpuInfo::current().ok();
        let governor = fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease");
        Self {
            cpu: cpus.as_ref().and_then(|cpus| cpus.model_name(0)).unwrap_or("unknown").to_owned(),
            cores: cpus.as_ref().map_or(1, CpuInfo::num_cores),
            kernel: kernel.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned()),
            governor: governor.map_or_else(|_| "none".to_owned(), |text| text.trim().to_owned()),
            memory_mib: Meminfo::current().map_or(0, |memory| memory.mem_total >> 20),
            load_before: load_average(),
            ..Self::default()
        }
    }

    /// Sets the values that are known after the last round; `began` is from before the first.
    pub(crate) fn finish(&mut self, began: &CpuTime) {
        self.load_after = load_average();
        self.steal_percent = began.steal_percent();
    }
}

impl CpuTime {
    /// The times up to now; zero if the system does not report them.
    pub(crate) fn now() -> Self {
        let Ok(KernelStats { total, cpu_time, .. }) = KernelStats::current() else { return Self::default() };
        Self { machine: Ticks::of(&total), cpus: cpu_time.iter().map(Ticks::of).collect() }
    }

    /// CPU time that the hypervisor took since then, in percent.
    pub(crate) fn steal_percent(&self) -> f64 {
        let since = Self::now().machine.since(self.machine);
        (since.share(since.stolen) * 1e4).round() / 1e2
    }

    /// The utilisation of these CPUs since then, from 0 to 1.
    pub(crate) fn busy(&self, cpus: &CpuList) -> f64 {
        let now = Self::now();
        let mut since = Ticks::default();
        for cpu in cpus.iter() {
            if let (Some(before), Some(after)) = (self.cpus.get(cpu), now.cpus.get(cpu)) {
                let one = after.since(*before);
                since = Ticks { all: since.all + one.all, idle: since.idle + one.idle, stolen: 0 };
            }
        }
        since.share(since.all - since.idle)
    }
}

impl Ticks {
    fn of(time: &procfs::CpuTime) -> Self {
        let stolen = time.steal.unwrap_or(0);
        let idle = time.idle + time.iowait.unwrap_or(0);
        let busy = time.user + time.nice + time.system + time.irq.unwrap_or(0) + time.softirq.unwrap_or(0);
        Self { all: idle + busy + stolen, idle, stolen }
    }

    fn since(self, before: Self) -> Self {
        Self {
            all: self.all.saturating_sub(before.all),
            idle: self.idle.saturating_sub(before.idle).min(self.all.saturating_sub(before.all)),
            stolen: self.stolen.saturating_sub(before.stolen),
        }
    }

    fn share(self, part: u64) -> f64 {
        if self.all == 0 { 0.0 } else { part as f64 / self.all as f64 }
    }
}

/// The version text of a program; some print it on standard error.
pub(crate) fn version_of(path: &Path, program: &Program) -> String {
    let output = Command::new(path).args(&program.version_args).stdin(Stdio::null()).output();
    let Ok(output) = output else { return "unknown".to_owned() };
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    version_in(&text, program.version_line.as_deref()).unwrap_or("unknown").to_owned()
}

fn version_in<'a>(text: &'a str, line: Option<&str>) -> Option<&'a str> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    match line {
        None => lines.next(),
        Some(before) => lines.find_map(|line| Some(line.strip_prefix(before)?.trim_start_matches([':', ' ']))),
    }
}

fn load_average() -> f64 {
    LoadAverage::current().map_or(0.0, |load| f64::from(load.one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_described() {
        let mut host = Host::look();
        host.finish(&CpuTime::now());
        assert!(!host.kernel.is_empty() && !host.cpu.is_empty() && host.cores > 0 && host.memory_mib > 0);
    }

    #[test]
    fn steal_is_a_share_of_all_time() {
        let before = Ticks { all: 1_000, idle: 800, stolen: 10 };
        let since = Ticks { all: 1_200, idle: 850, stolen: 15 }.since(before);
        assert_eq!((since.share(since.stolen), since.share(since.all - since.idle)), (0.025, 0.75));
        let nothing = before.since(before);
        assert_eq!(nothing.share(nothing.stolen), 0.0);
    }

    #[test]
    fn a_cpu_that_works_is_busy() {
        let before = CpuTime::now();
        assert!((0.0..=1.0).contains(&before.busy(&CpuList::one(0))));
        assert_eq!(before.busy(&CpuList::one(4_000)), 0.0, "this CPU does not exist");
    }

    #[test]
    fn a_version_is_found_on_its_line() {
        assert_eq!(version_in("\nbore-cli 0.6.0\nmore", None), Some("bore-cli 0.6.0"));
        assert_eq!(version_in("rathole\nBuild Version:     0.5.0\n", Some("Build Version")), Some("0.5.0"));
        assert_eq!(version_in("rathole\n", Some("Build Version")), None);
        assert_eq!(version_in("", None), None);
    }
}
