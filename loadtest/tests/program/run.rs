//! The program as people run it: against its own upstream on loopback, and through `adit up`. No figure is asserted, only
//! what must be so on any machine.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::common::{Process, Upstream, adit, json, output, program};
use serde_json::Value;

/// Flags under which no busy machine makes a run void.
const LENIENT: [&str; 4] = ["--lag-p99-max", "60s", "--lag-share-max", "1000000"];
/// Short phases.
const SHORT: [&str; 4] = ["--warm-up", "50ms", "--duration", "200ms"];

#[test]
fn every_kind_of_call_is_made_in_open_and_closed_loops() {
    let upstream = Upstream::start(&["--answer", "2000"]);
    let ca = upstream.ca();
    let https = ["--url", &upstream.https_url, "--ca-file", &ca];
    let (root, events) = (upstream.at("/"), upstream.at("/events"));
    let cases: [&[&str]; 8] = [
        &["--url", &upstream.url],
        &["--url", &upstream.url, "--kind", "mcp-2025-11-25", "--connections", "3"],
        &["--url", &root, "--kind", "get"],
        &["--url", &root, "--kind", "post", "--payload", "100000"],
        &["--url", &events, "--kind", "sse", "--rate", "100"],
        &["--url", &upstream.url, "--rate", "200", "--poisson", "--seed", "7", "--driver", "epoll"],
        &[&https[..], &["--connections", "2"]].concat(),
        &[&https[..], &["--rate", "100", "--connection-per-call", "--resume"]].concat(),
    ];
    for case in cases {
        let run = json(0, &[&["run", "--json"], case, &SHORT, &LENIENT]);
        assert!(run["calls"].as_u64().unwrap() > 0, "{case:?}");
        assert_eq!((&run["failed"]["count"], &run["void"], &run["partial"]), (&0.into(), &Value::Null, &Value::Null));
        let per_call = case.contains(&"--connection-per-call");
        assert_eq!(run["connects"]["count"] == 0, !per_call, "kept connections are used again: {case:?}");
        assert_eq!(run["first_event"].is_null(), !case.contains(&"sse"), "{case:?}");
    }
}

#[test]
fn a_session_that_answers_in_events_is_read_to_its_answer() {
    let upstream = Upstream::start(&["--form", "sse", "--events", "3", "--service", "exp:1ms", "--no-sessions"]);
    let kind = ["--kind", "mcp-2025-11-25", "--watch", &upstream.process.id().to_string()];
    let run = json(0, &[&["run", "--json", "--url", &upstream.url], &kind, &SHORT, &LENIENT]);
    assert_eq!(run["first_event"]["count"], run["calls"]);
    assert!(run["cpu_us_per_call"].as_f64().unwrap() > 0.0 && run["usage"]["rss_kib"].as_u64().unwrap() > 0);
}

