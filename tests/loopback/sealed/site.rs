//! An edge and a connector as people run them, an upstream that says what it heard, and agents that speak TLS.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use adit::base::Traffic;
use adit::private;
use adit::tls::{ALPN_HTTP1, ALPN_HTTP2, Authority, ClientConfig, ClientSettings, Roots, client_config};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{ClientConnection, StreamOwned};
use serde::de::DeserializeOwned;

use crate::front::Front;
use crate::process::{Adit, PATIENCE};

/// The host whose traffic is what a test says.
pub(crate) const HOST: &str = "sealed.test";
/// One that the edge serves itself.
pub(crate) const OPEN_HOST: &str = "open.test";
/// The authority of a connector that certifies itself.
pub(crate) const SEAL_CA: &str = "state/seal-ca.pem";
/// The head of its event streams, and the one event that each has.
const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
pub(crate) const EVENT: &str = "id: 1\ndata: {}\n\n";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What is on disk, and what runs.
pub(crate) struct Site {
    dir: tempfile::TempDir,
    pub(crate) edge: Adit,
    pub(crate) agents: SocketAddr,
    pub(crate) admin: SocketAddr,
    connectors: SocketAddr,
    pub(crate) upstream: SocketAddr,
}

/// An agent's connection.
pub(crate) type Agent = StreamOwned<ClientConnection, TcpStream>;

/// An answer: status line and fields, and the body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Site {
    /// An edge alone, on a driver, whose tunnel is carried so.
    pub(crate) fn start(driver: &str, traffic: Traffic) -> Site {
        Site::start_with(driver, traffic, "")
    }

    /// The same, with more lines of the edge's settings.
    pub(crate) fn start_with(driver: &str, traffic: Traffic, more: &str) -> Site {
        let dir = tempfile::tempdir().unwrap();
        let ca = authority(dir.path(), "ca");
        for (name, hosts) in [("edge", vec!["localhost"]), ("agents", vec![OPEN_HOST])] {
            let hosts: Vec<String> = hosts.into_iter().map(str::to_owned).collect();
            let issued = ca.issue_chain(&hosts, UnixTime::now(), DAY).unwrap();
            private::write(&dir.path().join(format!("{name}.pem")), issued.cert_pem.as_bytes()).unwrap();
            private::write(&dir.path().join(format!("{name}.key")), issued.key_pem.expose()).unwrap();
        }
        private::folder(&dir.path().join("state")).unwrap();
        authority(&dir.path().join("state"), "seal-ca");
        private::write(&dir.path().join("secret"), b"a-secret-for-tests-only-0123456789").unwrap();
        write_edge(dir.path(), driver, traffic, SEAL_CA, more);
        let edge = Adit::start(&["edge", "--json", "--config", dir.path().join("edge.toml").to_str().unwrap()]);
        let listening = edge.event("listening");
        let at = |what: &str| listening[what].as_str().unwrap().parse().unwrap();
        let (agents, admin, connectors) = (at("agents"), at("admin"), at("connectors"));
        Site { agents, admin, connectors, dir, edge, upstream: serve_upstream() }
    }

    /// The same with a connector whose routes are carried so.
    pub(crate) fn linked(driver: &str, at_edge: Traffic, at_connector: Traffic) -> (Site, Adit) {
        let site = Site::start(driver, at_edge);
        let (connector, _) = site.connect(driver, at_connector);
        (site, connector)
    }

    /// A connector, and where its admin listener is.
    pub(crate) fn connect(&self, driver: &str, traffic: Traffic) -> (Adit, SocketAddr) {
        self.connect_with(driver, traffic, self.upstream, "")
    }

    /// The same with another upstream, and more lines in the connector's settings.
    pub(crate) fn connect_with(
        &self,
        driver: &str,
        traffic: Traffic,
        upstream: SocketAddr,
        more: &str,
    ) -> (Adit, SocketAddr) {
        let edge = self.connectors;
        let text = format!(
            "[engine]\ndriver = '{driver}'\ncores = 1\npin = false\n\
             [connect]\nedge = 'localhost:{}'\ntunnel = 'tnl_a'\nsecret_file = 'secret'\nedge_ca_file = 'ca.pem'\n\
             state_dir = 'state'\ntraffic = '{traffic}'\ndrain_timeout_ms = '1h'\nadmin_listen = '127.0.0.1:0'\n{more}\n\
             [[route]]\nhost = '{HOST}'\nupstream = 'http://{upstream}'\n",
            edge.port()
        );
        private::write(&self.path("connect.toml"), text.as_bytes()).unwrap();
        let connector = Adit::start(&["connect", "--json", "--config", self.path("connect.toml").to_str().unwrap()]);
        let started = connector.event("started");
        connector.event("linked");
        (connector, started["admin"].as_str().unwrap().parse().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Has the edge read another authority for the connector.
    pub(crate) fn register(&self, driver: &str, traffic: Traffic, ca: &str) {
        write_edge(self.dir.path(), driver, traffic, ca, "");
        self.edge.signal("HUP");
        self.edge.event("reloaded");
    }

    /// An agent that believes `ca` and asks for `name`; none asks for no name.
    pub(crate) fn agent(&self, ca: &str, name: Option<&str>) -> Agent {
        self.agents(ca, name)()
    }

    /// Makes such agents, on any thread.
    pub(crate) fn agents(&self, ca: &str, name: Option<&str>) -> impl Fn() -> Agent + Sync + use<> {
        let mut config = (*self.tls_client(ca, ALPN_HTTP1)).clone();
        config.enable_sni = name.is_some();
        let name = ServerName::try_from(name.unwrap_or(OPEN_HOST).to_owned()).unwrap();
        let (config, edge) = (Arc::new(config), self.agents);
        move || {
            let session = ClientConnection::new(Arc::clone(&config), name.clone()).unwrap();
            let socket = TcpStream::connect(edge).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            StreamOwned::new(session, socket)
        }
    }

    /// What an agent believes that believes `ca` and chooses this protocol.
    fn tls_client(&self, ca: &str, alpn: &[u8]) -> Arc<ClientConfig> {
        let mut roots = Roots::new();
        roots.add_pem(ca, &std::fs::read(self.path(ca)).unwrap()).unwrap();
        client_config(ClientSettings { roots, alpn: vec![alpn.to_vec()], ..ClientSettings::default() }).unwrap()
    }

    /// Where agents connect in the clear that speak HTTP/2 and believe `ca`.
    pub(crate) fn http2_front(&self, ca: &str, name: &'static str) -> Front {
        Front::of_connections(self.agents, Some((self.tls_client(ca, ALPN_HTTP2), name)))
    }

    /// Waits until a metric has a value.
    pub(crate) fn until_metric(&self, name: &str, value: u64) {
        let started = Instant::now();
        while self.metric(name) != value {
            assert!(started.elapsed() < PATIENCE, "{name} is {} and not {value}", self.metric(name));
            thread::yield_now();
        }
    }

    /// The value of a metric of the edge.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        metric(self.admin, name)
    }
}

