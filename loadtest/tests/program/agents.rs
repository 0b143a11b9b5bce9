//! `adit-loadtest guard` with real processes, as a user runs it. No time is asserted.

use crate::common::{adit, json, output};

/// A short run: the guard has learned when the server turns slow, and all tasks end soon after.
const SHORT: [&str; 26] = [
    "guard",
    "--json",
    "--no-pin",
    "--rate",
    "80",
    "--timeout",
    "1s",
    "--retries",
    "3",
    "--service",
    "5ms",
    "--slow",
    "10s",
    "--normal",
    "2s",
    "--quarter",
    "1s",
    "--all",
    "2s",
    "--after",
    "1s",
    "--floor",
    "100ms",
    "--open",
    "1s",
    "--concurrency-limit",
];

#[test]
fn a_guard_reduces_wasted_calls_at_the_server() {
    adit();
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("guard.svg");
    let found = json(0, &[&SHORT, &["--svg", picture.to_str().unwrap()]]);
    let rows = found["rows"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["path"].as_str().unwrap()).collect();
    assert_eq!(names, ["direct", "adit, no guard", "adit, guarded"]);
    let number =
        |value: &serde_json::Value, name: &str| value[name].as_u64().unwrap_or_else(|| panic!("{name}: {value}"));
    let [direct, unguarded, guarded] = [0, 1, 2].map(|row| &rows[row]);
    for row in [direct, unguarded, guarded] {
        let bad = &row["bad"];
        assert_eq!(number(row, "tasks_left_out"), 0);
        assert!(number(bad, "tasks") >= 150, "{found:#}");
        assert!(number(row, "calls_run_all") >= number(bad, "calls_run"), "{found:#}");
    }
    // An agent that times out tries again; one that is told not to does not.
    for row in [direct, unguarded] {
        let bad = &row["bad"];
        assert_eq!(number(bad, "tasks_terminal"), 0, "{found:#}");
        assert!(number(bad, "calls_sent") > number(bad, "tasks") && number(row, "calls_run_again") > 0, "{found:#}");
    }
    assert!(number(&guarded["bad"], "tasks_terminal") > 0, "{found:#}");
    assert!(number(&guarded["all"], "calls_run") < number(&unguarded["all"], "calls_run"), "{found:#}");
    // The tool is not marked as safe.
    assert_eq!(number(guarded, "calls_run_again"), 0, "{found:#}");
    let svg = std::fs::read_to_string(&picture).unwrap();
    assert!(svg.starts_with("<svg ") && svg.contains("adit, guarded"), "{svg}");
}

#[test]
fn a_run_that_cannot_be_is_refused() {
    for wrong in [["--rate", "0"], ["--rate", "1000000"], ["--slow", "61s"], ["--timeout", "0s"]] {
        assert_eq!(output(&[&["guard"], &wrong[..]].concat()).status.code(), Some(2), "{wrong:?}");
    }
}
