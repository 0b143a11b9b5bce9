//! Servers of all revisions, sessions that the server forgets, and what happens at the limits of the bridge.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use super::{HOST, NEW, file, request_able, seen};
use crate::clients::Program;
use crate::conformance::setup::SetUp;
use crate::free_address::free_address;
use crate::process::PATIENCE;
use crate::raw::{Peer, latin1};
use crate::tunnel_processes::Tunnel;

/// A server of a revision, and a tunnel to it with a bridge.
struct Site {
    admin: SocketAddr,
    /// It is killed when this is dropped.
    server: Option<Program>,
    port: u16,
    tunnel: Tunnel,
    /// What its agents can do.
    able: Value,
}

/// The server in `plain.py`, and its port.
fn server(revision: &str, port: Option<u16>) -> (Program, u16) {
    let mut command = Command::new(&SetUp::get().python);
    command.arg(file("plain.py")).arg(revision).args(port.map(|port| port.to_string()));
    let mut server = Program::start(&mut command);
    let port = server.line().parse().expect("it prints its port");
    (server, port)
}

impl Site {
    fn start(revision: &str) -> Site {
        let (server, port) = server(revision, None);
        Site::to(server, port)
    }

    fn to(server: Program, port: u16) -> Site {
        let (admin, able) = (free_address(), json!({"elicitation": {"url": {}}}));
        let mut tunnel = Tunnel::without_connector("plain", HOST, 20_000, "");
        tunnel.connect_routes(&format!(
            "admin_listen = '{admin}'\n[[route]]\nhost = '{HOST}'\nupstream = 'http://127.0.0.1:{port}'\nbridge = 'auto'\n"
        ));
        Site { admin, server: Some(server), port, tunnel, able }
    }

    /// How many sessions of the bridge with the server were opened, and how many have ended.
    fn sessions(&self) -> [u64; 2] {
        let mut peer = Peer::connect(self.admin);
        peer.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let head = peer.head();
        let metrics = latin1(&peer.body(&head));
        ["opened", "ended"].map(|what| {
            let name = format!("adit_bridge_sessions_{what}_total");
            let line = metrics.lines().find(|line| line.starts_with(&name)).unwrap_or_else(|| panic!("{metrics}"));
            line.rsplit(' ').next().unwrap().parse().unwrap()
        })
    }

    /// An agent of 2026-07-28 that has called a tool.
    fn begin(&self, credential: &str, tool: &str, more: &Value) -> Peer {
        let mut params = json!({"name": tool, "arguments": {}});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let fields = format!("Authorization: Bearer {credential}\r\n");
        let mut agent = Peer::connect(self.tunnel.agents);
        agent.send(request_able("/mcp", ("tools/call", tool), &fields, params, self.able.clone()));
        agent
    }

    fn call(&self, credential: &str, tool: &str, more: &Value) -> (u16, Value) {
        answer(&mut self.begin(credential, tool, more))
    }

    /// The text that a tool gives back.
    fn text(&self, credential: &str, tool: &str) -> String {
        let (status, answer) = self.call(credential, tool, &json!({}));
        let text = answer["result"]["content"][0]["text"].as_str().map(str::to_owned);
        text.unwrap_or_else(|| panic!("{status} {answer}"))
    }

    fn seen(&self, what: &str) -> Vec<Value> {
        seen(self.port)[what].as_array().unwrap().clone()
    }
}

