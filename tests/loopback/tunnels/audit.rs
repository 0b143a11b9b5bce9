//! What is called and done, as the audit log has it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

use adit::audit::LineHash;
use serde_json::{Value, json};

use super::site::{Site, text_of};

/// How often an edge is killed in the ordinary run. `ADIT_TEST_AUDIT_KILLS` asks for more.
const KILLS: usize = 4;
/// How many agents call meanwhile.
const AGENTS: usize = 4;
/// After how many answers of each the edge is killed.
const CALLS: usize = 12;

fn site(driver: &str, mode: &str) -> (Site, PathBuf) {
    site_with(driver, &format!("mode = '{mode}'"))
}

fn site_with(driver: &str, settings: &str) -> (Site, PathBuf) {
    let mut site = Site::new(driver);
    site.end_edge();
    site.configure(&format!("[audit]\n{settings}\n"));
    site.run_edge(driver);
    let log = site.data_dir().join("audit");
    (site, log)
}

/// The lines of the file that is being written.
fn lines(log: &Path) -> Vec<Value> {
    let mut files: Vec<PathBuf> = fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|kind| kind == "jsonl"));
    files.sort();
    let text = fs::read_to_string(files.last().unwrap()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of_kind(log: &Path, kind: &str) -> Vec<Value> {
    lines(log).into_iter().filter(|line| line["kind"] == kind).collect()
}

#[test]
fn a_call_is_in_the_log_before_its_answer_leaves_and_so_is_an_action() {
    for driver in ["epoll", "uring"] {
        let (mut site, log) = site(driver, "required");
        let made = site.create(&["--host", "a.test"]);
        let action = of_kind(&log, "action").pop().unwrap();
        assert_eq!((&action["action"], &action["tunnel"]), (&json!("tunnel.created"), &json!(made.tunnel.id)));
        let of_connector = log.with_file_name("connector-log");
        let dir = format!("audit.dir={}", of_connector.display());
        let connector =
            site.connect_with("a.test", &made.token.tunnel_token, &["--set", "audit.mode=required", "--set", &dir]);
        for nth in 1..=3 {
            let tool = format!("tool{nth}");
            assert_eq!(site.call("a.test", &tool).0, 200);
            for (log, role) in [(&log, "edge"), (&of_connector, "connector")] {
                let call = of_kind(log, "call").pop().unwrap();
                let answer = (&call["name"], &call["method"], &call["outcome"], &call["status"], &call["role"]);
                assert_eq!(answer, (&json!(tool), &json!("tools/call"), &json!("ok"), &json!(200), &json!(role)));
                assert_eq!((&call["peer"], &call["id"]), (&json!("127.0.0.1"), &json!("7")), "{call}");
                assert!(call["bytes"].as_u64().unwrap() > 10 && call["phases_us"].is_object(), "{call}");
            }
        }
        let numbers = |log: &Path| of_kind(log, "call").iter().map(|call| call["call"].clone()).collect::<Vec<_>>();
        assert_eq!(numbers(&log), numbers(&of_connector), "both know a call by one number");
        connector.signal("TERM");
        assert_eq!(connector.ended(), Some(0));
        assert_eq!(site.call("a.test", "tool4").0, 503);
        let failed = of_kind(&log, "call").pop().unwrap();
        assert_eq!((&failed["name"], &failed["outcome"]), (&json!("tool4"), &json!("offline")), "{failed}");
        site.end_edge();
        for log in [&log, &of_connector] {
            let verified: Value = site.adit(&["audit", "verify", "--json", text_of(log)]);
            assert_eq!((&verified["ok"], &verified["last"]), (&json!(true), &verified["signed"]), "{verified}");
        }
        let policy = site.data_dir().join("new.toml");
        fs::write(&policy, "[[rule]]\nname = 'first'\neffect = 'allow'\ntools = ['tool1']\n").unwrap();
        let args =
            ["policy", "diff", text_of(&policy), "--audit", text_of(&of_connector), "--route", "a.test", "--json"];
        let diff = site.run(&args);
        let diff: Value = serde_json::from_slice(&diff.stdout).unwrap();
        let named = |groups: &Value| groups.as_array().unwrap().iter().map(|group| group["name"].clone()).collect();
        let (changed, unclear): (Vec<Value>, Vec<Value>) = (named(&diff["changed"]), named(&diff["unclear"]));
        assert_eq!(
            (&diff["calls"], changed, unclear),
            (&json!(3), vec![json!("tool2"), json!("tool3")], vec![]),
            "{diff}"
        );
    }
}

#[test]
fn arguments_are_logged_by_their_hash_and_a_stream_has_a_line_before_it_begins() {
    let (mut site, log) = site("epoll", "required");
    let made = site.create(&["--host", "a.test"]);
    let server = events_server();
    let route = format!("a.test=http://{server}");
    let mut args = site.connector_args("a.test", &made.token.tunnel_token);
    let at = args.iter().position(|arg| arg == "--route").unwrap();
    args[at + 1] = route;
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let connector = crate::process::Adit::start(&args);
    connector.event("linked");
    let body =
        r#"{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":"pay","arguments": {"card": "4111"}}}"#;
    let mut stream = TcpStream::connect(site.agents).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST /mcp HTTP/1.1\r\nHost: a.test\r\nMcp-Session-Id: a-secret\r\nMCP-Protocol-Version: 2025-11-25\r\n\
         traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("isError"), "{answer}");
    site.end_edge();
    let call = of_kind(&log, "call").pop().unwrap();
    assert_eq!(
        (&call["outcome"], &call["revision"], &call["id"]),
        (&json!("begun"), &json!("2025-11-25"), &json!("\"x\""))
    );
    assert_eq!(call["argument_bytes"], json!(r#"{"card":"4111"}"#.len()));
    let sha = "5fdc68a3c743df439c27fa62e688addb01d57ffd0f217c81ade77a47f01e7847";
    assert_eq!(call["argument_sha256"], sha);
    assert_eq!(call["trace"], "4bf92f3577b34da6a3ce929d0e0e4736");
    let end = of_kind(&log, "call_end").pop().unwrap();
    assert_eq!((&end["call"], &end["outcome"], &end["is_error"]), (&call["call"], &json!("ok"), &json!(true)), "{end}");
    let text = lines(&log).iter().map(Value::to_string).collect::<String>();
    assert!(!text.contains("4111") && !text.contains("a-secret"), "{text}");
    let found = site.run(&["audit", "query", "--json", "--tool", "pay", "--identity", "127.0.0.1", text_of(&log)]);
    assert_eq!(String::from_utf8(found.stdout).unwrap().lines().count(), 1);
    let csv = site.run(&["audit", "export", "--format", "csv", text_of(&log)]);
    let csv = String::from_utf8(csv.stdout).unwrap();
    assert!(csv.starts_with("seq,time,kind,") && csv.contains(",pay,"), "{csv}");
    let events = site.run(&["audit", "export", "--format", "ocsf", "--since", "1h", text_of(&log)]);
    let events = String::from_utf8(events.stdout).unwrap();
    assert!(events.lines().all(|line| serde_json::from_str::<Value>(line).unwrap()["class_uid"] == 6003), "{events}");
    // Somebody hides the call.
    let path = log.join("audit-00000000000000000001.jsonl");
    let changed = fs::read_to_string(&path).unwrap().replace("\"pay\"", "\"say\"");
    fs::write(&path, changed).unwrap();
    let found = site.run(&["audit", "verify", text_of(&log)]);
    let stdout = String::from_utf8(found.stdout).unwrap();
    assert_eq!(found.status.code(), Some(1), "{stdout}");
    assert!(stdout.contains(&format!("line {} was changed", call["seq"])), "{stdout}");
}

#[test]
fn a_line_has_the_decision_its_rule_and_its_policy() {
    let (site, of_edge) = site("epoll", "required");
    let made = site.create(&["--host", "a.test"]);
    let dir = of_edge.with_file_name("governed");
    fs::create_dir(&dir).unwrap();
    let (policy, of_connector) = (dir.join("policy.toml"), dir.join("audit"));
    let rules = "[[rule]]\nname = 'no-deletes'\neffect = 'deny'\ntools = ['delete_*']\n\
                 [[rule]]\neffect = 'deny'\ntools = ['drop']\nscope = 'more'\n\
                 [[rule]]\nname = 'reads'\neffect = 'allow'\ntools = ['get_*', 'delete_*']\n";
    fs::write(&policy, rules).unwrap();
    let digest = LineHash::of(rules.as_bytes()).text();
    let config = format!(
        "[audit]\nmode = 'required'\narguments_max_bytes = 40\ndir = '{}'\n[[route]]\nhost = 'a.test'\nupstream = 'http://{}'\npolicy_file = '{}'\n",
        of_connector.display(),
        site.upstream.address,
        policy.display()
    );
    let path = dir.join("connect.toml");
    adit::private::write(&path, config.as_bytes()).unwrap();
    let args = site.connector_args_of(&path, &made.token.tunnel_token);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let connector = crate::process::Adit::start(&args);
    let [started, _] = connector.events(["started", "linked"]);
    let admin = started["admin"].as_str().unwrap();
    let decided = [
        ("get_a", 200, "allowed", Some("reads")),
        ("delete_a", 200, "denied", Some("no-deletes")),
        ("drop", 403, "denied", Some("#2")),
        ("put", 200, "denied", None),
    ];
    for (tool, status, decision, rule) in decided {
        assert_eq!(site.call("a.test", tool).0, status, "{tool}");
        let line = of_kind(&of_connector, "call").pop().unwrap();
        assert_eq!(
            (&line["name"], &line["decision"], &line["policy"]),
            (&json!(tool), &json!(decision), &json!(digest))
        );
        assert_eq!(line.get("rule"), rule.map(Value::from).as_ref(), "{line}");
        // The connector tells the same of its last calls.
        let number = line["call"].as_str().unwrap();
        let message = crate::process::command(&["explain", "--admin", admin, number, "--json"]).output().unwrap();
        let message: Value = serde_json::from_slice(&message.stdout).unwrap();
        let decisions = message["calls"][0]["decisions"].as_array().unwrap();
        let by_policy =
            decisions.iter().find(|message| message["what"] == "policy").unwrap_or_else(|| panic!("{message}"));
        let message = by_policy["rule"].as_str().unwrap();
        assert!(
            message.starts_with(decision) && message.contains(rule.unwrap_or_default().trim_start_matches('#')),
            "{message}"
        );
        // The edge has no policy of its own, and lets all of them through. Its lines tell which of them the server has not seen.
        let line = of_kind(&of_edge, "call").pop().unwrap();
        assert_eq!((&line["name"], &line["status"], line.get("policy")), (&json!(tool), &json!(status), None));
        let is_answered = line["phases_us"].get("upstream").is_some();
        assert_eq!((&line["decision"], is_answered), (&json!("allowed"), decision == "allowed"), "{line}");
    }
    // Of the arguments a line has what is neither secret nor too long.
    for (arguments, written) in [
        (r#"{"key":"AKIAIOSFODNN7EXAMPLE", "a": 1}"#, Some(r#"{"key":"[redacted:secret]","a":1}"#)),
        (r#"{"text":"0123456789012345678901234567890"}"#, None),
    ] {
        let params = format!(r#"{{"name":"get_b","arguments":{arguments}}}"#);
        let body = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{params}}}"#);
        post(site.agents, &body).unwrap();
        let [of_connector, of_edge] = [&of_connector, &of_edge].map(|log| of_kind(log, "call").pop().unwrap());
        assert_eq!(of_connector.get("arguments"), written.map(Value::from).as_ref(), "{of_connector}");
        assert_eq!(of_edge.get("arguments"), None, "{of_edge}");
        assert_eq!(of_edge["argument_sha256"], of_connector["argument_sha256"]);
    }
    connector.signal("TERM");
    assert_eq!(connector.ended(), Some(0));
    let found = |args: &[&str]| -> Vec<String> {
        let done = site.run(&[&["audit", "query", "--json", text_of(&of_connector)], args].concat());
        let lines = String::from_utf8(done.stdout).unwrap();
        let name = |line: &str| serde_json::from_str::<Value>(line).unwrap()["name"].as_str().unwrap().to_owned();
        lines.lines().map(name).collect()
    };
    assert_eq!(found(&["--decision", "allowed"]), ["get_a", "get_b", "get_b"]);
    assert_eq!(found(&["--decision", "denied"]), ["delete_a", "drop", "put"]);
    assert_eq!(found(&["--rule", "no-deletes"]), ["delete_a"]);
    assert_eq!(found(&["--rule", "#2", "--decision", "denied"]), ["drop"]);
    assert_eq!(found(&["--outcome", "ok"]), ["get_a", "get_b", "get_b"]);
    assert!(of_connector.join("audit.index").is_file(), "searches have made an index");
    assert_eq!(found(&["--scan", "--decision", "denied"]), ["delete_a", "drop", "put"]);
    let otel = site.run(&["audit", "export", "--format", "otel", "--rule", "no-deletes", text_of(&of_connector)]);
    let request: Value = serde_json::from_slice(&otel.stdout).unwrap();
    let records = request["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array().unwrap();
    assert_eq!((records.len(), &records[0]["severityText"]), (1, &json!("WARN")));
    let csv = site.run(&["audit", "export", "--format", "csv", "--rule", "no-deletes", text_of(&of_connector)]);
    let csv = String::from_utf8(csv.stdout).unwrap();
    assert!(
        csv.contains(",decision,policy,rule,limit,approval,") && csv.contains(&format!(",denied,{digest},no-deletes,")),
        "{csv}"
    );
    let message = site.run(&["policy", "check", text_of(&policy)]);
    let message = String::from_utf8(message.stdout).unwrap();
    assert!(message.contains(&digest[..16]), "the digest is the one that other commands show: {message}");
}

#[test]
fn no_answered_call_is_missing_however_often_the_edge_is_killed() {
    let kills = std::env::var("ADIT_TEST_AUDIT_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    for (driver, sync) in [("epoll", "data"), ("uring", "write")] {
        let (mut site, log) = site_with(driver, &format!("mode = 'required'\nsync = '{sync}'"));
        site.listen = site.agents.to_string();
        let made = site.create(&["--host", "a.test"]);
        let _connector = site.connect("a.test", &made.token.tunnel_token);
        let mut answered = BTreeSet::new();
        for round in 0..kills {
            site.until_linked(&made.tunnel.id);
            let agents = site.agents;
            let (shared, answers) = std::sync::mpsc::channel();
            let calling: Vec<_> = (0..AGENTS)
                .map(|agent| {
                    let shared = shared.clone();
                    thread::spawn(move || {
                        let mut nth = 0;
                        loop {
                            let tool = format!("t-{round}-{agent}-{nth}");
                            if call(agents, &tool) != Some(200) || shared.send(tool).is_err() {
                                return;
                            }
                            nth += 1;
                        }
                    })
                })
                .collect();
            drop(shared);
            answered.extend(answers.iter().take(AGENTS * CALLS));
            let edge = site.edge.take().unwrap();
            edge.signal("KILL");
            edge.ended();
            answered.extend(answers.iter());
            calling.into_iter().for_each(|thread| thread.join().unwrap());
            site.run_edge(driver);
        }
        site.end_edge();
        assert!(answered.len() >= kills * AGENTS * CALLS);
        let verified: Value = site.adit(&["audit", "verify", "--json", text_of(&log)]);
        assert_eq!(verified["ok"], true, "{verified}");
        let written: BTreeSet<String> = of_kind(&log, "call")
            .iter()
            .filter(|call| call["outcome"] == "ok")
            .map(|call| call["name"].as_str().unwrap().to_owned())
            .collect();
        let missing: Vec<_> = answered.difference(&written).collect();
        assert!(missing.is_empty(), "answered and not in the log: {missing:?}");
    }
}

#[test]
fn without_a_log_nothing_is_written_and_with_best_effort_calls_are_too() {
    let (mut site, log) = site("epoll", "off");
    let made = site.create(&["--host", "a.test"]);
    let connector = site.connect("a.test", &made.token.tunnel_token);
    assert_eq!(site.call("a.test", "one").0, 200);
    assert!(!log.exists());
    site.end_edge();
    site.configure("[audit]\nmode = 'best_effort'\n");
    site.run_edge("epoll");
    drop(connector);
    let _connector = site.connect("a.test", &made.token.tunnel_token);
    assert_eq!(site.call("a.test", "two").0, 200);
    site.end_edge();
    let calls = of_kind(&log, "call");
    assert_eq!(calls.iter().map(|call| &call["name"]).collect::<Vec<_>>(), [&json!("two")]);
    let verified: Value = site.adit(&["audit", "verify", "--json", text_of(&log)]);
    assert_eq!(verified["ok"], true);
}

/// The status of the answer to a call; none if there was no whole one.
fn call(agents: SocketAddr, tool: &str) -> Option<u16> {
    post(agents, &format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"{tool}"}}}}"#))
}

/// The status of the answer to a message; none if there was no whole one.
fn post(agents: SocketAddr, body: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(agents).ok()?;
    let length = body.len();
    write!(
        stream,
        "POST /mcp HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    serde_json::from_str::<Value>(body).ok()?;
    head.split(' ').nth(1)?.parse().ok()
}

/// An MCP server that answers each request with a stream of events.
fn events_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (mut got, mut piece) = (Vec::new(), [0; 4096]);
            while !got.windows(6).any(|part| part == b"\"4111\"") {
                match stream.read(&mut piece) {
                    Ok(0) | Err(_) => break,
                    Ok(n) => got.extend_from_slice(&piece[..n]),
                }
            }
            let event = "data: {\"jsonrpc\":\"2.0\",\"id\":\"x\",\"result\":{\"content\":[],\"isError\":true}}\n\n";
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
            // The test may be over.
            let _ = stream.write_all(format!("{head}{event}").as_bytes());
        }
    });
    address
}
