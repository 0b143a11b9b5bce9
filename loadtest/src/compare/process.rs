//! Processes under test: started, watched, and ended on every exit path.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use procfs::net::TcpState;
use procfs::process::FDTarget;
use rustix::process::{Pid, Signal, kill_process_group};

use super::cpus::CpuList;
use super::launch::LAUNCH;
use super::site::CommandLine;
use crate::watch::tree;

/// How many bytes of a process's last output are quoted when it fails.
const TAIL_LEN: u64 = 600;
/// The interval for polling a condition.
const POLL: Duration = Duration::from_millis(5);
/// The interval for polling the sockets of a process that was just started.
const LISTEN_POLL: Duration = Duration::from_millis(2);

/// The process groups of all running processes. They are ended even if this process panics, when nothing is dropped.
static GROUPS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// A process with its children, which are ended on drop.
#[derive(Debug)]
pub(crate) struct Process {
    /// Its role, such as `client`.
    name: String,
    child: Child,
    log: PathBuf,
}

/// Why a process does not run as expected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    #[error("{name}: {source}")]
    Start { name: String, source: io::Error },
    #[error("the {name} ended by itself ({status}); its last output: {log_tail}")]
    Died { name: String, status: ExitStatus, log_tail: String },
    #[error("the {name} did not listen on {address} within {} s; its last output: {log_tail}", patience.as_secs())]
    Deaf { name: String, address: SocketAddr, patience: Duration, log_tail: String },
}

impl Process {
    /// Starts `program` with a command line on these CPUs, through `launcher`, which is this program.
    ///
    /// # Errors
    ///
    /// If the launcher cannot be run or the log not written. If the program itself cannot be run, [`Process::check`]
    /// reports it later.
    pub(crate) fn start(
        launcher: &Path,
        program: &Path,
        line: &CommandLine,
        cpus: Option<&CpuList>,
    ) -> Result<Self, ProcessError> {
        end_all_on_panic();
        let failed = |source| ProcessError::Start { name: line.name.clone(), source };
        // A restarted process appends to the same log.
        let log = File::options().create(true).append(true).open(&line.log).map_err(failed)?;
        let mut command = Command::new(launcher);
        command.arg(LAUNCH).arg("--parent").arg(std::process::id().to_string());
        if let Some(cpus) = cpus {
            command.arg("--cpus").arg(cpus.to_string());
        }
        command.arg("--").arg(program).args(&line.args);
        // The environment for adit would affect the peer adit.
        let settings = std::env::vars_os().map(|(name, _)| name);
        settings.filter(|name| name.to_string_lossy().starts_with("ADIT_")).for_each(|name| {
            command.env_remove(name);
        });
        command.envs(&line.env).process_group(0);
        command.stdin(Stdio::null()).stdout(log.try_clone().map_err(failed)?).stderr(log);
        let child = command.spawn().map_err(failed)?;
        groups().insert(group_of(&child));
        Ok(Self { name: line.name.clone(), child, log: line.log.clone() })
    }

    /// The name of the process in the peer's file, such as `edge`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The id of the main process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops it and its children until the returned value is dropped.
    pub(crate) fn frozen(&self) -> Frozen {
        let group = group_of(&self.child);
        signal(group, Signal::STOP);
        Frozen(group)
    }

    /// Checks that it still runs.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub(crate) fn check(&mut self) -> Result<(), ProcessError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(ProcessError::Died { name: self.name.clone(), status, log_tail: self.log_tail() }),
            Err(source) => Err(ProcessError::Start { name: self.name.clone(), source }),
        }
    }

    /// Waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// If it ended, or did not accept within `patience`.
    pub(crate) fn until_listening(&mut self, address: SocketAddr, patience: Duration) -> Result<(), ProcessError> {
        let began = Instant::now();
        while TcpStream::connect_timeout(&address, patience).is_err() {
            self.check()?;
            if began.elapsed() > patience {
                let (name, log_tail) = (self.name.clone(), self.log_tail());
                return Err(ProcessError::Deaf { name, address, patience, log_tail });
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Waits until it or a child listens on this port. Unlike [`Process::until_listening`] this is not deceived by a
    /// killed predecessor: the kernel closes an io_uring, and its listener, some time after the process has ended.
    ///
    /// # Errors
    ///
    /// If it ended, or did not listen within `patience`.
    pub(crate) fn until_it_listens(&mut self, address: SocketAddr, patience: Duration) -> Result<(), ProcessError> {
        let began = Instant::now();
        while !listens(self.pid(), address.port()) {
            self.check()?;
            if began.elapsed() > patience {
                let (name, log_tail) = (self.name.clone(), self.log_tail());
                return Err(ProcessError::Deaf { name, address, patience, log_tail });
            }
            std::thread::sleep(LISTEN_POLL);
        }
        Ok(())
    }

    /// The end of its output, on one line.
    pub(crate) fn log_tail(&self) -> String {
        let text = tail(&self.log).unwrap_or_default();
        let words: Vec<&str> = text.split_whitespace().collect();
        if words.is_empty() { "nothing".to_owned() } else { words.join(" ") }
    }
}

/// Stopped processes, which are continued on drop.
pub(crate) struct Frozen(i32);

impl Drop for Frozen {
    fn drop(&mut self) {
        signal(self.0, Signal::CONT);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let group = group_of(&self.child);
        end(group);
        // It was killed, so it ends soon.
        let _ = self.child.wait();
        groups().remove(&group);
    }
}

fn group_of(child: &Child) -> i32 {
    i32::try_from(child.id()).expect("process ids fit into i32")
}

fn groups() -> std::sync::MutexGuard<'static, BTreeSet<i32>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn end(group: i32) {
    signal(group, Signal::KILL);
}

fn signal(group: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(group) {
        // Fails if all processes have already ended.
        let _ = kill_process_group(pid, signal);
    }
}

/// Whether `pid` or one of its descendants listens on a port (IPv4).
fn listens(pid: u32, port: u16) -> bool {
    let sockets = procfs::net::tcp().unwrap_or_default();
    let listeners: BTreeSet<u64> = sockets
        .iter()
        .filter(|socket| socket.state == TcpState::Listen && socket.local_address.port() == port)
        .map(|socket| socket.inode)
        .collect();
    let is_listener = |target: FDTarget| matches!(target, FDTarget::Socket(inode) if listeners.contains(&inode));
    let files = |process: &procfs::process::Process| process.fd().into_iter().flatten().flatten().collect::<Vec<_>>();
    tree(&[pid]).iter().any(|process| files(process).into_iter().any(|file| is_listener(file.target)))
}

/// Ends all processes on a panic. A release build aborts without dropping anything.
fn end_all_on_panic() {
    static HOOKED: Once = Once::new();
    HOOKED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            before(info);
            if cfg!(panic = "abort") {
                groups().iter().copied().for_each(end);
            }
        }));
    });
}

/// The end of a file, without the colours of a terminal.
fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(TAIL_LEN)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_LEN).read_to_end(&mut bytes)?;
    Ok(console::strip_ansi_codes(&String::from_utf8_lossy(&bytes)).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_listener_it_is_is_seen() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("a bound socket").port();
        assert!(listens(std::process::id(), port));
        // It does not inherit sockets that are closed on exec.
        let mut child = Command::new("sleep").arg("60").spawn().expect("there is a sleep command");
        assert!(!listens(child.id(), port));
        child.kill().expect("it runs");
        child.wait().expect("it was killed");
        drop(listener);
        assert!(!listens(std::process::id(), port));
    }
}
