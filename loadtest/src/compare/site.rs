//! The environment of a peer on this machine: certificates, ports, and its files from templates.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use adit::tls::{Authority, CertError};
use aws_lc_rs::agreement::{PrivateKey, X25519};
use aws_lc_rs::encoding::{AsBigEndian, Curve25519SeedBin};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, context};
use rustls_pki_types::UnixTime;
use tempfile::TempDir;

use super::peer::{Peer, ProcessPlan};

/// The host that agents call, contained in every certificate.
pub(crate) const HOST: &str = "localhost";

/// The first port to choose: below the range for outgoing connections in Linux, so that none of these can occupy it.
const PORT_FIRST: u16 = 20_000;
/// How many ports are tried.
const PORT_COUNT: u16 = 12_000;
/// The lifetime of the certificates.
const CERT_LIFE: Duration = Duration::from_secs(2 * 24 * 3_600);

/// Keys and certificates, created once for a whole comparison, so that all peers use the same.
pub(crate) struct Credentials {
    folder: TempDir,
    secret: String,
    x25519_private: String,
    x25519_public: String,
}

/// The environment of a peer: its folder, its ports, its command lines.
pub(crate) struct Site {
    /// Its files, which are deleted on drop.
    pub(crate) folder: TempDir,
    /// The address for the load.
    pub(crate) agents: SocketAddr,
    /// Its ports, by name.
    pub(crate) ports: BTreeMap<String, u16>,
    /// The processes to start, in this order.
    pub(crate) commands: Vec<CommandLine>,
}

/// A process to start.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CommandLine {
    /// Its role, such as `client`.
    pub(crate) name: String,
    /// The program, by its name in the peer's file.
    pub(crate) program: String,
    pub(crate) args: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    /// The address that must accept connections before the next process starts.
    pub(crate) listens: Option<SocketAddr>,
    /// The file for its output.
    pub(crate) log: PathBuf,
}

/// Why the environment of a peer could not be created.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SiteError {
    #[error("no certificate could be made: {0}")]
    Certificate(#[from] CertError),
    #[error("no key could be made: the operating system provides no random bytes")]
    Key,
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("no port is free between {PORT_FIRST} and {}: stop what listens there", PORT_FIRST + PORT_COUNT)]
    NoPort,
    #[error("port {0}, which the peer requires, is in use: stop what listens there")]
    PortTaken(u16),
    #[error("its peer file has a template that cannot be filled in: {0}")]
    Template(#[from] minijinja::Error),
}

impl Credentials {
    /// Creates new keys and certificates.
    ///
    /// # Errors
    ///
    /// If the system provides no random bytes, or files cannot be written.
    pub(crate) fn new() -> Result<Self, SiteError> {
        let folder = tempfile::tempdir().map_err(|source| SiteError::File { path: std::env::temp_dir(), source })?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(now);
        let made = Authority::make("adit-loadtest compare", now)?;
        let ca = (("ca.pem", made.cert_pem.as_bytes()), ("ca.key", made.key_pem.expose()));
        let authority = Authority::from_pem(ca.0, ca.1, now)?;
        let issued = authority.issue_chain(&[HOST, "127.0.0.1"].map(str::to_owned), now, CERT_LIFE)?;
        let ca_key = String::from_utf8_lossy(made.key_pem.expose()).into_owned();
        let key = String::from_utf8_lossy(issued.key_pem.expose());
        let made = Self { secret: random_hex()?, x25519_private: String::new(), x25519_public: String::new(), folder };
        write(&made.ca(), authority.cert_pem())?;
        write(&made.path("ca-key.pem"), &ca_key)?;
        write(&made.path("cert.pem"), &issued.cert_pem)?;
        write(&made.path("key.pem"), &key)?;
        write(&made.path("cert-and-key.pem"), &format!("{}{key}", issued.cert_pem))?;
        let (x25519_private, x25519_public) = x25519()?;
        Ok(Self { x25519_private, x25519_public, ..made })
    }

    /// The authority that issued every certificate (PEM).
    pub(crate) fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// The path for another file of this name, which is deleted with them.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.path(name)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Site {
    /// Chooses ports for a peer and writes its files; `cpus` is its number of CPUs, `streams` the number of calls in
    /// flight that it must carry.
    ///
    /// # Errors
    ///
    /// If no port is free, a file cannot be written, or a template of the peer's file is invalid.
    pub(crate) fn new(
        peer: &Peer,
        credentials: &Credentials,
        upstream: SocketAddr,
        cpus: usize,
        streams: usize,
    ) -> Result<Self, SiteError> {
        let folder = tempfile::tempdir().map_err(|source| SiteError::File { path: std::env::temp_dir(), source })?;
        let ports = choose_ports(peer)?;
        let path = |name: &str| credentials.path(name).display().to_string();
        let blanks = context! {
            dir => folder.path().display().to_string(),
            ports => Serde(&ports),
            upstream => context! {
                address => upstream.to_string(),
                ip => upstream.ip().to_string(),
                port => upstream.port(),
            },
            host => HOST,
            cpus => cpus,
            streams => streams,
            cert => path("cert.pem"),
            key => path("key.pem"),
            cert_and_key => path("cert-and-key.pem"),
            ca => path("ca.pem"),
            ca_key => path("ca-key.pem"),
            secret => credentials.secret.as_str(),
            x25519 => context! {
                private => credentials.x25519_private.as_str(),
                public => credentials.x25519_public.as_str(),
            },
            values => Serde(&peer.values),
        };
        let mut templates = Environment::new();
        templates.set_undefined_behavior(UndefinedBehavior::Strict);
        let fill = |text: &str| templates.render_str(text, blanks.clone());
        for file in &peer.file.files {
            // The template drops the last line end, without which haproxy considers the file truncated.
            write(&folder.path().join(&file.name), &format!("{}\n", fill(&file.text)?))?;
        }
        let mut commands = Vec::new();
        for plan in &peer.file.processes {
            commands.push(command_line(plan, &ports, folder.path(), &fill)?);
        }
        let agents = ports.get("agents").map_or(upstream, |port| SocketAddr::from((Ipv4Addr::LOCALHOST, *port)));
        Ok(Self { folder, agents, ports, commands })
    }
}

