//! Children that are killed at any moment, many calls, agents and children that do not read, lines without an end: nothing leaks, and
//! nobody gets the answer of another.

use std::sync::Mutex;
use std::time::Instant;

use adit::base::Rng;
use serde_json::{Value, json};

use super::plain::Plain;
use super::{HOST, SESSION, join_all, runs};
use crate::process::PATIENCE;
use crate::raw::{Peer, latin1};

/// How often a child is killed in an ordinary run; `ADIT_TEST_STDIO_KILLS` is another number.
const KILLS: u64 = 8;
/// How many calls an ordinary run makes; `ADIT_TEST_STDIO_CALLS` is another number.
const CALLS: usize = 1_280;
const WORKERS: usize = 64;
const SESSIONS: usize = 100;

fn setting<T: std::str::FromStr<Err: std::fmt::Debug>>(name: &str, usual: T) -> T {
    std::env::var(name).map_or(usual, |value| value.parse().unwrap())
}

/// What a process uses.
#[derive(Clone, Copy, Debug)]
struct Used {
    files: usize,
    threads: u64,
    memory_kib: u64,
}

impl Plain {
    /// What the connector uses.
    fn used(&self) -> Used {
        let pid = self.tunnel.connector.as_ref().unwrap().child.id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_start_matches(':').trim().split(' ').next().unwrap().parse().unwrap()
        };
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        Used { files, threads: field("Threads"), memory_kib: field("VmRSS") }
    }

    /// What `/v1/status` has of the children.
    async fn stdio(&self) -> Value {
        let mut status: Value = serde_json::from_str(&self.admin("v1/status").await).unwrap();
        status["upstreams"][0]["stdio"].take()
    }

    /// How many calls the connector carries.
    async fn calls_open(&self) -> f64 {
        let metrics = self.admin("metrics").await;
        let lines = metrics.lines().filter(|line| line.starts_with("adit_calls_open{"));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// How many children have ended because of a signal. One that has closed its output is not always waited for.
    async fn killed(&self) -> u64 {
        self.count("exits", "signal").await + self.count("exits", "other_code").await
    }

    /// An agent with a connection of its own that has sent a request of its session.
    fn peer(&self, session: &str, request: &str, body: &str) -> Peer {
        let mut peer = Peer::connect(self.tunnel.agents);
        peer.send(format!(
            "{request} /mcp HTTP/1.1\r\nHost: {HOST}\r\n{SESSION}: {session}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        peer
    }
}

fn call_text(tool: &str, arguments: &Value) -> String {
    let params = json!({"name": tool, "arguments": arguments, "_meta": {"progressToken": "p"}});
    json!({"jsonrpc": "2.0", "id": "late", "method": "tools/call", "params": params}).to_string()
}

#[tokio::test]
async fn many_sessions_and_calls_leave_nothing_behind() {
    let plain = Plain::start("child_sessions_max = 200\nchild_idle_ms = '1h'", "");
    let first = plain.session().await.unwrap();
    let child = plain.pid(&first).await;
    let rounds = setting("ADIT_TEST_STDIO_CALLS", CALLS).div_ceil(2 * WORKERS);
    let mut used = Vec::new();
    // What a half of the calls needs is there for the other one.
    for _ in 0..2 {
        let opened = Mutex::new(Vec::new());
        let (plain, kept) = (&plain, &opened);
        let opening = (0..SESSIONS).map(|_| async move {
            let session = plain.session().await.unwrap();
            kept.lock().unwrap().push(session);
        });
        join_all(opening.map(Box::pin).collect()).await;
        let sessions = opened.lock().unwrap().clone();
        let calls = (0..WORKERS).map(|worker| {
            let sessions = &sessions;
            async move {
                for round in 0..rounds {
                    let session = &sessions[(worker * 7 + round) % sessions.len()];
                    let text = format!("{worker} {round}");
                    assert_eq!(plain.call(session, "echo", json!({"text": text})).await, Ok(text));
                }
            }
        });
        join_all(calls.map(Box::pin).collect()).await;
        for session in &sessions {
            let url = format!("http://{HOST}:{}/mcp", plain.tunnel.agents.port());
            plain.client.delete(url).header(SESSION, session).send().await.unwrap();
        }
        used.push(plain.used());
    }
    assert_eq!(plain.pid(&first).await, child);
    let stdio = plain.stdio().await;
    assert_eq!((&stdio["sessions"], &stdio["children"]), (&json!(1), &json!(1)), "{stdio}");
    assert!(runs(child));
    // Each agent may have left a connection to the child that is kept for the next call, and none twice.
    let [before, after] = used[..] else { panic!("{used:?}") };
    assert!(after.files <= before.files + 2 * WORKERS && after.threads <= before.threads + 2, "{used:?}");
    assert!(after.memory_kib < before.memory_kib + 16 * 1024, "{used:?}");
}

#[tokio::test]
async fn a_child_that_is_killed_at_any_moment_answers_nobody_else() {
    let settings = "child_restart_min_ms = 1\nchild_restart_max_ms = 1\nchild_failures_max = 1000\n";
    let plain = Plain::start(settings, "");
    let kills = setting("ADIT_TEST_STDIO_KILLS", KILLS);
    let (mut answered, mut lost, mut before) = (0, 0, None);
    for seed in 0..kills {
        let mut rng = Rng::new(seed);
        let mut sessions = Vec::new();
        for _ in 0..3 {
            sessions.push(session_of_the_next_child(&plain).await);
        }
        let (die, after) = (rng.below(24), rng.below(3_000));
        let outcomes = Mutex::new(Vec::new());
        let (plain, sessions, kept) = (&plain, &sessions, &outcomes);
        let calls = (0..24).map(|nth| async move {
            let text = format!("{seed} {nth} {}", "x".repeat(nth * 17));
            let session = &sessions[nth % 3];
            let outcome = match nth as u64 == die {
                true => plain.call(session, "die", json!({"after": after})).await,
                false => plain.call(session, "echo", json!({"text": text})).await,
            };
            match &outcome {
                Ok(answer) => assert_eq!(*answer, text, "seed {seed}"),
                Err(status) => assert!([404, 502, 503].contains(status), "seed {seed}: {status}"),
            }
            kept.lock().unwrap().push(outcome.is_ok());
        });
        join_all(calls.map(Box::pin).collect()).await;
        // Fewer bytes than that may be left to be written.
        let began = Instant::now();
        while plain.killed().await <= seed {
            assert!(began.elapsed() < PATIENCE, "seed {seed}: {}", plain.stdio().await);
            let _ = plain.call(&sessions[0], "echo", json!({"text": "x".repeat(500)})).await;
        }
        let outcomes = outcomes.lock().unwrap();
        answered += outcomes.iter().filter(|is_ok| **is_ok).count();
        lost += outcomes.iter().filter(|is_ok| !**is_ok).count();
        before = before.or_else(|| Some(plain.used()));
    }
    let session = session_of_the_next_child(&plain).await;
    assert_eq!(plain.call(&session, "echo", json!({"text": "é"})).await, Ok("é".to_owned()));
    assert!(answered > 0 && lost > 0, "{answered} {lost}");
    let stdio = plain.stdio().await;
    assert_eq!((&stdio["sessions"], &stdio["children"]), (&json!(1), &json!(1)), "{stdio}");
    let (before, after) = (before.unwrap(), plain.used());
    // A thread waits for each child until its guard has ended.
    assert!(after.files <= before.files + 64 && after.threads <= before.threads + 8, "{before:?} {after:?}");
    assert!(after.memory_kib < before.memory_kib + 16 * 1024, "{before:?} {after:?}");
}

/// A session of a child that has taken the place of one that was killed.
async fn session_of_the_next_child(plain: &Plain) -> String {
    loop {
        match plain.session().await {
            Ok(session) => return session,
            Err(status) => assert!([502, 503].contains(&status), "{status}"),
        }
    }
}

#[tokio::test]
async fn an_agent_that_does_not_read_costs_bounded_memory_and_delays_nobody() {
    let plain = Plain::start("", "");
    let (slow, other) = (plain.session().await.unwrap(), plain.session().await.unwrap());
    let mut stream = plain.peer(&slow, "GET", "");
    assert_eq!(stream.head().status(), 200);
    let before = plain.used();
    // Beyond what sockets and windows hold, and what may wait.
    for _ in 0..4 {
        let announced = plain.call(&other, "announce", json!({"many": 1_000, "len": 8_000})).await;
        assert_eq!(announced, Ok("done".to_owned()));
    }
    assert!(plain.count("dropped", "message").await > 0);
    // So it is with the stream of an answer, whose end arrives all the same.
    let mut answer = plain.peer(&slow, "POST", &call_text("report", &json!({"many": 2_000, "len": 8_000})));
    assert_eq!(answer.head().one("content-type"), Some("text/event-stream"));
    assert_eq!(plain.call(&other, "echo", json!({"text": "x"})).await, Ok("x".to_owned()));
    let after = plain.used();
    assert!(after.memory_kib < before.memory_kib + 32 * 1024, "{before:?} {after:?}");
    let mut last = String::new();
    loop {
        let chunk = answer.chunk();
        if chunk.is_empty() {
            break;
        }
        last.push_str(&latin1(&chunk));
        last.drain(..last.len().saturating_sub(200));
    }
    assert!(last.contains(r#""id":"late""#) || last.contains(r#""id": "late""#), "{last}");
    let first = latin1(&stream.chunk());
    assert!(first.contains("list_changed"), "{first}");
}

#[tokio::test]
async fn a_child_that_does_not_read_makes_agents_wait_and_its_end_releases_them() {
    let plain = Plain::start("child_start_timeout_ms = 60000\nchild_stop_grace_ms = 1\n", "");
    let session = plain.session().await.unwrap();
    let child = plain.pid(&session).await;
    let before = plain.used();
    let mut waiting = vec![plain.peer(&session, "POST", &call_text("deaf", &json!({"s": 3_600})))];
    let long = call_text("echo", &json!({"text": "x".repeat(500_000)}));
    waiting.extend((0..40).map(|_| plain.peer(&session, "POST", &long)));
    // All but a few wait for room.
    let began = Instant::now();
    while plain.calls_open().await < 41.0 {
        assert!(began.elapsed() < PATIENCE, "{:?}", plain.used());
    }
    let after = plain.used();
    assert!(after.memory_kib < before.memory_kib + 96 * 1024, "{before:?} {after:?}");
    let killed = std::process::Command::new("kill").args(["-KILL", &child.to_string()]).status().unwrap();
    assert!(killed.success());
    for mut peer in waiting {
        let status = peer.head().status();
        // What had not been passed on yet finds its session gone.
        assert!([404, 502, 503].contains(&status), "{status}");
    }
    let session = session_of_the_next_child(&plain).await;
    assert_eq!(plain.call(&session, "echo", json!({"text": "x"})).await, Ok("x".to_owned()));
}

#[tokio::test]
async fn a_giant_line_uses_no_memory_beyond_the_limit() {
    let plain = Plain::start("child_line_max_bytes = '1MiB'\n", "");
    let session = plain.session().await.unwrap();
    let before = plain.used();
    assert_eq!(plain.call(&session, "giant", json!({"len": 100_000_000})).await, Ok("done".to_owned()));
    let after = plain.used();
    assert!(after.memory_kib < before.memory_kib + 8 * 1024, "{before:?} {after:?}");
    assert_eq!(plain.count("strays", "too_long").await, 1);
    // An agent's line is refused, and the connection serves the next request.
    let long = call_text("echo", &json!({"text": "x".repeat(1_100_000)}));
    let mut peer = plain.peer(&session, "POST", &long);
    let head = peer.head();
    let body = latin1(&peer.body(&head));
    assert!(head.status() == 413 && body.contains("1048576"), "{body}");
    assert_eq!(plain.call(&session, "echo", json!({"text": "x"})).await, Ok("x".to_owned()));
}
