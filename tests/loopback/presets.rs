//! Real servers of the SDKs, which protect themselves against DNS rebinding: without a preset they refuse what agents send through
//! adit, with theirs they answer it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::conformance::setup::SetUp;
use crate::guard::doctor::examine;
use crate::raw::{Peer, latin1};
use crate::tunnel_processes::Tunnel;

/// The hosts of the tunnel: one for each route.
const HOSTS: &str = "*.mcp.test";
/// The page whose scripts call the servers. The edge allows it.
const PAGE: &str = "https://app.example.com";
const RULES: &str = "allowed_origins = ['https://app.example.com']";
const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}"#;

/// A server of an SDK, killed when dropped.
struct Server {
    child: Child,
    /// The upstream of its routes.
    upstream: String,
}

impl Server {
    /// One that the Python program makes, at an IPv4 address or at `unix:` and a path.
    fn python(kind: &str, address: &str) -> Server {
        let mut command = Command::new(&SetUp::get().python);
        command.arg(program("server.py")).args([kind, address]);
        Server::of(command, address)
    }

    fn typescript(address: &str) -> Server {
        let set_up = SetUp::get();
        let mut command = Command::new(&set_up.node);
        command.arg(program("server.mjs")).arg(&set_up.packages).arg(address);
        Server::of(command, address)
    }

    fn of(mut command: Command, address: &str) -> Server {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the program runs");
        let mut line = String::new();
        let out = child.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut line).expect("it says where it listens");
        let at = line.trim();
        let upstream = if address.starts_with("unix:") { address.to_owned() } else { format!("http://{address}:{at}") };
        Server { child, upstream }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program(name: &str) -> String {
    format!("{}/tests/loopback/presets/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The status and the body of the answer to `initialize`.
fn initialize(tunnel: &Tunnel, host: &str, origin: Option<&str>) -> (u16, String) {
    let mut agent = Peer::connect(tunnel.agents);
    let origin = origin.map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
    agent.send(format!(
        "POST /mcp HTTP/1.1\r\nHost: {host}\r\n{origin}Content-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n\r\n{INITIALIZE}",
        INITIALIZE.len()
    ));
    let head = agent.head();
    (head.status(), latin1(&agent.body(&head)))
}

#[test]
fn servers_of_the_sdks_answer_with_their_preset_and_refuse_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let socket = |name: &str| format!("unix:{}", Path::new(dir.path()).join(name).display());
    // For each: its preset, and what it answers without one to a program and to a page. A Unix socket has no port, and another
    // address of this host is not `localhost`.
    let servers = [
        ("python-sdk", Server::python("python-sdk", &socket("python-sdk")), 421, 421),
        ("python-sdk", Server::python("python-sdk", "127.0.0.1"), 200, 403),
        ("fastmcp", Server::python("fastmcp", &socket("fastmcp")), 200, 403),
        ("fastmcp", Server::python("fastmcp", "127.0.0.1"), 200, 403),
        ("typescript-sdk", Server::typescript("127.0.0.2"), 403, 403),
        ("typescript-sdk", Server::typescript("127.0.0.1"), 200, 403),
    ];
    let host = |n: usize, how: &str| format!("{n}-{how}.mcp.test");
    let routes: String = servers.iter().enumerate().fold(String::new(), |routes, (n, (preset, server, ..))| {
        let upstream = format!("upstream = '{}'", server.upstream);
        let route = |how: &str, more: &str| format!("[[route]]\nhost = '{}'\n{upstream}\n{more}\n", host(n, how));
        routes + &route("without", "") + &route("with", &format!("preset = '{preset}'"))
    });
    let mut tunnel = Tunnel::without_connector("plain", HOSTS, 20_000, RULES);
    tunnel.connect_routes(&routes);
    for (n, (preset, server, to_program, to_page)) in servers.iter().enumerate() {
        for (origin, refusal) in [(None, *to_program), (Some(PAGE), *to_page)] {
            let name = format!("{preset} at {}, origin {origin:?}", server.upstream);
            let (status, answer) = initialize(&tunnel, &host(n, "without"), origin);
            assert_eq!(status, refusal, "{name}, without a preset: {answer}");
            let (status, answer) = initialize(&tunnel, &host(n, "with"), origin);
            assert!(status == 200 && answer.contains("\"serverInfo\""), "{name}, with its preset: {status} {answer}");
        }
    }
    // The doctor names the setting where it is missing, and only there.
    let (_, findings) = examine(&tunnel.connector_settings(), &[]);
    let message =
        |host: &str| findings.iter().filter(|found| found["found"].to_string().contains(host)).collect::<Vec<_>>();
    for n in 0..servers.len() {
        let (without, with) = (message(&host(n, "without")), message(&host(n, "with")));
        assert!(without.iter().any(|found| found["remedy"].to_string().contains("preset")), "{without:#?}");
        for check in ["upstream.mcp", "upstream.origin"] {
            assert!(with.iter().any(|found| found["check"] == check && found["verdict"] == "ok"), "{with:#?}");
        }
    }
}
