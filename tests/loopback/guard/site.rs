//! An edge with two tunnels, a connector and an upstream for each, and agents that come from where a test wants.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use adit::control::bodies::StatusBody;
use adit::private;
use adit::tls::{ALPN_HTTP1, Authority, ClientSettings, Roots, client_config};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{ClientConnection, StreamOwned};

use crate::process::{Adit, PATIENCE};

pub(crate) const HOSTS: [&str; 2] = ["one.test", "two.test"];
/// The secrets of the two tunnels.
pub(crate) const SECRETS: [&str; 2] = ["the-secret-of-tunnel-one-4711", "the-secret-of-tunnel-two-0815"];
pub(crate) const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// A running edge, and what belongs to it.
pub(crate) struct Site {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) edge: Adit,
    pub(crate) agents: SocketAddr,
    pub(crate) connectors: SocketAddr,
    pub(crate) admin: SocketAddr,
    authority: Authority,
    linked: Vec<Adit>,
    scale: Scale,
}

/// Lines about the size of things.
#[derive(Clone, Copy, Default)]
pub(crate) struct Scale {
    /// In the table `[engine]` of each process.
    pub(crate) engine: &'static str,
    /// In the table `[edge]` of the edge.
    pub(crate) edge: &'static str,
}

/// An agent's connection, over TLS.
pub(crate) type Agent = StreamOwned<ClientConnection, TcpStream>;

impl Site {
    /// With these lines in the configuration of the edge: those of each tunnel, and those that stand by themselves.
    pub(crate) fn start(tunnels: [&str; 2], more: &str) -> Site {
        let mut site = Site::without_connectors(tunnels, more);
        for (n, host) in HOSTS.iter().enumerate() {
            site.connect(n, &[host]);
        }
        site
    }

    pub(crate) fn without_connectors(tunnels: [&str; 2], more: &str) -> Site {
        Site::scaled(Scale::default(), tunnels, more)
    }

    /// The same, of another size.
    pub(crate) fn scaled(scale: Scale, tunnels: [&str; 2], more: &str) -> Site {
        let dir = tempfile::tempdir().expect("a folder");
        let authority = Authority::new("test", UnixTime::now(), 1).expect("an authority");
        for (name, hosts) in [("agents", &HOSTS[..]), ("link", &["localhost"])] {
            let issued = authority.issue(hosts).expect("a certificate");
            private::write(&dir.path().join(format!("{name}.key")), issued.key_pem.expose()).expect("written");
            fs::write(dir.path().join(format!("{name}.crt")), issued.cert_pem).expect("written");
        }
        fs::write(dir.path().join("ca.pem"), authority.cert_pem()).expect("written");
        for (n, secret) in SECRETS.iter().enumerate() {
            private::write(&dir.path().join(format!("{n}.secret")), secret.as_bytes()).expect("written");
        }
        write_edge(dir.path(), scale, tunnels, more);
        let edge = Adit::start(&["edge", "--json", "--config", &text(&dir.path().join("edge.toml"))]);
        let listening = edge.event("listening");
        let address = |key: &str| listening[key].as_str().and_then(|text| text.parse().ok()).expect("an address");
        let (agents, connectors, admin) = (address("agents"), address("connectors"), address("admin"));
        Site { dir, edge, agents, connectors, admin, authority, linked: Vec::new(), scale }
    }

    /// Links a connector of tunnel `n`, which would serve these hosts, and an upstream that says whose it is.
    pub(crate) fn connect(&mut self, n: usize, hosts: &[&str]) {
        let connector = self.start_connector(n, SECRETS[n], hosts, self.connectors);
        connector.event("linked");
        self.edge.event("linked");
        self.linked.push(connector);
    }

    /// Links a connector of tunnel `n` that sends calls for these hosts to this upstream.
    pub(crate) fn connect_to(&mut self, n: usize, hosts: &[&str], upstream: &str) {
        let connector = self.start_connector_to(n, SECRETS[n], hosts, self.connectors, upstream);
        connector.event("linked");
        self.edge.event("linked");
        self.linked.push(connector);
    }

