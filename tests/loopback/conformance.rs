//! The official MCP conformance suite and the official Python SDK, directly and through an intermediary.
//!
//! The suite and the SDK are fetched once, see [`setup`]; without them these tests fail, they never pass silently.
//! Passing is not enough: every single check must come out through the intermediary as it does directly.

mod fixture;
mod meddler;
pub(crate) mod setup;
mod suite;

use std::process::Command;
use std::sync::OnceLock;

use crate::tunnel_processes::Tunnel;
use fixture::Fixture;
use meddler::Fault;
use setup::SetUp;
use suite::{Outcome, Revision, Version};

/// The name under which agents call: the suite wants one that means this machine.
const HOST: &str = "localhost";

/// What the suite finds without anything in between; run once per revision.
fn directly(revision: Revision) -> &'static Outcome {
    static OLD: OnceLock<Outcome> = OnceLock::new();
    static NEW: OnceLock<Outcome> = OnceLock::new();
    let cell = match revision {
        Revision::V2025_11_25 => &OLD,
        Revision::V2026_07_28 => &NEW,
    };
    cell.get_or_init(|| {
        let fixture = Fixture::start();
        suite::run(&fixture.address.to_string(), revision)
    })
}

/// What the Python session printed against `http://{authority}/mcp`.
fn python_session(authority: &str) -> String {
    python_session_with(authority, &[])
}

/// The same, with more arguments.
fn python_session_with(authority: &str, more: &[&str]) -> String {
    let ran = Command::new(&SetUp::get().python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/loopback/conformance/session.py"))
        .arg(format!("http://{authority}/mcp"))
        .args(more)
        .output()
        .expect("the Python that was set up runs");
    let printed = String::from_utf8(ran.stdout).expect("the session prints UTF-8");
    assert!(ran.status.success(), "{printed}{}", String::from_utf8_lossy(&ran.stderr));
    printed
}

/// What the Python session prints without anything in between.
fn python_directly() -> &'static str {
    static PRINTED: OnceLock<String> = OnceLock::new();
    PRINTED.get_or_init(|| {
        let fixture = Fixture::start();
        python_session(&fixture.address.to_string())
    })
}

#[test]
fn the_fixture_passes_all_that_2025_11_25_requires() {
    directly(Revision::V2025_11_25).assert_required(Revision::V2025_11_25);
}

#[test]
fn the_fixture_passes_all_that_2026_07_28_requires() {
    directly(Revision::V2026_07_28).assert_required(Revision::V2026_07_28);
}

/// A tunnel to a fresh fixture, and where agents find it.
fn through_the_tunnel() -> (Fixture, Tunnel, String) {
    let fixture = Fixture::start();
    let tunnel = Tunnel::start(HOST, fixture.address);
    let authority = format!("{HOST}:{}", tunnel.agents.port());
    (fixture, tunnel, authority)
}

fn assert_same_through_the_tunnel(revision: Revision) {
    let (_fixture, _tunnel, authority) = through_the_tunnel();
    let through = suite::run(&authority, revision);
    through.assert_required(revision);
    assert_eq!(directly(revision).differences(&through), Vec::<String>::new());
}

#[test]
fn every_check_of_2025_11_25_comes_out_the_same_through_the_tunnel() {
    assert_same_through_the_tunnel(Revision::V2025_11_25);
}

#[test]
fn every_check_of_2026_07_28_comes_out_the_same_through_the_tunnel() {
    assert_same_through_the_tunnel(Revision::V2026_07_28);
}

/// Set for this program when it is to be the fixture over standard input and output.
const OVER_STDIO: &str = "FIXTURE_OVER_STDIO";
/// The test that is the fixture then.
const STDIO_TEST: &str = "conformance::every_check_of_2025_11_25_comes_out_the_same_over_stdio";

