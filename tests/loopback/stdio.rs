//! Servers that speak over standard input and output, as child processes of the program as people run it.

mod confinement;
mod endurance;
mod plain;
mod sharing;

use std::cell::Cell;
use std::fs;
use std::process::Command;
use std::time::Instant;

use futures_lite::future::zip;
use reqwest::{Client, Response};
use serde_json::{Value, json};

use crate::conformance::setup::SetUp;
use crate::process::{Adit, PATIENCE, command};
use crate::tunnel_processes::Tunnel;
use crate::up::client_trusting;

const HOST: &str = "localhost";
const DRIVERS: [&str; 2] = ["auto", "epoll"];
const ACCEPT: &str = "application/json, text/event-stream";
const SESSION: &str = "Mcp-Session-Id";

fn file(name: &str) -> String {
    format!("{}/tests/loopback/stdio/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn python() -> String {
    SetUp::get().python.display().to_string()
}

/// `adit up` with the server as its command.
struct Up {
    adit: Adit,
    client: Client,
    url: String,
}

impl Up {
    fn start(driver: &str) -> Up {
        let (python, server) = (python(), file("server.py"));
        let own = [
            "up",
            "--json",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--driver",
            driver,
            "--",
            &python,
            &server,
        ];
        let mut command = command(&own);
        command.env("ADIT_LOG", "error").env("NOTIFY_SOCKET", "@nobody").env("FOR_THE_CHILD", "seen");
        let adit = Adit::of(command);
        let [listening, _] = adit.events(["listening", "linked"]);
        let pem = fs::read(listening["ca_file"].as_str().unwrap()).unwrap();
        let client = client_trusting(&pem, HOST, listening["agents"].as_str().unwrap().parse().unwrap());
        Up { adit, client, url: listening["agent_url"].as_str().unwrap().to_owned() }
    }

    async fn post(&self, session: Option<&str>, message: &Value) -> Response {
        let request = self.client.post(&self.url).header("Accept", ACCEPT).json(message);
        let request = match session {
            Some(session) => request.header(SESSION, session),
            None => request,
        };
        request.send().await.unwrap()
    }

    /// A new session. A child that has ended several times is started again after a pause, in which calls are answered 503.
    async fn session(&self) -> String {
        let params =
            json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        let message = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
        let mut answer = self.post(None, &message).await;
        while answer.status() == 503 {
            answer = self.post(None, &message).await;
        }
        assert_eq!(answer.status(), 200);
        let session = answer.headers()[SESSION].to_str().unwrap().to_owned();
        let parsed = self.post(Some(&session), &json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        assert_eq!(parsed.status(), 202);
        session
    }

    /// The text that a tool gives back, or the status of a call that fails.
    async fn call(&self, session: &str, id: &Value, tool: &str, arguments: Value) -> Result<String, u16> {
        let params = json!({"name": tool, "arguments": arguments});
        let message = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params});
        let answer = self.post(Some(session), &message).await;
        if answer.status() != 200 {
            return Err(answer.status().as_u16());
        }
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["id"], *id);
        Ok(body["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned())
    }

    /// The processes of the child: itself, and one that it has left alone.
    async fn processes(&self, session: &str) -> Vec<u32> {
        let answer = self.call(session, &json!(1), "number", json!({})).await.unwrap();
        answer.split(' ').map(|pid| pid.parse().unwrap()).collect()
    }
}

/// Whether a process runs. What has ended and was not waited for does not.
fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// Waits until none of the processes runs.
fn until_gone(pids: &[u32]) {
    let began = Instant::now();
    while let Some(pid) = pids.iter().find(|pid| runs(**pid)) {
        assert!(began.elapsed() < PATIENCE, "{pid} still runs");
        std::thread::yield_now();
    }
}

fn parent(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}

#[test]
fn clients_of_both_eras_share_a_python_server() {
    let mut tunnel = Tunnel::without_connector("plain", HOST, 20_000, "");
    tunnel.connect_routes(&format!(
        "[[route]]\nhost = '{HOST}'\nupstream = 'stdio'\ncommand = ['{}', 'server.py']\ncwd = '{}'\n",
        python(),
        file("")
    ));
    let ran = Command::new(python())
        .arg(file("client.py"))
        .arg(format!("http://{HOST}:{}/mcp", tunnel.agents.port()))
        .output();
    let ran = ran.expect("the Python that was set up runs");
    let printed = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{printed}{}", String::from_utf8_lossy(&ran.stderr));
    let wanted = |era: &str, asks: bool| {
        let tools = json!(["ask", "begin", "count", "echo", "end", "litter", "number", "variable", "work"]);
        let mut lines = vec![
            json!([era, "tools", tools]),
            json!([era, "echo", ["ż\n\"\\"]]),
            json!([era, "count", ["counted"]]),
            json!([era, "progress", [0.0, 1.0, 2.0, 3.0, 4.0]]),
        ];
        lines.extend(asks.then(|| json!([era, "ask", ["Ada"]])));
        lines.push(json!([era, "error", -32602]));
        lines
    };
    let lines: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, [wanted("2025-11-25", true), wanted("2026-07-28", false)].concat());
}

