//! `adit-loadtest fault` with real processes, as a user runs it. No time is asserted, except that there is one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::common::{Process, adit, json, output, program};
use serde_json::Value;

/// A light load, with time enough to recover on a busy machine.
const LIGHT: [&str; 15] = [
    "fault",
    "--json",
    "--no-pin",
    "--rounds",
    "1",
    "--rate",
    "100",
    "--connections",
    "8",
    "--before",
    "300ms",
    "--after",
    "5s",
    "--call-timeout",
    "10s",
];

/// A program that stands in for adit, and is adit unless the shell says otherwise.
fn instead_of_adit(folder: &Path, shell: &str) -> String {
    let path = folder.join("adit");
    fs::write(&path, format!("#!/bin/sh\n{shell}\nexec {} \"$@\"\n", adit().display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    format!("adit={}", path.display())
}

#[test]
fn calls_recover_from_any_death_and_none_runs_twice() {
    adit();
    // All at once, each with processes of its own.
    let running = ["edge", "connector", "upstream"].map(|part| {
        let run = Process::start(&mut program(&[&LIGHT[..], &["--kill", part]].concat()));
        (part, run)
    });
    for (part, run) in running {
        let (code, stdout) = run.ended();
        let found: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(code, Some(0), "{found}");
        let row = &found["rows"][0];
        assert_eq!((&row["peer"], &row["part"], &row["doubled"]), (&"adit".into(), &part.into(), &0.into()), "{row}");
        let round = &row["rounds"][0];
        let time = |name: &str| round[name].as_f64().unwrap_or_else(|| panic!("{name}: {round}"));
        assert!(time("gone_ms") <= time("launched_ms") && time("launched_ms") <= time("good_call_ms"), "{round}");
        assert!(time("good_call_from_launch_ms") <= time("good_call_ms"), "{round}");
        assert_eq!(round["listening_ms"].is_number(), part != "connector", "{round}");
        assert!(round["good"].as_u64() > Some(100), "{round}");
        assert_eq!((&round["lost_before"], &round["error"]), (&0.into(), &Value::Null), "{round}");
    }
}

#[test]
fn calls_go_through_adit_again_after_a_process_stood_still_or_a_path_was_cut() {
    adit();
    let faults = [["--freeze", "edge"], ["--freeze", "connector"], ["--freeze", "upstream"], ["--cut", "link"]];
    let running = faults.map(|fault| {
        let args = [&LIGHT[..], &fault, &["--lasting", "500ms"]].concat();
        (fault, Process::start(&mut program(&args)))
    });
    for ([flag, part], run) in running {
        let (code, stdout) = run.ended();
        if flag == "--cut" && code == Some(2) {
            // Nothing is printed but the remedy, where no namespaces can be made.
            assert_eq!(stdout, "");
            continue;
        }
        let found: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(code, Some(0), "{found}");
        let row = &found["rows"][0];
        let how = if flag == "--cut" { "cut" } else { "frozen" };
        assert_eq!((&row["how"], &row["part"], &row["doubled"]), (&how.into(), &part.into(), &0.into()), "{row}");
        let round = &row["rounds"][0];
        let time = |name: &str| round[name].as_f64().unwrap_or_else(|| panic!("{name}: {round}"));
        assert!(time("launched_ms") >= time("gone_ms") + 500.0, "{round}");
        assert!(time("good_call_ms") >= 0.0, "{round}");
    }
}

#[test]
fn event_streams_of_vanished_agents_end_and_lingering_ones_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    // An edge gives its agents less time than by default, so that it need not be waited for.
    let instead = instead_of_adit(folder.path(), "[ \"$1\" = edge ] && export ADIT_EDGE_WRITE_TIMEOUT_MS=1s");
    let flags = ["fault", "--json", "--no-pin", "--rounds", "1", "--vanish", "3", "--peer-bin", &instead];
    let running = ["60s", "1ms"].map(|within| {
        let args = [&flags[..], &["--freed-within", within]].concat();
        (within, Process::start(&mut program(&args)))
    });
    for (within, run) in running {
        let (code, stdout) = run.ended();
        if code == Some(2) {
            // Nothing is printed but the remedy, where no namespaces can be made.
            assert_eq!(stdout, "");
            continue;
        }
        let found: Value = serde_json::from_str(&stdout).unwrap();
        let (row, round) = (&found["vanished"][0], &found["vanished"][0]["rounds"][0]);
        assert_eq!(
            (&row["peer"], &round["agents"], &found["rows"]),
            (&"adit".into(), &3.into(), &Value::Array(vec![]))
        );
        if within == "1ms" {
            let error = row["errors"][0].as_str().unwrap();
            assert!(error.contains("3 of 3 event streams of vanished agents were open after 1ms"), "{error}");
            assert_eq!(code, Some(1), "{found}");
        } else {
            let times = ["first_freed_ms", "all_freed_ms"].map(|name| round[name].as_f64().unwrap());
            assert!(times.is_sorted() && times[0] > 0.0, "{found}");
            assert_eq!((code, &round["left"], &round["error"]), (Some(0), &0.into(), &Value::Null), "{found}");
        }
    }
}

#[test]
fn no_packet_is_dropped_in_the_network_of_other_programs() {
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    for value in ["1", "", own.to_str().unwrap()] {
        let out = program(&["fault", "--cut", "link"]).env("ADIT_LOADTEST_INSIDE", value).output().unwrap();
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains("ADIT_LOADTEST_INSIDE is set") && stderr.contains("unset it"), "{stderr}");
    }
}

