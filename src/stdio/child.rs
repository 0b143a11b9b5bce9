//! A child process, started and waited for on a thread of its own.

use std::env;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::thread;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::base::SERVICE_ENVS;
use crate::engine::driver::RawSocket;
use crate::engine::{Detached, MailReceiver, MailSender, mailbox};
use crate::stdio::settings::{NOT_STARTED, STDIO_GUARD, StdioSettings};
use crate::stdio::stats::StdioEvent;

/// The prefix of the variables that configure adit, and may hold its secrets.
const OWN_VARIABLES: &[u8] = b"ADIT_";

/// What is added to the number of the signal that has killed a command, to make it an exit code.
const SIGNALS_AFTER: i32 = 128;
const KILLED_FIRST: i32 = SIGNALS_AFTER + 1;
const KILLED_LAST: i32 = SIGNALS_AFTER + 64;

/// A child that was started.
pub(super) struct StartedChild {
    /// Its standard input and output. The child is ended when this is closed.
    pub(super) io: Detached,
    /// Its standard error, which is for the log.
    pub(super) errors: Detached,
    /// Receives how it ended.
    pub(super) end: MailReceiver<ChildExit>,
}

/// How a child has ended.
pub(super) struct ChildExit {
    /// How it is counted.
    pub(super) reason: StdioEvent,
    /// What to tell the operator.
    pub(super) why: String,
}

/// Starts a child. It is waited for until it has ended.
///
/// # Errors
///
/// What to tell the operator.
pub(super) async fn start(settings: &Arc<StdioSettings>) -> Result<StartedChild, String> {
    let (sender, mut started) = mailbox(1);
    let of_thread = Arc::clone(settings);
    let thread = thread::Builder::new().name("adit-stdio".to_owned());
    let spawned = thread.spawn(move || keep(&of_thread, &sender));
    spawned.map_err(|error| format!("no thread can be started for {}: {error}", settings.program()))?;
    started.recv().await.unwrap_or_else(|| Err("the thread that starts the child has ended".to_owned()))
}

/// Starts a child, passes it on, and waits until it has ended.
fn keep(settings: &StdioSettings, started: &MailSender<Result<StartedChild, String>>) {
    let (mut child, io, errors) = match spawn(settings) {
        Ok(spawned) => spawned,
        Err(why) => return drop(started.send(Err(why))),
    };
    let (ended, end) = mailbox(1);
    // If nobody waits any more, the sockets are closed, and with them the child ends.
    let _ = started.send(Ok(StartedChild { io, errors, end }));
    let status = wait(&mut child);
    let program = settings.program();
    let (reason, why) = match status.map(|status| (status.code(), status.signal())) {
        Ok((Some(code), _)) if code == i32::from(NOT_STARTED) => {
            (StdioEvent::StartFailed, format!("{program} could not be started: its standard error is in the log"))
        }
        // The guard says it as shells do.
        Ok((Some(code @ KILLED_FIRST..=KILLED_LAST), _)) => {
            (StdioEvent::Killed, format!("{program} was killed by signal {}", code - SIGNALS_AFTER))
        }
        Ok((Some(0), _)) => (StdioEvent::Ended, format!("{program} has ended: its standard error is in the log")),
        Ok((Some(code), _)) => {
            (StdioEvent::Failed, format!("{program} has ended with exit code {code}: its standard error is in the log"))
        }
        Ok((None, signal)) => {
            (StdioEvent::Killed, format!("{program} was killed by signal {}", signal.unwrap_or_default()))
        }
        Err(error) => (StdioEvent::Killed, format!("{program} cannot be waited for: {error}")),
    };
    let how = ChildExit { reason, why };
    let _ = ended.send(how);
}

fn spawn(settings: &StdioSettings) -> Result<(Child, Detached, Detached), String> {
    let program = settings.program();
    settings.find()?;
    let pair = || UnixStream::pair().map_err(|error| format!("no sockets can be opened for {program}: {error}"));
    let ((io, far_io), (errors, far_errors)) = (pair()?, pair()?);
    let output = far_io.try_clone().map_err(|error| format!("no sockets can be opened for {program}: {error}"))?;
    let mut command = Command::new(&settings.guard);
    let confinement = serde_json::to_string(&settings.confinement).map_err(|error| format!("{program}: {error}"))?;
    command.arg0("adit").args([STDIO_GUARD, "--confine", &confinement, "--"]).args(&settings.command);
    command.stdin(OwnedFd::from(far_io)).stdout(OwnedFd::from(output)).stderr(OwnedFd::from(far_errors));
    for (name, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(OWN_VARIABLES)) {
        command.env_remove(name);
    }
    SERVICE_ENVS.iter().for_each(|name| {
        command.env_remove(name);
    });
    command.envs(settings.env.iter().map(|(name, value)| (name, value))).process_group(0);
    if let Some(cwd) = &settings.cwd {
        command.current_dir(cwd);
    }
    let child = command.spawn().map_err(|error| spawn_error(program, &error))?;
    let detached = |stream: UnixStream| Detached::from(RawSocket::Fd(stream.into()));
    Ok((child, detached(io), detached(errors)))
}

/// What to tell the operator if a program cannot be started.
#[must_use]
pub fn spawn_error(program: &str, error: &std::io::Error) -> String {
    let remedy = match error.kind() {
        std::io::ErrorKind::WouldBlock => {
            ": too many processes run: raise the limit of this user (`ulimit -u`) or of its control group (`pids.max`)"
        }
        std::io::ErrorKind::NotFound => {
            ": it is not there, or the interpreter in its first line is not: check `command` and PATH"
        }
        std::io::ErrorKind::PermissionDenied => ": check the mode of the file and of its folders",
        std::io::ErrorKind::OutOfMemory => ": this machine has no memory left",
        _ => "",
    };
    let path = env::var("PATH").unwrap_or_default();
    format!("cannot start {program} (PATH {path}): {error}{remedy}")
}

/// Waits for the guard, and kills what it has left behind, should it have been killed itself.
fn wait(child: &mut Child) -> std::io::Result<ExitStatus> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // Its number, which is that of its group, is its own until it has been waited for.
        while waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
            .is_err_and(|error| error.raw_os_error() == rustix::io::Errno::INTR.raw_os_error())
        {}
        let _ = kill_process_group(pid, Signal::KILL);
    }
    child.wait()
}
