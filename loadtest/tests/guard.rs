//! `adit-loadtest guard` with real processes, as a user runs it. No time is asserted.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::{adit, json, output};

/// A short run: the guard has learned when the server turns slow, and all tasks end soon after.
const SHORT: [&str; 23] = [
    "guard",
    "--json",
    "--no-pin",
    "--rate",
    "40",
    "--timeout",
    "1s",
    "--retries",
    "3",
    "--service",
    "5ms",
    "--slow",
    "10s",
    "--normal",
    "3s",
    "--quarter",
    "1s",
    "--all",
    "3s",
    "--after",
    "2s",
    "--floor",
    "100ms",
];

#[test]
fn a_guard_has_the_server_run_fewer_calls_that_come_to_nothing() {
    adit();
    let found = json(0, &[&SHORT]);
    let rows = found["rows"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["path"].as_str().unwrap()).collect();
    assert_eq!(names, ["direct", "adit, no guard", "adit, guarded"]);
    let count = |row: usize, name: &str| rows[row][name].as_u64().unwrap_or_else(|| panic!("{name}: {}", rows[row]));
    for row in 0..3 {
        assert_eq!(count(row, "tasks_left_out"), 0);
        assert!(count(row, "tasks") >= 150, "{found:#}");
        assert!(count(row, "calls_run_all") >= count(row, "calls_run"), "{found:#}");
    }
    // An agent that times out tries again; one that is told not to does not.
    for row in 0..2 {
        assert_eq!(count(row, "tasks_terminal"), 0, "{found:#}");
        assert!(count(row, "calls_sent") > count(row, "tasks"), "{found:#}");
    }
    assert!(count(2, "tasks_terminal") > 0, "{found:#}");
    assert!(count(2, "calls_sent") < count(1, "calls_sent") && count(2, "tokens") < count(1, "tokens"), "{found:#}");
}

#[test]
fn a_run_that_cannot_be_is_refused() {
    for wrong in [["--rate", "0"], ["--rate", "1000000"], ["--slow", "61s"], ["--timeout", "0s"]] {
        assert_eq!(output(&[&["guard"], &wrong[..]].concat()).status.code(), Some(2), "{wrong:?}");
    }
}
