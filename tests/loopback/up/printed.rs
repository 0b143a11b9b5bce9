//! What `adit up` prints for people, and what is left when they stop reading.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use serde_json::Value;

use super::{UP, client_trusting};
use crate::conformance::setup::SetUp;
use crate::process::{Adit, PATIENCE, TEMPORARY, command};

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}"#;

/// `adit up` for people, killed when dropped.
struct Up(Child);

impl Up {
    fn start(more: &[&str], temporary: &std::path::Path) -> Up {
        let args = [&["up", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"], more].concat();
        let mut command = command(&args);
        command.env(TEMPORARY, temporary).stdout(Stdio::piped()).stderr(Stdio::piped());
        Up(command.spawn().unwrap())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_client_can_use_the_url_that_is_printed_for_a_server_without_a_path() {
    // An MCP server at /mcp, as servers have it: the demo of another process.
    let server = Adit::start(&UP);
    let [listening, _] = server.events(["listening", "linked"]);
    let upstream = format!("http://{}", listening["agents"].as_str().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut up = Up::start(&["--upstream", &upstream], dir.path());
    let lines = BufReader::new(up.0.stdout.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.into_iter().find(|line| line.contains("npx")).expect("a command is printed");
    let words: Vec<&str> = line.split_whitespace().collect();
    let ca = words[0].strip_prefix("NODE_EXTRA_CA_CERTS=").expect("the authority is named first");
    let url = words[words.iter().position(|word| *word == "--cli").expect("the URL follows") + 1];
    let port = url.trim_start_matches("https://localhost:").split('/').next().unwrap().parse().unwrap();
    let client = client_trusting(&fs::read(ca).unwrap(), "localhost", SocketAddr::from(([127, 0, 0, 1], port)));
    let started = std::time::Instant::now();
    let answer = loop {
        let request = client.post(url).header("content-type", "application/json");
        let request = request.header("accept", "application/json, text/event-stream").body(INITIALIZE);
        let answer = request.send().await.unwrap();
        // The connector may not have dialled yet.
        if answer.status() != 503 {
            break answer;
        }
        assert!(started.elapsed() < PATIENCE, "no link was established");
    };
    let (status, body) = (answer.status(), answer.text().await.unwrap());
    assert!(status == 200 && body.contains("\"serverInfo\""), "{url}: {status} {body}");
}

#[test]
fn the_programs_printed_for_the_python_sdk_list_the_tools() {
    let up = Adit::start(&UP);
    let [listening, _] = up.events(["listening", "linked"]);
    let (admin, ca) = (listening["admin_url"].as_str().unwrap(), listening["ca_file"].as_str().unwrap());
    let https = listening["agent_url"].as_str().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let guarded = ["--url", https, "--ca-file", ca, "--token-env", "AGENT_TOKEN"];
    for (name, flags) in [("plain.py", &["--admin", admin][..]), ("guarded.py", &guarded[..])] {
        let out = command(&[&["client-config", "python", "--json"], flags].concat()).output().unwrap();
        let body: Value = serde_json::from_slice(&out.stdout).unwrap();
        let program = body["clients"][0]["steps"][1]["text"].as_str().unwrap();
        fs::write(dir.path().join(name), program).unwrap();
        let mut python = std::process::Command::new(&SetUp::get().python);
        let out = python.arg(dir.path().join(name)).env("AGENT_TOKEN", "t").output().unwrap();
        let (printed, output) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(printed.contains("'echo'"), "{program}{printed}{output}");
    }
    for (code, args) in [
        (0, &["client-config"][..]),
        (2, &["client-config", "cursor", "--url", "unix:/run/mcp.sock"]),
        (2, &["client-config", "cursor", "--url", https, "--ca-file", "no such file"]),
        (2, &["client-config", "cursor", "--token-env", "Bearer secret"]),
        (1, &["client-config", "cursor", "--admin", "http://127.0.0.1:1"]),
    ] {
        assert_eq!(command(args).output().unwrap().status.code(), Some(code), "{args:?}");
    }
}

#[test]
fn nothing_is_left_behind_when_the_reader_goes_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut up = Up::start(&[], dir.path());
    // As `head` does, but before anything was written.
    drop(up.0.stdout.take());
    let log = BufReader::new(up.0.stderr.take().unwrap()).lines().map_while(Result::ok);
    // The figures come after all that is printed.
    let mut log = log.skip_while(|line| !line.contains("no calls yet"));
    log.next().expect("it goes on");
    let killed = std::process::Command::new("kill").arg(up.0.id().to_string()).status().unwrap();
    assert!(killed.success());
    log.for_each(drop);
    assert_eq!(up.0.wait().unwrap().code(), Some(0));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn files_of_a_killed_process_are_removed_and_those_of_a_running_one_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let start = || {
        let mut command = command(&UP);
        command.env(TEMPORARY, dir.path());
        let adit = Adit::of(command);
        let file = PathBuf::from(adit.event("listening")["ca_file"].as_str().unwrap());
        (adit, file)
    };
    let (killed, left) = start();
    let (running, used) = start();
    assert!(left.exists(), "its process runs");
    killed.ended_by("KILL");
    assert!(left.exists(), "nothing of it could remove this");
    let (next, own) = start();
    assert!(!left.parent().unwrap().exists() && used.exists() && own.exists());
    for adit in [running, next] {
        adit.signal("TERM");
        assert_eq!(adit.ended(), Some(0));
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
