//! Starts a process under test, pinned to its CPUs and killed when the harness ends.
//!
//! A process is started as `adit-loadtest launch … -- PROGRAM …`, which configures itself and then executes the
//! program. The harness therefore needs no unsafe code between fork and exec, and leaves no process behind even if it
//! is killed.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::cpus::CpuList;

/// The name of the command, which the help does not list.
pub(crate) const LAUNCH: &str = "launch";

/// The arguments of `adit-loadtest launch`.
#[derive(clap::Args, Clone, Debug)]
pub struct LaunchArgs {
    /// The process with which the program ends.
    #[arg(long)]
    parent: i32,
    /// The CPUs on which it may run; all by default.
    #[arg(long)]
    cpus: Option<CpuList>,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Why a process could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    /// The parent-death signal could not be set.
    #[error("the process cannot be made to end with its parent: {0}")]
    Death(rustix::io::Errno),
    /// The parent has already ended.
    #[error("the parent process has ended")]
    Orphan,
    /// It cannot be pinned to its CPUs.
    #[error("CPUs {cpus} cannot be used: {source}; name CPUs that this machine has")]
    Cpus {
        /// The CPUs that were requested.
        cpus: CpuList,
        /// The error of the system.
        source: rustix::io::Errno,
    },
    /// The program cannot be executed.
    #[error("{program} cannot be run: {source}")]
    Exec {
        /// The path of the program.
        program: String,
        /// The error of the system.
        source: std::io::Error,
    },
}

/// Executes the program in place of this one.
///
/// # Errors
///
/// If it cannot be executed.
pub(crate) fn launch(args: &LaunchArgs) -> Result<Infallible, LaunchError> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(LaunchError::Death)?;
    // The parent may have ended before the signal was set.
    if getppid() != Pid::from_raw(args.parent) {
        return Err(LaunchError::Orphan);
    }
    if let Some(cpus) = &args.cpus {
        keep_to(cpus).map_err(|source| LaunchError::Cpus { cpus: cpus.clone(), source })?;
    }
    let (program, rest) = args.command.split_first().expect("clap requires a program");
    let source = Command::new(program).args(rest).exec();
    Err(LaunchError::Exec { program: program.to_string_lossy().into_owned(), source })
}

/// Pins this thread, and threads that it starts from now on, to these CPUs.
///
/// # Errors
///
/// If one of them does not exist, or this process may not use it.
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
