//! What the tests of the program share: the program, its upstream, and adit.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The longest that anything may take that does happen.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adit-loadtest"));
    command.args(args).stdin(Stdio::null());
    command
}

pub(crate) fn output(args: &[&str]) -> Output {
    program(args).output().expect("the program starts")
}

/// Runs a verb, which must end with this code, and reads its JSON.
#[track_caller]
pub(crate) fn json(code: i32, parts: &[&[&str]]) -> Value {
    let args: Vec<&str> = parts.concat();
    let out = output(&args);
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{args:?}: {stderr}{}", String::from_utf8_lossy(&out.stdout));
    serde_json::from_slice(&out.stdout).unwrap_or_else(|error| panic!("{args:?}: {error}: {stderr}"))
}

/// A child that is killed when dropped, and what it says.
pub(crate) struct Process {
    child: Child,
    /// The lines that it prints, read by a thread, so that none is waited for without a limit.
    lines: Receiver<String>,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Process {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
        let printed = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || printed.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Process { child, lines }
    }

    pub(crate) fn event(&mut self, name: &str) -> Value {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("no {name}: {error}"));
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["event"] == name {
                return event;
            }
        }
    }

    /// Its id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("there is a kill command").success());
    }

    /// Waits for its end: the code, and all that it still said.
    pub(crate) fn ended(mut self) -> (Option<i32>, String) {
        let (began, mut text) = (Instant::now(), Vec::new());
        let left = || PATIENCE.checked_sub(began.elapsed()).expect("it ends in time");
        loop {
            match self.lines.recv_timeout(left()) {
                Ok(line) => text.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it still runs: {}", text.join("\n")),
            }
        }
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code(), text.join("\n"));
            }
            left();
            std::thread::yield_now();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has mostly ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An upstream in a process of its own.
pub(crate) struct Upstream {
    /// The process.
    pub process: Process,
    /// A folder of its own.
    pub dir: tempfile::TempDir,
    /// Where it is called.
    pub url: String,
    /// The same by TLS.
    pub https_url: String,
}

impl Upstream {
    pub(crate) fn start(flags: &[&str]) -> Upstream {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.pem").display().to_string();
        let listen = ["serve", "--json", "--listen", "127.0.0.1:0", "--https-listen", "127.0.0.1:0", "--ca-out", &ca];
        let mut process = Process::start(&mut program(&[&listen, flags].concat()));
        let listening = process.event("listening");
        let text = |key: &str| listening[key].as_str().unwrap().to_owned();
        Upstream { process, dir, url: text("url"), https_url: text("https_url") }
    }

    pub(crate) fn ca(&self) -> String {
        self.dir.path().join("ca.pem").display().to_string()
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url.strip_suffix("/mcp").unwrap())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.at("").strip_prefix("http://").unwrap().parse().unwrap()
    }

    /// One of its counts.
    pub(crate) fn count(&self, name: &str) -> u64 {
        let mut socket = TcpStream::connect(self.address()).unwrap();
        socket.write_all(b"GET /stats HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        body[name].as_u64().unwrap()
    }

    /// Waits until one of its counts is so high. Calls that prove connections are counted too.
    pub(crate) fn until(&self, name: &str, count: u64) {
        self.until_it(name, |now| now >= count);
    }

    /// Waits until one of its counts is so.
    pub(crate) fn until_it(&self, name: &str, is: impl Fn(u64) -> bool) {
        let began = Instant::now();
        loop {
            let now = self.count(name);
            if is(now) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{name} is still {now} after {PATIENCE:?}");
            std::thread::yield_now();
        }
    }
}

/// `adit`, built if it is not.
pub(crate) fn adit() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_adit-loadtest")).with_file_name("adit");
    if beside.exists() {
        // Tests of the whole workspace have just built it.
        return beside;
    }
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked", "--package", "adit", "--bin", "adit"]);
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    if beside.parent().is_some_and(|folder| folder.ends_with("release")) {
        build.arg("--release");
    }
    assert!(build.status().expect("cargo can be run").success());
    beside
}
