//! The resources that the process may use: its CPUs and its CPU time.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::engine::sys::affinity;

/// The CPUs that the calling thread may run on, in ascending order.
///
/// # Errors
///
/// The error of the system.
pub fn cpus_allowed() -> io::Result<Vec<usize>> {
    affinity::allowed()
}

/// Pins the calling thread to one CPU.
///
/// # Errors
///
/// If the CPU does not exist, or this process may not use it.
pub fn pin_to_cpu(cpu: usize) -> io::Result<()> {
    affinity::pin(cpu)
}

/// The CPU quota of the control group, in CPUs (1.5 is one and a half); `None` if there is no quota or none can be
/// read.
#[must_use]
pub fn cpu_quota() -> Option<f64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    quota_of(&groups, Path::new("/sys/fs/cgroup"))
}

/// Like [`cpu_quota`], for the control groups in `groups` (the format of /proc/PID/cgroup, cgroups(7)) below `mount`.
fn quota_of(groups: &str, mount: &Path) -> Option<f64> {
    groups.lines().filter_map(|line| quota_of_group(line, mount)).reduce(f64::min)
}

/// The smallest quota of a group and its ancestors. `line` is `hierarchy:controllers:path`.
fn quota_of_group(line: &str, mount: &Path) -> Option<f64> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    let unified = controllers.is_empty();
    if !unified && !controllers.split(',').any(|controller| controller == "cpu") {
        return None;
    }
    let bases =
        if unified { [mount.to_owned(), mount.join("unified")] } else { [mount.join(controllers), mount.join("cpu")] };
    let read = if unified { quota_v2 } else { quota_v1 };
    let path = path.trim_start_matches('/');
    bases.iter().flat_map(|base| up_from(base, path)).filter_map(|group| read(&group)).reduce(f64::min)
}

/// The directories of a group and its ancestors. In a container the path may be the host's, so that only the last one
/// exists.
fn up_from(base: &Path, path: &str) -> Vec<PathBuf> {
    Path::new(path).ancestors().map(|part| base.join(part)).collect()
}

/// `cpu.max`: the quota, or `max`, and the period, in microseconds.
fn quota_v2(group: &Path) -> Option<f64> {
    let text = fs::read_to_string(group.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    ratio(quota, period)
}

/// The quota, or -1, and the period, in microseconds, in a file each.
fn quota_v1(group: &Path) -> Option<f64> {
    let quota = fs::read_to_string(group.join("cpu.cfs_quota_us")).ok()?;
    let period = fs::read_to_string(group.join("cpu.cfs_period_us")).ok()?;
    ratio(quota.trim(), period.trim())
}

fn ratio(quota: &str, period: &str) -> Option<f64> {
    let (quota, period) = (quota.parse::<f64>().ok()?, period.parse::<f64>().ok()?);
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_has_one_cpu() {
        let pinned = std::thread::spawn(|| {
            let cpu = *cpus_allowed().unwrap().last().expect("at least the one that runs this");
            pin_to_cpu(cpu).unwrap();
            assert!(pin_to_cpu(usize::MAX).is_err());
            (cpu, cpus_allowed().unwrap())
        });
        let (cpu, allowed) = pinned.join().unwrap();
        assert_eq!(allowed, [cpu]);
    }

    #[test]
    fn the_least_quota_on_the_way_up_counts() {
        let mount = tempfile::tempdir().unwrap();
        let root = mount.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/cpu.max"), "150000 100000\n").unwrap();
        fs::write(root.join("a/b/cpu.max"), "max 100000\n").unwrap();
        assert_eq!(quota_of("0::/a/b\n", root), Some(1.5));
        assert_eq!(quota_of("0::/elsewhere\n", root), None);
        fs::write(root.join("cpu.max"), "50000 100000\n").unwrap();
        assert_eq!(quota_of("0::/of/the/host\n", root), Some(0.5));
    }

    #[test]
    fn the_older_layout_is_known() {
        let mount = tempfile::tempdir().unwrap();
        let group = mount.path().join("cpu,cpuacct/pod");
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("cpu.cfs_period_us"), "100000\n").unwrap();
        fs::write(group.join("cpu.cfs_quota_us"), "-1\n").unwrap();
        let groups = "3:memory:/pod\n2:cpu,cpuacct:/pod\n";
        assert_eq!(quota_of(groups, mount.path()), None);
        fs::write(group.join("cpu.cfs_quota_us"), "200000\n").unwrap();
        assert_eq!(quota_of(groups, mount.path()), Some(2.0));
        for broken in ["", "0", "0:", "nonsense\n\n", "1:cpu:/\u{0}"] {
            assert_eq!(quota_of(broken, mount.path()), None);
        }
    }
}
