//! How a process under test comes to life: on its CPUs, and never longer alive than the harness.
//!
//! A process is started as `adit-loadtest launch … -- PROGRAM …`, which sets up itself and then becomes the program. So the
//! harness needs no unsafe code between fork and exec, and even when it is killed itself nothing stays behind.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::cpus::CpuList;

/// The name of the command, which is not shown to people.
pub(crate) const LAUNCH: &str = "launch";

/// What `adit-loadtest launch` is told.
#[derive(clap::Args, Clone, Debug)]
pub struct LaunchArgs {
    /// The process that it must not outlive.
    #[arg(long)]
    parent: i32,
    /// The CPUs that it may run on; all without this.
    #[arg(long)]
    cpus: Option<CpuList>,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Why a process did not come to life.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    /// It cannot be bound to its parent's life.
    #[error("the process cannot be made to end with its parent: {0}")]
    Death(rustix::io::Errno),
    /// The parent is gone already.
    #[error("the process that wanted it is gone")]
    Orphan,
    /// It cannot be put on its CPUs.
    #[error("CPUs {cpus} cannot be taken: {source}; name CPUs that this machine has")]
    Cpus {
        /// Those that were asked for.
        cpus: CpuList,
        /// What the system says.
        source: rustix::io::Errno,
    },
    /// The program cannot be run.
    #[error("{program} cannot be run: {source}")]
    Exec {
        /// The path of the program.
        program: String,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Becomes the program.
///
/// # Errors
///
/// It could not.
pub(crate) fn launch(args: &LaunchArgs) -> Result<Infallible, LaunchError> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(LaunchError::Death)?;
    // The parent may have gone before that was set.
    if getppid() != Pid::from_raw(args.parent) {
        return Err(LaunchError::Orphan);
    }
    if let Some(cpus) = &args.cpus {
        keep_to(cpus).map_err(|source| LaunchError::Cpus { cpus: cpus.clone(), source })?;
    }
    let (program, rest) = args.command.split_first().expect("clap demands a program");
    let source = Command::new(program).args(rest).exec();
    Err(LaunchError::Exec { program: program.to_string_lossy().into_owned(), source })
}

/// Puts this thread, and those that it starts from now on, on these CPUs.
///
/// # Errors
///
/// The machine does not have one of them, or this process may not use it.
pub(crate) fn keep_to(cpus: &CpuList) -> Result<(), rustix::io::Errno> {
    let mut set = CpuSet::new();
    for cpu in cpus.iter() {
        if cpu >= CpuSet::MAX_CPU {
            return Err(rustix::io::Errno::INVAL);
        }
        set.set(cpu);
    }
    sched_setaffinity(None, &set)
}
