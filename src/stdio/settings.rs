use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, access};
use serde::{Deserialize, Serialize};

#[cfg(feature = "internals")]
use crate::engine::driver::Address;

/// The command of the program that starts a child and ends it with all of its descendants, see [`StdioSettings::guard`].
pub const STDIO_GUARD: &str = "stdio-guard";

/// The exit code of that program if it could not start the command.
pub const NOT_STARTED: u8 = 126;

/// How the children of a route are started, shared and limited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StdioSettings {
    /// The route, for logs.
    pub route: String,
    /// The program and its arguments. No shell reads them.
    pub command: Vec<String>,
    /// Variables that are added to the environment. Variables of this process whose names begin with `ADIT_`,
    /// and those of the service manager, are not passed on.
    pub env: Vec<(String, String)>,
    /// The folder in which it runs; by default that of this process.
    pub cwd: Option<PathBuf>,
    /// The program that is started with the argument [`STDIO_GUARD`] and the command. It starts the child, and kills it and its
    /// descendants when the child's input is closed or this process has ended.
    pub guard: PathBuf,
    /// Which agents share a child.
    pub sessions: StdioSharing,
    /// Whether a shared child is started at once, or when an agent needs it.
    pub starts_at_boot: bool,
    /// What adit allows agents and children.
    pub limits: StdioLimits,
    /// What the system allows a child.
    pub confinement: Confinement,
    /// Where the simulated network has the child, in place of a process: each connection is one that was started.
    #[cfg(feature = "internals")]
    pub simulated: Option<Address>,
}

/// Which agents share a child.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StdioSharing {
    /// All agents of the route share it.
    #[default]
    Shared,
    /// Each session has a child of its own.
    PerSession,
    /// All requests of one proven identity share it.
    PerIdentity,
}

/// The limits of the children of a route that adit keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StdioLimits {
    /// The most children at one time.
    pub children_max: usize,
    /// How long a child may be without an exchange before it is ended. One that is started at boot stays.
    pub child_idle: Duration,
    /// The most sessions of one child. The one that was not used for longest makes room for another.
    pub sessions_max: usize,
    /// The most requests that wait for an answer of one child.
    pub calls_max: usize,
    /// The longest message in either direction, in bytes.
    pub line_len_max: usize,
    /// The longest answer of a child, in bytes.
    pub answer_len_max: usize,
    /// How long a child may take for its first message, after it was asked the first thing.
    pub start_timeout: Duration,
    /// The pauses before a child that has failed is started again.
    pub restarts: RestartTerms,
}

/// When a child that has failed is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartTerms {
    /// The first pause. Each one is twice as long as the one before.
    pub pause_min: Duration,
    /// The longest pause before a restart.
    pub pause_max: Duration,
    /// After how many failures in a row no child is started for `open_for`.
    pub failures_max: u32,
    /// How long no child is started then.
    pub open_for: Duration,
}

/// What the system allows a child, and how it is ended. The guard gets it as an argument.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// How long the child has to end after SIGTERM.
    pub stop_grace: Duration,
    /// The most memory in bytes: of the control group, or else of each process (`RLIMIT_DATA`).
    pub memory_max: Option<u64>,
    /// The most CPU time as a percentage of one CPU, by the control group.
    pub cpu_percent: Option<u32>,
    /// The most CPU time of each process in seconds (`RLIMIT_CPU`).
    pub cpu_time_s: Option<u64>,
    /// The most open files of each process (`RLIMIT_NOFILE`).
    pub files_max: Option<u64>,
    /// The most processes: of the control group, or else of the user (`RLIMIT_NPROC`).
    pub processes_max: Option<u64>,
    /// A delegated control group (cgroup v2) without processes, in which each child gets a group of its own.
    pub cgroup: Option<PathBuf>,
    /// The user as which it runs, by name or number.
    pub user: Option<String>,
    /// The group as which it runs, by name or number.
    pub group: Option<String>,
    /// Whether it and its descendants may gain privileges by executing a program.
    pub may_gain_privileges: bool,
    /// Where it may read and execute files. With this or `write_paths` it may do neither elsewhere.
    pub read_paths: Vec<PathBuf>,
    /// Where it may read, execute and change files.
    pub write_paths: Vec<PathBuf>,
}

impl StdioSettings {
    /// The program that is started, for messages.
    pub(super) fn program(&self) -> &str {
        self.command.first().map_or("", String::as_str)
    }

    /// Finds the program as the system will.
    ///
    /// # Errors
    ///
    /// What to tell the operator: the program, and where it was looked for.
    pub fn find(&self) -> Result<(), String> {
        let program = self.program();
        let cwd = self.cwd.clone().unwrap_or_default();
        if !self.cwd.as_deref().is_none_or(Path::is_dir) {
            return Err(format!("cannot start {program}: {} is not a folder: check `cwd`", cwd.display()));
        }
        if program.contains('/') {
            let path = cwd.join(program);
            return match path.is_file() {
                true if is_program(&path) => Ok(()),
                true => Err(not_executable(program, &path)),
                false => Err(format!("cannot start {program}: there is no such program: check `command`")),
            };
        }
        let own = self.env.iter().rfind(|(name, _)| name == "PATH").map(|(_, value)| OsString::from(value));
        let path = own.or_else(|| env::var_os("PATH")).unwrap_or_default();
        let files = || env::split_paths(&path).map(|folder| cwd.join(folder).join(program));
        if files().any(|file| is_program(&file)) {
            return Ok(());
        }
        match files().find(|file| file.is_file()) {
            Some(file) => Err(not_executable(program, &file)),
            None => Err(format!(
                "cannot start {program}: it is in no folder of PATH ({}): install it, or write its whole path in `command`",
                path.display()
            )),
        }
    }
}

fn not_executable(program: &str, path: &Path) -> String {
    format!(
        "cannot start {program}: {} is not executable for this user: check its mode, or that of its folders",
        path.display()
    )
}

fn is_program(path: &Path) -> bool {
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}
