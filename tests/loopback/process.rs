//! The program `adit` as a child process that tells its events.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::Value;

/// The longest that anything may take that does happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How often a signal is sent that is sent more than once.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

/// The variable that says where temporary files go.
pub(crate) const TEMPORARY: &str = "TMPDIR";

/// A running `adit`, killed when dropped.
pub(crate) struct Adit {
    child: Child,
    lines: Receiver<String>,
    /// Its temporary files, unless the command that started it says where they go. They are not left behind by a killed process.
    _temporary: Option<tempfile::TempDir>,
}

/// The program with these arguments and an environment of its own.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
    let is_read = |name: &str| name.to_ascii_lowercase().ends_with("_proxy") || name.starts_with("ADIT_");
    for (name, _) in std::env::vars().filter(|(name, _)| is_read(name) && !name.starts_with("ADIT_TEST_")) {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null());
    command
}

impl Adit {
    /// Starts it; its standard output is read as events.
    pub(crate) fn start(args: &[&str]) -> Adit {
        Adit::of(command(args))
    }

    /// The same, with one variable more.
    pub(crate) fn start_with(args: &[&str], name: &str, value: &str) -> Adit {
        let mut command = command(args);
        command.env(name, value);
        Adit::of(command)
    }

    /// A command that was made ready elsewhere.
    pub(crate) fn of(mut command: Command) -> Adit {
        let is_told = command.get_envs().any(|(name, _)| name == TEMPORARY);
        let temporary = (!is_told).then(|| tempfile::tempdir().expect("a temporary directory"));
        if let Some(temporary) = &temporary {
            command.env(TEMPORARY, temporary.path());
        }
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
        let out = child.stdout.take().expect("it is piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Adit { child, lines, _temporary: temporary }
    }

    /// Two events that may come in either order; others are passed over.
    pub(crate) fn events(&self, names: [&str; 2]) -> [Value; 2] {
        let mut found = [Value::Null, Value::Null];
        while let Some(missing) = found.iter().position(Value::is_null) {
            let event = self.any_event(names[missing]);
            if let Some(at) = names.iter().position(|name| event["event"] == *name) {
                found[at] = event;
            }
        }
        found
    }

    /// The next event of this name; others are passed over.
    pub(crate) fn event(&self, name: &str) -> Value {
        self.next_of(&[name])
    }

    /// The next event of one of these names; others are passed over.
    pub(crate) fn next_of(&self, names: &[&str]) -> Value {
        loop {
            let event = self.any_event(names[0]);
            if names.iter().any(|name| event["event"] == *name) {
                return event;
            }
        }
    }

    fn any_event(&self, wanted: &str) -> Value {
        let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("no event {wanted}: {error}"));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"))
    }

    /// Its log, if the command that started it pipes it.
    pub(crate) fn take_log(&mut self) -> ChildStderr {
        self.child.stderr.take().expect("it is piped, and taken once")
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("there is a kill command").success());
    }

    /// Stops it (SIGSTOP). Its threads go on for a moment after the signal was sent: this waits until all stand still.
    pub(crate) fn stop(&self) {
        self.signal("STOP");
        let is_stopped = |stat: &str| stat.rsplit(") ").next().is_some_and(|state| state.starts_with('T'));
        let threads = || std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it runs");
        let stats = || threads().map(|thread| std::fs::read_to_string(thread.expect("it runs").path().join("stat")));
        while !stats().all(|stat| stat.is_ok_and(|stat| is_stopped(&stat))) {}
    }

    /// Waits until it has ended, and gives back its exit code.
    pub(crate) fn ended(mut self) -> Option<i32> {
        while self.lines.recv_timeout(PATIENCE).is_ok() {}
        self.child.wait().expect("it can be waited for").code()
    }

    /// Sends a signal over and over until it has ended, and gives back its exit code.
    pub(crate) fn ended_by(mut self, signal: &str) -> Option<i32> {
        loop {
            // The child is not waited for yet, so that its id is still its own.
            self.signal(signal);
            match self.lines.recv_timeout(SIGNAL_INTERVAL) {
                Err(RecvTimeoutError::Disconnected) => break,
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            }
        }
        self.child.wait().expect("it can be waited for").code()
    }
}

impl Drop for Adit {
    fn drop(&mut self) {
        // It has mostly ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
