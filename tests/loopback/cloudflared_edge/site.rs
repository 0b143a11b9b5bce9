//! An edge with a tunnel, a server, and a connector of cloudflared between them.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use adit::base::{Secret, TunnelId};
use adit::wire::cloudflared::{TunnelCredentials, TunnelUuid};

use crate::cloudflared::origin::Origin;
use crate::free_address::free_address;
use crate::process::{PATIENCE, command};
use crate::tunnel_processes::{SECRET, Tunnel};

/// The host that agents call.
pub(crate) const HOST: &str = "mcp.test";

/// An edge and a server.
pub(crate) struct Site {
    pub(crate) tunnel: Tunnel,
    pub(crate) origin: Origin,
    /// Where connectors of cloudflared connect.
    pub(crate) address: SocketAddr,
}

/// A running connector.
pub(crate) struct Connector {
    child: Child,
    log: Receiver<String>,
}

/// What a connector needs to serve the tunnel, with this secret.
pub(crate) fn credentials(secret: &str) -> TunnelCredentials {
    let tunnel: TunnelId = "tnl_test".parse().unwrap();
    TunnelCredentials {
        account: tunnel.to_string(),
        tunnel: TunnelUuid::of_tunnel(&tunnel),
        secret: Secret::from(secret),
        endpoint: None,
    }
}

/// Runs a test on one thread with a runtime.
pub(crate) fn run<F: Future>(test: impl FnOnce(Site) -> F) -> F::Output {
    run_with(|_| String::new(), test)
}

/// The same, with more settings of the tunnel, which may name the server.
pub(crate) fn run_with<F: Future>(
    settings: impl FnOnce(SocketAddr) -> String,
    test: impl FnOnce(Site) -> F,
) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { test(Site::start(settings).await).await })
}

impl Site {
    async fn start(settings: impl FnOnce(SocketAddr) -> String) -> Site {
        let (address, origin) = (free_address(), Origin::start().await);
        let more = format!("cloudflared_listen = '{address}'");
        let tunnel = Tunnel::with_tables("plain", HOST, 20_000, &more, &settings(origin.address));
        Site { tunnel, origin, address }
    }

    /// A connector with this many connections, whose server is the origin.
    pub(crate) fn connect(&self, connections: usize) -> Connector {
        self.connect_to(connections, self.origin.address, SECRET)
    }

    /// A connector with this secret, whose server has this address.
    pub(crate) fn connect_to(&self, connections: usize, server: SocketAddr, secret: &str) -> Connector {
        let stock = std::env::var_os("ADIT_TEST_CLOUDFLARED").map(PathBuf::from);
        let mut command = stock.map_or_else(|| command(&["cloudflared"]), Command::new);
        command.args(["tunnel", "--no-autoupdate", "--no-prechecks", "--metrics", "127.0.0.1:0", "run"]);
        command.args(["--protocol", "http2", "--url", &format!("http://{server}")]);
        command.env("TUNNEL_TOKEN", credentials(secret).token());
        command.env("TUNNEL_EDGE", vec![self.address.to_string(); connections].join(","));
        command.env("TUNNEL_CACERT", self.tunnel.file("ca.pem")).env("HOME", self.tunnel.file(""));
        Connector::start(command)
    }

    /// A client of agents. It follows nothing and has no proxy.
    pub(crate) fn agent(&self) -> reqwest::Client {
        let builder = reqwest::Client::builder().no_proxy().timeout(PATIENCE);
        builder.resolve(HOST, self.tunnel.agents).build().unwrap()
    }

    /// The URL of a path at the edge.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{HOST}:{}{path}", self.tunnel.agents.port())
    }
}

impl Connector {
    fn start(mut command: Command) -> Connector {
        let mut child = command.stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, log) = channel();
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
        Connector { child, log }
    }

    /// The next line of the log with this text.
    pub(crate) fn line(&self, text: &str) -> String {
        loop {
            let line = self.log.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no line with {text}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Waits until this many connections are registered.
    pub(crate) fn registered(&self, connections: usize) {
        (0..connections).for_each(|_| drop(self.line("Registered tunnel connection")));
    }

    /// Asks it to end.
    pub(crate) fn stop(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    /// Waits until it has ended, and gives back its exit code.
    pub(crate) fn ended(mut self) -> Option<i32> {
        while self.log.recv_timeout(PATIENCE).is_ok() {}
        self.child.wait().unwrap().code()
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        // It has mostly ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Fails a test whose step does not come.
pub(crate) async fn within<T>(step: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), step).await.expect("it happens in time")
}
