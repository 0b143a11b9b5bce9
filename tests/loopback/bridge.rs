//! The era bridge: agents and servers of different eras of MCP, with the official SDKs on both sides.

mod limits;

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use crate::clients::Program;
use crate::conformance::setup::SetUp;
use crate::process::PATIENCE;
use crate::raw::{Peer, Upstream, latin1};
use crate::tunnel_processes::Tunnel;

const HOST: &str = "localhost";

fn file(name: &str) -> String {
    format!("{}/tests/loopback/bridge/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The servers of the Python SDK, and their port.
fn servers() -> (Program, u16) {
    let mut server = Program::start(Command::new(&SetUp::get().python).arg(file("server.py")));
    let port = server.line().parse().expect("it prints its port");
    (server, port)
}

/// A tunnel to a port, whose route has a bridge, and whose connector uses this driver.
fn tunnel_to(port: u16, driver: &'static str) -> Tunnel {
    let mut tunnel = Tunnel::without_connector("plain", HOST, 20_000, "");
    tunnel.driver = driver;
    let route = format!("[[route]]\nhost = '{HOST}'\nupstream = 'http://127.0.0.1:{port}'\nbridge = 'auto'\n");
    tunnel.connect_routes(&route);
    tunnel
}

/// What the Python client prints for calls in these modes, at these paths.
fn python(tunnel: &Tunnel, targets: &[(&str, &str, &str)]) -> Vec<Value> {
    let mut client = Command::new(&SetUp::get().python);
    client.arg(file("client.py"));
    for (name, mode, path) in targets {
        client.arg(format!("{name}={mode}=http://{HOST}:{}{path}", tunnel.agents.port()));
    }
    lines_of(&mut client)
}

/// The lines of JSON that a client prints until it ends.
fn lines_of(client: &mut Command) -> Vec<Value> {
    let ran = client.output().expect("the client runs");
    let printed = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{printed}{}", String::from_utf8_lossy(&ran.stderr));
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What a client gets, whatever the eras are.
fn wanted(name: &str, revision: &str, ask: Value, progress: Value) -> Vec<Value> {
    let tools = json!(["ask", "change", "count", "credential", "echo", "hold"]);
    [
        ("revision", json!([revision, "Be kind."])),
        ("tools", tools),
        ("echo", json!("ż\n\"\\")),
        ("count", json!("counted")),
        ("progress", progress),
        ("ask", ask),
        ("resource", json!("the resource")),
        ("prompt", json!("Hello, Bob")),
        ("error", json!(-32_602)),
    ]
    .map(|(what, value)| json!([name, what, value]))
    .to_vec()
}

const NEW: &str = "2026-07-28";
const OLD: &str = "2025-11-25";

#[test]
fn python_clients_and_servers_of_different_eras_speak_through_the_bridge_on_both_drivers() {
    let (_server, port) = servers();
    for driver in ["auto", "epoll"] {
        let tunnel = tunnel_to(port, driver);
        let text = python(
            &tunnel,
            &[
                ("new to sessions", "auto", "/sessions"),
                ("new to plain", "auto", "/plain"),
                ("new to sse", "auto", "/sse"),
                ("old to new", "legacy", "/modern"),
                ("sse to new", "sse", "/modern"),
                ("new to new", "auto", "/modern"),
                ("old to old", "legacy", "/sessions"),
            ],
        );
        let full = |name: &str, revision| wanted(name, revision, json!("hello Ada"), json!([0.0, 1.0, 2.0]));
        let all = [
            full("new to sessions", NEW),
            // Without a session, the server has no way to ask, and nothing but its answer in the response.
            wanted("new to plain", NEW, json!(-32_600), json!([])),
            full("new to sse", NEW),
            full("old to new", OLD),
            full("sse to new", OLD),
            full("new to new", NEW),
            full("old to old", OLD),
        ];
        assert_eq!(text, all.concat(), "{driver}");
        until_cancelled(
            port,
            &["new to sessions", "new to sse", "old to new", "sse to new", "new to new", "old to old"],
        );
    }
}

/// What the servers tell of the calls so far.
fn seen(port: u16) -> Value {
    let mut peer = Peer::connect((Ipv4Addr::LOCALHOST, port).into());
    peer.send("GET /seen HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let head = peer.head();
    serde_json::from_slice(&peer.body(&head)).unwrap()
}

/// Waits until each of these calls, which its agent has given up, has been cancelled at its server.
fn until_cancelled(port: u16, calls: &[&str]) {
    let began = Instant::now();
    let is_missing = |cancelled: &Value, call: &&str| !cancelled.as_array().unwrap().contains(&json!(*call));
    while let Some(missing) = calls.iter().find(|call| is_missing(&seen(port)["cancelled"], call)) {
        assert!(began.elapsed() < PATIENCE, "{missing} was not cancelled: {}", seen(port));
    }
}

/// A request of an agent of 2026-07-28.
fn request(path: &str, method: &str, name: &str, fields: &str, params: Value) -> String {
    request_able(path, (method, name), fields, params, json!({}))
}

/// The same, of an agent with these capabilities.
fn request_able(path: &str, (method, name): (&str, &str), fields: &str, params: Value, able: Value) -> String {
    let mut params = params;
    params["_meta"] =
        json!({"io.modelcontextprotocol/protocolVersion": NEW, "io.modelcontextprotocol/clientCapabilities": able});
    let body = json!({"jsonrpc": "2.0", "id": "é", "method": method, "params": params}).to_string();
    let named = if name.is_empty() { String::new() } else { format!("Mcp-Name: {name}\r\n") };
    format!(
        "POST {path} HTTP/1.1\r\nHost: {HOST}\r\n{fields}Content-Type: application/json\r\nMCP-Protocol-Version: {NEW}\r\n\
         Mcp-Method: {method}\r\n{named}Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The answer to a call of a tool by an agent with this credential.
fn call(tunnel: &Tunnel, path: &str, credential: &str, tool: &str) -> (u16, Value) {
    let fields = format!("Authorization: Bearer {credential}\r\n");
    let mut agent = Peer::connect(tunnel.agents);
    agent.send(request(path, "tools/call", tool, &fields, json!({"name": tool, "arguments": {}})));
    let head = agent.head();
    let body = agent.body(&head);
    (head.status(), serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{}", latin1(&body))))
}

#[test]
fn sessions_with_the_server_are_reused_and_not_shared_between_credentials() {
    let (_server, port) = servers();
    let tunnel = tunnel_to(port, "auto");
    for _ in 0..3 {
        for credential in ["one", "two"] {
            let (status, answer) = call(&tunnel, "/sessions", credential, "credential");
            let text = &answer["result"]["content"][0]["text"];
            assert_eq!((status, text), (200, &json!(format!("Bearer {credential}"))), "{answer}");
            assert_eq!((&answer["id"], &answer["result"]["resultType"]), (&json!("é"), &json!("complete")));
        }
    }
    let opened = seen(port)["opened"].as_array().unwrap().clone();
    let count = |credential: &str| opened.iter().filter(|open| **open == json!(["/sessions", credential])).count();
    // One probe, with the credential of the first call, and one session for each of them.
    assert_eq!((count("Bearer one"), count("Bearer two")), (2, 1), "{opened:?}");
}

#[test]
fn what_has_no_equivalent_or_is_too_long_is_refused() {
    let (_server, port) = servers();
    let tunnel = tunnel_to(port, "auto");
    let refused = |request: &str| {
        let mut agent = Peer::connect(tunnel.agents);
        agent.send(request);
        let head = agent.head();
        let body: Value = serde_json::from_slice(&agent.body(&head)).unwrap();
        (head.status(), body["error"]["code"].as_i64().unwrap(), body["id"].clone())
    };
    let plain = |method: &str, params: Value| request("/sessions", method, "", "", params);
    assert_eq!(refused(&plain("tasks/list", json!({}))), (404, -32_601, json!("é")));
    assert_eq!(refused(&plain("ping", json!({}))), (404, -32_601, json!("é")));
    let other = plain("tools/list", json!({})).replace("Mcp-Method: tools/list", "Mcp-Method: tools/call");
    assert_eq!(refused(&other), (400, -32_020, json!("é")));
    let state = json!({"name": "ask", "arguments": {}, "requestState": "adit-bridge-0", "inputResponses": {}});
    assert_eq!(refused(&request("/sessions", "tools/call", "ask", "", state)), (400, -32_602, json!("é")));
    let long = json!({"name": "echo", "arguments": {"text": "x".repeat(17 * 1024 * 1024)}});
    assert_eq!(refused(&request("/sessions", "tools/call", "echo", "", long)), (413, -32_600, Value::Null));
    let other_era = "POST /modern HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 37\r\n\r\n\
                     {\"jsonrpc\":\"2.0\",\"method\":\"x\",\"id\":1}";
    assert_eq!(refused(other_era), (400, -32_600, json!(1)), "the session is missing");
}

/// Both sides see the same bytes as without a bridge, apart from the one probe.
#[test]
fn a_call_of_the_servers_own_era_passes_unchanged() {
    let mut stated = Vec::new();
    for bridge in ["off", "auto"] {
        let mut upstream = Upstream::start();
        let mut tunnel = Tunnel::without_connector("plain", HOST, 20_000, "");
        tunnel.connect_routes(&format!(
            "[[route]]\nhost = '{HOST}'\nupstream = 'http://{}'\nupstream_host = 'server.test'\nbridge = '{bridge}'\n",
            upstream.address
        ));
        let mut agent = Peer::connect(tunnel.agents);
        for round in 0..3 {
            let text = request("/mcp", "tools/call", "a", "X-Own:  1 \r\n", json!({"name": "a", "n": 12_345}));
            agent.send(text.replace("12345", "1.000"));
            let (mut head, mut at) = upstream.next();
            if bridge == "auto" && round == 0 {
                assert_eq!(head.one("mcp-method"), Some("server/discover"));
                let _ = at.body(&head);
                let offer =
                    r#"{"jsonrpc":"2.0","id":0,"result":{"supportedVersions":["2026-07-28"],"capabilities":{}}}"#;
                let length = offer.len();
                at.send(format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{offer}"
                ));
                upstream.keep(at);
                (head, at) = upstream.next();
            }
            let body = at.body(&head);
            at.send(
                "HTTP/1.1 200 Fine\r\nX-B: 2\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{\"a\": 1 }",
            );
            let answer = agent.head();
            let answered = agent.body(&answer);
            upstream.keep(at);
            // The first one also waits for the probe, and its length may be said in another way.
            if round > 0 {
                let fields = answer.without(&["server-timing", "date"]);
                let forwarded = head.without(&["x-forwarded-host", "x-forwarded-port", "forwarded", "traceparent"]);
                stated.push((head.start, forwarded, body, answer.start, fields, answered));
            } else {
                assert_eq!(answered, b"{\"a\": 1 }");
            }
        }
    }
    assert_eq!(stated[0], stated[2]);
    assert_eq!(stated[1], stated[3]);
}

#[test]
fn typescript_clients_and_servers_with_sessions_speak_to_the_other_era() {
    let set_up = SetUp::get();
    let (_server, port) = servers();
    let tunnel = tunnel_to(port, "auto");
    let mut client = Command::new(&set_up.node);
    client.arg(file("client.mjs")).arg(&set_up.packages).arg(format!("http://{HOST}:{}/modern", tunnel.agents.port()));
    let wanted = [
        json!(["instructions", "Be kind."]),
        json!(["tools", ["ask", "change", "count", "credential", "echo", "hold"]]),
        json!(["echo", "ż"]),
        json!(["ask", "hello Ada"]),
        json!(["changed", true]),
    ];
    assert_eq!(lines_of(&mut client), wanted);
    let mut server = Program::start(Command::new(&set_up.node).arg(file("server.mjs")).arg(&set_up.packages));
    let port = server.line().parse().expect("it prints its port");
    let tunnel = tunnel_to(port, "auto");
    let mut client = Command::new(&set_up.python);
    client.arg(file("listener.py")).arg(format!("http://{HOST}:{}/mcp", tunnel.agents.port()));
    let wanted = [
        json!(["revision", NEW, "Be brief."]),
        json!(["tools", ["ask", "change", "echo"]]),
        json!(["ask", "hello Ada"]),
        json!(["granted", true, ["test://a"]]),
        json!(["heard", ["ResourceUpdated", "ToolsListChanged"]]),
    ];
    assert_eq!(lines_of(&mut client), wanted);
}
