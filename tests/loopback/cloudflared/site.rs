//! A connector with an edge and a server.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::edge::{Edge, within};
use super::origin::Origin;
use super::quic_edge::QuicEdge;
use crate::process::command;

/// The token of the tunnel 3d539f97-cd3a-4d8e-c33b-65e9099c7a8d of the account `acct` with the secret `secret`.
pub(crate) const TOKEN: &str =
    "eyJhIjoiYWNjdCIsInQiOiIzZDUzOWY5Ny1jZDNhLTRkOGUtYzMzYi02NWU5MDk5YzdhOGQiLCJzIjoiYzJWamNtVjAifQ==";

/// An edge and a server, and what connectors need to reach them.
pub(crate) struct Site {
    pub(crate) edge: Edge,
    pub(crate) origin: Origin,
    files: tempfile::TempDir,
}

/// A running connector.
pub(crate) struct Connector {
    child: Child,
    log: UnboundedReceiver<String>,
    /// Where its metrics are.
    pub(crate) metrics: SocketAddr,
}

/// Runs a test on one thread with a runtime.
pub(crate) fn run<F: Future>(test: impl FnOnce(Site) -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let files = tempfile::tempdir().unwrap();
        let edge = Edge::start(&files.path().join("ca.pem")).await;
        test(Site { edge, origin: Origin::start().await, files }).await
    })
}

impl Site {
    /// The same words that a container of cloudflared has, with this edge as often as there are to be connections.
    pub(crate) async fn connect(&self, connections: usize, more: &[&str]) -> Connector {
        self.connect_by("http2", connections, more).await
    }

    /// The same over another protocol.
    pub(crate) async fn connect_by(&self, protocol: &str, connections: usize, more: &[&str]) -> Connector {
        self.start(self.edge.address, "ca.pem", protocol, connections, more).await
    }

    /// An edge over QUIC.
    pub(crate) fn quic_edge(&self) -> QuicEdge {
        QuicEdge::start(&self.files.path().join("quic-ca.pem"))
    }

    /// A connector of that edge.
    pub(crate) async fn connect_quic(
        &self,
        edge: &QuicEdge,
        protocol: &str,
        connections: usize,
        more: &[&str],
    ) -> Connector {
        self.start(edge.address, "quic-ca.pem", protocol, connections, more).await
    }

    /// The URL of the server.
    pub(crate) fn origin_url(&self) -> String {
        format!("http://{}", self.origin.address)
    }

    async fn start(
        &self,
        edge: SocketAddr,
        ca_file: &str,
        protocol: &str,
        connections: usize,
        more: &[&str],
    ) -> Connector {
        let edges = vec![edge.to_string(); connections].join(",");
        let ca = self.files.path().join(ca_file);
        let mut command = command(&["cloudflared", "tunnel", "--no-autoupdate", "--metrics", "127.0.0.1:0"]);
        command.args(["run", "--protocol", protocol]).args(more);
        command.env("TUNNEL_TOKEN", TOKEN).env("TUNNEL_EDGE", edges).env("TUNNEL_CACERT", ca);
        command.env("HOME", self.files.path());
        Connector::start(command).await
    }

    /// A connector with one connection, whose rule is the server.
    pub(crate) async fn connect_to_origin(&self) -> Connector {
        self.connect(1, &["--url", &format!("http://{}", self.origin.address)]).await
    }

    /// A file with rules.
    pub(crate) fn rules(&self, text: &str) -> String {
        let path = self.files.path().join("config.yml");
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Connector {
    /// Starts this command, and waits until it says where its metrics are.
    pub(crate) async fn start(mut command: Command) -> Connector {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, log) = unbounded_channel();
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
        let mut connector = Connector { child, log, metrics: ([127, 0, 0, 1], 0).into() };
        let line = connector.line("Starting metrics server on ").await;
        let address = line.split_once("server on ").and_then(|(_, rest)| rest.split_once("/metrics"));
        connector.metrics = address.unwrap().0.parse().unwrap();
        connector
    }

    /// The next line of the log with this text.
    pub(crate) async fn line(&mut self, text: &str) -> String {
        loop {
            let line = within(self.log.recv()).await.unwrap_or_else(|| panic!("no line with {text}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Waits until it says that this many connections take calls.
    pub(crate) async fn until_ready(&self, connections: usize) {
        let wanted = format!("\"readyConnections\":{connections}");
        let asking = async { while !self.page("/ready").await.1.contains(&wanted) {} };
        within(asking).await;
    }

    /// Asks it to end.
    pub(crate) fn stop(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    /// Waits until it has ended, and gives back its exit code.
    pub(crate) async fn ended(mut self) -> Option<i32> {
        while within(self.log.recv()).await.is_some() {}
        self.child.wait().unwrap().code()
    }

    /// A page of its metrics server: the status and the body.
    pub(crate) async fn page(&self, path: &str) -> (u16, String) {
        let answer = within(reqwest::get(format!("http://{}{path}", self.metrics))).await.unwrap();
        (answer.status().as_u16(), within(answer.text()).await.unwrap())
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        // It has mostly ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
