//! What agents see of the errors of adit: clients of the SDKs with their default settings, before a real server of one of them.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::conformance::setup::SetUp;
use crate::raw::Peer;
use crate::tunnel_processes::Tunnel;

const HOST: &str = "localhost";
/// A call that takes long is cut after the shortest deadline once there were some quick ones, and its breaker opens at once and for
/// long. The link carries few calls.
const SETTINGS: &str = "streams_per_link_max = 4\ndeadline = 'enforce'\ndeadline_floor_ms = 4000\nbreaker = 'enforce'\nbreaker_calls_min = 20\n\
                     breaker_failed_percent = 1\nbreaker_open_ms = '10m'";
/// Few calls may be in flight, and the client's time is known: five seconds are what the OpenAI Agents SDK waits.
const LIMITS: &str =
    "concurrency_limit = 'enforce'\nconcurrency_min = 1\nconcurrency_max = 1\nconcurrency_queue_ms = 300";
const CLIENT_TIMEOUT: &str = "[[host]]\nhost = 'localhost'\nclient_timeout_ms = '5s'\n";
/// As many calls as teach a deadline.
const TAUGHT: usize = 25;
/// Longer than any deadline here.
const LONG_MS: u32 = 20_000;
const QUICK_MS: u32 = 1;
/// As many calls as a link carries.
const CALLS_MAX: usize = 4;
/// How long a call waits for a connector, or for room on its link.
const WAIT_MS: u32 = 300;
/// How often a quick call is made until others are there, or have gone.
const TRIES: usize = 200;

/// A program that serves or calls, killed when dropped.
pub(crate) struct Program {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Program {
    pub(crate) fn start(command: &mut Command) -> Program {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program runs");
        let (input, output) = (child.stdin.take().expect("it is piped"), child.stdout.take().expect("it is piped"));
        Program { child, input, output: BufReader::new(output) }
    }

    /// Where it reads.
    pub(crate) fn input(&mut self) -> &mut ChildStdin {
        &mut self.input
    }

    /// The next line that it prints.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it can be read");
        assert!(!line.is_empty(), "the program has ended");
        line.trim_end().to_owned()
    }

