//! Fetches, once, what the conformance tests run: the official suite with a Node new enough for it, and the Python SDK. The tests
//! of presets run servers of it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::fetched::{REQUIREMENTS, fetch_python, fetched, python_of, run};

const PINS: [(&str, &str); 3] = [
    ("package.json", include_str!("package.json")),
    ("package-lock.json", include_str!("package-lock.json")),
    (REQUIREMENTS, include_str!("requirements.txt")),
];

const NPM_REMEDY: &str = "this test needs `npm` and the public npm registry. Install Node.js with npm \
    (Debian, Ubuntu: `apt-get install nodejs npm`; any version will do, the Node that runs the suite comes from npm), \
    and set NPM_CONFIG_REGISTRY where the registry is reached through a mirror.";

/// Where the tools are.
pub(crate) struct SetUp {
    /// A Node that the suite runs on.
    pub(crate) node: PathBuf,
    /// The suite's program.
    pub(crate) suite: PathBuf,
    /// The directory of all packages for Node.
    pub(crate) packages: PathBuf,
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
            let home = fetched("conformance", &PINS, fetch);
            let packages = home.join("node_modules");
            let suite = packages.join("@modelcontextprotocol").join("conformance");
            let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
            Self {
                node: packages.join(format!("node-linux-{arch}")).join("bin").join("node"),
                suite: suite.join("dist").join("index.js"),
                requirements: suite.join("requirements"),
                python: python_of(&home),
                packages,
                scratch: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
            }
        })
    }
}

fn fetch(home: &Path) {
    // The pinned packages need no install script, and none is run.
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(home);
    run(&mut npm, NPM_REMEDY);
    fetch_python(home);
}
