//! Runs the official suite against a URL and reads back every single check.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::setup::SetUp;

/// A protocol revision that the suite has a list of required scenarios for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Revision {
    /// With sessions.
    V2025_11_25,
    /// Stateless.
    V2026_07_28,
}

impl Revision {
    fn name(self) -> &'static str {
        match self {
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    /// How many scenarios the pinned suite requires of a server: a shorter list means that the list was not read.
    pub(crate) fn required_count(self) -> usize {
        match self {
            Self::V2025_11_25 => 30,
            Self::V2026_07_28 => 37,
        }
    }
}

/// What the suite sends its requests over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version<'a> {
    /// HTTP/1.1.
    Http1,
    /// HTTP/1.1 over TLS, whose server has a certificate of the authority in this file.
    Tls(&'a Path),
    /// HTTP/2 in the clear.
    Http2,
}

/// The scenarios for servers without TLS. One says so itself; the others send requests in the clear, whatever the URL of the server.
const WITHOUT_TLS: [&str; 3] =
    ["dns-rebinding-protection", "http-header-validation", "http-custom-header-server-validation"];
/// The module that makes Node speak HTTP/2.
const HTTP2_MODULE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/loopback/conformance/http2.mjs");
/// What that module says at the end, before a number.
const HTTP2_REQUESTS: &str = "requests over HTTP/2: ";

/// One check of one scenario, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Check {
    pub(crate) scenario: String,
    pub(crate) id: String,
    pub(crate) status: String,
}

impl std::fmt::Display for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} / {}: {}", self.scenario, self.id, self.status)
    }
}

/// What one run of the suite found.
pub(crate) struct Outcome {
    /// Every check, sorted.
    pub(crate) checks: Vec<Check>,
    /// Whether the suite itself found all required scenarios passed.
    accepted: bool,
    printed: String,
    /// The scenarios that do not apply.
    left_out: &'static [&'static str],
}

impl Outcome {
    /// Fails unless every required scenario ran and none of its checks failed.
    pub(crate) fn assert_required(&self, revision: Revision) {
        let mut per_scenario: BTreeMap<&str, Vec<&Check>> = BTreeMap::new();
        for check in &self.checks {
            per_scenario.entry(&check.scenario).or_default().push(check);
        }
        let mut required = required(revision);
        required.retain(|scenario| !self.left_out.contains(&scenario.as_str()));
        let mut faults: Vec<String> = Vec::new();
        for scenario in &required {
            match per_scenario.get(scenario.as_str()) {
                None => faults.push(format!("{scenario}: did not run")),
                Some(checks) => faults
                    .extend(checks.iter().filter(|check| check.status == "FAILURE").map(|check| check.to_string())),
            }
        }
        let is_accepted = self.accepted || !self.left_out.is_empty();
        assert!(faults.is_empty() && is_accepted, "{}\n{}", self.printed, faults.join("\n"));
    }

    /// How many requests it sent over HTTP/2.
    pub(crate) fn http2_requests(&self) -> usize {
        let text = self.printed.lines().find_map(|line| line.strip_prefix(HTTP2_REQUESTS));
        text.map_or(0, |number| number.parse().expect("a number of requests"))
    }

    /// What this run and another do not have in common, one line per check; empty when they agree in every check.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let mut left: BTreeMap<&Check, i64> = BTreeMap::new();
        for check in self.checks.iter().filter(|check| !other.left_out.contains(&check.scenario.as_str())) {
            *left.entry(check).or_default() += 1;
        }
        for check in &other.checks {
            *left.entry(check).or_default() -= 1;
        }
        let more = |(check, count): (&Check, i64)| match count {
            0 => None,
            1.. => Some(format!("{count} more directly: {check}")),
            _ => Some(format!("{} more through it: {check}", -count)),
        };
        left.into_iter().filter_map(more).collect()
    }
}

/// Runs all that a revision asks of a server against `http://{authority}/mcp`.
pub(crate) fn run(authority: &str, revision: Revision) -> Outcome {
    run_over(Version::Http1, authority, revision)
}

/// The same, over this version of HTTP.
pub(crate) fn run_over(version: Version<'_>, authority: &str, revision: Revision) -> Outcome {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let set_up = SetUp::get();
    let number = RUNS.fetch_add(1, Ordering::Relaxed);
    let output = set_up.scratch.join(format!("checks-{}-{number}", std::process::id()));
    let mut node = Command::new(&set_up.node);
    let scheme = if matches!(version, Version::Tls(_)) { "https" } else { "http" };
    match version {
        Version::Http1 => {}
        Version::Tls(authority) => drop(node.env("NODE_EXTRA_CA_CERTS", authority)),
        Version::Http2 => drop(node.args(["--import", HTTP2_MODULE])),
    }
    let ran = node
        .arg(&set_up.suite)
        .args(["server", "--url", &format!("{scheme}://{authority}/mcp"), "--requirements", revision.name(), "-o"])
        .arg(&output)
        .output()
        .expect("the Node that was set up runs");
    let printed = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    let left_out: &[&str] = if matches!(version, Version::Tls(_)) { &WITHOUT_TLS } else { &[] };
    let mut checks = read_checks(&output, &printed);
    checks.retain(|check| !left_out.contains(&check.scenario.as_str()));
    std::fs::remove_dir_all(&output).expect("the suite's output can be removed");
    Outcome { checks, accepted: ran.status.success(), printed, left_out }
}

/// Reads every `checks.json`; the scenario is in the name of the directory: `server-<scenario>-<time stamp>`.
fn read_checks(output: &Path, printed: &str) -> Vec<Check> {
    const STAMP_LEN: usize = "-2026-11-21T09-12-33-058Z".len();
    let entries =
        std::fs::read_dir(output).unwrap_or_else(|error| panic!("the suite wrote nothing ({error}):\n{printed}"));
    let mut checks = Vec::new();
    for entry in entries {
        let path = entry.expect("a directory entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name in ASCII").to_owned();
        let scenario = name.strip_prefix("server-").and_then(|rest| rest.get(..rest.len().checked_sub(STAMP_LEN)?));
        let scenario = scenario.unwrap_or_else(|| panic!("{name} is not the name of a run")).to_owned();
        let Ok(text) = std::fs::read_to_string(path.join("checks.json")) else {
            // A scenario that breaks off leaves an empty directory.
            checks.push(Check { scenario, id: "the scenario itself".to_owned(), status: "FAILURE".to_owned() });
            continue;
        };
        let list: serde_json::Value = serde_json::from_str(&text).expect("checks.json is JSON");
        for check in list.as_array().expect("checks.json is a list") {
            let field = |key: &str| check[key].as_str().expect("a check has an id and a status").to_owned();
            checks.push(Check { scenario: scenario.clone(), id: field("id"), status: field("status") });
        }
    }
    checks.sort();
    checks
}

/// The names under `server:` in the suite's own list.
fn required(revision: Revision) -> BTreeSet<String> {
    let path = SetUp::get().requirements.join(format!("{}.yaml", revision.name()));
    let list = std::fs::read_to_string(path).expect("the suite has its lists");
    let names: BTreeSet<String> = list
        .lines()
        .skip_while(|line| line.trim_end() != "server:")
        .skip(1)
        .map_while(|line| line.strip_prefix("  - "))
        .map(|name| name.trim().to_owned())
        .collect();
    assert_eq!(names.len(), revision.required_count(), "the list of required scenarios was not read: {names:?}");
    names
}
