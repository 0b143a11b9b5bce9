//! A test in namespaces of its own: networks and mounts that are nobody else's, made without rights that a developer lacks.

use std::io::{self, Write};
use std::process::{Command, Output};

/// Says to the process that it is the one inside.
const INSIDE: &str = "ADIT_TEST_INSIDE";
/// Where a user's PATH often does not lead.
const ADMIN_PATHS: &str = ":/usr/sbin:/sbin";

/// Whether this process is inside. Outside, the test of this name is run once more, inside, and must succeed there; on a
/// machine that forbids namespaces it is not run, which is said on standard error whether the test is shown or not.
#[must_use]
pub(crate) fn enter(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let Some(flags) = possible() else {
        say(test, "this machine lets nobody make namespaces of networks and mounts");
        return false;
    };
    let own = std::env::current_exe().expect("it has a file");
    let mut again = Command::new("unshare");
    again.args(flags).arg("--").arg(own).args([test, "--exact", "--nocapture", "--test-threads=1"]);
    let done = again.env(INSIDE, "1").env("PATH", admin_path()).output().expect("unshare was there before");
    let said = text(&done);
    assert!(done.status.success() && said.contains("1 passed"), "inside the namespaces:\n{said}");
    false
}

/// Says that a test, or the rest of it, is not run here.
pub(crate) fn say(test: &str, why: &str) {
    // Not by a macro: what a test prints is shown only when it fails.
    let told = io::stderr().write_all(format!("{test}: not run: {why}\n").as_bytes());
    told.expect("standard error can be written");
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
