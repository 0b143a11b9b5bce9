//! Connections to an edge, for links and for enrolments.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::base::{Clock, Time};
use crate::connector::connect_error::ConnectError;
use crate::connector::connector_core::ConnectorCore;
use crate::connector::settings::EdgeAddress;
use crate::dial::{Proxy, Resolver, connect_first};
use crate::engine::driver::SocketOptions;
use crate::engine::{Core, LocalEntry, Socket};
use crate::tls::{ClientConfig, Connection, HandshakeError, ServerName};

/// The parameters for connections to one edge.
pub(super) struct Dialer<'a> {
    pub(super) core: &'a Core,
    pub(super) resolver: &'a Resolver,
    pub(super) edge: &'a EdgeAddress,
    /// The way to it, if it runs in this process.
    pub(super) local: Option<&'a LocalEntry>,
    /// The name that the edge's certificate must contain; by default the host of its address.
    pub(super) edge_name: Option<&'a str>,
    /// The proxy through which it is reached, if there is one.
    pub(super) proxy: Option<&'a Proxy>,
    /// Another port of the edge, which is tried when the first does not answer.
    pub(super) fallback: Option<Fallback<'a>>,
    /// The time limit for all addresses together, including TLS.
    pub(super) limit: Duration,
}

/// A second port of an edge.
#[derive(Clone, Copy)]
pub(super) struct Fallback<'a> {
    pub(super) port: u16,
    /// Whether this port answered last, so that it is tried first.
    pub(super) is_preferred: &'a AtomicBool,
}

/// Connects to one of the edges within the configured time, with TLS if there is a `config`.
pub(super) async fn dial(
    core: &ConnectorCore,
    edge: usize,
    config: Option<&Arc<ClientConfig>>,
) -> Result<Connection, ConnectError> {
    let settings = &core.connector.settings;
    let local = settings.local_edge.as_ref().and_then(|cores| cores.get(usize::from(core.core.id().0)));
    let dialer = Dialer {
        core: &core.core,
        resolver: &core.resolver,
        edge: &settings.edges[edge],
        local,
        edge_name: settings.edge_name.as_deref(),
        proxy: settings.proxies.get(edge).and_then(Option::as_ref),
        fallback: settings
            .edge_fallback_port
            .map(|port| Fallback { port, is_preferred: &core.connector.edges[edge].prefers_fallback_port }),
        limit: settings.connect_timeout,
    };
    dialer.dial(config).await
}

impl Dialer<'_> {
    /// A connection to the edge, with TLS if there is a `config`. Each of two ports has half of the time.
    pub(super) async fn dial(&self, config: Option<&Arc<ClientConfig>>) -> Result<Connection, ConnectError> {
        let own = self.edge.port;
        let Some(Fallback { port, is_preferred }) = self.fallback.filter(|fallback| fallback.port != own) else {
            return self.dial_port(own, self.limit, config).await;
        };
        let was_preferred = is_preferred.load(Ordering::Relaxed);
        let (first, second) = if was_preferred { (port, own) } else { (own, port) };
        let at_first = match self.dial_port(first, self.limit / 2, config).await {
            Err(error) if was_preferred || error.is_unanswered() => error,
            dialled => return dialled,
        };
        match self.dial_port(second, self.limit / 2, config).await {
            Ok(connection) => {
                is_preferred.store(!was_preferred, Ordering::Relaxed);
                tracing::info!(edge = %self.edge, port = second, error = %at_first, "connected to the edge on its fallback port");
                Ok(connection)
            }
            // Report the failure of the edge's first port, which should have answered.
            Err(at_second) if was_preferred => Err(at_second),
            Err(at_second) => {
                tracing::debug!(edge = %self.edge, port = second, error = %at_second, "the edge's fallback port did not answer either");
                Err(at_first)
            }
        }
    }

    async fn dial_port(
        &self,
        port: u16,
        limit: Duration,
        config: Option<&Arc<ClientConfig>>,
    ) -> Result<Connection, ConnectError> {
        let core = self.core;
        let deadline = core.now() + limit;
        let (socket, address) = self.connect(port, limit, deadline).await?;
        let Some(config) = config else { return Ok(Connection::plain(socket)) };
        let name = self.edge_name.unwrap_or(&self.edge.host);
        let server = ServerName::try_from(name.to_owned()).map_err(|_| ConnectError::BadName(name.into()))?;
        Connection::client(socket, config, server, core.sleep_until(deadline)).await.map_err(|error| match error {
            HandshakeError::Timeout => ConnectError::TlsTimeout { address, limit },
            error => error.into(),
        })
    }

    /// A connection to the edge, and its address.
    async fn connect(&self, port: u16, limit: Duration, deadline: Time) -> Result<(Socket, String), ConnectError> {
        let (core, host) = (self.core, &*self.edge.host);
        if let Some(local) = self.local {
            let address = self.edge.to_string();
            let connected = local.connect(core).await;
            return connected
                .map(|socket| (socket, address.clone()))
                .map_err(|error| ConnectError::Connect { address, reason: error.to_string() });
        }
        if let Some(proxy) = self.proxy {
            let connected = proxy.connect(core, self.resolver, (host, port), deadline).await;
            let socket = connected.map_err(|cause| ConnectError::Proxy { proxy: proxy.to_string(), cause })?;
            let edge = EdgeAddress { host: host.into(), port };
            return Ok((socket, format!("{edge} (through {proxy})")));
        }
        let addresses = self.resolver.resolve_until(host, port, deadline, core).await?;
        match connect_first(core, &addresses, SocketOptions::default(), deadline).await {
            Ok((socket, address)) => Ok((socket, address.to_string())),
            Err(error) if error.is_timeout() => Err(ConnectError::Unanswered { address: error.addresses(), limit }),
            Err(error) => Err(ConnectError::Connect { address: error.addresses(), reason: error.reasons() }),
        }
    }
}