    /// How a call of the tool `work` ends, or of one with another name.
    fn call(&mut self, line: impl std::fmt::Display) -> Value {
        writeln!(self.input, "{line}").expect("it reads");
        serde_json::from_str(&self.line()).expect("it is JSON")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn file(name: &str) -> String {
    format!("{}/tests/loopback/clients/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The server, and where it listens.
pub(crate) fn server() -> (Program, SocketAddr) {
    let mut server = Program::start(Command::new(&SetUp::get().python).arg(file("server.py")));
    let port = server.line().parse().expect("it prints its port");
    (server, SocketAddr::from(([127, 0, 0, 1], port)))
}

/// A client of that kind, which is not connected yet.
fn client(kind: &str) -> Program {
    let set_up = SetUp::get();
    match kind {
        "typescript-sdk" => Program::start(Command::new(&set_up.node).arg(file("client.mjs")).arg(&set_up.packages)),
        kind => Program::start(Command::new(&set_up.python).arg(file("client.py")).arg(kind)),
    }
}

/// Connects a client through the tunnel. An earlier connection stays open.
fn connect(client: &mut Program, tunnel: &Tunnel) {
    writeln!(client.input, "http://{HOST}:{}/mcp", tunnel.agents.port()).expect("it reads");
    assert_eq!(client.line(), "connected");
}

/// Agents whose calls last until they are dropped, as many as it takes for the link to be full. Streams of the client that is tried
/// have the other places.
fn fill(tunnel: &Tunnel) -> Vec<Peer> {
    let mut held = Vec::new();
    loop {
        let mut agent = calling_hold(tunnel);
        // The head of an answer says that the call has its place, which no other takes from it.
        match agent.head().status() {
            200 if held.len() < CALLS_MAX => held.push(agent),
            503 => return held,
            status => panic!("status {status} with {} calls in flight", held.len()),
        }
    }
}

/// An agent whose call lasts until it is dropped, and has its place.
fn hold(tunnel: &Tunnel) -> Peer {
    let mut agent = calling_hold(tunnel);
    assert_eq!(agent.head().status(), 200);
    agent
}

/// An agent that has called the tool `hold`.
fn calling_hold(tunnel: &Tunnel) -> Peer {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"hold","arguments":{}}}"#;
    let mut agent = Peer::connect(tunnel.agents);
    agent.send(format!(
        "POST /mcp HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nMCP-Protocol-Version: 2025-11-25\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    agent
}

/// A tunnel to the server, whose connector is linked.
fn tunnel_to(server: SocketAddr, settings: &str, tables: &str) -> Tunnel {
    let mut tunnel = Tunnel::with_tables("plain", HOST, WAIT_MS, settings, tables);
    tunnel.connect(HOST, server);
    let is_linked = || {
        let mut agent = Peer::connect(tunnel.agents);
        agent.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        agent.head().status() != 503
    };
    assert!((0..TRIES).any(|_| is_linked()), "no link");
    tunnel
}

/// What a client tells of the errors for a deadline, for an open breaker, and for a tunnel that is full.
fn errors_of(kind: &str, tunnel: &Tunnel, client: &mut Program) -> [Value; 3] {
    for _ in 0..TAUGHT {
        assert_eq!(client.call(QUICK_MS)["result"], "done", "{kind}");
    }
    let held = fill(tunnel);
    let mut quick = (0..TRIES).map(|_| client.call(QUICK_MS));
    let overload = quick.find(|text| text.get("result").is_none()).unwrap_or_else(|| panic!("{kind}: it is not full"));
    drop(held);
    let mut quick = (0..TRIES).map(|_| client.call(QUICK_MS));
    assert!(quick.any(|text| text["result"] == "done"), "{kind}: it stays full");
    let deadline = client.call(LONG_MS);
    let breaker = client.call(QUICK_MS);
    [deadline, breaker, overload]
}

/// What a client tells of the errors for its own time, and for a server that works on as many calls as it can.
fn limits_of(kind: &str, tunnel: &Tunnel, client: &mut Program) -> [Value; 2] {
    assert_eq!(client.call(QUICK_MS)["result"], "done", "{kind}");
    let held = hold(tunnel);
    let overload = client.call(QUICK_MS);
    drop(held);
    let mut quick = (0..TRIES).map(|_| client.call(QUICK_MS));
    assert!(quick.any(|text| text["result"] == "done"), "{kind}: it stays full");
    [client.call(LONG_MS), overload]
}

/// Runs all of them at the same time.
fn at_once<T: Send, const N: usize>(tasks: [impl FnOnce() -> T + Send; N]) -> [T; N] {
    std::thread::scope(|scope| tasks.map(|task| scope.spawn(task)).map(|thread| thread.join().unwrap()))
}

/// The code, and how the sentence begins, of each of the errors.
const ERRORS: [(i64, &str); 5] = [
    (-31_019, "The tool 'work' did not answer within 4.0 s (usual: "),
    (-31_020, "The tool 'work' is not called at the moment: 1 of its last "),
    (-31_004, "the tunnel is at its limit: try again after a pause"),
    (-31_021, "The tool 'work' did not answer within 5.0 s (the time limit of the caller). It may have run."),
    (-31_030, "The server works on 1 calls, as many as it can at one time. The tool 'work' has not run."),
];
/// Those that come while the server's answer, which is an event stream, has begun.
const EVENTS: [i64; 2] = [-31_019, -31_021];

#[test]
fn clients_of_the_sdks_raise_their_own_errors_with_the_sentence_of_adit() {
    let (_server, address) = server();
    let kinds = ["python-sdk", "fastmcp", "openai-agents", "typescript-sdk"];
    // No call waits for a program that starts.
    let connected = |clients: [(&'static str, Program); 4], settings: &'static str, tables: &'static str| {
        at_once(clients.map(|(kind, mut client)| {
            move || {
                let tunnel = tunnel_to(address, settings, tables);
                connect(&mut client, &tunnel);
                (kind, tunnel, client)
            }
        }))
    };
    let clients = connected(kinds.map(|kind| (kind, client(kind))), SETTINGS, "");
    let reply = at_once(
        clients
            .map(|(kind, tunnel, mut client)| move || (errors_of(kind, &tunnel, &mut client), tunnel, (kind, client))),
    );
    // The first connections last, so that no client is busy with the loss of one.
    let mut tunnels = Vec::new();
    let (reply, clients): (Vec<_>, Vec<_>) = reply
        .into_iter()
        .map(|(reply, tunnel, client)| {
            tunnels.push(tunnel);
            (reply, client)
        })
        .unzip();
    let clients = clients.try_into().unwrap_or_else(|_| unreachable!("there are as many as before"));
    let limits = connected(clients, LIMITS, CLIENT_TIMEOUT);
    let limited = at_once(limits.map(|(kind, tunnel, mut client)| move || limits_of(kind, &tunnel, &mut client)));
    for ((kind, reply), limited) in kinds.iter().zip(reply).zip(limited) {
        for ((code, sentence), expected) in ERRORS.into_iter().zip(reply.iter().chain(&limited)) {
            let message = expected["message"].as_str().unwrap_or_default();
            let is_typescript = *kind == "typescript-sdk";
            if is_typescript && !EVENTS.contains(&code) {
                // Of an answer that is not 2xx it knows the status alone, and has the whole body in its message.
                assert_eq!(
                    (&expected["error"], &expected["code"]),
                    (&"StreamableHTTPError".into(), &503.into()),
                    "{expected}"
                );
                assert!(message.contains(&format!("\"code\":{code}")) && message.contains(sentence), "{expected}");
            } else if is_typescript {
                // The server answers with an event stream, which has begun, so that the error is an event.
                assert_eq!((&expected["error"], &expected["code"]), (&"McpError".into(), &code.into()), "{expected}");
                assert!(message.contains(sentence) && expected["data"]["terminal"] == true, "{expected}");
            } else {
                assert_eq!(
                    (&expected["error"], &expected["code"]),
                    (&"MCPError".into(), &code.into()),
                    "{kind}: {expected}"
                );
                assert!(message.starts_with(sentence), "{kind}: {expected}");
                let data = &expected["data"];
                let is_terminal = data["terminal"] == true;
                assert!(
                    is_terminal != data["retry_after_ms"].is_u64() && data["reason"].is_string(),
                    "{kind}: {expected}"
                );
            }
            if *kind == "openai-agents" {
                // By default it tells the model nothing of the error, and to try again.
                assert_eq!(expected["model"], "An error occurred while running the tool. Please try again.");
            }
        }
    }
}

/// The clients compare each result with the schema that the server has listed for it.
const CHANGES: &str = "[sanitise]\nsecrets = 'redact'\n\
                       [[rule]]\nname = 'rows'\neffect = 'allow'\ntools = ['rows']\nanswer_rows_max = 3\nanswer_rows_at = '/rows'\n\
                       answer_over = 'cut'\n[[rule]]\neffect = 'allow'\ntools = ['*']\n";

#[test]
fn clients_of_the_sdks_that_check_schemas_accept_what_a_policy_has_changed() {
    let (_server, address) = server();
    let tables = format!("[[host]]\nhost = '{HOST}'\npolicy_file = 'policy.toml'\n");
    let mut tunnel = Tunnel::prepared("plain", HOST, 20_000, "", &tables);
    adit::private::write(&tunnel.file("policy.toml"), CHANGES.as_bytes()).unwrap();
    tunnel.run_edge();
    tunnel.connect(HOST, address);
    for kind in ["python-sdk", "typescript-sdk"] {
        let mut client = client(kind);
        connect(&mut client, &tunnel);
        let note = client.call("note");
        assert_eq!(note["structuredContent"]["note"], "it is [redacted:secret]", "{kind}: {note}");
        let rows = client.call("rows");
        assert_eq!(rows["structuredContent"]["rows"], serde_json::json!([0, 1, 2]), "{kind}: {rows}");
        assert!(rows.to_string().contains("97 of 100 rows at \\\"/rows\\\" are left out"), "{kind}: {rows}");
        for text in [note, rows] {
            assert_ne!(text["isError"], true, "{kind}: {text}");
        }
        // With its placeholder the key would not fit its pattern. Both clients refuse a result that has no structured content and no
        // error.
        let key = client.call("key");
        assert!(key["structuredContent"].is_null() && key["isError"] == true, "{kind}: {key}");
        assert!(key.to_string().contains("does not fit the output schema of the tool"), "{kind}: {key}");
        assert!(!key.to_string().contains("AKIA"), "{kind}: {key}");
    }
}
