//! `adit-loadtest compare` with real processes, as a user runs it. No timing is asserted.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use procfs::process::{Process, all_processes};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_adit-loadtest");
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);
/// A busy machine makes no run void here, and one CPU is enough.
const LENIENT: [&str; 7] = ["--no-pin", "--lag-p99-max", "60s", "--lag-share-max", "1e9", "--in-flight-min", "0"];

struct Compare {
    folder: TempDir,
    command: Command,
}

impl Compare {
    fn new(peers: &str) -> Self {
        let adit = Path::new(PROGRAM).with_file_name("adit");
        assert!(adit.exists(), "{} is missing: build the whole workspace", adit.display());
        let folder = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new(PROGRAM);
        command.arg("compare").args(["--peers", peers, "--connections", "2", "--warm-up", "0s"]).args(LENIENT);
        command.args(["--json", "out.json", "--html", "out.html"]).current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { folder, command }
    }

    fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Self {
        self.command.args(args);
        self
    }

    fn peer_bin(mut self, name: &str, path: &Path) -> Self {
        self.command.arg("--peer-bin").arg(format!("{name}={}", path.display()));
        self
    }

    fn output(&mut self) -> Output {
        self.command.output().expect("the program runs")
    }

    fn start(&mut self) -> Running {
        Running(self.command.spawn().expect("the program runs"))
    }

    fn json(&self) -> Value {
        let text = fs::read_to_string(self.folder.path().join("out.json")).expect("it was written");
        serde_json::from_str(&text).expect("it is JSON")
    }

    fn page(&self) -> String {
        fs::read_to_string(self.folder.path().join("out.html")).expect("it was written")
    }

    /// A program that is not what it is taken for.
    fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("it can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        path
    }
}

/// A comparison that goes on; killed when dropped.
struct Running(Child);

impl Running {
    fn signal(&self, signal: Signal) {
        kill_process(pid(self.0.id()), signal).expect("it runs");
    }

    /// The first child for which this holds, waited for.
    fn child(&self, holds: impl Fn(&Process) -> bool) -> Process {
        let parent = i32::try_from(self.0.id()).expect("Linux has no greater process id");
        let is_child = |process: &Process| process.stat().is_ok_and(|stat| stat.ppid == parent);
        until(|| all_processes().ok()?.flatten().find(|process| is_child(process) && holds(process)))
    }

    fn wait(mut self) -> Output {
        let status = until(|| self.0.try_wait().expect("it is ours"));
        let mut output = Output { status, stdout: Vec::new(), stderr: Vec::new() };
        for (stream, bytes) in [
            (&mut self.0.stdout.take().map(|s| Box::new(s) as Box<dyn std::io::Read>), &mut output.stdout),
            (&mut self.0.stderr.take().map(|s| Box::new(s) as Box<dyn std::io::Read>), &mut output.stderr),
        ] {
            stream.as_mut().expect("it is piped").read_to_end(bytes).expect("it can be read");
        }
        output
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks again and again.
fn until<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "nothing came of it in {PATIENCE:?}");
        std::thread::yield_now();
    }
}

fn pid(id: u32) -> Pid {
    i32::try_from(id).ok().and_then(Pid::from_raw).expect("Linux has no greater process id")
}

fn is_edge(process: &Process) -> bool {
    process
        .cmdline()
        .is_ok_and(|args| args.first().is_some_and(|arg| arg.ends_with("adit")) && args.iter().any(|arg| arg == "edge"))
}

fn is_gone(process: &Process) -> bool {
    !process.stat().is_ok_and(|stat| !matches!(stat.state, 'Z' | 'X'))
}

fn row<'a>(json: &'a Value, peer: &str) -> &'a Value {
    let rows = json["rows"].as_array().expect("there are rows");
    rows.iter().find(|row| row["peer"] == peer).unwrap_or_else(|| panic!("no row of {peer}: {json}"))
}

#[track_caller]
fn assert_code(output: &Output, code: i32) {
    let printed = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
    assert_eq!(output.status.code(), Some(code), "{printed}");
}