/// But for those of event streams: the fixture's own server of HTTP answers each request with one, and here an answer without events
/// before it is JSON, so that these checks do not apply.
fn assert_same_over_stdio(revision: Revision, sessions: &str) {
    let program = std::env::current_exe().expect("this program has a path").display().to_string();
    let mut tunnel = Tunnel::without_connector("plain", HOST, 20_000, "");
    // What the test harness prints on standard output is passed over.
    tunnel.connect_routes(&format!(
        "[[route]]\nhost = '{HOST}'\nupstream = 'stdio'\nenv = ['{OVER_STDIO}=1']\nsessions = '{sessions}'\nchildren_max = 100\n\
         command = ['{program}', '--exact', '{STDIO_TEST}', '--nocapture', '--test-threads=2']\n"
    ));
    let through = suite::run(&format!("{HOST}:{}", tunnel.agents.port()), revision);
    through.assert_required(revision);
    let differences = directly(revision).differences(&through).into_iter();
    let applies = |line: &String| !line.contains(": server-sse-");
    assert_eq!(differences.filter(applies).collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn every_check_of_2025_11_25_comes_out_the_same_over_stdio() {
    if std::env::var_os(OVER_STDIO).is_some() {
        return fixture::serve_stdio();
    }
    assert_same_over_stdio(Revision::V2025_11_25, "per-session");
}

/// All agents share one child, as this revision has no sessions.
#[test]
fn every_check_of_2026_07_28_comes_out_the_same_over_stdio() {
    assert_same_over_stdio(Revision::V2026_07_28, "shared");
}

#[test]
fn the_python_session_prints_the_same_through_the_tunnel() {
    let (_fixture, _tunnel, authority) = through_the_tunnel();
    assert_eq!(python_session(&authority), python_directly());
}

/// The same through a connector that looks at every message: its policy allows everything, it keeps an inventory, and it writes each call
/// to its audit log before the answer leaves.
fn through_a_governed_tunnel(traffic: &'static str) -> (Fixture, Tunnel, String) {
    let fixture = Fixture::start();
    let mut tunnel = Tunnel::without_connector(traffic, HOST, 20_000, "");
    adit::private::write(&tunnel.file("policy.toml"), b"[[rule]]\nname = 'all'\neffect = 'allow'\n").unwrap();
    tunnel.connect_routes(&format!(
        "[audit]\nmode = 'required'\n\
         [[route]]\nhost = '{HOST}'\nupstream = 'http://{}'\npin = 'warn'\npolicy_file = 'policy.toml'\n",
        fixture.address
    ));
    let authority = format!("{HOST}:{}", tunnel.agents.port());
    (fixture, tunnel, authority)
}

/// Plain traffic is called over HTTP/1.1, resealed traffic over HTTP/2, and passthrough traffic over TLS that ends in the connector.
fn assert_same_through_a_governed_tunnel(traffic: &'static str, revision: Revision) -> Outcome {
    let (_fixture, tunnel, authority) = through_a_governed_tunnel(traffic);
    let seal = tunnel.file("state/seal-ca.pem");
    let version = match traffic {
        "plain" => Version::Http1,
        "resealed" => Version::Http2,
        _ => Version::Tls(&seal),
    };
    let through = suite::run_over(version, &authority, revision);
    through.assert_required(revision);
    assert_eq!(directly(revision).differences(&through), Vec::<String>::new(), "{traffic}");
    through
}

#[test]
fn every_check_of_2025_11_25_comes_out_the_same_through_governed_tunnels() {
    for traffic in ["plain", "passthrough"] {
        assert_same_through_a_governed_tunnel(traffic, Revision::V2025_11_25);
    }
}

#[test]
fn every_check_of_2026_07_28_comes_out_the_same_through_governed_tunnels() {
    for traffic in ["plain", "passthrough"] {
        assert_same_through_a_governed_tunnel(traffic, Revision::V2026_07_28);
    }
}

fn assert_same_over_http_2(revision: Revision) {
    let through = assert_same_through_a_governed_tunnel("resealed", revision);
    let (requests, scenarios) = (through.http2_requests(), revision.required_count());
    assert!(requests >= scenarios, "{requests} requests of {scenarios} scenarios were sent over HTTP/2");
}

#[test]
fn every_check_of_2025_11_25_comes_out_the_same_over_http_2_through_a_governed_tunnel() {
    assert_same_over_http_2(Revision::V2025_11_25);
}

#[test]
fn every_check_of_2026_07_28_comes_out_the_same_over_http_2_through_a_governed_tunnel() {
    assert_same_over_http_2(Revision::V2026_07_28);
}

#[test]
fn the_python_session_prints_the_same_over_http_2_through_a_governed_tunnel() {
    let (_fixture, _tunnel, authority) = through_a_governed_tunnel("resealed");
    assert_eq!(python_session_with(&authority, &["--http2"]), python_directly());
}

#[test]
fn an_intermediary_that_changes_nothing_is_not_seen() {
    let fixture = Fixture::start();
    let front = meddler::start(fixture.address, Fault::None).to_string();
    for revision in [Revision::V2025_11_25, Revision::V2026_07_28] {
        let through = suite::run(&front, revision);
        assert_eq!(directly(revision).differences(&through), Vec::<String>::new(), "{revision:?}");
    }
    let fresh = Fixture::start();
    let front = meddler::start(fresh.address, Fault::None).to_string();
    assert_eq!(python_session(&front), python_directly());
}

#[test]
fn an_intermediary_that_meddles_is_seen() {
    let fixture = Fixture::start();
    for (fault, seen_in) in
        [(Fault::DropMcpMethod, "tools-call-simple-text"), (Fault::HideClientErrors, "server-stateless")]
    {
        let front = meddler::start(fixture.address, fault).to_string();
        let through = suite::run(&front, Revision::V2026_07_28);
        let differences = directly(Revision::V2026_07_28).differences(&through);
        assert!(differences.iter().any(|line| line.contains(seen_in)), "{fault:?}: {differences:#?}");
    }
}

#[test]
fn the_python_session_goes_through_both_eras() {
    let printed = python_directly();
    for era in ["2025-11-25", "2026-07-28"] {
        for step in ["connected", "list", "call", "large", "progress", "stream", "cancel", "change", "unknown tool"] {
            let line =
                printed.lines().find(|line| line.contains(era) && line.contains(&format!("\"step\": \"{step}\"")));
            assert!(line.is_some(), "{era} {step}:\n{printed}");
        }
    }
}