fn answer(agent: &mut Peer) -> (u16, Value) {
    let head = agent.head();
    let body = agent.body(&head);
    (head.status(), serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{}", latin1(&body))))
}

#[test]
fn servers_of_earlier_revisions_are_called_and_one_that_forgets_a_session_gets_another() {
    for revision in ["2025-03-26", "2025-06-18", "2025-11-25"] {
        let site = Site::start(revision);
        let first = site.text("a", "echo");
        assert_eq!(site.text("a", "echo"), first, "{revision}");
        assert_eq!(site.text("a", "forget"), first);
        let second = site.text("a", "echo");
        assert_ne!(second, first, "{revision}: the session is another one");
        assert_eq!(site.text("a", "echo"), second);
        assert!(site.seen("revisions").iter().all(|stated| *stated == json!(revision) || *stated == json!("")));
        // The probe, and the two sessions, of which one is open.
        assert_eq!((site.seen("opened").len(), site.sessions()), (3, [2, 1]));
    }
}

#[test]
fn a_page_to_visit_is_asked_for_and_the_call_then_starts_again() {
    let site = Site::start("2025-11-25");
    let (status, asked) = site.call("a", "visit", &json!({}));
    let result = &asked["result"];
    assert_eq!((status, &result["resultType"]), (200, &json!("input_required")), "{asked}");
    assert_eq!(result["inputRequests"]["q0"]["params"]["url"], "https://a.example");
    let again = json!({"requestState": result["requestState"], "inputResponses": {"q0": {"action": "accept"}}});
    let (status, answer) = site.call("a", "visit", &again);
    assert_eq!((status, &answer["result"]["content"][0]["text"]), (200, &json!("s1")), "{answer}");
}

#[test]
fn questions_and_calls_that_wait_for_agents_are_limited() {
    let site = Site::start("2025-06-18");
    let ask = |many: u32| json!({"arguments": {"many": many}});
    // The server sends all of them at once. They are asked together, and beyond 32 it gets errors.
    let (_, asked) = site.call("questions", "ask", &ask(40));
    let result = &asked["result"];
    let answers: serde_json::Map<String, Value> = result["inputRequests"]
        .as_object()
        .unwrap()
        .keys()
        .map(|key| (key.clone(), json!({"action": "accept", "content": {}})))
        .collect();
    assert_eq!(answers.len(), 32);
    let more = json!({"arguments": {"many": 40}, "requestState": result["requestState"], "inputResponses": answers});
    let (_, answer) = site.call("questions", "ask", &more);
    assert_eq!(answer["result"]["content"][0]["text"], "8 of 40 refused", "{answer}");
    // The 17th call of a caller is not kept.
    for nth in 0..17 {
        let (status, answer) = site.call("calls", "ask", &ask(1));
        let is_kept = answer["result"]["resultType"] == "input_required";
        assert_eq!(is_kept, nth < 16, "{nth}: {status} {answer}");
        if !is_kept {
            assert_eq!(answer["error"]["code"], -32_603);
        }
    }
    // Those of others are.
    assert_eq!(site.call("other", "ask", &ask(1)).1["result"]["resultType"], "input_required");
}

#[test]
fn sessions_and_answers_are_limited() {
    let site = Site { able: json!({}), ..Site::start("2025-11-25") };
    let (status, answer) = site.call("long", "long", &json!({}));
    assert_eq!((status, &answer["error"]["code"]), (502, &json!(-32_603)), "{answer}");
    // 256 sessions besides: the one that was not used for longest ends.
    for nth in 0..256 {
        site.text(&nth.to_string(), "echo");
    }
    let ended = || site.seen("ended").len();
    // The probe has ended its own session.
    let began = Instant::now();
    while ended() < 2 {
        assert!(began.elapsed() < PATIENCE, "{:?}", site.seen("ended"));
    }
    assert_eq!((site.seen("opened").len(), ended()), (258, 2));
}

#[test]
fn the_eras_of_so_many_paths_are_kept_and_calls_at_others_pass_unchanged() {
    let site = Site { able: json!({}), ..Site::start("2025-11-25") };
    let statuses: Vec<u16> = (0..17)
        .map(|nth| {
            let params = json!({"name": "echo", "arguments": {}});
            let mut agent = Peer::connect(site.tunnel.agents);
            agent.send(request_able(&format!("/{nth}"), ("tools/call", "echo"), "", params, json!({})));
            answer(&mut agent).0
        })
        .collect();
    assert_eq!(statuses, [[200; 16].as_slice(), &[400]].concat(), "the server refuses what it does not know");
}

#[test]
fn a_batch_is_answered_with_an_event_each_and_is_limited() {
    let site = Site::start(NEW);
    let mut agent = Peer::connect(site.tunnel.agents);
    let mut post = |session: Option<&str>, body: &Value| {
        let (session, body) = (session.map(|id| format!("Mcp-Session-Id: {id}\r\n")), body.to_string());
        agent.send(format!(
            "POST /mcp HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
             {}Content-Length: {}\r\n\r\n{body}",
            session.unwrap_or_default(),
            body.len()
        ));
        let head = agent.head();
        let body = latin1(&agent.body(&head));
        (head, body)
    };
    let call = |id: u32| json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "echo", "arguments": {}}});
    let ping = json!({"jsonrpc": "2.0", "id": "p", "method": "ping"});
    let note = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    for revision in ["2025-03-26", "2025-11-25"] {
        let params =
            json!({"protocolVersion": revision, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        let (head, body) = post(None, &json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}));
        let session = head.one("mcp-session-id").unwrap_or_else(|| panic!("{body}")).to_owned();
        let (head, body) = post(Some(&session), &json!([call(1), ping, note, call(2)]));
        if revision == "2025-11-25" {
            assert_eq!(head.status(), 400, "{body}");
            continue;
        }
        let events: Vec<Value> = body
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .map(|data| serde_json::from_str(data).unwrap())
            .collect();
        let ids: Vec<&Value> = events.iter().map(|event| &event["id"]).collect();
        assert_eq!(ids, [&json!(1), &json!("p"), &json!(2)], "{body}");
        assert_eq!(events[2]["result"]["content"][0]["text"], "none");
        assert!(events.iter().all(|event| event["result"].get("resultType").is_none()), "{body}");
        assert_eq!(post(Some(&session), &json!([note, note])).0.status(), 202);
        let subscribe = |nth: u32| json!({"jsonrpc": "2.0", "id": nth, "method": "resources/subscribe", "params": {"uri": format!("test://{nth}")}});
        let refused = (0..257).filter(|nth| !post(Some(&session), &subscribe(*nth)).1.contains("\"result\"")).count();
        assert_eq!(refused, 1, "a session subscribes to 256 resources");
        let many: Vec<Value> = (0..65).map(call).collect();
        assert_eq!(post(Some(&session), &json!(many)).0.status(), 400);
        assert_eq!(post(Some(&session), &json!([])).0.status(), 400);
    }
}