fn command_line(
    plan: &ProcessPlan,
    ports: &BTreeMap<String, u16>,
    folder: &Path,
    fill: &dyn Fn(&str) -> Result<String, minijinja::Error>,
) -> Result<CommandLine, SiteError> {
    let port = plan.listens.as_ref().and_then(|name| ports.get(name));
    Ok(CommandLine {
        name: plan.name.clone(),
        program: plan.program.clone(),
        args: plan.args.iter().map(|arg| fill(arg)).collect::<Result<_, _>>()?,
        env: plan.env.iter().map(|(name, value)| Ok((name.clone(), fill(value)?))).collect::<Result<_, SiteError>>()?,
        listens: port.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, *port))),
        log: folder.join(format!("{}.log", plan.name.replace(' ', "-"))),
    })
}

/// A free port for each name in the peer's file.
fn choose_ports(peer: &Peer) -> Result<BTreeMap<String, u16>, SiteError> {
    let mut ports = BTreeMap::new();
    for (name, port) in &peer.file.fixed_ports {
        if !is_free(*port) {
            return Err(SiteError::PortTaken(*port));
        }
        ports.insert(name.clone(), *port);
    }
    for name in &peer.file.ports {
        ports.insert(name.clone(), free_port()?);
    }
    Ok(ports)
}

/// A free port on loopback, outside the range for outgoing connections.
///
/// # Errors
///
/// If all are in use.
pub(crate) fn free_port() -> Result<u16, SiteError> {
    use std::sync::atomic::{AtomicU32, Ordering};
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let own = std::process::id().wrapping_mul(97);
    for _ in 0..PORT_COUNT {
        let at = own.wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed)) % u32::from(PORT_COUNT);
        let port = PORT_FIRST + u16::try_from(at).expect("below PORT_COUNT, which is one");
        if is_free(port) {
            return Ok(port);
        }
    }
    Err(SiteError::NoPort)
}

/// Whether a port of loopback is free.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Writes a file that only its owner can read.
fn write(path: &Path, text: &str) -> Result<(), SiteError> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| SiteError::File { path: path.to_owned(), source })
}

fn random_hex() -> Result<String, SiteError> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| SiteError::Key)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A new X25519 key pair, private and public, in base64.
fn x25519() -> Result<(String, String), SiteError> {
    let private = PrivateKey::generate(&X25519).map_err(|_| SiteError::Key)?;
    let public = private.compute_public_key().map_err(|_| SiteError::Key)?;
    let seed: Curve25519SeedBin<'_> = private.as_be_bytes().map_err(|_| SiteError::Key)?;
    Ok((BASE64.encode(seed.as_ref()), BASE64.encode(public.as_ref())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 9))
    }

    #[test]
    fn every_blank_of_every_peer_is_filled_in() {
        let credentials = Credentials::new().expect("credentials are created");
        for mut peer in Peer::all() {
            // These ports may be in use on the test's machine.
            peer.file.fixed_ports.values_mut().for_each(|port| *port = free_port().expect("one is free"));
            let site =
                Site::new(&peer, &credentials, upstream(), 1, 64).unwrap_or_else(|e| panic!("{}: {e}", peer.name));
            let mut texts: Vec<String> = Vec::new();
            for file in &peer.file.files {
                texts.push(std::fs::read_to_string(site.folder.path().join(&file.name)).expect("it was written"));
            }
            for command in &site.commands {
                texts.extend(command.args.iter().chain(command.env.values()).cloned());
            }
            for text in &texts {
                assert!(!text.contains("{{") && !text.contains("}}"), "{}: {text}", peer.name);
            }
            if !site.commands.is_empty() {
                let all = texts.join("\n");
                assert!(all.contains(&site.agents.port().to_string()), "{} is not told where agents call", peer.name);
                assert!(site.agents.port() < 32_768);
            }
        }
    }

    #[test]
    fn a_blank_that_nothing_fills_is_an_error() {
        let mut peer = Peer::named(["rathole"]).expect("a known peer").remove(0);
        peer.file.files[0].text = "port = {{ ports.missing }}".to_owned();
        let credentials = Credentials::new().expect("credentials are created");
        let error = Site::new(&peer, &credentials, upstream(), 1, 64).err().expect("it must fail").to_string();
        assert!(error.contains("template"), "{error}");
    }

    #[test]
    fn a_port_in_use_is_reported_or_skipped() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port().expect("one is free"))).expect("it is free");
        let port = taken.local_addr().expect("a bound socket").port();
        let mut peer = Peer::named(["bore"]).expect("a known peer").remove(0);
        peer.file.fixed_ports.insert("link".to_owned(), port);
        assert!(matches!(choose_ports(&peer), Err(SiteError::PortTaken(taken)) if taken == port));
        assert_ne!(free_port().expect("one is free"), port);
    }
}
