//! The machine that it was measured on, and the programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use procfs::{CpuInfo, Current, CurrentSI, KernelStats, LoadAverage, Meminfo};
use serde::{Deserialize, Serialize};

use super::cpus::CpuList;
use super::peer::Program;

/// What a reader of figures must know of the machine.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub(crate) struct Host {
    /// The model name of the CPU.
    pub(crate) cpu: String,
    /// CPUs that the machine has.
    pub(crate) cores: usize,
    /// The version of the kernel.
    pub(crate) kernel: String,
    /// How the first CPU's frequency is governed; `none` where the system does not say.
    pub(crate) governor: String,
    /// Memory in all, in MiB.
    pub(crate) memory_mib: u64,
    /// The load average over a minute before the first round.
    pub(crate) load_before: f64,
    /// After the last one.
    pub(crate) load_after: f64,
    /// What the host of a virtual machine took of the CPUs during all rounds, in percent.
    pub(crate) steal_percent: f64,
    /// Where the generator and the upstream ran; `any` if nothing kept them.
    pub(crate) load_cpus: String,
    /// Where the peers ran.
    pub(crate) peer_cpus: String,
    /// What each peer's programs say of their version.
    pub(crate) versions: BTreeMap<String, String>,
}

/// CPU time of the machine up to a moment, to tell who had how much of it since.
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
    /// What can be told before anything runs.
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

    /// What can be told only afterwards; `began` is from before the first round.
    pub(crate) fn finish(&mut self, began: &CpuTime) {
        self.load_after = load_average();
        self.steal_percent = began.steal_percent();
    }
}

impl CpuTime {
    /// Up to now; nothing where the system does not tell.
    pub(crate) fn now() -> Self {
        let Ok(KernelStats { total, cpu_time, .. }) = KernelStats::current() else { return Self::default() };
        Self { machine: Ticks::of(&total), cpus: cpu_time.iter().map(Ticks::of).collect() }
    }

    /// What was taken from the machine since then, in percent.
    pub(crate) fn steal_percent(&self) -> f64 {
        let since = Self::now().machine.since(self.machine);
        (since.share(since.stolen) * 1e4).round() / 1e2
    }

    /// How busy these CPUs were since then, from 0 to 1.
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

/// What a program says of its version; some say it on standard error.
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
    fn the_machine_tells_what_it_is() {
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
        assert_eq!(before.busy(&CpuList::one(4_000)), 0.0, "there is no such CPU");
    }

    #[test]
    fn a_version_is_found_where_it_is_said() {
        assert_eq!(version_in("\nbore-cli 0.6.0\nmore", None), Some("bore-cli 0.6.0"));
        assert_eq!(version_in("rathole\nBuild Version:     0.5.0\n", Some("Build Version")), Some("0.5.0"));
        assert_eq!(version_in("rathole\n", Some("Build Version")), None);
        assert_eq!(version_in("", None), None);
    }
}
