//! A control group (cgroup v2) for a child process and its descendants, in a folder that is delegated to this user.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use tokio::time::sleep;

use crate::stdio::Confinement;

/// The beginning of the names of the groups that are made here.
const PREFIX: &str = "adit-";
/// The period of `cpu.max`, in microseconds.
const CPU_PERIOD_US: u64 = 100_000;
/// How often removing a group is tried while its last processes end, and the pause between two attempts.
const REMOVALS_MAX: u32 = 100;
const REMOVAL_PAUSE: Duration = Duration::from_millis(10);

/// A control group. Its processes end when this is dropped.
pub(super) struct ChildCgroup(PathBuf);

impl ChildCgroup {
    /// Makes a group with the limits of a confinement, in the folder that it names.
    ///
    /// # Errors
    ///
    /// What to tell the operator.
    pub(super) fn make(parent: &Path, confinement: &Confinement) -> Result<ChildCgroup, String> {
        let fault = |what: &str, error: io::Error| {
            format!("the control group {} cannot be used: {what}: {error}: see `child_cgroup`", parent.display())
        };
        let known = fs::read_to_string(parent.join("cgroup.controllers"));
        let known = known.map_err(|error| fault("cgroup.controllers cannot be read", error))?;
        let limits = [
            ("memory", "memory.max", confinement.memory_max.map(|bytes| bytes.to_string())),
            ("cpu", "cpu.max", confinement.cpu_percent.map(cpu_max)),
            ("pids", "pids.max", confinement.processes_max.map(|most| most.to_string())),
        ];
        let wanted: Vec<_> = limits.into_iter().filter_map(|(name, file, limit)| Some((name, file, limit?))).collect();
        for (name, ..) in &wanted {
            if !known.split_whitespace().any(|known| known == *name) {
                return Err(format!(
                    "the control group {} has no controller `{name}`, only `{}`: delegate it, or remove the limit",
                    parent.display(),
                    known.trim()
                ));
            }
            let enabled = fs::write(parent.join("cgroup.subtree_control"), format!("+{name}"));
            enabled.map_err(|error| {
                fault("a controller cannot be enabled, which needs a group without processes", error)
            })?;
        }
        remove_abandoned(parent);
        let group = ChildCgroup(parent.join(format!("{PREFIX}{}", process::id())));
        fs::create_dir(&group.0).map_err(|error| fault("no group can be made in it", error))?;
        for (_, file, limit) in wanted {
            fs::write(group.0.join(file), limit).map_err(|error| fault(file, error))?;
        }
        Ok(group)
    }

    /// The folder of the group.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Removes the group, once its last processes have ended.
    pub(super) async fn remove(self) {
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        for _ in 0..REMOVALS_MAX {
            match fs::remove_dir(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => sleep(REMOVAL_PAUSE).await,
                _ => return,
            }
        }
    }

    /// Moves this process into a group.
    pub(super) fn join(group: &Path) -> Result<(), String> {
        let joined = fs::write(group.join("cgroup.procs"), "0");
        joined.map_err(|error| format!("it cannot enter the control group {}: {error}", group.display()))
    }
}

impl Drop for ChildCgroup {
    fn drop(&mut self) {
        // Older kernels have no such file. Their processes have been ended one by one.
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        // A group that still has a process is removed when the next one is made.
        let _ = fs::remove_dir(&self.0);
    }
}

/// Removes groups whose guard was killed, once they have no process. Others cannot be removed.
fn remove_abandoned(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            let is_empty = fs::read_to_string(entry.path().join("cgroup.events"))
                .is_ok_and(|events| events.contains("populated 0"));
            let guard = entry.file_name().to_string_lossy().trim_start_matches(PREFIX).to_owned();
            if is_empty && !Path::new("/proc").join(guard).exists() {
                let _ = fs::remove_dir(entry.path());
            }
        }
    }
}

fn cpu_max(percent: u32) -> String {
    format!("{} {CPU_PERIOD_US}", u64::from(percent) * CPU_PERIOD_US / 100)
}