    /// Starts a connector that dials this address.
    pub(crate) fn start_connector(&self, n: usize, secret: &str, hosts: &[&str], edge: SocketAddr) -> Adit {
        self.start_connector_to(n, secret, hosts, edge, &format!("http://{}", serve_upstream(n)))
    }

    fn start_connector_to(&self, n: usize, secret: &str, hosts: &[&str], edge: SocketAddr, upstream: &str) -> Adit {
        let file = self.dir.path().join(format!("connect-{n}-{}.toml", edge.port()));
        let secret_file = self.dir.path().join(format!("connect-{n}-{}.secret", edge.port()));
        private::write(&secret_file, secret.as_bytes()).expect("written");
        let routes: String =
            hosts.iter().map(|host| format!("[[route]]\nhost = \"{host}\"\nupstream = \"{upstream}\"\n")).collect();
        let settings = format!(
            "[engine]\ncores = 1\npin = false\n{}\n[connect]\nedge = \"{edge}\"\nedge_name = \"localhost\"\n\
             tunnel = \"tnl_{n}\"\nsecret_file = \"{}\"\nedge_ca_file = \"ca.pem\"\nbackoff_max_ms = 200\n{routes}",
            self.scale.engine,
            secret_file.display()
        );
        fs::write(&file, settings).expect("written");
        Adit::start(&["connect", "--json", "--config", &text(&file)])
    }

    /// Changes the configuration of the edge and waits until it acts.
    pub(crate) fn reload(&self, tunnels: [&str; 2], more: &str) {
        write_edge(self.dir.path(), self.scale, tunnels, more);
        self.edge.signal("HUP");
        self.edge.event("reloaded");
    }

    /// Waits for reloads that nobody asked for, as files are watched, until one brought this about.
    pub(crate) fn reloads_until(&self, is_so: impl Fn() -> bool) {
        loop {
            self.edge.event("reloaded");
            if is_so() {
                break;
            }
        }
    }

    /// A file beside the configuration.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// An agent from this address, which says `prelude` before TLS.
    pub(crate) fn agent(&self, from: Ipv4Addr, sni: &str, prelude: &[u8]) -> io::Result<Agent> {
        self.client(self.agents, from, sni, prelude, ALPN_HTTP1)
    }

    /// A client of either port, whose handshake is made.
    pub(crate) fn client(
        &self,
        to: SocketAddr,
        from: Ipv4Addr,
        sni: &str,
        prelude: &[u8],
        alpn: &[u8],
    ) -> io::Result<Agent> {
        let mut roots = Roots::new();
        roots.add_der(self.authority.cert_der().clone()).expect("a certificate");
        tls_client(roots, dial(to, from)?, sni, prelude, alpn)
    }

    /// What an agent from this address is answered when it asks for `/` of this host; its connection is its own.
    pub(crate) fn get(&self, from: Ipv4Addr, host: &str) -> io::Result<String> {
        ask(&mut self.agent(from, host, b"")?, &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    }

    /// The value of a counter of the edge.
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.metric(&format!("adit_{name}_total{{role=\"edge\"}}")) as u64
    }

    /// How many bytes one queue of the edge's core may hold.
    pub(crate) fn allowance(&self) -> f64 {
        self.metric("adit_buffers_allowance_bytes{role=\"edge\",core=\"0\"}")
    }

