//! Fetches, once, what the conformance tests run: the official suite with a Node new enough for it, and the Python SDK.
//!
//! Everything goes under `target/conformance/`, in a directory named after the pins, so that another pin is another
//! directory. It is prepared beside its final place and then renamed, so that a set-up that was interrupted, or that
//! ran twice at once, never leaves half of one behind.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use aws_lc_rs::digest;

const PACKAGE: &str = include_str!("package.json");
const PACKAGE_LOCK: &str = include_str!("package-lock.json");
const REQUIREMENTS: &str = include_str!("requirements.txt");

const NPM_REMEDY: &str = "tests/conformance.rs needs `npm` and the public npm registry. Install Node.js with npm \
    (Debian, Ubuntu: `apt-get install nodejs npm`; any version will do, the Node that runs the suite comes from npm), \
    and set NPM_CONFIG_REGISTRY where the registry is reached through a mirror.";
const PYTHON_REMEDY: &str = "tests/conformance.rs needs `python3` (3.10 or newer, with the venv module) and PyPI. \
    Install it (Debian, Ubuntu: `apt-get install python3 python3-venv`), and set PIP_INDEX_URL where PyPI is reached \
    through a mirror.";

/// Where the tools are.
pub(crate) struct SetUp {
    /// A Node that the suite runs on.
    pub(crate) node: PathBuf,
    /// The suite's program.
    pub(crate) suite: PathBuf,
    /// The suite's lists of required scenarios.
    pub(crate) requirements: PathBuf,
    /// A Python that has the SDK.
    pub(crate) python: PathBuf,
    /// A directory that tests may write to.
    pub(crate) scratch: PathBuf,
}

impl SetUp {
    /// The tools, fetched if they are not there.
    ///
    /// # Panics
    ///
    /// When they cannot be had, with the command that failed, what it said and how to help.
    pub(crate) fn get() -> &'static Self {
        static SET_UP: OnceLock<SetUp> = OnceLock::new();
        SET_UP.get_or_init(|| {
            let home = prepare();
            let packages = home.join("node_modules");
            let suite = packages.join("@modelcontextprotocol").join("conformance");
            let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
            Self {
                node: packages.join(format!("node-linux-{arch}")).join("bin").join("node"),
                suite: suite.join("dist").join("index.js"),
                requirements: suite.join("requirements"),
                python: home.join("venv").join("bin").join("python"),
                scratch: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
            }
        })
    }
}

/// The prepared directory for these pins.
fn prepare() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target/tmp lies in target");
    let all = target.join("conformance");
    let home = all.join(stamp());
    if home.is_dir() {
        return home;
    }
    eprintln!("setting up the conformance suite and the Python SDK in {} (once)", home.display());
    let draft = all.join(format!("{}.{}.draft", stamp(), std::process::id()));
    std::fs::create_dir_all(&draft).expect("target/ can be written to");
    for (name, content) in
        [("package.json", PACKAGE), ("package-lock.json", PACKAGE_LOCK), ("requirements.txt", REQUIREMENTS)]
    {
        std::fs::write(draft.join(name), content).expect("target/ can be written to");
    }
    fetch_suite(&draft);
    fetch_sdk(&draft);
    // Another process may have been faster; its directory is as good.
    if let Err(error) = std::fs::rename(&draft, &home) {
        assert!(home.is_dir(), "{} cannot be renamed to {}: {error}", draft.display(), home.display());
        std::fs::remove_dir_all(&draft).expect("the second set-up can be removed");
    }
    home
}

/// A name for the pins.
fn stamp() -> String {
    let mut all = digest::Context::new(&digest::SHA256);
    for content in [PACKAGE, PACKAGE_LOCK, REQUIREMENTS] {
        all.update(content.as_bytes());
    }
    all.finish().as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn fetch_suite(home: &Path) {
    // The pinned packages need no install script, and none is run.
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(home);
    run(&mut npm, NPM_REMEDY);
}

fn fetch_sdk(home: &Path) {
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", "venv"]).current_dir(home);
    run(&mut venv, PYTHON_REMEDY);
    let mut pip = Command::new(home.join("venv").join("bin").join("python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"]);
    run(pip.current_dir(home), PYTHON_REMEDY);
}

/// Runs a command to its end, or says what it was, what it said and how to help.
fn run(command: &mut Command, remedy: &str) -> Output {
    let shown = format!("{command:?}");
    let output = command.output().unwrap_or_else(|error| panic!("{shown} cannot be run: {error}.\n{remedy}"));
    assert!(
        output.status.success(),
        "{shown} failed ({}):\n{}{}\n{remedy}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    output
}
