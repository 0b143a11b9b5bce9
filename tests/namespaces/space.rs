//! A process in namespaces of its own, made without rights that a developer lacks.

use std::process::{Command, ExitCode, Output};

/// Says to the process which test it runs inside.
const INSIDE: &str = "ADIT_TEST_INSIDE";
/// The exit code that says that the test cannot run here.
const NOT_RUN: u8 = 77;
/// What stands before the reason for that.
const REASON: &str = "not run: ";
/// Where a user's PATH often does not lead.
const ADMIN_PATHS: &str = ":/usr/sbin:/sbin";

/// How a test ended.
pub(crate) enum Ended {
    Well,
    /// With what it said.
    Badly(String),
    /// It cannot run on this machine, for this reason.
    NotRun(String),
}

/// The test that this process is to run; none outside.
pub(crate) fn inside() -> Option<String> {
    std::env::var(INSIDE).ok()
}

/// From inside, tells how the test ended.
pub(crate) fn report(ended: Result<(), String>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("{REASON}{why}");
            ExitCode::from(NOT_RUN)
        }
    }
}

/// Runs this program once more, inside, for one test.
pub(crate) fn run(test: &str) -> Ended {
    let Some(flags) = possible() else {
        return Ended::NotRun("this machine lets nobody make namespaces of networks and mounts".to_owned());
    };
    let own = std::env::current_exe().expect("it has a file");
    let mut again = Command::new("unshare");
    again.args(flags).arg("--").arg(own).env(INSIDE, test).env("PATH", admin_path());
    let done = again.output().expect("unshare was there before");
    let stated = text(&done);
    match done.status.code() {
        Some(0) => Ended::Well,
        Some(code) if code == i32::from(NOT_RUN) => {
            let why = stated.lines().find_map(|line| line.strip_prefix(REASON));
            Ended::NotRun(why.unwrap_or("it does not say why").to_owned())
        }
        _ => Ended::Badly(stated),
    }
}

/// Runs a command of the system, which must be there; its outcome may be any.
pub(crate) fn tried(words: &[&str], remedy: &str) -> Output {
    let done = Command::new(words[0]).args(&words[1..]).output();
    done.unwrap_or_else(|error| panic!("{} cannot be run: {error}; {remedy}", words[0]))
}

/// The same, which must go well.
pub(crate) fn done(words: &[&str], remedy: &str) -> String {
    let done = tried(words, remedy);
    assert!(done.status.success(), "{words:?}: {}", text(&done));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// All that a command said.
pub(crate) fn text(done: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
}

/// By which flags namespaces can be made here: as root, or in a namespace of users in which we are.
fn possible() -> Option<&'static [&'static str]> {
    const WAYS: [&[&str]; 2] = [&["--net", "--mount"], &["--map-root-user", "--net", "--mount"]];
    let works = |flags: &&&[&str]| {
        let tried = Command::new("unshare").args(**flags).args(["--", "true"]).output();
        tried.expect("unshare is part of util-linux, which every distribution has").status.success()
    };
    WAYS.iter().find(works).copied()
}

fn admin_path() -> String {
    std::env::var("PATH").unwrap_or_default() + ADMIN_PATHS
}