    fn metric(&self, name: &str) -> f64 {
        let mut socket = TcpStream::connect(self.admin).expect("the admin API listens");
        let metrics =
            ask(&mut socket, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("metrics");
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().expect("a number")
    }

    /// The status of the edge.
    pub(crate) fn status(&self) -> StatusBody {
        serde_json::from_str(&self.body("status")).expect("JSON")
    }

    /// What the admin API answers to a GET.
    pub(crate) fn body(&self, path: &str) -> String {
        let mut socket = TcpStream::connect(self.admin).expect("the admin API listens");
        let request = format!("GET /v1/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = ask(&mut socket, &request).expect("an answer");
        answer.split_once("\r\n\r\n").expect("a body").1.to_owned()
    }
}

/// A connection from this address of the loopback network.
pub(crate) fn dial(to: SocketAddr, from: Ipv4Addr) -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect(&to.into())?;
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// A client that trusts these authorities, says `prelude` before TLS, and has made the handshake.
pub(crate) fn tls_client(
    roots: Roots,
    mut socket: TcpStream,
    sni: &str,
    prelude: &[u8],
    alpn: &[u8],
) -> io::Result<Agent> {
    let settings = ClientSettings { roots, alpn: vec![alpn.to_vec()], ..ClientSettings::default() };
    let config = client_config(settings).expect("a configuration");
    let name = ServerName::try_from(sni.to_owned()).expect("a name");
    let mut session = ClientConnection::new(config, name).expect("a session");
    socket.write_all(prelude)?;
    while session.is_handshaking() {
        session.complete_io(&mut socket)?;
    }
    Ok(StreamOwned::new(session, socket))
}

/// Sends a request and reads the answer, head and body; empty if the connection ended without one.
pub(crate) fn ask(stream: &mut (impl Read + Write), request: &str) -> io::Result<String> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    read_message(stream)
}

fn read_message(from: &mut impl Read) -> io::Result<String> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
            let until_close = length.is_none() && head.starts_with("http/") && head.contains("connection: close");
            if !until_close && body.len() >= length.map_or(0, |length| length.parse().expect("a number")) {
                return Ok(text.into_owned());
            }
        }
        match from.read(&mut piece)? {
            0 => return Ok(text.into_owned()),
            n => bytes.extend_from_slice(&piece[..n]),
        }
    }
}

/// An upstream that answers with its name and the head that it was sent.
fn serve_upstream(n: usize) -> SocketAddr {
    serve(move |request| {
        let body = format!("upstream {n}\n{request}");
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    })
}

/// An upstream that always answers the same.
pub(crate) fn serve_upstream_with(answer: &'static str) -> SocketAddr {
    serve(move |_| answer)
}

/// An upstream that answers each request by this.
pub(crate) fn serve<A: AsRef<[u8]>>(answer: impl Fn(&str) -> A + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind((LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            thread::spawn(move || {
                while let Ok(request) = read_message(&mut socket) {
                    if request.is_empty() || socket.write_all(answer(&request).as_ref()).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

fn write_edge(dir: &Path, scale: Scale, tunnels: [&str; 2], more: &str) {
    let tunnels: String = (tunnels.iter().zip(HOSTS).enumerate())
        .map(|(n, (lines, host))| {
            format!("[[tunnel]]\nid = \"tnl_{n}\"\nsecret_file = \"{n}.secret\"\nhosts = \"{host}\"\n{lines}\n")
        })
        .collect();
    let Scale { engine, edge } = scale;
    let settings = format!(
        "[engine]\ncores = 1\npin = false\n{engine}\n[edge]\nagents_listen = \"127.0.0.1:0\"\nconnectors_listen = \"127.0.0.1:0\"\n\
         admin_listen = \"127.0.0.1:0\"\nagents_cert_file = \"agents.crt\"\nagents_key_file = \"agents.key\"\n\
         allow_plain_http_on_loopback = true\n\
         connectors_cert_file = \"link.crt\"\nconnectors_key_file = \"link.key\"\noffline_wait_ms = 100\n{edge}\n{tunnels}{more}\n"
    );
    fs::write(dir.join("edge.toml"), settings).expect("written");
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().expect("a path of plain characters").to_owned()
}

/// A listener that passes every connection on to `to`, after a few bytes of its own: what a proxy does.
pub(crate) fn relay(to: SocketAddr, prelude: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind((LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    let prelude: Arc<[u8]> = prelude.into();
    thread::spawn(move || {
        for inside in listener.incoming().flatten() {
            let prelude = Arc::clone(&prelude);
            thread::spawn(move || -> io::Result<()> {
                let mut outside = TcpStream::connect(to)?;
                outside.write_all(&prelude)?;
                let (mut from, mut back) = (inside.try_clone()?, outside.try_clone()?);
                thread::spawn(move || {
                    let _ = io::copy(&mut back, &mut from);
                    let _ = from.shutdown(std::net::Shutdown::Both);
                });
                let _ = io::copy(&mut &inside, &mut outside);
                outside.shutdown(std::net::Shutdown::Write)
            });
        }
    });
    address
}
