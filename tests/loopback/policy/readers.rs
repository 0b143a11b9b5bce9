//! What a policy lets pass, read by the SDKs of servers: whatever they take for a call is one that the policy allows. The bodies are
//! generated to be read in different ways.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use adit::base::{Hex, Rng, Traffic};
use adit::engine::ladder::DriverChoice;
use adit::policy::ToolPolicy;

use super::bodies::{self, Body};
use super::read_answer;
use crate::conformance::setup::SetUp;
use crate::support::{HOST, Tunnel};

/// How many bodies are sent in the ordinary run. `ADIT_TEST_BODIES` asks for more.
const BODIES: u64 = 4_000;
const POLICY: &str = "[[rule]]\neffect = 'allow'\ntools = ['get_a', 'naïve 🦀', 'get \"b\"\\c']\nprompts = ['ask_a']\n\
    resources = ['file:///docs/a']\n[[rule]]\neffect = 'allow'\nmethods = ['x/own']\n";

/// Whether the policy allows a call.
fn is_allowed(method: &str, name: Option<&str>) -> bool {
    match (method, name) {
        ("tools/call", Some(name)) => bodies::TOOLS.contains(&name),
        ("prompts/get", Some(name)) => name == bodies::PROMPT,
        ("resources/read" | "resources/subscribe" | "resources/unsubscribe", Some(uri)) => uri == bodies::RESOURCE,
        ("completion/complete", Some(name)) => name == bodies::PROMPT || name == bodies::RESOURCE,
        ("x/own" | "ping" | "initialize" | "tools/list" | "server/discover", None) => true,
        (method, None) => method.starts_with("notifications/"),
        _ => false,
    }
}

/// The bodies that came whole.
type Passed = Arc<Mutex<Vec<Vec<u8>>>>;