#[test]
fn the_report_is_text_for_people() {
    let upstream = Upstream::start(&[]);
    let out = output(&[&["run", "--url", &upstream.url][..], &SHORT, &LENIENT].concat());
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!(out.status.code(), Some(0), "{text}");
    for part in ["calls in", "from the planned start", "from the actual start", "the generator's lag", "p99.9"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn bad_input_is_reported_with_its_cause_and_its_remedy() {
    let upstream = Upstream::start(&[]);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("http://{closed}/mcp");
    let (missing, not_mcp) = (upstream.dir.path().join("none.pem").display().to_string(), upstream.at("/bytes/5"));
    let cases: [(i32, &[&str], &[&str]); 12] = [
        (1, &["run", "--url", "http://no-such-host.invalid/"], &["no-such-host.invalid", "--resolve-to"]),
        (1, &["run", "--url", &nobody], &["accepted no connection", "check that it listens"]),
        (1, &["run", "--url", &upstream.https_url], &["not trusted", "--ca-file", "--insecure"]),
        (1, &["run", "--url", &upstream.https_url, "--ca-file", &missing], &["none.pem", "check the path"]),
        (1, &["run", "--url", &upstream.url, "--rate", "0"], &["a rate of 0", "more than 0"]),
        (1, &["run", "--url", &upstream.url, "--connections", "0"], &["0 connections"]),
        (1, &["run", "--url", &upstream.url, "--header", "nonsense"], &["nonsense", "Name: value"]),
        (1, &["run", "--url", &upstream.url, "--watch", "2000000000"], &["2000000000", "to watch"]),
        (1, &["run", "--url", &not_mcp, "--kind", "mcp-2025-11-25"], &["no MCP session", "status 404"]),
        (2, &["run", "--url", "ftp://a/"], &["neither http nor https"]),
        (2, &["search", "--url", &upstream.url, "--slo", "p42<5ms"], &["p95<5ms"]),
        (1, &["serve", "--listen", &upstream.address().to_string()], &["cannot listen", "choose another"]),
    ];
    for (code, args, parts) in cases {
        let out = output(args);
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(parts.iter().all(|part| stderr.contains(part)), "{args:?}: {stderr}");
    }
}

#[test]
fn a_late_generator_makes_the_run_void() {
    let upstream = Upstream::start(&[]);
    let args = ["run", "--json", "--url", &upstream.url, "--rate", "500", "--lag-p99-max", "0s"];
    let run = json(1, &[&args, &SHORT]);
    assert!(run["void"].as_str().unwrap().contains("the generator was late"), "{run}");
    assert!(run["calls"].as_u64().unwrap() > 0);
}

#[test]
fn an_interrupted_run_ends_cleanly_and_reports_its_results() {
    let upstream = Upstream::start(&[]);
    for (signal, mode) in [("INT", &["--rate", "500"][..]), ("TERM", &["--connections", "2"])] {
        let before = upstream.count("calls");
        let flags = ["run", "--json", "--url", &upstream.url, "--warm-up", "0s", "--duration", "1000s"];
        let run = Process::start(&mut program(&[&flags[..], mode, &LENIENT].concat()));
        // An open loop has 64 connections to prove first.
        upstream.until("calls", before + 64 + 50);
        run.signal(signal);
        let (code, stdout) = run.ended();
        let run: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(code, Some(1), "{run}");
        assert_eq!((&run["partial"], &run["failed"]["count"]), (&"interrupted before the end".into(), &0.into()));
        assert!(run["calls"].as_u64().unwrap() >= 40, "{run}");
    }
}

#[test]
fn a_peer_that_dies_keeps_the_results_so_far() {
    let upstream = Upstream::start(&[]);
    let args = ["run", "--json", "--url", &upstream.url, "--warm-up", "0s", "--duration", "1000s"];
    let run = Process::start(&mut program(&[&args[..], &["--patience", "200ms"], &LENIENT].concat()));
    upstream.until("calls", 20);
    drop(upstream);
    let (code, stdout) = run.ended();
    let run: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(code, Some(1), "{run}");
    assert!(run["partial"].as_str().unwrap().contains("check that the target still runs"), "{run}");
    assert!(run["calls"].as_u64().unwrap() > 0 && run["failed"]["count"].as_u64().unwrap() > 0, "{run}");
}

#[test]
fn a_search_finds_a_rate_or_says_why_there_is_none() {
    let upstream = Upstream::start(&[]);
    let args = ["search", "--json", "--url", &upstream.url, "--rate-min", "50", "--rate-max", "100", "--repeats", "1"];
    let found = json(0, &[&args, &["--slo", "p50<60s"], &SHORT, &LENIENT]);
    assert_eq!((&found["rate"], &found["bound"], &found["partial"]), (&100.0.into(), &"rate_max".into(), &Value::Null));
    assert!(found["run"]["calls"].as_u64().unwrap() > 0);
    let none = json(1, &[&args, &["--slo", "p50<1us"], &SHORT, &LENIENT]);
    assert!(none["partial"].as_str().unwrap().contains("not met even at the lowest rate"), "{none}");
    assert_eq!((&none["rate"], &none["steps"][0]["verdict"]), (&Value::Null, &"missed".into()));
    let void = ["--slo", "p50<60s", "--lag-p99-max", "0s"];
    let void = json(1, &[&args, &void, &SHORT]);
    assert!(void["partial"].as_str().unwrap().contains("the generator itself is too slow"), "{void}");
}

#[test]
fn churn_bulk_and_mixed_have_their_rows() {
    let upstream = Upstream::start(&[]);
    let https = ["--json", "--url", &upstream.https_url, "--insecure"];
    let churn = json(0, &[&["churn"], &https, &SHORT, &LENIENT]);
    for (row, handshake) in churn["rows"].as_array().unwrap().iter().zip(["full", "resumed"]) {
        assert_eq!(row["handshake"], handshake);
        assert_eq!(row["run"]["connects"]["count"], row["run"]["calls"]);
    }
    let bulk = json(0, &[&["bulk", "--sizes", "64KiB,1MiB"], &https, &SHORT]);
    let rows = bulk["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 4);
    assert!(rows.iter().all(|row| row["gb_per_s"].as_f64().unwrap() > 0.0), "{bulk}");
    let mixed = json(0, &[&["mixed", "--rounds", "2", "--bulk-size", "1MiB"], &https, &SHORT, &LENIENT]);
    assert!(mixed["p99_ratio"].as_f64().unwrap() > 0.0);
    let counts = ["alone", "beside", "bulk"].map(|key| mixed[key].as_array().unwrap().len());
    assert_eq!(counts, [2, 2, 2]);
}

#[test]
fn an_unserved_bulk_is_reported() {
    let upstream = Upstream::start(&[]);
    let too_long = ["bulk", "--json", "--url", &upstream.url, "--sizes", "17GiB", "--directions", "down"];
    let bulk = json(1, &[&too_long, &SHORT]);
    assert_eq!(bulk["rows"][0]["gb_per_s"], Value::Null);
    assert!(bulk["rows"][0]["run"]["failed"]["by_cause"]["status_404"].as_u64().unwrap() > 0, "{bulk}");
}

#[test]
fn a_real_tunnel_is_measured_and_its_split_is_held_against_the_truth() {
    let upstream = Upstream::start(&["--count-doubled"]);
    let up = ["up", "--json", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--host", "demo.localhost"];
    let mut tunnel = Process::start(Command::new(adit()).args(up).args(["--upstream", &upstream.at("")]));
    let listening = tunnel.event("listening");
    let (agents, ca) = (listening["agents"].as_str().unwrap(), listening["ca_file"].as_str().unwrap());
    tunnel.event("linked");
    let port = agents.rsplit(':').next().unwrap();
    let url = format!("https://demo.localhost:{port}/mcp");
    let pid = tunnel.id().to_string();
    let target = ["--json", "--url", &url, "--resolve-to", agents, "--ca-file", ca];

    for kind in ["mcp-2025-11-25", "mcp-2026-07-28"] {
        let run = json(0, &[&["run", "--kind", kind, "--watch", &pid], &target, &SHORT, &LENIENT]);
        assert!(run["calls"].as_u64().unwrap() > 0 && run["cpu_us_per_call"].as_f64().unwrap() > 0.0, "{run}");
    }
    let split = json(
        0,
        &[
            &["split", "--services", "0s,5ms", "--upstream", &upstream.url, "--warm-up", "50ms", "--duration", "200ms"],
            &target,
        ],
    );
    for row in split["rows"].as_array().unwrap() {
        let tunnel = &row["tunnel"];
        assert_eq!((&tunnel["split"]["without_account"], &tunnel["split"]["without_truth"]), (&0.into(), &0.into()));
        assert_eq!(tunnel["split"]["error"]["count"], tunnel["calls"]);
        assert!(row["direct"]["calls"].as_u64().unwrap() > 0);
    }
    let direct =
        output(&["split", "--url", &upstream.url, "--services", "0s", "--warm-up", "0s", "--duration", "50ms"]);
    assert_eq!(direct.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&direct.stderr);
    assert!(stderr.contains("no Server-Timing") && stderr.contains("is this the URL of a tunnel"), "{stderr}");
}

#[test]
fn a_split_that_cannot_begin_says_so_where_its_figures_go() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{closed}/mcp");
    let split = json(1, &[&["split", "--json", "--url", &url, "--services", "1ms"]]);
    assert_eq!(split["rows"][0]["service_us"], 1_000);
    assert!(split["rows"][0]["error"].as_str().unwrap().contains("accepted no connection"), "{split}");
    let text = output(&["split", "--url", &url, "--services", "1ms"]);
    let (printed, message) = (String::from_utf8_lossy(&text.stdout), String::from_utf8_lossy(&text.stderr));
    assert!(
        printed.contains("accepted no connection") && message.contains("accepted no connection"),
        "{printed}{message}"
    );
}

#[test]
fn a_reader_that_has_gone_is_no_panic() {
    let upstream = Upstream::start(&[]);
    for args in [&["split", "--services", "0s,1ms"][..], &["run"]] {
        let mut command = program(&[args, &["--url", &upstream.url, "--warm-up", "0s", "--duration", "50ms"]].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let out = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

#[test]
fn a_real_mcp_client_is_served() {
    for flags in [&[][..], &["--form", "sse", "--events", "2"]] {
        let upstream = Upstream::start(flags);
        let once = ["up", "--once", "--json", "--admin", "127.0.0.1:0", "--listen", "127.0.0.1:0"];
        let out = Command::new(adit()).args(once).args(["--upstream", &upstream.url]).output().unwrap();
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(0), "{stderr}");
        let report: Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!((&report["calls"], &report["failed"]), (&200.into(), &0.into()), "{stderr}");
        let (code, _) = {
            upstream.process.signal("TERM");
            upstream.process.ended()
        };
        assert_eq!(code, Some(0));
    }
}
