//! Which agents share a child, and the limits of children.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::plain::Plain;
use super::{HOST, SESSION, python, until_gone};
use crate::identity::signer::{Signer, claims, key_set};
use crate::tunnel_processes::Tunnel;

const ISSUER: &str = "https://login.example";
const RESOURCE: &str = "https://mcp.test/mcp";

#[tokio::test]
async fn each_session_has_a_child_of_its_own() {
    let plain = Plain::start("sessions = 'per-session'\nchildren_max = 3", "");
    let mut sessions = Vec::new();
    let mut pids = Vec::new();
    for _ in 0..3 {
        sessions.push(plain.session().await.unwrap());
        pids.push(plain.pid(sessions.last().unwrap()).await);
    }
    assert_eq!(pids.iter().collect::<BTreeSet<_>>().len(), 3);
    // The one that was not used for longest makes room for another.
    assert_eq!(plain.pid(&sessions[0]).await, pids[0]);
    let fourth = plain.session().await.unwrap();
    assert_eq!(plain.call(&sessions[1], "pid", json!({})).await, Err(404));
    until_gone(&pids[1..2]);
    // One that ends takes its session with it, and no other.
    assert_eq!(plain.call(&sessions[2], "end", json!({"code": 7})).await, Err(502));
    assert_eq!(plain.call(&sessions[2], "pid", json!({})).await, Err(404));
    assert_eq!(plain.pid(&sessions[0]).await, pids[0]);
    // A session that ends takes its child with it.
    let url = format!("http://{HOST}:{}/mcp", plain.tunnel.agents.port());
    let ended = plain.client.delete(url).header(SESSION, &sessions[0]).send().await.unwrap();
    assert_eq!(ended.status(), 200);
    until_gone(&pids);
    // A revision without sessions is told to begin one.
    let message = json!({"jsonrpc": "2.0", "id": "d", "method": "server/discover", "params": {"_meta": {}}});
    let url = format!("http://{HOST}:{}/mcp", plain.tunnel.agents.port());
    let request =
        plain.client.post(&url).header("MCP-Protocol-Version", "2026-07-28").header("Mcp-Method", "server/discover");
    let answer = request.json(&message).send().await.unwrap();
    assert_eq!(answer.status(), 400);
    let body: Value = answer.json().await.unwrap();
    assert_eq!((&body["id"], &body["error"]["code"]), (&json!("d"), &json!(-32_022)));
    assert_eq!(body["error"]["data"]["requested"], "2026-07-28");
    // Children that are in use make no room: those of streams that are open.
    let mut streams = Vec::new();
    for session in [&fourth, &plain.session().await.unwrap(), &plain.session().await.unwrap()] {
        let stream = plain.client.get(&url).header(SESSION, session).header("Accept", "text/event-stream").send();
        streams.push(stream.await.unwrap());
    }
    assert!(streams.iter().all(|stream| stream.status() == 200));
    assert_eq!(plain.session().await, Err(503));
    assert!(plain.count("refused", "children").await > 0);
    assert_eq!((plain.count("exits", "other_code").await, plain.count("starts", "restarted").await), (1, 0));
}

#[tokio::test]
async fn each_identity_has_a_child_of_its_own() {
    let (signer, tables) = (
        Signer::new("k"),
        format!("[[identity_provider]]\nname = 'login'\nissuer = '{ISSUER}'\njwks_file = 'keys.json'\n"),
    );
    let settings = format!("sessions = 'per-identity'\nauth = 'terminate'\nauth_resource = '{RESOURCE}'\n");
    let mut plain = {
        let mut tunnel = Tunnel::without_connector("plain", HOST, 20_000, "");
        std::fs::write(tunnel.file("keys.json"), key_set(&[&signer]).to_string()).unwrap();
        let routes = format!(
            "[[route]]\nhost = '{HOST}'\nupstream = 'stdio'\ncommand = ['{}', '{}']\n{settings}{tables}",
            python(),
            super::file("plain.py")
        );
        tunnel.connect_routes(&routes);
        Plain { tunnel, client: reqwest::Client::new(), token: None }
    };
    let token = |subject: &str| {
        let mut claims = claims(ISSUER, RESOURCE);
        claims["sub"] = json!(subject);
        signer.sign(&claims)
    };
    assert_eq!(plain.session().await, Err(401));
    let mut seen = Vec::new();
    for subject in ["ada", "bob", "ada"] {
        plain.token = Some(token(subject));
        let session = plain.session().await.unwrap();
        seen.push((plain.pid(&session).await, session));
    }
    assert!(seen[0].0 == seen[2].0 && seen[0].0 != seen[1].0, "{seen:?}");
    // What an agent says of itself means nothing, and a session is of use to its identity alone.
    plain.token = Some(token("bob"));
    assert_eq!(plain.call(&seen[0].1, "pid", json!({})).await, Err(404));
    assert_eq!(plain.pid(&seen[1].1).await, seen[1].0);
    // The child of one that ends is started again for it alone.
    assert_eq!(plain.call(&seen[1].1, "end", json!({"code": 0})).await, Err(502));
    let session = plain.session().await.unwrap();
    assert_ne!(plain.pid(&session).await, seen[1].0);
    plain.token = Some(token("ada"));
    assert_eq!(plain.pid(&seen[0].1).await, seen[0].0);
}