/// A server that keeps what it gets, and answers it.
fn serve(passed: &Passed) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let passed = Arc::clone(passed);
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let passed = Arc::clone(&passed);
            thread::spawn(move || {
                let mut bytes = Vec::new();
                while let Some(body) = next_body(&mut socket, &mut bytes) {
                    passed.lock().unwrap().push(body);
                    let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
                    if socket.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// The next body, if it comes whole. `bytes` are those that were read too far.
fn next_body(socket: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut piece = [0; 65_536];
    let mut more = |bytes: &mut Vec<u8>| match socket.read(&mut piece) {
        Ok(n) if n > 0 => {
            bytes.extend_from_slice(&piece[..n]);
            Some(())
        }
        _ => None,
    };
    let head = loop {
        if let Some(at) = find(bytes, b"\r\n\r\n") {
            break bytes.drain(..at + 4).collect::<Vec<_>>();
        }
        more(bytes)?;
    };
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let mut body = Vec::new();
    if !head.contains("transfer-encoding: chunked") {
        let len = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap();
        while bytes.len() < len {
            more(bytes)?;
        }
        body.extend(bytes.drain(..len));
        return Some(body);
    }
    loop {
        let Some(at) = find(bytes, b"\r\n") else {
            more(bytes)?;
            continue;
        };
        let len = usize::from_str_radix(std::str::from_utf8(&bytes[..at]).unwrap(), 16).unwrap();
        if bytes.len() < at + 2 + len + 2 {
            more(bytes)?;
            continue;
        }
        body.extend_from_slice(&bytes[at + 2..at + 2 + len]);
        bytes.drain(..at + 2 + len + 2);
        if len == 0 {
            return Some(body);
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|part| part == what)
}

/// Sends a body whole or in chunks, and returns the status of the answer and whether the connection ends.
fn send(agent: &mut TcpStream, rng: &mut Rng, body: &[u8]) -> (u16, bool) {
    let head = format!("POST /mcp HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n");
    let mut request = head.into_bytes();
    if rng.chance(0.7) {
        request.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        request.extend_from_slice(body);
    } else {
        request.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
        let mut rest = body;
        while !rest.is_empty() {
            let (chunk, behind) =
                rest.split_at(rng.between(1, 40.max(rest.len() as u64 / 20)).min(rest.len() as u64) as usize);
            request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            request.extend_from_slice(chunk);
            request.extend_from_slice(b"\r\n");
            rest = behind;
        }
        request.extend_from_slice(b"0\r\n\r\n");
    }
    // A body that is refused is not read to its end.
    let _ = agent.write_all(&request);
    let answer = read_answer(agent);
    (answer[9..12].parse().unwrap(), answer.to_ascii_lowercase().contains("connection: close"))
}

/// What the readers of a program make of each body: the calls that any of them takes it for.
fn readings(command: &mut Command, bodies: &[Vec<u8>]) -> Vec<Vec<(String, Option<String>)>> {
    let mut program = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program runs");
    let mut input = program.stdin.take().unwrap();
    let lines: String = bodies.iter().map(|body| format!("{}\n", Hex(body))).collect();
    let writing = thread::spawn(move || input.write_all(lines.as_bytes()).unwrap());
    let mut text = String::new();
    program.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    writing.join().unwrap();
    assert!(program.wait().unwrap().success());
    let calls: Vec<_> =
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    assert_eq!(calls.len(), bodies.len());
    calls
}

#[test]
fn sdks_read_accepted_bodies_as_the_policy_did() {
    let count = std::env::var("ADIT_TEST_BODIES").map_or(BODIES, |count| count.parse().unwrap());
    let passed = Passed::default();
    let mut rng = Rng::new(13);
    let mut statuses = BTreeMap::new();
    for (driver, at_edge) in [(DriverChoice::Epoll, true), (DriverChoice::Uring, false)] {
        let tunnel = Tunnel::with_upstreams(driver, Traffic::Plain, (1, 1), &[serve(&passed)]);
        let policy = Arc::new(ToolPolicy::parse(POLICY).unwrap());
        tunnel.govern(at_edge, &policy);
        let mut agent = tunnel.plain_agent();
        for _ in 0..count / 2 {
            let Body { bytes, is_clean } = Body::generate(&mut rng);
            let (status, ends) = send(&mut agent, &mut rng, &bytes);
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(2_000)]).into_owned();
            assert!([200, 400, 413].contains(&status), "{status} {at_edge}: {text}");
            assert!(!is_clean || status == 200, "{status}: a body that is as the standards want it is refused: {text}");
            *statuses.entry(status).or_insert(0_u64) += 1;
            if ends {
                agent = tunnel.plain_agent();
            }
        }
        tunnel.end();
    }
    let passed = std::mem::take(&mut *passed.lock().unwrap());
    let set_up = SetUp::get();
    let file = |name: &str| format!("{}/tests/loopback/policy/{name}", env!("CARGO_MANIFEST_DIR"));
    let by_python = readings(Command::new(&set_up.python).arg(file("reads.py")), &passed);
    let by_node = readings(Command::new(&set_up.node).arg(file("reads.mjs")).arg(&set_up.packages), &passed);
    let mut read = 0;
    for ((body, python), node) in passed.iter().zip(&by_python).zip(&by_node) {
        for (method, name) in python.iter().chain(node) {
            let text = String::from_utf8_lossy(body);
            assert!(is_allowed(method, name.as_deref()), "{method} {name:?} has passed as {text} ({})", Hex(body));
        }
        read += u64::from(!python.is_empty()) + u64::from(!node.is_empty());
    }
    // Most is refused, and enough passes and is read.
    assert!(statuses[&400] > count / 4 && passed.len() as u64 > count / 10 && read > count / 8, "{statuses:?} {read}");
}

/// That the readers find what is to be found: a body that nothing has refused, and that each reads in its own way.
#[test]
fn the_readers_of_the_sdks_differ_where_nothing_is_between() {
    let utf16: Vec<u8> = call("drop").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let doubled = call("get_a").replace("\"name\":", "\"name\":\"drop\",\"name\":").into_bytes();
    let bodies = [call("drop").into_bytes(), utf16, doubled, format!("[{}]", call("drop")).into_bytes()];
    let set_up = SetUp::get();
    let file = |name: &str| format!("{}/tests/loopback/policy/{name}", env!("CARGO_MANIFEST_DIR"));
    let by_python = readings(Command::new(&set_up.python).arg(file("reads.py")), &bodies);
    let by_node = readings(Command::new(&set_up.node).arg(file("reads.mjs")).arg(&set_up.packages), &bodies);
    let of = |name: &str| vec![("tools/call".to_owned(), Some(name.to_owned()))];
    assert_eq!(by_python, [of("drop"), of("drop"), of("get_a"), Vec::new()]);
    assert_eq!(by_node, [of("drop"), Vec::new(), of("get_a"), of("drop")]);
}

fn call(tool: &str) -> String {
    super::call(tool)
}