/// The value of a metric at this admin listener.
pub(crate) fn metric(admin: SocketAddr, name: &str) -> u64 {
    let text = get(admin, "/metrics");
    let line =
        text.lines().find(|line| line.starts_with(&format!("{name} ")) || line.starts_with(&format!("{name}{{")));
    let line = line.unwrap_or_else(|| panic!("no {name} in {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// What an admin listener says.
pub(crate) fn get(admin: SocketAddr, path: &str) -> String {
    let mut socket = TcpStream::connect(admin).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    text
}

/// The same, whose body is JSON of this type.
pub(crate) fn get_json<T: DeserializeOwned>(admin: SocketAddr, path: &str) -> T {
    let answer = get(admin, path);
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
}

fn write_edge(dir: &Path, driver: &str, traffic: Traffic, ca: &str, more: &str) {
    let text = format!(
        "[engine]\ndriver = '{driver}'\ncores = 1\npin = false\n\
         [edge]\nagents_listen = '127.0.0.1:0'\nconnectors_listen = '127.0.0.1:0'\nadmin_listen = '127.0.0.1:0'\n\
         agents_cert_file = 'agents.pem'\nagents_key_file = 'agents.key'\n\
         connectors_cert_file = 'edge.pem'\nconnectors_key_file = 'edge.key'\n\
         connectors_ca_file = 'ca.pem'\nconnectors_ca_key_file = 'ca.key'\noffline_wait_ms = '100ms'\n{more}\n\
         [[tunnel]]\nid = 'tnl_a'\nsecret_file = 'secret'\nhosts = ['{HOST}']\n\
         traffic = '{traffic}'\nseal_ca_file = '{ca}'\n\
         [[tunnel]]\nid = 'tnl_b'\nsecret_file = 'secret'\nhosts = ['{OPEN_HOST}']\n"
    );
    private::write(&dir.join("edge.toml"), text.as_bytes()).unwrap();
}

/// Makes an authority, and keeps it in two files.
pub(crate) fn authority(dir: &Path, name: &str) -> Authority {
    let (cert, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    let made = Authority::make("adit test", UnixTime::now()).unwrap();
    private::write(&cert, made.cert_pem.as_bytes()).unwrap();
    private::write(&key, made.key_pem.expose()).unwrap();
    Authority::load(&cert, &key, UnixTime::now()).unwrap()
}

/// One call, and its answer.
pub(crate) fn call(agent: &mut (impl Read + Write), host: &str, body: &str) -> Answer {
    try_call(agent, host, body).unwrap()
}

pub(crate) fn try_call(agent: &mut (impl Read + Write), host: &str, body: &str) -> std::io::Result<Answer> {
    ask(agent, host, body)?;
    answer(agent)
}

/// The answer to a call that was made.
pub(crate) fn answer(agent: &mut impl Read) -> std::io::Result<Answer> {
    read_message(&mut BufReader::with_capacity(1, agent)).map(|(head, body)| Answer { head, body })
}

/// Makes a call, and leaves its answer where it is.
pub(crate) fn ask(agent: &mut impl Write, host: &str, body: &str) -> std::io::Result<()> {
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-For: 192.0.2.99\r\nContent-Type: application/json\r\nContent-Length: {}",
        body.len()
    );
    agent.write_all(format!("{head}\r\n\r\n{body}").as_bytes())?;
    agent.flush()
}

/// A message whose body has a length.
fn read_message(from: &mut impl BufRead) -> std::io::Result<(String, String)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if from.read_line(&mut head)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    let length = head
        .to_ascii_lowercase()
        .split("content-length: ")
        .nth(1)
        .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok((head, String::from_utf8(body).unwrap()))
}

/// Answers each request with its own head and body, and a GET with an event stream that says nothing after its first event.
fn serve_upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut from = BufReader::new(socket.try_clone().unwrap());
                let mut to = socket;
                while let Ok((head, body)) = read_message(&mut from) {
                    if head.starts_with("GET") {
                        if to.write_all(format!("{STREAM_HEAD}{:x}\r\n{EVENT}\r\n", EVENT.len()).as_bytes()).is_err() {
                            break;
                        }
                        continue;
                    }
                    let heard = format!("{head}{body}");
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", heard.len());
                    // The connector gives up what its agent does not take.
                    if to.write_all(format!("{head}{heard}").as_bytes()).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}
