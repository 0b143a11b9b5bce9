//! `adit-loadtest storm` and `soak` with real processes, as a user runs them, with few agents.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::common::{adit, json, output};
use serde_json::Value;

/// Only one storm at a time: each loads the machine, and all that it asks for has to come within a few seconds.
static STORM: Mutex<()> = Mutex::new(());

/// Agents of every kind, and nothing that depends on how fast the machine is.
const FEW: [&str; 26] = [
    "--no-pin",
    "--json",
    "--downloads",
    "2",
    "--uploads",
    "2",
    "--chatty",
    "2",
    "--events",
    "20",
    "--aborted",
    "1",
    "--stalled",
    "1",
    "--chatty-stalled",
    "1",
    "--half-open",
    "2",
    "--partial",
    "2",
    "--bytes",
    "200KiB",
    "--fail-on",
    "bodies",
    "--probe-every",
    "50ms",
];

fn alone() -> MutexGuard<'static, ()> {
    adit();
    STORM.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(found: &Value, kind: &str, figure: &str) -> u64 {
    found["agents"][kind][figure].as_u64().unwrap_or_else(|| panic!("{kind} {figure}: {found}"))
}

#[test]
fn every_answer_of_a_storm_is_whole() {
    let _alone = alone();
    // Each with processes of its own; over TLS one more kind can be.
    let storms: [&[&str]; 2] = [&["--driver", "epoll"], &["--tls", "--sealed-partial", "1"]];
    for more in storms {
        let found = json(0, &[&["storm", "--for", "4s", "--settle", "0s"], &FEW, more]);
        for kind in ["downloads", "uploads", "chatty"] {
            assert_eq!((count(&found, kind, "whole"), count(&found, kind, "asked")), (2, 2), "{kind}: {found}");
        }
        assert_eq!(count(&found, "aborted", "whole"), 1, "{found}");
        for (kind, asked) in [("stalled", 1), ("chatty-stalled", 1), ("half-open", 2), ("partial", 2)] {
            assert_eq!(count(&found, kind, "held") + count(&found, kind, "ended"), asked, "{kind}: {found}");
        }
        assert!(found["probe"]["calls"].as_u64() > Some(0), "{found}");
        assert_eq!(found["links_lost"], 0, "{found}");
        for (side, name) in ["edge", "connector"].iter().enumerate().map(|(n, name)| (&found["sides"][n], name)) {
            assert_eq!(side["name"], **name);
            let kib = |reading: &Value| reading["rss_kib"].as_u64().unwrap_or_else(|| panic!("{found}"));
            assert!(kib(&side["before"]) > 0 && kib(&side["settled"]) > 0 && side["peak_kib"].as_u64() > Some(0));
            assert!(side["settled"]["metrics"]["adit_sockets_open"].as_f64() > Some(0.0), "{found}");
        }
    }
}

#[test]
fn a_storm_fails_when_a_body_is_cut_and_says_so() {
    let _alone = alone();
    // It cannot be whole in the time that there is.
    let flags = ["--no-pin", "--downloads", "1", "--bytes", "16GiB", "--for", "500ms", "--settle", "0s"];
    let out = output(&[&["storm", "--fail-on", "bodies"], &flags[..]].concat());
    let (printed, message) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert_eq!(out.status.code(), Some(1), "{printed}{message}");
    assert!(message.contains("downloads: of 1, 1 were cut and 0 failed; the first: "), "{message}");
    assert!(printed.contains("slowest ms") && printed.contains("probe:") && printed.contains("connector"), "{printed}");
}

#[test]
fn a_soak_repeats_its_rounds_and_restarts_its_processes() {
    let _alone = alone();
    let flags = ["soak", "--for", "20s", "--round", "1500ms", "--quiet", "0s", "--restart-every", "4"];
    // A debug build, a few rounds, no quiet: growth is looked for and not expected to be absent.
    let out = output(&[&flags, &FEW[..]].concat());
    let found: Value = serde_json::from_slice(&out.stdout).unwrap();
    let rounds = found["rounds"].as_array().unwrap();
    assert!(rounds.len() > 4, "{found}");
    assert_eq!((&rounds[0]["restarted"], &rounds[4]["restarted"]), (&Value::Null, &"connector".into()), "{found}");
    for round in rounds {
        assert_eq!((&round["cut"], &round["failed"]), (&0.into(), &0.into()), "{found}");
    }
    let trends = found["trends"].as_array().unwrap();
    for (side, figure) in [("edge", "resident memory"), ("connector", "open descriptors"), ("edge", "sockets")] {
        assert!(
            trends.iter().any(|trend| trend["side"] == side && trend["figure"] == figure),
            "{side} {figure}: {found}"
        );
    }
}

#[test]
fn a_soak_of_too_few_rounds_judges_nothing_and_fails() {
    let _alone = alone();
    let flags = ["soak", "--for", "1ms", "--round", "300ms", "--quiet", "0s", "--no-pin", "--half-open", "1"];
    let out = output(&[&flags[..], &["--fail-on", "bodies"]].concat());
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("edge: it lived through 1 rounds") && stderr.contains("--restart-every"), "{stderr}");
}

#[test]
fn invalid_input_is_reported_with_its_remedy() {
    let cases: [(i32, &[&str], &[&str]); 9] = [
        (2, &["storm"], &["a storm of no agents", "--downloads"]),
        (2, &["storm", "--stalled", "99999"], &["99999 agents of one kind (stalled)", "at most 20000"]),
        (2, &["storm", "--uploads", "1", "--bytes", "0"], &["bodies of 0 bytes"]),
        (2, &["storm", "--uploads", "1", "--for", "0s"], &["more than 0s"]),
        (2, &["storm", "--chatty", "1", "--event-bytes", "4"], &["give 16 to 65536 bytes"]),
        (2, &["storm", "--sealed-partial", "1"], &["--tls"]),
        (2, &["storm", "--uploads", "1", "--probe-every", "1us"], &["give 1ms to 1s"]),
        (2, &["soak", "--for", "1d"], &["1.5s, 2m or 1h"]),
        (1, &["storm", "--uploads", "1", "--peer-bin", "adit=/nowhere"], &["adit cannot be run", "/nowhere"]),
    ];
    for (code, args, parts) in cases {
        let out = output(args);
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(parts.iter().all(|part| stderr.contains(part)), "{args:?}: {stderr}");
    }
}
