//! An independent TLS client against both listeners: tlslite-ng, the library beneath tlsfuzzer, driven by
//! `tests/tls_clients/probe.py`. It behaves, misbehaves, and enrols by nothing but docs/PROTOCOL.md.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::{Path, PathBuf};
use std::process::Command;

use aws_lc_rs::digest;
use serde_json::Value;

use crate::trust::{Site, drivers};

const REQUIREMENTS: &str = include_str!("../tls_clients/requirements.txt");
const REMEDY: &str = "this test needs `python3` (3.10 or newer, with the venv module) and PyPI. Install it (Debian, Ubuntu: \
    `apt-get install python3 python3-venv`), and set PIP_INDEX_URL where PyPI is reached through a mirror.";
/// Fewer cases than this, and something was not run.
const CASES_MIN: usize = 65;

/// A Python that has the client, set up once under `target/`, in a directory named after what is pinned.
fn python() -> PathBuf {
    let mark: String = digest::digest(&digest::SHA256, REQUIREMENTS.as_bytes()).as_ref()[..8]
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target/tmp lies in target");
    let all = target.join("tls_clients");
    let home = all.join(&mark);
    if !home.is_dir() {
        let draft = all.join(format!("{mark}.{}.draft", std::process::id()));
        std::fs::create_dir_all(&draft).expect("target/ can be written to");
        std::fs::write(draft.join("requirements.txt"), REQUIREMENTS).expect("target/ can be written to");
        run(Command::new("python3").args(["-m", "venv", "venv"]).current_dir(&draft));
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"];
        run(Command::new(draft.join("venv/bin/python")).args(install).current_dir(&draft));
        // Another process may have been faster; its directory is as good.
        if let Err(error) = std::fs::rename(&draft, &home) {
            assert!(home.is_dir(), "{} cannot be renamed: {error}", draft.display());
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

#[test]
fn an_independent_client_finds_no_fault_with_either_listener() {
    let python = python();
    let site = Site::new();
    let secret = std::fs::read_to_string(site.path("secret")).unwrap();
    for driver in drivers() {
        let (edge, agents, connectors) = site.edge(&driver, "1h", "127.0.0.1:0");
        let (agents, connectors) = (agents.port().to_string(), connectors.rsplit_once(':').unwrap().1.to_owned());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls_clients/probe.py");
        let out = Command::new(&python).arg(script).args([&agents, &connectors, "tnl_a", &secret]).output().unwrap();
        let told = String::from_utf8_lossy(&out.stdout);
        let cases: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let failed: Vec<&Value> = cases.iter().filter(|case| !case["failed"].is_null()).collect();
        assert!(failed.is_empty(), "{driver}: {failed:#?}");
        assert!(out.status.success(), "{driver}: {}", String::from_utf8_lossy(&out.stderr));
        assert!(cases.len() >= CASES_MIN, "{driver}: {} cases", cases.len());
        assert_eq!(edge.ended_by("TERM"), Some(0), "no core has panicked");
    }
}
