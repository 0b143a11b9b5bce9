//! Tools of others, fetched once into `target/`, in a directory named after the pins, so that other pins are another directory.
//!
//! It is prepared beside its final place and then renamed, so that a set-up that was interrupted, or ran twice at once, leaves no
//! half of one behind.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest;

/// The file that pins what a Python gets.
pub(crate) const REQUIREMENTS: &str = "requirements.txt";

const PYTHON_REMEDY: &str = "this test needs `python3` (3.10 or newer, with the venv module) and PyPI. Install it (Debian, \
    Ubuntu: `apt-get install python3 python3-venv`), and set PIP_INDEX_URL where PyPI is reached through a mirror.";

/// One lock for each directory: tests of one process that need the same tools fetch them once, and wait for each other.
static FETCHING: Mutex<BTreeMap<PathBuf, Arc<Mutex<()>>>> = Mutex::new(BTreeMap::new());

/// The directory of that name for these pins, which are files that are written there before `fill` fetches what they say.
///
/// # Panics
///
/// When it cannot be had, with the command that failed, what it said and how to help.
pub(crate) fn fetched(name: &str, pins: &[(&str, &str)], fill: impl FnOnce(&Path)) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target/tmp lies in target");
    let (all, stamp) = (target.join(name), stamp(pins));
    let home = all.join(&stamp);
    let fetching = Arc::clone(FETCHING.lock().unwrap().entry(home.clone()).or_default());
    // A test that failed to fetch leaves only a draft, so the next one may try again.
    let _one_at_a_time = fetching.lock().unwrap_or_else(PoisonError::into_inner);
    if home.is_dir() {
        return home;
    }
    eprintln!("fetching what tests need into {} (once)", home.display());
    let draft = all.join(format!("{stamp}.{}.draft", std::process::id()));
    std::fs::create_dir_all(&draft).expect("target/ can be written to");
    for (file, content) in pins {
        std::fs::write(draft.join(file), content).expect("target/ can be written to");
    }
    fill(&draft);
    // Another process may have been faster; its directory is as good.
    if let Err(error) = std::fs::rename(&draft, &home) {
        assert!(home.is_dir(), "{} cannot be renamed to {}: {error}", draft.display(), home.display());
        std::fs::remove_dir_all(&draft).expect("the second set-up can be removed");
    }
    home
}

/// Makes a Python in the directory, with what [`REQUIREMENTS`] there pins.
pub(crate) fn fetch_python(home: &Path) {
    run(Command::new("python3").args(["-m", "venv", "venv"]).current_dir(home), PYTHON_REMEDY);
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", REQUIREMENTS];
    run(Command::new(python_of(home)).args(pip).current_dir(home), PYTHON_REMEDY);
}

/// The Python of a directory.
pub(crate) fn python_of(home: &Path) -> PathBuf {
    home.join("venv/bin/python")
}

/// Runs a command to its end, or says what it was, what it said and how to help.
pub(crate) fn run(command: &mut Command, remedy: &str) {
    let shown = format!("{command:?}");
    let output = command.output().unwrap_or_else(|error| panic!("{shown} cannot be run: {error}.\n{remedy}"));
    assert!(
        output.status.success(),
        "{shown} failed ({}):\n{}{}\n{remedy}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}

/// A name for the pins.
fn stamp(pins: &[(&str, &str)]) -> String {
    let mut all = digest::Context::new(&digest::SHA256);
    for (_, content) in pins {
        all.update(content.as_bytes());
    }
    all.finish().as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
