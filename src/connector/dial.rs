//! Connections to an edge, for links and for enrolments.

use std::sync::Arc;
use std::time::Duration;

use crate::base::{Clock, Time};
use crate::connector::connect_error::ConnectError;
use crate::connector::connector_core::ConnectorCore;
use crate::connector::settings::EdgeAddress;
use crate::dial::{Proxy, Resolver, connect_first};
use crate::engine::driver::SocketOptions;
use crate::engine::{Core, Socket};
use crate::tls::{ClientConfig, Connection, HandshakeError, ServerName};

/// What is needed to reach one edge.
pub(super) struct Dialer<'a> {
    pub(super) core: &'a Core,
    pub(super) resolver: &'a Resolver,
    pub(super) edge: &'a EdgeAddress,
    /// The name that the edge's certificate must bear; the host of its address when there is none.
    pub(super) edge_name: Option<&'a str>,
    /// The proxy through which it is reached, if there is one.
    pub(super) proxy: Option<&'a Proxy>,
    /// How long it may take, TLS included, all addresses together.
    pub(super) limit: Duration,
}

/// Connects the core to one of its edges within the time of the settings, with TLS if there is a `config`.
pub(super) async fn dial(
    core: &ConnectorCore,
    edge: usize,
    config: Option<&Arc<ClientConfig>>,
) -> Result<Connection, ConnectError> {
    let settings = &core.connector.settings;
    let dialer = Dialer {
        core: &core.core,
        resolver: &core.resolver,
        edge: &settings.edges[edge],
        edge_name: settings.edge_name.as_deref(),
        proxy: settings.proxies.get(edge).and_then(Option::as_ref),
        limit: settings.connect_timeout,
    };
    dialer.dial(config).await
}

impl Dialer<'_> {
    /// A connection to the edge, encrypted if there is a `config` for it.
    pub(super) async fn dial(&self, config: Option<&Arc<ClientConfig>>) -> Result<Connection, ConnectError> {
        let (core, limit) = (self.core, self.limit);
        let deadline = core.now() + limit;
        let (socket, address) = self.connect(deadline).await?;
        let Some(config) = config else { return Ok(Connection::plain(socket)) };
        let name = self.edge_name.unwrap_or(&self.edge.host);
        let server = ServerName::try_from(name.to_owned()).map_err(|_| ConnectError::BadName(name.into()))?;
        Connection::client(socket, config, server, core.sleep_until(deadline)).await.map_err(|error| match error {
            HandshakeError::Timeout => ConnectError::TlsTimeout { address, limit },
            error => error.into(),
        })
    }

    /// A connection to the edge, and its address.
    async fn connect(&self, deadline: Time) -> Result<(Socket, String), ConnectError> {
        let (core, EdgeAddress { host, port }) = (self.core, self.edge);
        if let Some(proxy) = self.proxy {
            let connected = proxy.connect(core, self.resolver, (host, *port), deadline).await;
            let socket = connected.map_err(|cause| ConnectError::Proxy { proxy: proxy.to_string(), cause })?;
            return Ok((socket, format!("{} (through {proxy})", self.edge)));
        }
        let addresses = self.resolver.resolve_until(host, *port, deadline, core).await?;
        match connect_first(core, &addresses, SocketOptions::default(), deadline).await {
            Ok((socket, address)) => Ok((socket, address.to_string())),
            Err(error) if error.is_timeout() => {
                Err(ConnectError::Unanswered { address: error.addresses(), limit: self.limit })
            }
            Err(error) => Err(ConnectError::Connect { address: error.addresses(), reason: error.reasons() }),
        }
    }
}
