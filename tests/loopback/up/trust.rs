//! Enrolment and mutual TLS as people run them: `adit edge` and `adit connect` as processes, on each driver that works here.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::process::{Adit, command};
use adit::base::{AuthorityPin, SecretKind, mint};
use adit::private;
use adit::tls::{Authority, Fingerprint};
use rustls_pki_types::UnixTime;
use serde_json::Value;

const HOST: &str = "tools.test";

/// What an operator has on disk.
pub(crate) struct Site {
    dir: tempfile::TempDir,
    upstream: SocketAddr,
}

impl Site {
    pub(crate) fn new() -> Site {
        let site = Site { dir: tempfile::tempdir().unwrap(), upstream: serve_upstream() };
        let now = UnixTime::now();
        let made = Authority::make("adit test", now).unwrap();
        private::write(&site.path("ca.pem"), made.cert_pem.as_bytes()).unwrap();
        private::write(&site.path("ca.key"), made.key_pem.expose()).unwrap();
        let authority = Authority::load(&site.path("ca.pem"), &site.path("ca.key"), now).unwrap();
        let day = std::time::Duration::from_secs(24 * 3600);
        let issued = authority.issue_chain(&["localhost".to_owned()], now, day).unwrap();
        private::write(&site.path("edge.pem"), issued.cert_pem.as_bytes()).unwrap();
        private::write(&site.path("edge.key"), issued.key_pem.expose()).unwrap();
        let pin = AuthorityPin(*Fingerprint::of(authority.cert_der()).as_bytes());
        let secret = mint(SecretKind::Tunnel, &[0x5a; 32], Some(pin));
        private::write(&site.path("secret"), secret.expose()).unwrap();
        private::write(&site.path("adit.token"), &[b"tnl_a:", secret.expose()].concat()).unwrap();
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// An edge whose certificates for connectors live so long; where it listens for agents and connectors.
    pub(crate) fn edge(&self, driver: &str, life: &str, connectors: &str) -> (Adit, SocketAddr, String) {
        let text = format!(
            "[engine]\ndriver = '{driver}'\ncores = 1\npin = false\n\
             [edge]\nagents_listen = '127.0.0.1:0'\nconnectors_listen = '{connectors}'\nadmin_listen = '127.0.0.1:0'\n\
             agents_cert_file = 'edge.pem'\nagents_key_file = 'edge.key'\n\
             allow_plain_http_on_loopback = true\n\
             connectors_cert_file = 'edge.pem'\nconnectors_key_file = 'edge.key'\n\
             connectors_ca_file = 'ca.pem'\nconnectors_ca_key_file = 'ca.key'\nconnector_cert_life_ms = '{life}'\n\
             offline_wait_ms = '20s'\n\
             [[tunnel]]\nid = 'tnl_a'\nsecret_file = 'secret'\nhosts = ['{HOST}']\n"
        );
        private::write(&self.path("edge.toml"), text.as_bytes()).unwrap();
        let edge = Adit::start(&["edge", "--json", "--config", text_of(&self.path("edge.toml"))]);
        let listening = edge.event("listening");
        let at = |what: &str| listening[what].as_str().unwrap().to_owned();
        (edge, at("agents").parse().unwrap(), at("connectors"))
    }

    /// A connector that is given nothing but what `how` says, and where the edge is.
    pub(crate) fn connect(&self, driver: &str, edge: &str, how: &[&str]) -> Adit {
        let port = edge.rsplit_once(':').unwrap().1;
        let (edge, route) = (format!("localhost:{port}"), format!("{HOST}=http://{}", self.upstream));
        let args = ["connect", "--json", "--driver", driver, "--cores", "1", "--edge", &edge, "--route", &route];
        Adit::start(&[&args, how].concat())
    }
}

fn text_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The drivers that work on this machine.
pub(crate) fn drivers() -> Vec<String> {
    let out = command(&["up", "--once", "--json"]).stderr(Stdio::null()).output().unwrap();
    let stdout: Value = serde_json::from_slice(&out.stdout).unwrap();
    let best = stdout["driver"].as_str().unwrap().to_owned();
    if best == "epoll" { vec![best] } else { vec![best, "epoll".to_owned()] }
}

fn serve_upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            std::thread::spawn(move || {
                while head(&mut socket).is_some() {
                    socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
                }
            });
        }
    });
    address
}

/// A head, byte by byte; none when the peer has finished.
fn head(socket: &mut TcpStream) -> Option<String> {
    let (mut head, mut byte) = (String::new(), [0]);
    while !head.ends_with("\r\n\r\n") {
        if socket.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(char::from(byte[0]));
    }
    Some(head)
}

/// One call on an agent's connection, which must be answered well.
fn call(agent: &mut TcpStream) {
    call_host(agent, HOST);
}

fn call_host(agent: &mut TcpStream, host: &str) {
    agent.write_all(format!("GET /mcp HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).unwrap();
    let head = head(agent).expect("an answer");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let mut body = [0; 2];
    agent.read_exact(&mut body).unwrap();
}

#[test]
fn certificates_are_renewed_while_calls_run_and_none_is_lost() {
    let site = Site::new();
    for driver in drivers() {
        let (_edge, agents, connectors) = site.edge(&driver, "3s", "127.0.0.1:0");
        let connector = site.connect(&driver, &connectors, &["--token-file", text_of(&site.path("adit.token"))]);
        assert_eq!(connector.event("certified")["lifetime_s"], 3);
        let mut agent = TcpStream::connect(agents).unwrap();
        call(&mut agent);
        let linked = connector.event("linked");
        assert_eq!(linked["role"], "connector");
        for _ in 0..2 {
            // As many calls as fit until the next certificate has come, and some after it.
            let has_come = AtomicBool::new(false);
            let renewed = std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !has_come.load(Ordering::Relaxed) {
                        call(&mut agent);
                    }
                });
                let renewed = connector.event("certified");
                has_come.store(true, Ordering::Relaxed);
                renewed
            });
            assert_eq!(renewed["lifetime_s"], 3);
            (0..50).for_each(|_| call(&mut agent));
        }
    }
}

