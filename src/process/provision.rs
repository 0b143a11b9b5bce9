//! Exchanges a provisioning key for a tunnel, on a new host and before its connector starts.

use std::sync::Arc;
use std::time::Duration;

use crate::base::{Secret, TunnelToken};
use crate::config::{ConfigErrors, ConnectConfig};
use crate::connector::{EdgeAddress, EdgeTls, TradeError, TradeWith, trade};
use crate::control::{StateDir, serve_resolves};
use crate::dial::{Proxy, Resolver, resolver};
use crate::engine::{Cores, EngineSettings, StartError, mailbox};
use crate::private::PrivateError;
use crate::process::error::RunError;
use crate::process::random::random;
use crate::process::settings::{edge_addresses, edge_roots, fallback_port, open_state_dir, proxy_for};
use crate::tls::{CertError, WallClock};
use crate::wire::enrol::{Credential, EnrolRequest, Grant, NAME_LEN_MAX};

/// The shortest wait between two rounds, and the bound of a random addition to it. Hosts from one image then do not all
/// come at the same time.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_SPREAD_MS: u64 = 4_000;
/// The file in which the kernel provides the host's name.
const HOSTNAME_FILE: &str = "/proc/sys/kernel/hostname";

/// Why a key was not exchanged.
#[derive(Debug, thiserror::Error)]
enum NotTraded {
    #[error(transparent)]
    Edge(#[from] TradeError),
    #[error("it returned no secret for the new tunnel")]
    NoSecret,
    #[error("no core could be started to reach it: {0}")]
    Start(#[from] StartError),
    #[error("the core that was to reach it failed")]
    Broken,
    #[error(transparent)]
    Cert(#[from] CertError),
    #[error("the token that it issued cannot be saved: {0}")]
    Keep(#[from] PrivateError),
}

impl NotTraded {
    /// Whether retrying is useless until someone changes something.
    fn is_final(&self) -> bool {
        match self {
            NotTraded::Edge(error) => error.is_final(),
            NotTraded::NoSecret => false,
            NotTraded::Start(_) | NotTraded::Broken | NotTraded::Cert(_) | NotTraded::Keep(_) => true,
        }
    }
}

/// Ensures that a connector with a provisioning key has its tunnel, from an earlier start or from the first edge that
/// creates one. It retries for as long as no edge can be reached.
///
/// # Errors
///
/// If the key is refused, or the result cannot be stored.
pub(super) async fn provision(config: &ConnectConfig, engine: &EngineSettings) -> Result<(), RunError> {
    let Some(source) = config.provisioning_source() else { return Ok(()) };
    let Some(dir) = open_state_dir(config)? else { return Ok(()) };
    if dir.token().map_err(|error| ConfigErrors::of("connect.state_dir", error))?.is_some() {
        return Ok(());
    }
    let key = source.read().map_err(|error| RunError::Other(error.to_string()))?;
    let tls = EdgeTls::new(edge_roots(config, &key)?, WallClock::default(), 0);
    let client = Arc::new(Client {
        engine: EngineSettings { cores: 1, ..engine.clone() },
        tls: tls.map_err(|error| RunError::Other(error.to_string()))?,
        edge_name: config.edge_name.map(|name| name.as_str().to_owned()),
        fallback_port: fallback_port(config),
    });
    loop {
        for edge in edge_addresses(config) {
            let proxy = proxy_for(config, &edge);
            match trade_at((&edge, proxy), &client, &key, &dir).await {
                Ok(tunnel) => {
                    tracing::info!(%edge, %tunnel, "the provisioning key was exchanged for a tunnel");
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

/// What is needed to reach the edges.
struct Client {
    engine: EngineSettings,
    tls: EdgeTls,
    edge_name: Option<String>,
    fallback_port: Option<u16>,
}

/// Sends the key to one edge, and stores the result.
async fn trade_at(
    (edge, proxy): (&EdgeAddress, Option<Proxy>),
    client: &Arc<Client>,
    key: &Secret,
    dir: &StateDir,
) -> Result<String, NotTraded> {
    let request = dir.trade_key()?;
    let hostname = std::fs::read_to_string(HOSTNAME_FILE).unwrap_or_default();
    let name = hostname.trim().chars().take(NAME_LEN_MAX).collect();
    let asked = EnrolRequest {
        credential: Credential::Provisioning { key: key.clone(), name },
        software: concat!("adit/", env!("CARGO_PKG_VERSION")).to_owned(),
        csr: request.csr().to_vec(),
    };
    let Grant { tunnel: id, secret, chain, .. } = client.send(edge, proxy, asked).await?;
    let token = TunnelToken { id, secret: secret.ok_or(NotTraded::NoSecret)? };
    // The token first, because it cannot be obtained twice.
    dir.keep_token(&token)?;
    let identity = request.into_identity(chain.into_iter().map(Into::into).collect())?;
    dir.keep(edge, &identity)?;
    dir.end_trade();
    Ok(token.id.to_string())
}

impl Client {
    /// Sends a request from a temporary core, because the connector's own cores start only once there is a tunnel.
    async fn send(
        self: &Arc<Client>,
        edge: &EdgeAddress,
        proxy: Option<Proxy>,
        request: EnrolRequest,
    ) -> Result<Grant, NotTraded> {
        let (resolve, resolves) = resolver();
        let resolving = tokio::spawn(serve_resolves(resolves));
        let (reply, mut answer) = mailbox(1);
        let (client, asked) = (Arc::clone(self), Arc::new((edge.clone(), proxy, request)));
        let cores = Cores::start(&self.engine, move |core| {
            let (client, asked) = (Arc::clone(&client), Arc::clone(&asked));
            let (reply, resolver) = (reply.clone(), Resolver::Control(resolve.clone()));
            async move {
                let (edge, proxy, request) = &*asked;
                let Client { edge_name, fallback_port, .. } = &*client;
                let (edge_name, proxy) = (edge_name.as_deref(), proxy.as_ref());
                let with = TradeWith { edge, edge_name, proxy, fallback_port: *fallback_port };
                // This cannot fail: the requester waits for the reply.
                let _ = reply.send(trade(&core, &resolver, with, &client.tls, request).await);
            }
        })?;
        let answer = answer.recv().await;
        cores.join().map_err(|_| NotTraded::Broken)?;
        resolving.abort();
        Ok(answer.ok_or(NotTraded::Broken)??)
    }
}
