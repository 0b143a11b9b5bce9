//! A new host trades a provisioning key for a tunnel of its own, before its connector starts.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::{AlertDescription, ClientConnection, StreamOwned};

use crate::base::{Secret, TunnelToken};
use crate::config::{ConnectConfig, Faults};
use crate::connector::EdgeAddress;
use crate::control::StateDir;
use crate::private::PrivateError;
use crate::process::error::RunError;
use crate::process::random::random;
use crate::process::settings::{edge_addresses, edge_roots, open_state_dir};
use crate::tls::{ALPN_ENROL, CertError, ClientConfig, ClientSettings, ServerName, TlsError, client_config};
use crate::wire::Refusal;
use crate::wire::enrol::{Answer, Credential, EnrolFault, Grant, Incoming, Message, NAME_LEN_MAX, Refused, Request};

/// How long each step with one edge may take: connecting, and each read.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// The least wait between two rounds, and by how much it may be longer, so that hosts of one image do not come all at once.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_SPREAD_MS: u64 = 4_000;
/// Where the kernel tells the host's name.
const HOSTNAME_FILE: &str = "/proc/sys/kernel/hostname";

/// Why a key was not traded.
#[derive(Debug, thiserror::Error)]
enum NotTraded {
    #[error("it refused the provisioning key: {refusal}{}{reason}", if reason.is_empty() { "" } else { ": " })]
    Refused { refusal: Refusal, reason: String },
    #[error("it gives no certificates: a provisioning key needs an edge with a data_dir")]
    NotOffered,
    #[error("it cannot be reached: {0}")]
    Io(#[from] io::Error),
    #[error("its answer was broken: {0}")]
    Broken(#[from] EnrolFault),
    #[error("it gave no secret for the new tunnel")]
    NoSecret,
    #[error("'{0}' cannot stand in a certificate: set `edge_name` to the name that the edge's certificate bears")]
    BadName(String),
    #[error(transparent)]
    Cert(#[from] CertError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("what it gave cannot be kept: {0}")]
    Keep(#[from] PrivateError),
}

impl NotTraded {
    /// Whether asking again is in vain until somebody changes something.
    fn is_final(&self) -> bool {
        match self {
            NotTraded::Refused { refusal, .. } => refusal.is_final(),
            NotTraded::NotOffered | NotTraded::BadName(_) | NotTraded::Cert(_) | NotTraded::Keep(_) => true,
            _ => false,
        }
    }
}

/// Sees to it that a connector with a provisioning key has its tunnel: from an earlier start, or from the first edge that
/// makes one. Returns when it has, however long edges are away.
///
/// # Errors
///
/// When the key is refused, or what came for it cannot be kept.
pub(super) async fn provision(config: &ConnectConfig) -> Result<(), RunError> {
    let Some(source) = config.provisioning_source() else { return Ok(()) };
    let Some(dir) = open_state_dir(config)? else { return Ok(()) };
    if dir.token().map_err(|error| Faults::of("connect.state_dir", error))?.is_some() {
        return Ok(());
    }
    let key = source.read().map_err(|error| RunError::Other(error.to_string()))?;
    let roots = edge_roots(config, &key)?;
    let settings = ClientSettings { roots, alpn: vec![ALPN_ENROL.to_vec()], ..ClientSettings::default() };
    let tls = client_config(settings).map_err(|error| RunError::Other(error.to_string()))?;
    loop {
        for edge in edge_addresses(config) {
            let name = config.edge_name.map_or_else(|| edge.host.to_string(), |name| name.as_str().to_owned());
            let (there, trade) = (edge.clone(), (key.clone(), Arc::clone(&tls), dir.clone()));
            let traded = tokio::task::spawn_blocking(move || trade_at(&there, &name, trade)).await;
            match traded.map_err(|error| RunError::Other(error.to_string()))? {
                Ok(tunnel) => {
                    tracing::info!(%edge, %tunnel, "the provisioning key was traded for a tunnel");
                    return Ok(());
                }
                Err(error) if error.is_final() => return Err(RunError::Other(format!("the edge {edge}: {error}"))),
                Err(error) => tracing::warn!(%edge, "{error}; trying again"),
            }
        }
        let spread = u64::from_ne_bytes(random()?) % WAIT_SPREAD_MS;
        tokio::time::sleep(WAIT_MIN + Duration::from_millis(spread)).await;
    }
}

/// Asks one edge, and keeps what it gives.
fn trade_at(
    edge: &EdgeAddress,
    name: &str,
    (key, tls, dir): (Secret, Arc<ClientConfig>, StateDir),
) -> Result<String, NotTraded> {
    let request = dir.trade_key()?;
    let hostname = std::fs::read_to_string(HOSTNAME_FILE).unwrap_or_default();
    let asked = Request {
        credential: Credential::Provisioning { key, name: hostname.trim().chars().take(NAME_LEN_MAX).collect() },
        software: concat!("adit/", env!("CARGO_PKG_VERSION")).to_owned(),
        csr: request.csr().to_vec(),
    };
    let grant = match exchange(edge, name, tls, &asked)? {
        Answer::Granted(grant) => grant,
        Answer::Refused(Refused { refusal, reason, .. }) => return Err(NotTraded::Refused { refusal, reason }),
    };
    let Grant { tunnel: id, secret, chain, .. } = grant;
    let token = TunnelToken { id, secret: secret.ok_or(NotTraded::NoSecret)? };
    // First what cannot be had twice.
    dir.keep_token(&token)?;
    let identity = request.into_identity(chain.into_iter().map(Into::into).collect())?;
    dir.keep(edge, &identity)?;
    dir.end_trade();
    Ok(token.id.to_string())
}

fn exchange(edge: &EdgeAddress, name: &str, tls: Arc<ClientConfig>, asked: &Request) -> Result<Answer, NotTraded> {
    let server = ServerName::try_from(name.trim_matches(['[', ']']).to_owned());
    let server = server.map_err(|_| NotTraded::BadName(name.to_owned()))?;
    let session = ClientConnection::new(tls, server).map_err(TlsError::from)?;
    let mut stream = StreamOwned::new(session, connect(edge)?);
    stream.write_all(asked.encode()?.expose()).and_then(|()| stream.flush()).map_err(explain)?;
    let (mut incoming, mut piece) = (Incoming::default(), [0; 4096]);
    loop {
        let n = stream.read(&mut piece).map_err(explain)?;
        if n == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        if let Some(answer) = incoming.receive(&piece[..n])? {
            return Ok(answer);
        }
    }
}

fn connect(edge: &EdgeAddress) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in (&*edge.host, edge.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, STEP_TIMEOUT) {
            Ok(socket) => {
                socket.set_read_timeout(Some(STEP_TIMEOUT))?;
                socket.set_write_timeout(Some(STEP_TIMEOUT))?;
                return Ok(socket);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// What TLS has to say, where it is that which failed.
fn explain(error: io::Error) -> NotTraded {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => NotTraded::NotOffered,
        Some(cause) => TlsError::from(cause.clone()).into(),
        None => error.into(),
    }
}