#[test]
fn a_process_that_does_not_restart_is_reported_with_its_output() {
    let folder = tempfile::tempdir().unwrap();
    let once = format!(
        "if [ \"$1\" = edge ]; then [ -e {0} ] && {{ echo no more >&2; exit 3; }}; touch {0}; fi",
        folder.path().join("started").display()
    );
    let instead = instead_of_adit(folder.path(), &once);
    let found = json(1, &[&LIGHT, &["--kill", "edge", "--peer-bin", &instead]]);
    let error = found["rows"][0]["errors"][0].as_str().unwrap();
    assert!(error.contains("could not be started again") && error.contains("no more"), "{error}");
    assert_eq!(found["rows"][0]["good_call_ms"]["median"], Value::Null);
}

#[test]
fn a_tunnel_that_does_not_recover_in_time_fails() {
    adit();
    let out = output(&[
        "fault",
        "--no-pin",
        "--rounds",
        "1",
        "--rate",
        "50",
        "--connections",
        "4",
        "--before",
        "100ms",
        "--after",
        "4s",
        "--kill",
        "connector",
        "--within",
        "0s",
    ]);
    let (printed, message) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert_eq!(out.status.code(), Some(1), "{printed}{message}");
    assert!(message.contains("connector killed, round 1: the first good call came after"), "{message}");
    assert!(printed.contains("last lost") && printed.contains("doubled"), "the table is there all the same: {printed}");
}

#[test]
fn an_interrupt_keeps_the_rounds_that_there_were() {
    adit();
    let folder = tempfile::tempdir().unwrap();
    let started = folder.path().join("started");
    // The second round has begun when its edge starts: the first start, its successor, and another.
    let count = format!("[ \"$1\" = edge ] && echo x >> {}", started.display());
    let instead = instead_of_adit(folder.path(), &count);
    let flags = [&LIGHT[..], &["--kill", "edge", "--peer-bin", &instead, "--after", "1s", "--rounds", "50"]].concat();
    let flags: Vec<&str> = without_repeats(&flags);
    let run = Process::start(&mut program(&flags));
    while fs::read_to_string(&started).map_or(0, |text| text.lines().count()) < 3 {
        std::thread::yield_now();
    }
    run.signal("INT");
    let (code, stdout) = run.ended();
    let found: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(code, Some(1), "{found}");
    let rounds = found["rows"][0]["rounds"].as_array().unwrap();
    assert!((1..50).contains(&rounds.len()) && rounds[0]["good"].is_number(), "{found}");
}

/// Of a flag that is given twice, the last.
fn without_repeats<'a>(flags: &[&'a str]) -> Vec<&'a str> {
    let mut kept: Vec<&str> = Vec::new();
    let mut flags = flags.iter().copied().peekable();
    while let Some(flag) = flags.next() {
        let value = flags.next_if(|next| !next.starts_with("--"));
        if let Some(at) = kept.iter().position(|kept| *kept == flag) {
            kept.drain(at..=at + usize::from(value.is_some()));
        }
        kept.push(flag);
        kept.extend(value);
    }
    kept
}

#[test]
fn invalid_input_is_reported_with_its_remedy() {
    let cases: [(i32, &[&str], &[&str]); 9] = [
        (2, &["--rate", "0"], &["a rate of 0", "more than 0"]),
        (2, &["--connections", "0"], &["0 connections"]),
        (2, &["--rounds", "0"], &["0 is not in 1..=100"]),
        (2, &["--before", "0s", "--after", "0s"], &["measuring for 0ns"]),
        (2, &["--kill", "agent"], &["edge, connector, upstream"]),
        (2, &["--peers", "nosuch"], &["no peer is called 'nosuch'"]),
        (2, &["--sut-cpus", "x"], &["'x' is not a valid list of CPUs"]),
        (1, &["--peers", "direct", "--kill", "edge"], &["none has such a part"]),
        (1, &["--peer-bin", "adit=/nowhere"], &["none of the peers can be run on this machine"]),
    ];
    for (code, args, parts) in cases {
        let out = output(&[&["fault"], args].concat());
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(parts.iter().all(|part| stderr.contains(part)), "{args:?}: {stderr}");
    }
}