#[tokio::test]
async fn every_caller_gets_its_own_answer_on_both_drivers() {
    for driver in DRIVERS {
        let up = Up::start(driver);
        let mut sessions = Vec::new();
        for _ in 0..8 {
            sessions.push(up.session().await);
        }
        // All use the same ids, in two forms that differ for JSON alone.
        let (up, sessions) = (&up, &sessions);
        let calls = (0..160).map(|nth| async move {
            let id = if nth % 2 == 0 { json!(nth % 10) } else { json!((nth % 10).to_string()) };
            let text = format!("{driver} {nth} {}", "x".repeat(nth * 37));
            let answer = up.call(&sessions[nth % 8], &id, "echo", json!({"text": text})).await;
            assert_eq!(answer, Ok(text));
        });
        let calls: Vec<_> = calls.map(Box::pin).collect();
        join_all(calls).await;
        let long = "é".repeat(2_000_000);
        assert_eq!(up.call(&sessions[0], &json!(1), "echo", json!({"text": long})).await, Ok(long));
        assert_eq!(
            up.call(&sessions[0], &json!(2), "litter", json!({"lines": 5_000})).await,
            Ok("littered".to_owned())
        );
        for (name, value) in [("FOR_THE_CHILD", "seen"), ("ADIT_LOG", "unset"), ("NOTIFY_SOCKET", "unset")] {
            assert_eq!(up.call(&sessions[0], &json!(3), "variable", json!({"name": name})).await, Ok(value.to_owned()));
        }
        let cancelled = cancelled_call(up, &sessions[0]).await;
        assert_eq!((&cancelled["id"], &cancelled["error"]["code"]), (&json!("c"), &json!(-32_800)));
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
        assert_eq!(up.post(None, &message).await.status(), 400);
        assert_eq!(up.post(Some("0123456789abcdef0123456789abcdef"), &message).await.status(), 404);
        let ended = up.client.delete(&up.url).header(SESSION, &sessions[1]).send().await.unwrap();
        assert_eq!(ended.status(), 200);
        assert_eq!(up.post(Some(&sessions[1]), &message).await.status(), 404);
        assert_eq!(up.post(Some(&sessions[2]), &message).await.status(), 200);
    }
}

/// The answer to a call of a minute that its agent cancels.
async fn cancelled_call(up: &Up, session: &str) -> Value {
    let params = json!({"name": "work", "arguments": {"ms": 60_000}});
    let message = json!({"jsonrpc": "2.0", "id": "c", "method": "tools/call", "params": params});
    let is_answered = Cell::new(false);
    let call = async {
        let answer = up.post(Some(session), &message).await.json().await.unwrap();
        is_answered.set(true);
        answer
    };
    // The call may arrive after the first of them.
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "c"}});
    let cancelling = async {
        while !is_answered.get() {
            assert_eq!(up.post(Some(session), &cancel).await.status(), 202);
        }
    };
    zip(call, cancelling).await.0
}