#[test]
fn a_certificate_that_was_kept_saves_the_enrolment_and_an_edge_that_restarts_takes_it() {
    let site = Site::new();
    let state = site.path("state");
    let (mut edge, _, connectors) = site.edge("auto", "1h", "127.0.0.1:0");
    let secret = site.path("secret");
    let how = ["--id", "tnl_a", "--secret-file", text_of(&secret), "--state-dir", text_of(&state)];
    let connector = site.connect("auto", &connectors, &how);
    connector.event("certified");
    connector.event("linked");
    let mut kept: Vec<_> = std::fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path()).collect();
    kept.sort_unstable();
    assert!(kept.len() == 2 && kept[0].ends_with("instance"), "the connector's number, and its certificate: {kept:?}");
    kept.iter().for_each(|file| private::check(file).unwrap());
    assert_eq!(connector.ended_by("TERM"), Some(0));

    let connector = site.connect("auto", &connectors, &how);
    let started = connector.event("started");
    assert_eq!(started["edges"].as_array().unwrap().len(), 1);
    assert_eq!(connector.next_of(&["certified", "linked"])["event"], "linked", "without another certificate");
    drop(edge);
    connector.event("unlinked");
    (edge, ..) = site.edge("auto", "1h", &connectors);
    assert_eq!(connector.next_of(&["certified", "linked"])["event"], "linked");
    drop(edge);
}

#[test]
fn systemd_hands_the_token_over() {
    let site = Site::new();
    let (_edge, _, connectors) = site.edge("auto", "1h", "127.0.0.1:0");
    let port = connectors.rsplit_once(':').unwrap().1;
    let route = format!("{HOST}=http://{}", site.upstream);
    let args = ["connect", "--json", "--edge", &format!("localhost:{port}"), "--route", &route];
    let connector = Adit::start_with(&args, "CREDENTIALS_DIRECTORY", text_of(site.dir.path()));
    connector.event("certified");
    connector.event("linked");
}

#[test]
fn a_secret_that_names_another_authority_does_not_meet_this_edge() {
    let site = Site::new();
    let (_edge, _, connectors) = site.edge("auto", "1h", "127.0.0.1:0");
    let secret = mint(SecretKind::Tunnel, &[0x5a; 32], Some(AuthorityPin([7; 32])));
    private::write(&site.path("other"), secret.expose()).unwrap();
    let other = site.path("other");
    let how = ["--id", "tnl_a", "--secret-file", text_of(&other)];
    let connector = site.connect("auto", &connectors, &how);
    let why = connector.event("no_link")["why"].as_str().unwrap().to_owned();
    assert!(why.contains("not trusted here") && why.contains("--edge-ca-file"), "{why}");
}

/// Runs a command to its end, and gives the JSON object that it prints.
fn json_of(args: &[&str]) -> Value {
    let out = command(args).output().unwrap();
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

#[test]
fn a_new_host_trades_a_provisioning_key_for_a_tunnel_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let data = path("data");
    json_of(&["edge", "init", "--json", "--data-dir", &data, "--name", "localhost"]);
    let listen = ["--listen", "127.0.0.1:0", "--connectors-listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let edge = Adit::start(&[&["edge", "--json", "--data-dir", &data], &listen[..]].concat());
    let listening = edge.event("listening");
    let at = |what: &str| listening[what].as_str().unwrap().to_owned();
    let (admin, connectors) = (format!("http://{}", at("admin")), at("connectors"));
    let agents: SocketAddr = at("agents").parse().unwrap();
    let hosts = "{name}.test";
    let create = ["key", "create", "--json", "--uses", "1", "--host", hosts, "--admin", &admin, "--data-dir", &data];
    let created = json_of(&[&["tunnel"], &create[..]].concat());
    let secret = created["secret"].as_str().unwrap_or_else(|| panic!("no secret in {created:#}"));
    private::write(Path::new(&path("key")), secret.as_bytes()).unwrap();

    let edge_at = format!("localhost:{}", connectors.rsplit_once(':').unwrap().1);
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().to_ascii_lowercase();
    let host = hosts.replace("{name}", hostname.trim().split('.').next().unwrap());
    let route = format!("{host}=http://{}", serve_upstream());
    let (key, state) = (path("key"), path("state"));
    let args = ["connect", "--json", "--edge", &edge_at, "--route", &route, "--provisioning-key-file", &key];
    let args = [&args[..], &["--state-dir", &state]].concat();
    let connector = Adit::start(&args);
    // The trade gave the first certificate too.
    assert_eq!(connector.next_of(&["certified", "linked"])["event"], "linked");
    let mut agent = TcpStream::connect(agents).unwrap();
    call_host(&mut agent, &host);
    private::check(&Path::new(&state).join("tunnel.token")).unwrap();
    assert_eq!(connector.ended_by("TERM"), Some(0));

    // The key is used up, and is not needed any more.
    let connector = Adit::start(&args);
    connector.event("linked");
    drop(connector);
    let other = path("other");
    let second = [&args[..args.len() - 1], &[&other]].concat();
    let out = command(&second).output().unwrap();
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("refused the provisioning key") && stderr.contains("used up"), "{stderr}");
}