#[tokio::test]
async fn what_is_not_ambiguous_is_tolerated_and_counted() {
    let limits = "child_line_max_bytes = '2MiB'\nchild_answer_max_bytes = '100KiB'\nchild_start = 'first-call'\n";
    let plain = Plain::start(limits, "");
    let first = plain.session().await.unwrap();
    assert_eq!(plain.call(&first, "misbehave", json!({})).await, Ok("tolerated".to_owned()));
    // Answers that are too long, for the limit of answers and for that of lines.
    for len in [200_000, 3_000_000] {
        let parsed = plain.call(&first, "long", json!({"len": len})).await.unwrap();
        assert!(parsed.contains("-32603") && parsed.contains("longer than the limit"), "{len}: {parsed}");
    }
    assert_eq!(plain.call(&first, "complain", json!({"lines": 500})).await, Ok("done".to_owned()));
    // An answer after which nothing more of that can come.
    assert_eq!(plain.call(&first, "echo", json!({"text": "é"})).await, Ok("é".to_owned()));
    let kinds = [
        ("strays", "text", 2),
        ("strays", "too_long", 2),
        ("strays", "malformed", 3),
        ("strays", "unknown_id", 2),
        ("strays", "late", 1),
        ("dropped", "answer", 2),
    ];
    for (family, kind, least) in kinds {
        assert_eq!(plain.count(family, kind).await, least, "{kind}");
    }
    while plain.count("dropped", "error_line").await == 0 {}
    let status: Value = serde_json::from_str(&plain.admin("v1/status").await).unwrap();
    let stdio = &status["upstreams"][0]["stdio"];
    assert_eq!(
        (&stdio["children"], &stdio["sessions"], &stdio["counts"]["starts"]["started"]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert_eq!(plain.call(&first, "ask", json!({"method": "ping"})).await, Ok("result {}".to_owned()));
}

#[tokio::test]
async fn a_child_that_does_not_answer_is_ended_and_failures_open_the_breaker() {
    let settings =
        "child_start_timeout_ms = 200\nchild_restart_min_ms = 1\nchild_restart_max_ms = 1\nchild_failures_max = 3\n";
    let plain = Plain::start(settings, ", '--mute'");
    for _ in 0..3 {
        assert_eq!(plain.session().await, Err(502));
    }
    assert_eq!(plain.session().await, Err(503));
    assert_eq!(plain.count("exits", "start_timeout").await, 3);
    let status: Value = serde_json::from_str(&plain.admin("v1/status").await).unwrap();
    let upstream = &status["upstreams"][0];
    assert!(upstream["why"].as_str().unwrap().contains("child_start_timeout_ms"), "{upstream}");
}

#[tokio::test]
async fn an_idle_child_is_ended_and_started_again_by_a_call() {
    let plain = Plain::start("child_start = 'first-call'\nchild_idle_ms = 100\n", "");
    let session = plain.session().await.unwrap();
    assert_eq!(plain.count("starts", "started").await, 1);
    while plain.count("exits", "idle").await == 0 {}
    assert_eq!(plain.call(&session, "pid", json!({})).await, Err(404));
    let again = plain.session().await.unwrap();
    assert!(plain.pid(&again).await > 0);
}
