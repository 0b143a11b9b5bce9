//! The server of HTTP/2 of Node, which is built on nghttp2, as an upstream.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use adit::tls::{Authority, ClientSettings, Roots, client_config};
use adit::upstream::UpstreamSettings;
use rustls::pki_types::UnixTime;

/// The server, which ends with this.
pub(crate) struct Node {
    child: Child,
    stdout: BufReader<ChildStdout>,
    files: tempfile::TempDir,
    authority: Authority,
    pub(crate) port: u16,
}

impl Node {
    /// Starts one that listens so.
    pub(crate) fn start(how: &str) -> Node {
        Node::start_with(how, None)
    }

    /// Starts one that listens so, and passes all requests on to a server of HTTP/1.1 at this port.
    pub(crate) fn before(how: &str, port: u16) -> Node {
        Node::start_with(how, Some(port))
    }

    fn start_with(how: &str, passes_on_to: Option<u16>) -> Node {
        let files = tempfile::tempdir().unwrap();
        let authority = Authority::new("adit test", UnixTime::now(), 1).unwrap();
        let issued = authority.issue(&["127.0.0.1"]).unwrap();
        let path = |name: &str| files.path().join(name);
        std::fs::write(path("ca"), authority.cert_pem()).unwrap();
        std::fs::write(path("cert"), &issued.cert_pem).unwrap();
        std::fs::write(path("key"), issued.key_pem.expose()).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/loopback/http2/server.mjs");
        let mut node = Command::new("node");
        node.args([script, how]).args(["key", "cert", "socket"].map(path));
        node.args(passes_on_to.map(|port| port.to_string()));
        let mut child = node.stdout(Stdio::piped()).spawn().expect("node is there, as npm is");
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut started = Node { child, stdout, files, authority, port: 0 };
        started.port = started.says().parse().unwrap();
        started
    }

    /// The next line that it writes.
    pub(crate) fn says(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The file of its authority, and the path of its socket.
    pub(crate) fn files(&self) -> [PathBuf; 2] {
        ["ca", "socket"].map(|name| self.files.path().join(name))
    }

    /// The upstream as a route has it, where the server speaks TLS and is offered these protocols.
    pub(crate) fn over_tls(&self, alpn: &[&[u8]]) -> UpstreamSettings {
        let mut roots = Roots::new();
        roots.add_der(self.authority.cert_der().clone()).unwrap();
        let alpn = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let tls = client_config(ClientSettings { roots, alpn, ..ClientSettings::default() }).unwrap();
        let url = format!("https://127.0.0.1:{}", self.port);
        UpstreamSettings { tls: Some(tls), ..UpstreamSettings::for_tests(url.parse().unwrap()) }
    }

    pub(crate) fn in_the_clear(&self) -> UpstreamSettings {
        UpstreamSettings::for_tests(format!("h2c://127.0.0.1:{}", self.port).parse().unwrap())
    }

    pub(crate) fn over_unix(&self) -> UpstreamSettings {
        let [_, socket] = self.files();
        UpstreamSettings::for_tests(format!("h2c+unix:{}", socket.display()).parse().unwrap())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