/// Runs all futures at the same time.
async fn join_all(mut futures: Vec<std::pin::Pin<Box<impl Future<Output = ()>>>>) {
    std::future::poll_fn(|cx| {
        futures.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if futures.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[tokio::test]
async fn a_child_that_ends_is_started_again_and_its_sessions_are_gone() {
    for driver in DRIVERS {
        let up = Up::start(driver);
        let session = up.session().await;
        let before = up.processes(&session).await;
        assert_eq!(up.call(&session, &json!(1), "end", json!({"code": 3})).await, Err(502));
        until_gone(&before);
        // Whenever it ends, each call ends too, and none with the answer of another.
        for round in 0..3 {
            let session = up.session().await;
            let (up, session) = (&up, &session);
            let calls = (0..40).map(|nth| async move {
                let (tool, arguments) = match nth {
                    20 => ("end", json!({"code": 1})),
                    _ if nth % 2 == 0 => ("work", json!({"ms": nth * round})),
                    _ => ("echo", json!({"text": nth.to_string()})),
                };
                match up.call(session, &json!(7), tool, arguments).await {
                    Ok(text) if tool == "echo" => assert_eq!(text, nth.to_string()),
                    Ok(text) => assert_eq!(text, "done"),
                    Err(status) => assert!([404, 502, 503].contains(&status), "{status}"),
                }
            });
            join_all(calls.map(Box::pin).collect()).await;
        }
        let next = up.session().await;
        assert_eq!(up.call(&session, &json!(1), "echo", json!({"text": "x"})).await, Err(404));
        assert_eq!(up.call(&next, &json!(1), "echo", json!({"text": "x"})).await, Ok("x".to_owned()));
        // So it is when its guard is killed.
        let before = up.processes(&next).await;
        let guard = parent(before[0]);
        let killed = Command::new("kill").args(["-KILL", &guard.to_string()]).status().unwrap();
        assert!(killed.success());
        until_gone(&[guard, before[0]]);
        // What has left the group of the guard is not found without it.
        assert!(Command::new("kill").args(["-KILL", &before[1].to_string()]).status().unwrap().success());
        let last = up.session().await;
        assert_eq!(up.call(&last, &json!(1), "echo", json!({"text": "y"})).await, Ok("y".to_owned()));
    }
}

#[tokio::test]
async fn nothing_is_left_when_adit_ends_or_is_killed() {
    for signal in ["TERM", "KILL"] {
        let up = Up::start("auto");
        let session = up.session().await;
        let processes = up.processes(&session).await;
        let guard = parent(processes[0]);
        assert!(processes.iter().all(|pid| runs(*pid)));
        up.adit.signal(signal);
        until_gone(&[processes, vec![guard]].concat());
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_resumed_by_its_last_event() {
    let up = Up::start("auto");
    let session = up.session().await;
    let params = json!({"name": "begin", "arguments": {"ms": 300}, "_meta": {"progressToken": "p"}});
    let message = json!({"jsonrpc": "2.0", "id": "late", "method": "tools/call", "params": params});
    let mut stream = up.post(Some(&session), &message).await;
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let first = String::from_utf8(stream.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(first.contains("\"progressToken\":\"p\""), "{first}");
    let id = first.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
    drop(stream);
    let get = |last: String| {
        let request = up.client.get(&up.url).header(SESSION, &session).header("Accept", "text/event-stream");
        request.header("Last-Event-ID", last).send()
    };
    let rest = get(id.clone()).await.unwrap().text().await.unwrap();
    assert!(rest.contains("\"id\":\"late\"") && rest.contains("finished"), "{rest}");
    // It can be had again.
    assert_eq!(get(id).await.unwrap().text().await.unwrap(), rest);
}

#[test]
fn up_ends_at_once_if_the_command_cannot_be_started() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("no-program").display().to_string();
    fs::write(&plain, "text").unwrap();
    let path = std::env::var("PATH").unwrap();
    for (program, why) in [
        ("no-such-program", format!("it is in no folder of PATH ({path}): install it")),
        ("/no/such/program", "there is no such program: check `command`".to_owned()),
        (&plain, format!("{plain} is not executable for this user")),
    ] {
        let ran = command(&["up", "--listen", "127.0.0.1:0", "--admin", "off", "--", program, "x"]).output().unwrap();
        let log = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(1), "{log}");
        assert!(log.contains(&format!("cannot start {program}: {why}")), "{log}");
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let tunnel = Tunnel::prepared("plain", HOST, 0, "", "");
    let of = |route: &str| tunnel.connect_in_vain(&format!("[[route]]\nhost = '{HOST}'\n{route}\n"));
    for (route, why) in [
        ("upstream = 'stdio'", "route[0].command: missing"),
        ("upstream = 'http://127.0.0.1:9'\ncommand = ['x']", "only a `stdio` upstream is started"),
        ("upstream = 'http://127.0.0.1:9'\nenv = ['A=hunter2']", "route[0].env: only a `stdio` upstream is started"),
        ("upstream = 'stdio'\ncommand = ['x']\nenv = ['hunter2']", "each as NAME=value"),
        ("upstream = 'stdio'\ncommand = ['x']\nsessions = 'per-identity'", "no caller is identified on this route"),
        ("upstream = 'stdio'\ncommand = ['x']\nchild_cpu_percent = 5", "set `child_cgroup`"),
    ] {
        let (code, stdout) = of(route);
        assert_eq!(code, Some(2), "{stdout}");
        assert!(stdout.contains(why) && !stdout.contains("hunter2"), "{stdout}");
    }
}
