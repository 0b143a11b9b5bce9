//! An independent TLS client against both listeners: tlslite-ng, the library beneath tlsfuzzer, driven by
//! `tests/loopback/tls_clients/probe.py`. It behaves, misbehaves, and enrols by nothing but docs/PROTOCOL.md.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::fetched::{REQUIREMENTS, fetch_python, fetched, python_of};

use super::trust::{Site, drivers};

/// Fewer cases than this, and something was not run.
const CASES_MIN: usize = 65;

#[test]
fn an_independent_client_finds_no_fault_with_either_listener() {
    let pins = [(REQUIREMENTS, include_str!("../tls_clients/requirements.txt"))];
    let python = python_of(&fetched("tls_clients", &pins, fetch_python));
    let site = Site::new();
    let secret = std::fs::read_to_string(site.path("secret")).unwrap();
    for driver in drivers() {
        let (edge, agents, connectors) = site.edge(&driver, "1h", "127.0.0.1:0");
        let (agents, connectors) = (agents.port().to_string(), connectors.rsplit_once(':').unwrap().1.to_owned());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/loopback/tls_clients/probe.py");
        let out = Command::new(&python).arg(script).args([&agents, &connectors, "tnl_a", &secret]).output().unwrap();
        let stdout = String::from_utf8_lossy(&out.stdout);
        let cases: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let failed: Vec<&Value> = cases.iter().filter(|case| !case["failed"].is_null()).collect();
        assert!(failed.is_empty(), "{driver}: {failed:#?}");
        assert!(out.status.success(), "{driver}: {}", String::from_utf8_lossy(&out.stderr));
        assert!(cases.len() >= CASES_MIN, "{driver}: {} cases", cases.len());
        assert_eq!(edge.ended_by("TERM"), Some(0), "no core has panicked");
    }
}
