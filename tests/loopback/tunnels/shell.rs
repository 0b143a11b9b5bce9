//! A shell into which an operator pastes the commands that the program prints.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::site::{Site, text_of};
use crate::process::{Adit, command};

/// A host on which somebody pastes commands into a shell.
pub(crate) struct Shell {
    dir: tempfile::TempDir,
}

impl Shell {
    pub(crate) fn new() -> Shell {
        Shell { dir: tempfile::tempdir().unwrap() }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A line as a shell runs it, in this folder, with `adit` on the path and no variables of adit.
    pub(super) fn command(&self, line: &str) -> Command {
        let program = Path::new(env!("CARGO_BIN_EXE_adit")).parent().unwrap();
        let path = format!("{}:{}", text_of(program), std::env::var("PATH").unwrap());
        let clean = command(&[]);
        let mut shell = Command::new("sh");
        for (name, _) in clean.get_envs().filter(|(_, value)| value.is_none()) {
            shell.env_remove(name);
        }
        shell.args(["-c", line]).current_dir(self.dir.path()).env("PATH", path).stdin(Stdio::null());
        shell
    }

    /// Runs a line, which must go well; `input` is what somebody types or pastes.
    pub(crate) fn run(&self, line: &str, input: &str) -> String {
        Shell::done(self.command(line), line, input)
    }

    /// The same where the variables of an edge's host say which edge it is.
    pub(super) fn run_at(&self, site: &Site, line: &str) -> String {
        let mut shell = self.command(line);
        shell.env("ADIT_EDGE_DATA_DIR", site.data_dir()).env("ADIT_ADMIN_URL", &site.admin);
        Shell::done(shell, line, "")
    }

    /// Runs a line that is refused, and gives back what is said about it.
    pub(super) fn refused(&self, line: &str) -> String {
        let done = self.command(line).output().unwrap();
        assert!(!done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stdout));
        String::from_utf8(done.stderr).unwrap()
    }

    fn done(mut shell: Command, line: &str, input: &str) -> String {
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = shell.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        assert!(status.success(), "{line}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }

    /// Starts a line that runs until it is dropped.
    pub(super) fn start(&self, line: &str) -> Adit {
        Adit::of(self.command(&format!("exec {line}")))
    }
}

/// The first command in a message: what stands between backticks.
#[track_caller]
pub(super) fn quoted_command(message: &str) -> &str {
    message.split('`').nth(1).unwrap_or_else(|| panic!("no command in {message}"))
}