#[test]
fn a_server_that_comes_back_in_another_era_is_probed_again() {
    let port = free_address().port();
    let (old, _) = server("2025-11-25", Some(port));
    let mut site = Site { able: json!({}), ..Site::to(old, port) };
    assert_eq!(site.text("a", "echo"), "s1");
    for revision in [NEW, "2025-06-18"] {
        drop(site.server.take());
        let (status, _) = site.call("a", "echo", &json!({}));
        assert!(status >= 500, "nobody listens: {status}");
        site.server = Some(server(revision, Some(port)).0);
        let wanted = if revision == NEW { "none" } else { "s1" };
        // A call that fails may have been the one that was under way.
        let began = Instant::now();
        loop {
            let (status, answer) = site.call("a", "echo", &json!({}));
            if status == 200 {
                assert_eq!(answer["result"]["content"][0]["text"], wanted, "{answer}");
                break;
            }
            assert!(began.elapsed() < PATIENCE, "{status} {answer}");
        }
    }
}

/// A child that speaks sessions, for agents of 2026-07-28.
#[test]
fn a_server_that_speaks_stdio_is_bridged_as_any_other() {
    let python = SetUp::get().python.display().to_string();
    let server = format!("{}/tests/loopback/stdio/plain.py", env!("CARGO_MANIFEST_DIR"));
    let mut tunnel = Tunnel::without_connector("plain", HOST, 20_000, "");
    tunnel.connect_routes(&format!(
        "[[route]]\nhost = '{HOST}'\nupstream = 'stdio'\ncommand = ['{python}', '{server}']\nbridge = 'auto'\nsessions = 'per-session'\n"
    ));
    let call = |credential: &str, tool: &str| {
        let mut agent = Peer::connect(tunnel.agents);
        let fields = format!("Authorization: Bearer {credential}\r\n");
        let params = json!({"name": tool, "arguments": {}});
        agent.send(request_able("/mcp", ("tools/call", tool), &fields, params, json!({})));
        let (status, answer) = answer(&mut agent);
        let text = answer["result"]["content"][0]["text"].as_str().map(str::to_owned);
        (status, text.unwrap_or_else(|| panic!("{status} {answer}")))
    };
    let of = |credential: &str| call(credential, "pid").1;
    // A process for each session of the bridge, which is one for each set of credentials.
    let (ada, bob) = (of("ada"), of("bob"));
    assert_ne!(ada, bob);
    assert_eq!((of("ada"), of("bob")), (ada, bob));
}
