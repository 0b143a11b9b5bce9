//! An operator's machine: a data directory, the programs that use it, and an MCP server that answers when it is let.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use adit::control::bodies::{ConnectionInfo, CreatedKey, CreatedTunnel, KeyInfo, ListPart, TunnelInfo, UpdatedTunnel};
use adit::private;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::free_address::free_address;
use crate::process::{Adit, command};

/// A data directory and where the edge over it listens.
pub(crate) struct Site {
    dir: tempfile::TempDir,
    pub(crate) edge: Option<Adit>,
    /// Where the edge is told to listen for agents.
    pub(crate) listen: String,
    pub(crate) agents: SocketAddr,
    pub(crate) connectors: String,
    pub(crate) admin: String,
    pub(crate) upstream: Upstream,
}

impl Site {
    /// Made by `adit edge init`, with an edge that runs.
    pub(crate) fn new(driver: &str) -> Site {
        Site::within(&std::env::temp_dir(), driver)
    }

    /// The same, with all its files below this folder.
    pub(crate) fn within(dir: &Path, driver: &str) -> Site {
        let dir = tempfile::tempdir_in(dir).unwrap();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut site = Site {
            dir,
            edge: None,
            listen: nowhere.to_string(),
            agents: nowhere,
            connectors: free_address().to_string(),
            admin: String::new(),
            upstream: Upstream::start(),
        };
        assert_eq!(site.init(&["--name", "localhost", "--name", "127.0.0.1"]).made.len(), 6);
        site.run_edge(driver);
        site
    }

    /// Writes the edge's configuration, which it reads when there is one.
    pub(crate) fn configure(&self, text: &str) {
        private::write(&self.dir.path().join("edge.toml"), text.as_bytes()).unwrap();
    }

    /// Starts the edge; connectors find it where it was before.
    pub(crate) fn run_edge(&mut self, driver: &str) {
        self.run_edge_with(driver, |_| {});
    }

    /// The same, with a command that is changed before.
    pub(crate) fn run_edge_with(&mut self, driver: &str, change: impl FnOnce(&mut Command)) {
        let (dir, config) = (self.data_dir(), self.dir.path().join("edge.toml"));
        let mut args = vec![
            "edge",
            "--json",
            "--data-dir",
            text_of(&dir),
            "--listen",
            &self.listen,
            "--connectors-listen",
            &self.connectors,
            "--admin",
            "127.0.0.1:0",
            "--tunnel-domain",
            "t.test",
            "--driver",
            driver,
            "--cores",
            "2",
            "--set",
            "engine.pin=false",
            "--set",
            "edge.offline_wait_ms=0",
            "--set",
            "edge.drain_timeout_ms=20s",
        ];
        if config.exists() {
            args.extend(["--config", text_of(&config)]);
        }
        let mut edge = command(&args);
        change(&mut edge);
        let edge = Adit::of(edge);
        let listening = edge.event("listening");
        let at = |what: &str| listening[what].as_str().unwrap().to_owned();
        (self.agents, self.connectors, self.admin) = (at("agents").parse().unwrap(), at("connectors"), at("admin"));
        self.edge = Some(edge);
    }

    /// Ends the edge as an operator does.
    pub(crate) fn end_edge(&mut self) {
        let edge = self.edge.take().unwrap();
        edge.signal("TERM");
        assert_eq!(edge.ended(), Some(0));
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Runs a command of the program to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        let mut command = command(args);
        command.env("ADIT_EDGE_DATA_DIR", self.data_dir()).env("ADIT_ADMIN_URL", &self.admin);
        command.output().unwrap()
    }

    /// The same, which must go well and print JSON of this type.
    pub(crate) fn adit<T: DeserializeOwned>(&self, args: &[&str]) -> T {
        let done = self.run(args);
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        serde_json::from_slice(&done.stdout).unwrap_or_else(|error| panic!("{args:?}: {error}"))
    }

