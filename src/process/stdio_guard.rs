//! The guard of a child process: a small process between adit and an MCP server that speaks over standard input and output.
//!
//! It starts the command, which inherits its standard input and output: the connection to adit. When adit closes that, or has ended
//! in whatever way, the guard ends the command and everything that it has started. When the command ends by itself, what it has left
//! behind is ended too. The guard is the leader of their process group, so that adit can kill all of them should the guard be killed.

use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    Pid, Signal, WaitOptions, getpgrp, getpid, kill_process, kill_process_group, set_child_subreaper, wait,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::process::error::RunError;
use crate::process::stdio_cgroup::ChildCgroup;
use crate::stdio::{Confinement, STDIO_GUARD, spawn_error};

/// How often to look whether all have ended.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);
/// What shells add to the number of the signal that has killed a command.
const KILLED: i32 = 128;

/// Runs the command until it ends, or standard input is closed at its other end. Returns the exit code.
///
/// # Errors
///
/// If the command cannot be started; the guard then exits with [`NOT_STARTED`](crate::stdio::NOT_STARTED).
pub async fn guard(confinement: &Confinement, command: &[String]) -> Result<u8, RunError> {
    let program = command.first().ok_or_else(|| RunError::Other("no command to start".to_owned()))?;
    // Signals for the group must not end the guard before the others. The command gets the usual behaviour back when it is executed.
    let handled = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()].map(signal);
    let _handled =
        handled.into_iter().collect::<io::Result<Vec<_>>>().map_err(RunError::io("signals cannot be handled"))?;
    // Descendants whose parents have ended become its children, so that none is missed. If that is refused, the group remains.
    let _ = set_child_subreaper(Some(getpid()));
    let group = confinement.cgroup.as_deref().map(|parent| ChildCgroup::make(parent, confinement)).transpose();
    let group = group.map_err(|why| RunError::Other(format!("cannot start {program}: {why}")))?;
    let own = Confinement { cgroup: group.as_ref().map(|group| group.path().to_owned()), ..confinement.clone() };
    let own = serde_json::to_string(&own).map_err(|error| RunError::Other(error.to_string()))?;
    // It confines itself before it executes the command.
    let spawned =
        Command::new("/proc/self/exe").args([STDIO_GUARD, "--exec", "--confine", &own, "--"]).args(command).spawn();
    let child = spawned.map_err(|error| RunError::Other(spawn_error(program, &error)))?;
    let code = tokio::select! {
        status = ended(child) => status.map_or(u8::from(true), code_of),
        () = closed() => 0,
    };
    end_all(confinement.stop_grace).await;
    if let Some(group) = group {
        group.remove().await;
    }
    Ok(code)
}

/// Waits for the command alone. Others that end meanwhile are waited for later.
async fn ended(mut child: Child) -> io::Result<ExitStatus> {
    let waiting = tokio::task::spawn_blocking(move || child.wait()).await;
    waiting.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Waits until the other end of standard input is closed. Nothing is read: that is for the command.
async fn closed() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    thread::spawn(move || {
        let input = io::stdin();
        let mut fds = [PollFd::new(&input, PollFlags::empty())];
        // Hanging up is always reported. If standard input cannot be watched, there is nothing to wait for.
        while matches!(poll(&mut fds, None), Ok(0) | Err(rustix::io::Errno::INTR)) {}
        let _ = sender.send(());
    });
    // The thread only ends after it has sent.
    let _ = receiver.await;
}

/// Ends all descendants: SIGTERM, and after a while SIGKILL.
async fn end_all(grace: Duration) {
    let _ = kill_process_group(getpgrp(), Signal::TERM);
    let until = Instant::now() + grace;
    while !all_ended() {
        if Instant::now() > until {
            // One after the other, as the group includes this process, and some may have left it. The children of those that are
            // killed become children of this process, and are killed in the next round.
            for child in children() {
                let _ = kill_process(child, Signal::KILL);
            }
        }
        sleep(CHECK_INTERVAL).await;
    }
}

/// Whether there is no child any more; those that have ended are waited for.
fn all_ended() -> bool {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) => return false,
            Err(_) => return true,
        }
    }
}

/// The children of all threads of this process.
fn children() -> Vec<Pid> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect::<Vec<_>>())
        .collect()
}

fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| KILLED + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
