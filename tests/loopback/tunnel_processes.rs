//! A tunnel as an operator runs one: `adit edge` and `adit connect`, two processes with a file of settings each.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use adit::base::Secret;
use adit::tls::Authority;
use rustls_pki_types::UnixTime;

use crate::free_address::free_address;

/// Longest wait for a process to listen.
const START_PATIENCE: Duration = Duration::from_secs(20);
const CONNECT_FILE: &str = "connect.toml";
/// The name that the edge's certificate for connectors bears.
const EDGE_NAME: &str = "edge.test";
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Both sides know it.
pub(crate) const SECRET: &str = "a-secret-for-tests-only-0123456789";

/// An edge, and perhaps a connector; both end when this is dropped.
pub(crate) struct Tunnel {
    /// Where agents connect, over plain HTTP.
    pub(crate) agents: SocketAddr,
    files: tempfile::TempDir,
    traffic: &'static str,
    /// The driver of connectors that are started from now on.
    pub(crate) driver: &'static str,
    pub(crate) edge: Option<Process>,
    pub(crate) connector: Option<Process>,
}

impl Tunnel {
    /// A tunnel from `host` to `upstream`. A call that comes before the connector is linked waits for it.
    pub(crate) fn start(host: &str, upstream: SocketAddr) -> Self {
        Self::start_as("plain", host, upstream)
    }

    /// The same, with its calls carried so.
    pub(crate) fn start_as(traffic: &'static str, host: &str, upstream: SocketAddr) -> Self {
        Self::start_with(traffic, host, upstream, "")
    }

    /// The same, with more lines in the edge's settings.
    pub(crate) fn start_with(traffic: &'static str, host: &str, upstream: SocketAddr, more: &str) -> Self {
        let mut tunnel = Self::without_connector(traffic, host, 20_000, more);
        tunnel.connect(host, upstream);
        tunnel
    }

    /// An edge alone, which lets a call wait so long for a connector, with more lines in its settings.
    pub(crate) fn without_connector(traffic: &'static str, host: &str, offline_wait_ms: u32, more: &str) -> Self {
        Self::with_tables(traffic, host, offline_wait_ms, more, "")
    }

    /// The same with further tables.
    pub(crate) fn with_tables(
        traffic: &'static str,
        host: &str,
        offline_wait_ms: u32,
        more: &str,
        tables: &str,
    ) -> Self {
        let mut tunnel = Self::prepared(traffic, host, offline_wait_ms, more, tables);
        tunnel.run_edge();
        tunnel
    }

    /// The same, whose edge is still to be run.
    pub(crate) fn prepared(traffic: &'static str, host: &str, offline_wait_ms: u32, more: &str, tables: &str) -> Self {
        let files = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| files.path().join(name).display().to_string();
        let (agents, connectors) = (free_address(), free_address());
        let authority = authority(&files, "ca.pem", "ca.key");
        let issued =
            authority.issue_chain(&[EDGE_NAME.to_owned()], UnixTime::now(), DAY).expect("a certificate can be made");
        write(&files, "edge.crt", &issued.cert_pem);
        write_secret(&files, "edge.key", &issued.key_pem);
        adit::private::folder(&files.path().join("state")).expect("a folder can be made");
        self::authority(&files, "state/seal-ca.pem", "state/seal-ca.key");
        write(&files, "secret", SECRET);
        write(&files, "connectors", &connectors.to_string());
        let admin = if more.contains("admin_listen") { "" } else { "admin_listen = 'off'\n" };
        let settings = format!(
            "[engine]\ncores = 1\npin = false\nspin_us = 0\n\
             [edge]\nagents_listen = '{agents}'\nconnectors_listen = '{connectors}'\n{admin}\
             connectors_cert_file = '{}'\nconnectors_key_file = '{}'\noffline_wait_ms = {offline_wait_ms}\n{more}\n\
             connectors_ca_file = 'ca.pem'\nconnectors_ca_key_file = 'ca.key'\n\
             [[tunnel]]\nid = 'tnl_test'\nsecret_file = '{}'\nhosts = ['{host}']\n\
             traffic = '{traffic}'\nseal_ca_file = 'state/seal-ca.pem'\n{tables}",
            path("edge.crt"),
            path("edge.key"),
            path("secret"),
        );
        write(&files, "edge.toml", &settings);
        Self { agents, files, traffic, driver: "auto", edge: None, connector: None }
    }

