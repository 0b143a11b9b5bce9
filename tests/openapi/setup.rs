//! Fetches schemathesis, once, into `target/openapi/`, in a directory named after the pins. It is prepared beside its final
//! place and then renamed, so that a set-up that was interrupted, or ran twice at once, leaves no half of one behind.

use std::path::{Path, PathBuf};
use std::process::Command;

use aws_lc_rs::digest;

const REQUIREMENTS: &str = include_str!("requirements.txt");

const REMEDY: &str = "tests/openapi.rs needs `python3` (3.10 or newer, with the venv module) and PyPI. Install it (Debian, \
    Ubuntu: `apt-get install python3 python3-venv`), and set PIP_INDEX_URL where PyPI is reached through a mirror.";

/// A Python that has schemathesis.
///
/// # Panics
///
/// When it cannot be had, with the command that failed, what it said and how to help.
pub(crate) fn python() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target/tmp lies in target");
    let stamp = digest::digest(&digest::SHA256, REQUIREMENTS.as_bytes());
    let stamp: String = stamp.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let all = target.join("openapi");
    let home = all.join(&stamp);
    if !home.is_dir() {
        eprintln!("setting up schemathesis in {} (once)", home.display());
        let draft = all.join(format!("{stamp}.{}.draft", std::process::id()));
        std::fs::create_dir_all(&draft).expect("target/ can be written to");
        std::fs::write(draft.join("requirements.txt"), REQUIREMENTS).expect("target/ can be written to");
        run(Command::new("python3").args(["-m", "venv", "venv"]).current_dir(&draft));
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"];
        run(Command::new(draft.join("venv/bin/python")).args(pip).current_dir(&draft));
        // Another process may have been faster; its directory is as good.
        if let Err(error) = std::fs::rename(&draft, &home) {
            assert!(home.is_dir(), "{} cannot be renamed to {}: {error}", draft.display(), home.display());
            std::fs::remove_dir_all(&draft).expect("the second set-up can be removed");
        }
    }
    home.join("venv/bin/python")
}

fn run(command: &mut Command) {
    let shown = format!("{command:?}");
    let output = command.output().unwrap_or_else(|error| panic!("{shown} cannot be run: {error}.\n{REMEDY}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shown} failed ({}):\n{said}\n{REMEDY}", output.status);
}