    /// `adit edge init …`
    pub(crate) fn init(&self, args: &[&str]) -> InitOutput {
        self.adit(&[&["edge", "init", "--json"], args].concat())
    }

    /// `adit tunnel …`, as JSON of this type.
    pub(crate) fn tunnel<T: DeserializeOwned>(&self, args: &[&str]) -> T {
        self.adit(&[&["tunnel", "--json"], args].concat())
    }

    /// `adit tunnel …`, which must go well. What it prints is of no interest.
    pub(crate) fn run_tunnel(&self, args: &[&str]) {
        let done = self.run(&[&["tunnel"], args].concat());
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    pub(crate) fn create(&self, args: &[&str]) -> CreatedTunnel {
        self.tunnel(&[&["create"], args].concat())
    }

    pub(crate) fn update(&self, id: &str, args: &[&str]) -> UpdatedTunnel {
        self.tunnel(&[&["update", id], args].concat())
    }

    pub(crate) fn show(&self, id: &str) -> TunnelInfo {
        self.tunnel(&["show", id])
    }

    /// The tunnels: all on one page, as there are few.
    pub(crate) fn list(&self, args: &[&str]) -> Vec<TunnelInfo> {
        self.tunnel::<ListPart<_>>(&[&["list"], args].concat()).data
    }

    /// The links of a tunnel.
    pub(crate) fn connections(&self, id: &str) -> Vec<ConnectionInfo> {
        self.tunnel::<ListPart<_>>(&["connections", id]).data
    }

    /// Makes a provisioning key.
    pub(crate) fn create_key(&self, args: &[&str]) -> CreatedKey {
        self.tunnel(&[&["key", "create"], args].concat())
    }

    /// The provisioning keys.
    pub(crate) fn keys(&self) -> Vec<KeyInfo> {
        self.tunnel::<ListPart<_>>(&["key", "list"]).data
    }

    /// What `adit tunnel …` says when it is refused.
    pub(crate) fn refused(&self, args: &[&str]) -> String {
        let done = self.run(&[&["tunnel"], args].concat());
        assert_eq!(done.status.code(), Some(1), "{args:?}: {}", String::from_utf8_lossy(&done.stdout));
        String::from_utf8(done.stderr).unwrap()
    }

    /// Whether the edge does not let a connector in with this token.
    pub(crate) fn is_refused(&self, host: &str, token: &str) -> bool {
        self.start_connector(host, token, &[]).next_of(&["linked", "no_link"])["event"] == "no_link"
    }

    /// A connector for a host, with this token.
    pub(crate) fn connect(&self, host: &str, token: &str) -> Adit {
        self.connect_with(host, token, &[])
    }

    /// The same, with more flags.
    pub(crate) fn connect_with(&self, host: &str, token: &str, more: &[&str]) -> Adit {
        let connector = self.start_connector(host, token, more);
        connector.event("linked");
        connector
    }

    pub(crate) fn start_connector(&self, host: &str, token: &str, more: &[&str]) -> Adit {
        let args = self.connector_args(host, token);
        let args: Vec<&str> = args.iter().map(String::as_str).chain(more.iter().copied()).collect();
        Adit::start(&args)
    }

    /// The arguments of a connector for a host, with this token, which is put into a file.
    pub(crate) fn connector_args(&self, host: &str, token: &str) -> Vec<String> {
        let (_, file) = tempfile::NamedTempFile::with_suffix_in(".token", self.dir.path()).unwrap().keep().unwrap();
        private::write(&file, token.as_bytes()).unwrap();
        let route = format!("{host}=http://{}", self.upstream.address);
        let args = [
            "connect",
            "--json",
            "--edge",
            &self.connectors,
            "--token-file",
            text_of(&file),
            "--route",
            &route,
            "--cores",
            "1",
            "--set",
            "engine.pin=false",
            "--log-level",
            "error",
        ];
        args.map(str::to_owned).to_vec()
    }

    /// The same with a configuration file in place of `--route`, and with an admin listener.
    pub(crate) fn connector_args_of(&self, config: &Path, token: &str) -> Vec<String> {
        let mut args = self.connector_args("", token);
        let at = args.iter().position(|arg| arg == "--route").unwrap();
        args.splice(at..at + 2, ["--config", text_of(config), "--admin", "127.0.0.1:0"].map(str::to_owned));
        args
    }

    /// The credentials of the links that are up, as soon as they are those that are wanted.
    pub(crate) fn until_linked_by(&self, id: &str, wanted: &[&str]) {
        loop {
            let links = self.connections(id);
            let up = links.iter().filter(|link| !link.draining);
            let mut by: Vec<&str> = up.filter_map(|link| link.credential_id.as_deref()).collect();
            by.sort_unstable();
            by.dedup();
            let mut wanted = wanted.to_vec();
            wanted.sort_unstable();
            if by == wanted {
                return;
            }
        }
    }

    /// Waits until a link of this tunnel is up.
    pub(crate) fn until_linked(&self, id: &str) {
        while self.connections(id).iter().all(|link| link.draining) {}
    }

    /// One tool call: the status and what was answered.
    pub(crate) fn call(&self, host: &str, tool: &str) -> (u16, Value) {
        self.begin_call(host, tool).answer()
    }

    /// A tool call whose answer is waited for later.
    pub(crate) fn begin_call(&self, host: &str, tool: &str) -> Call {
        begin_call(self.agents, host, tool)
    }
}

/// A tool call of an agent at this edge.
pub(crate) fn begin_call(agents: SocketAddr, host: &str, tool: &str) -> Call {
    let body = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"{tool}"}}}}"#);
    let mut stream = TcpStream::connect(agents).unwrap();
    write!(
        stream,
        "POST /mcp HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    Call(stream)
}

