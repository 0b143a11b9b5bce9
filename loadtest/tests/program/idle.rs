//! `adit-loadtest idle` with real processes, as a user runs it. No amount of memory is asserted.

use std::net::TcpListener;
use std::process::Command;

use crate::common::{Process, Upstream, adit, json, output, program};
use serde_json::Value;

fn row(idle: &Value) -> &Value {
    &idle["rows"][0]
}

#[test]
fn adit_holds_streams_and_calls_and_each_process_has_its_memory() {
    adit();
    for kind in ["sse", "call"] {
        let flags = ["idle", "--json", "--no-pin", "--streams", "70", "--settle", "0s", "--kind", kind];
        let idle = json(0, &[&flags]);
        let row = row(&idle);
        assert_eq!((&row["peer"], &row["error"]), (&"adit".into(), &Value::Null));
        for count in ["open", "held_by_upstream", "answered_when_released"] {
            assert_eq!(row[count], 70, "{count}: {row}");
        }
        let processes = row["processes"].as_array().unwrap();
        let names: Vec<&str> = processes.iter().map(|process| process["process"].as_str().unwrap()).collect();
        assert_eq!(names, ["edge", "connector"]);
        for process in processes {
            assert!(process["rss_before_kib"].as_u64() > Some(1024) && process["rss_after_kib"].as_u64() > Some(1024));
            assert!(process["rss_kib_per_stream"].is_number(), "{process}");
        }
        assert!(row["rss_kib_per_stream"].is_number(), "{row}");
    }
}

#[test]
fn a_tunnel_that_runs_is_looked_at_by_its_process_id() {
    let upstream = Upstream::start(&[]);
    let pid = upstream.process.id().to_string();
    let flags = ["idle", "--streams", "5", "--settle", "0s", "--url", &upstream.url, "--watch", &pid];
    let out = output(&flags);
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!(out.status.code(), Some(0), "{text}");
    assert!(text.contains("5 open after") && text.contains("5 answered when they were released"), "{text}");
    assert!(text.contains("KiB a stream") && text.contains("adit-loadtest"), "{text}");
    // By TLS, and nothing is looked at.
    let flags = ["idle", "--json", "--streams", "5", "--settle", "0s", "--url", &upstream.https_url, "--insecure"];
    let idle = json(0, &[&flags]);
    assert_eq!((row(&idle)["answered_when_released"].as_u64(), &row(&idle)["rss_kib"]), (Some(5), &Value::Null));
}

#[test]
fn streams_that_are_refused_are_counted_and_the_others_are_measured() {
    let upstream = Upstream::start(&[]);
    let up = ["up", "--json", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--host", "demo.localhost"];
    let mut tunnel = Command::new(adit());
    tunnel
        .env("ADIT_EDGE_STREAMS_PER_LINK_MAX", "4")
        .env("ADIT_ENGINE_CORES", "1")
        .env("ADIT_EDGE_OFFLINE_WAIT_MS", "0");
    let mut tunnel = Process::start(tunnel.args(up).args(["--upstream", &upstream.at("")]));
    let listening = tunnel.event("listening");
    let (agents, ca) = (listening["agents"].as_str().unwrap(), listening["ca_file"].as_str().unwrap());
    tunnel.event("linked");
    let url = format!("https://demo.localhost:{}/mcp", agents.rsplit(':').next().unwrap());
    let pid = tunnel.id().to_string();
    let flags = ["idle", "--json", "--streams", "40", "--settle", "0s", "--url", &url, "--resolve-to", agents];
    let idle = json(1, &[&flags, &["--ca-file", ca, "--upstream", &upstream.url, "--watch", &pid]]);
    let row = row(&idle);
    let (open, refused) = (row["open"].as_u64().unwrap(), row["refused"]["by_cause"]["status_503"].as_u64().unwrap());
    assert!(open > 0 && refused > 0 && open + refused == 40, "{row}");
    assert_eq!(row["answered_when_released"], open, "{row}");
    assert!(row["rss_kib_per_stream"].is_number(), "{row}");
    assert!(
        row["error"].as_str().unwrap().contains("streams were refused, the first: it was answered with status 503")
    );
}

#[test]
fn streams_whose_upstream_dies_are_reported_as_lost() {
    let upstream = Upstream::start(&[]);
    let flags = ["idle", "--json", "--streams", "20", "--settle", "100s", "--url", &upstream.url];
    let idle = Process::start(&mut program(&flags));
    upstream.until("held", 20);
    drop(upstream);
    let (code, stdout) = idle.ended();
    let idle: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(code, Some(1), "{idle}");
    assert_eq!((row(&idle)["lost"]["count"].as_u64(), row(&idle)["open"].as_u64()), (Some(20), Some(0)), "{idle}");
    assert!(row(&idle)["partial"].as_str().unwrap().contains("could not be asked to release"), "{idle}");
}

#[test]
fn streams_of_a_harness_that_is_killed_are_not_kept_any_longer() {
    let upstream = Upstream::start(&[]);
    for kind in ["sse", "call"] {
        let flags = ["idle", "--streams", "10", "--settle", "100s", "--kind", kind, "--url", &upstream.url];
        let idle = Process::start(&mut program(&flags));
        upstream.until("held", 10);
        drop(idle);
        upstream.until_it("held", |held| held == 0);
    }
}

#[test]
fn an_interrupt_keeps_the_results_so_far() {
    let upstream = Upstream::start(&[]);
    let flags = ["idle", "--json", "--streams", "20", "--settle", "100s", "--url", &upstream.url];
    let idle = Process::start(&mut program(&flags));
    upstream.until("held", 20);
    idle.signal("INT");
    let (code, stdout) = idle.ended();
    let idle: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, row(&idle)["partial"].as_str()), (Some(1), Some("interrupted before the end")), "{idle}");
    assert_eq!(row(&idle)["answered_when_released"], 20, "those that were open are still seen to: {idle}");
}

#[test]
fn invalid_input_is_reported_with_its_remedy() {
    let upstream = Upstream::start(&[]);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("http://{closed}/mcp");
    let cases: [(i32, &[&str], &[&str]); 9] = [
        (2, &["--streams", "0"], &["0 streams", "1 to 10000"]),
        (2, &["--streams", "10001"], &["10001 streams"]),
        (2, &["--peers", "direct,nosuch"], &["no peer is called 'nosuch'"]),
        (2, &["--peers", "adit", "--url", &nobody], &["cannot be used with"]),
        (2, &["--sut-cpus", "4000-4001", "--load-cpus", "4000"], &["CPUs 4000 cannot be used", "--no-pin"]),
        (1, &["--url", &nobody], &["accepted no connection"]),
        (1, &["--url", "http://no-such-host.invalid/"], &["no-such-host.invalid", "--resolve-to"]),
        (1, &["--url", &upstream.url, "--watch", "2000000000"], &["no process 2000000000"]),
        (1, &["--peers", "rathole", "--peer-bin", "rathole=/nowhere"], &["none of the peers can be run"]),
    ];
    for (code, args, parts) in cases {
        let out = output(&[&["idle", "--settle", "0s"], args].concat());
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(parts.iter().all(|part| stderr.contains(part)), "{args:?}: {stderr}");
    }
}
