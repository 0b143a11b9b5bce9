//! One case under valgrind.

use std::fs;
use std::io;
use std::process::{Command, Stdio};

use crate::cases::{Case, Work};
use crate::{COUNTED, WARM_UP};

/// Runs a case's work: unseen, and then seen by callgrind.
pub(crate) fn run_case(case: &Case) {
    let mut work = (case.set_up)();
    for _ in 0..WARM_UP {
        work();
    }
    while_counting(&mut work);
}

/// The runs that count; callgrind knows it by its name.
#[inline(never)]
fn while_counting(work: &mut Work) {
    for _ in 0..COUNTED {
        work();
    }
}

/// What callgrind counts.
fn span(case: &str) -> &'static [&'static str] {
    if case.starts_with("call/") {
        // What tasks do on their cores, and not what the simulation does in the kernel's place.
        &["--toggle-collect=*engine::executor::Executor::run", "--zero-before=*callgrind::while_counting"]
    } else {
        &["--toggle-collect=*callgrind::while_counting"]
    }
}

/// The instructions of one run of a case's work.
pub(crate) fn count(case: &str) -> io::Result<u64> {
    let file = tempfile::NamedTempFile::new()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .args(span(case))
        .arg(format!("--callgrind-out-file={}", file.path().display()))
        .arg(std::env::current_exe()?)
        .args(["--case", case])
        // The length of the environment moves the stack.
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            io::Error::other(format!("valgrind cannot be run; install the package 'valgrind': {error}"))
        })?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("{case} failed under valgrind:\n{stderr}")));
    }
    let text = fs::read_to_string(file.path())?;
    let total = total_of(&text).filter(|total| *total > 0);
    let each = total.map(|total| total / u64::from(COUNTED));
    each.ok_or_else(|| io::Error::other(format!("{case}: callgrind counted nothing; is a function of its span gone?")))
}

/// The total in a file of callgrind's: a line `totals: N` (or `summary: N`).
fn total_of(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("totals: "))?;
    line.split_whitespace().next()?.parse().ok()
}

/// `valgrind --version`.
pub(crate) fn version() -> io::Result<String> {
    super::baseline::first_line("valgrind", "--version", "install the package 'valgrind'")
}