#[test]
fn direct_and_adit_are_compared() {
    let mut compare = Compare::new("direct,adit").args(["--duration", "200ms", "--rounds", "2"]);
    let output = compare.output();
    assert_code(&output, 0);
    let json = compare.json();
    for peer in ["direct", "adit"] {
        let row = row(&json, peer);
        assert!(row["rps"].as_f64() > Some(0.0) && row["p50_us"].as_f64() > Some(0.0), "{row}");
        assert!(row["void"].is_null() && row["error"].is_null(), "{row}");
        assert_eq!((row["connections"].as_u64(), row["payload"].as_u64()), (Some(2), Some(1024)));
        assert_eq!(row["rounds"], 2);
    }
    let (direct, adit) = (row(&json, "direct"), row(&json, "adit"));
    assert!(direct["added_p50_us"].is_null() && direct["cpu_us_per_call"].is_null());
    assert!(adit["added_p50_us"].is_number() && adit["cpu_us_per_call"].as_f64() > Some(0.0));
    assert!(adit["rss_kib"].as_f64() > Some(1024.0));
    assert!(json["host"]["versions"]["adit"].as_str().is_some_and(|version| version.contains("adit")));
    assert_eq!(json["not_found"], Value::Array(Vec::new()));
    assert!(
        json["command"]
            .as_str()
            .is_some_and(|command| command.starts_with("adit-loadtest compare --peers direct,adit"))
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("2 in flight, 1024 B each way, closed loop"), "{text}");
    assert!(compare.page().contains("What a tunnel adds"));
}

#[test]
fn the_page_can_be_made_again_from_the_results() {
    let mut compare = Compare::new("direct").args(["--duration", "50ms", "--rounds", "1"]);
    let output = compare.output();
    assert_code(&output, 0);
    let again = |args: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.arg("compare").args(args).current_dir(compare.folder.path()).output().expect("the program runs")
    };
    let page = compare.page();
    let shown = again(&["--from", "out.json", "--html", "again.html"]);
    assert_code(&shown, 0);
    assert_eq!(shown.stdout, output.stdout, "the table is the same");
    assert_eq!(fs::read_to_string(compare.folder.path().join("again.html")).expect("it was written"), page);
    for (code, args, expected) in [
        (1, ["--from", "none.json", "--html", "x.html"], "none.json cannot be read"),
        (1, ["--from", "out.html", "--html", "x.html"], "out.html is not a comparison"),
        (1, ["--from", "out.json", "--html", "/nowhere/x.html"], "/nowhere/x.html cannot be written"),
        (2, ["--from", "out.json", "--peers", "direct"], "cannot be used with"),
    ] {
        let output = again(&args);
        assert_code(&output, code);
        assert!(String::from_utf8_lossy(&output.stderr).contains(expected), "{args:?}");
    }
}

#[test]
fn an_open_loop_and_several_payloads_are_workloads_of_their_own() {
    let args = ["--duration", "200ms", "--rounds", "1", "--rate", "200", "--payload", "512,1KiB", "--connections", "4"];
    let mut compare = Compare::new("direct").args(args);
    assert_code(&compare.output(), 0);
    let json = compare.json();
    let rows = json["rows"].as_array().expect("there are rows");
    let payloads: Vec<Option<u64>> = rows.iter().map(|row| row["payload"].as_u64()).collect();
    assert_eq!(payloads, [Some(512), Some(512), Some(1024), Some(1024)], "two numbers of connections each");
    assert_eq!(json["method"]["mode"], "200 calls per second");
}

#[test]
fn a_peer_that_is_missing_is_listed_and_the_others_go_on() {
    let compare = Compare::new("direct,rathole,cloudflared").args(["--duration", "100ms", "--rounds", "1"]);
    let mut compare = compare.peer_bin("rathole", Path::new("/nowhere/rathole"));
    let output = compare.output();
    assert_code(&output, 0);
    let json = compare.json();
    assert_eq!(json["not_found"], serde_json::json!(["rathole"]));
    assert_eq!(json["no_far_side"], serde_json::json!(["cloudflared"]));
    assert!(row(&json, "direct")["rps"].as_f64() > Some(0.0));
    // Lines are wrapped, wherever that falls.
    let text = String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("rathole: not found: /nowhere/rathole"), "{text}");
    assert!(text.contains("cargo install rathole"), "{text}");
    assert!(text.contains("cloudflared: no far side"), "{text}");
}