    /// Starts the edge, which must not run already, and waits until it listens.
    pub(crate) fn run_edge(&mut self) {
        let edge = Process::start("edge", &self.files.path().join("edge.toml"));
        edge.until_listening(self.agents);
        self.edge = Some(edge);
    }

    /// Starts a connector that sends calls for `host` to `upstream`.
    pub(crate) fn connect(&mut self, host: &str, upstream: SocketAddr) {
        self.connect_routes(&format!("[[route]]\nhost = '{host}'\nupstream = 'http://{upstream}'\n"));
    }

    /// Starts a connector with these routes.
    pub(crate) fn connect_routes(&mut self, routes: &str) {
        self.write_routes(routes);
        self.connector = Some(Process::start("connect", &self.connector_settings()));
    }

    /// Starts a connector with these routes that does not run, and returns its exit code and what it says.
    pub(crate) fn connect_in_vain(&self, routes: &str) -> (Option<i32>, String) {
        self.write_routes(routes);
        let settings = self.connector_settings();
        let output = Command::new(env!("CARGO_BIN_EXE_adit")).args(["connect", "--config"]).arg(settings).output();
        let output = output.expect("the adit binary runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn write_routes(&self, routes: &str) {
        let (path, traffic) = (|name: &str| self.files.path().join(name), self.traffic);
        let connectors = std::fs::read_to_string(path("connectors")).expect("the file was written at the start");
        let settings = format!(
            "[engine]\ncores = 1\npin = false\nspin_us = 0\ndriver = '{}'\n\
             [connect]\nedge = '{connectors}'\ntunnel = 'tnl_test'\nsecret_file = '{}'\n\
             edge_ca_file = '{}'\nedge_name = '{EDGE_NAME}'\nstate_dir = 'state'\ntraffic = '{traffic}'\n{routes}",
            self.driver,
            path("secret").display(),
            path("ca.pem").display(),
        );
        write(&self.files, CONNECT_FILE, &settings);
    }

    /// A file beside the settings.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// The file of the connector's settings, if one was started.
    pub(crate) fn connector_settings(&self) -> PathBuf {
        self.file(CONNECT_FILE)
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.edge.iter().chain(&self.connector).for_each(Process::print_log);
        }
    }
}

/// One `adit` process, killed when dropped.
pub(crate) struct Process {
    pub(crate) child: Child,
    log: PathBuf,
}

impl Process {
    fn start(role: &str, settings: &Path) -> Self {
        let log = settings.with_extension("log");
        let written = std::fs::File::create(&log).expect("a log file can be made");
        let child = Command::new(env!("CARGO_BIN_EXE_adit"))
            .args([role, "--config"])
            .arg(settings)
            .stdin(Stdio::null())
            .stdout(written.try_clone().expect("a file can be shared"))
            .stderr(written)
            .spawn()
            .expect("the adit binary runs");
        Self { child, log }
    }

    fn until_listening(&self, address: SocketAddr) {
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            if started.elapsed() > START_PATIENCE {
                self.print_log();
                panic!("nothing listens on {address}");
            }
            std::thread::yield_now();
        }
    }

    /// Shows what the process said.
    fn print_log(&self) {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        eprintln!("--- {} ---\n{text}", self.log.display());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes an authority, and keeps it in two files.
fn authority(files: &tempfile::TempDir, cert: &str, key: &str) -> Authority {
    let made = Authority::make("adit test", UnixTime::now()).expect("an authority can be made");
    write(files, cert, &made.cert_pem);
    write_secret(files, key, &made.key_pem);
    let path = |name: &str| files.path().join(name);
    Authority::load(&path(cert), &path(key), UnixTime::now()).expect("what was written can be read")
}

fn write_secret(files: &tempfile::TempDir, name: &str, secret: &Secret) {
    let text = std::str::from_utf8(secret.expose()).expect("PEM is text");
    write(files, name, text);
}

fn write(files: &tempfile::TempDir, name: &str, content: &str) -> PathBuf {
    let path = files.path().join(name);
    adit::private::write(&path, content.as_bytes()).expect("a temporary file can be written");
    path
}