/// What `adit edge init --json` prints of the files that it made.
#[derive(Deserialize)]
pub(crate) struct InitOutput {
    pub(crate) made: Vec<PathBuf>,
}

/// A call that is under way.
pub(crate) struct Call(TcpStream);

impl Call {
    pub(crate) fn answer(mut self) -> (u16, Value) {
        let mut answer = String::new();
        self.0.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or_default())
    }
}

/// An MCP server whose tool `slow` answers when it is let.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    arrived: Receiver<()>,
    release: Sender<()>,
}

impl Upstream {
    fn start() -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (arriving, arrived) = channel();
        let (release, gate) = channel();
        let gate = Arc::new(Mutex::new(gate));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (arriving, gate) = (arriving.clone(), Arc::clone(&gate));
                std::thread::spawn(move || serve(stream, &arriving, &gate));
            }
        });
        Upstream { address, arrived, release }
    }

    /// Waits until a call of `slow` has come.
    pub(crate) fn until_called(&self) {
        self.arrived.recv_timeout(crate::process::PATIENCE).unwrap();
    }

    /// Lets one call of `slow` have its answer.
    pub(crate) fn release(&self) {
        self.release.send(()).unwrap();
    }
}

fn serve(mut stream: TcpStream, arriving: &Sender<()>, gate: &Mutex<Receiver<()>>) {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_ascii_lowercase().split("content-length: ").nth(1).unwrap_or("0").to_owned();
            if body.len() >= length.split("\r\n").next().unwrap().parse().unwrap() {
                if body.contains("slow") {
                    // The test that waited may be over.
                    let _ = arriving.send(());
                    let _ = gate.lock().unwrap().recv();
                }
                let body = r#"{"jsonrpc":"2.0","id":7,"result":{}}"#;
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ";
                if write!(stream, "{head}{}\r\n\r\n{body}", body.len()).is_err() {
                    return;
                }
                bytes.clear();
                continue;
            }
        }
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(n) => bytes.extend_from_slice(&piece[..n]),
        }
    }
}

pub(crate) fn text_of(path: &Path) -> &str {
    path.to_str().unwrap()
}