#[test]
fn a_peer_that_does_not_start_says_why_and_the_others_go_on() {
    let compare = Compare::new("haproxy,direct").args(["--duration", "100ms", "--rounds", "3"]);
    let script = compare.script("broken", "echo the config is bad >&2; exit 3");
    let mut compare = compare.peer_bin("haproxy", &script);
    assert_code(&compare.output(), 1);
    let json = compare.json();
    let error = row(&json, "haproxy")["error"].as_str().expect("it is told").to_owned();
    assert!(error.contains("round 1") && error.contains("exit status: 3"), "{error}");
    assert!(error.contains("the config is bad"), "{error}");
    assert!(row(&json, "haproxy")["p50_us"].is_null());
    assert_eq!(row(&json, "direct")["rounds"], 3);
    assert!(compare.page().contains("the config is bad"));
}

#[test]
fn a_peer_that_dies_under_load_says_so_and_the_others_go_on() {
    let mut compare = Compare::new("adit,direct").args(["--duration", "1s", "--rounds", "1", "--connections", "2"]);
    let running = compare.start();
    // Only under load does it use so much.
    let is_loaded = |process: &Process| {
        let ticks = process.stat().map_or(0, |stat| stat.utime + stat.stime);
        is_edge(process) && ticks > 15
    };
    let edge = running.child(is_loaded);
    kill_process(pid(edge.pid.unsigned_abs()), Signal::KILL).expect("it runs");
    assert_code(&running.wait(), 1);
    let json = compare.json();
    let error = row(&json, "adit")["error"].as_str().expect("it is told").to_owned();
    assert!(error.contains("the edge ended by itself") && error.contains("signal: 9"), "{error}");
    assert!(row(&json, "direct")["rps"].as_f64() > Some(0.0));
}

#[test]
fn an_interrupt_keeps_the_results_so_far_and_leaves_no_process() {
    let mut compare = Compare::new("adit,direct").args(["--duration", "50ms", "--rounds", "1000"]);
    let running = compare.start();
    let first_round = compare.folder.path().join("out.json");
    until(|| fs::metadata(&first_round).ok().filter(|metadata| metadata.len() > 0));
    let edge = running.child(is_edge);
    running.signal(Signal::INT);
    assert_code(&running.wait(), 1);
    assert!(is_gone(&edge));
    let json = compare.json();
    assert_eq!(json["ended_early"], "it was interrupted");
    assert!(row(&json, "adit")["rps"].as_f64() > Some(0.0));
    assert!(compare.page().contains("interrupted"));
}

#[test]
fn no_process_outlives_a_harness_that_is_killed() {
    let mut compare = Compare::new("adit").args(["--duration", "30s", "--rounds", "1"]);
    let running = compare.start();
    let edge = running.child(is_edge);
    running.signal(Signal::KILL);
    until(|| is_gone(&edge).then_some(()));
}

#[test]
fn invalid_plans_are_refused_before_any_work() {
    for (args, expected) in [
        (["--peers", "direct,nosuch"], "no peer is called 'nosuch'"),
        (["--rounds", "0"], "0 rounds"),
        (["--rate", "0"], "a rate of 0"),
        (["--connections", "0"], "0 connections"),
        (["--duration", "0s"], "measuring for 0ns"),
        (["--payload", "x"], "'x' is not a valid size"),
        (["--peer-bin", "adit"], "'adit' is not a program"),
        (["--sut-cpus", "a"], "'a' is not a valid list of CPUs"),
        (["--load-cpus", "4000"], "CPUs 4000 cannot be used"),
        (["--json", "/nowhere/x.json"], "/nowhere/x.json cannot be written"),
    ] {
        let output = Command::new(PROGRAM).arg("compare").args(args).output().expect("the program runs");
        assert_code(&output, 2);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(stderr.contains(expected), "{args:?}: {stderr}");
    }
}
