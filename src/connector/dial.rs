//! Connections to an edge, for links and for enrolments.

use std::sync::Arc;
use std::time::Duration;

use crate::base::Clock;
use crate::connector::connect_error::ConnectError;
use crate::connector::connector_core::ConnectorCore;
use crate::connector::settings::EdgeAddress;
use crate::dial::{Resolver, connect_first};
use crate::engine::Core;
use crate::engine::driver::SocketOptions;
use crate::tls::{ClientConfig, Connection, HandshakeError, ServerName};

/// What is needed to reach one edge.
pub(super) struct Dialer<'a> {
    pub(super) core: &'a Core,
    pub(super) resolver: &'a Resolver,
    pub(super) edge: &'a EdgeAddress,
    /// The name that the edge's certificate must bear; the host of its address when there is none.
    pub(super) edge_name: Option<&'a str>,
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
    let (edge, edge_name) = (&settings.edges[edge], settings.edge_name.as_deref());
    let limit = settings.connect_timeout;
    Dialer { core: &core.core, resolver: &core.resolver, edge, edge_name, limit }.dial(config).await
}

impl Dialer<'_> {
    /// A connection to the edge, encrypted if there is a `config` for it.
    pub(super) async fn dial(&self, config: Option<&Arc<ClientConfig>>) -> Result<Connection, ConnectError> {
        let (core, limit) = (self.core, self.limit);
        let deadline = core.now() + limit;
        let addresses = self.resolver.resolve_until(&self.edge.host, self.edge.port, deadline, core).await?;
        let connected = connect_first(core, &addresses, SocketOptions::default(), deadline).await;
        let (socket, address) = connected.map_err(|error| {
            let address = error.addresses();
            match error.is_timeout() {
                true => ConnectError::Unanswered { address, limit },
                false => ConnectError::Connect { address, reason: error.reasons() },
            }
        })?;
        let Some(config) = config else { return Ok(Connection::plain(socket)) };
        let name = self.edge_name.unwrap_or(&self.edge.host);
        let server = ServerName::try_from(name.to_owned()).map_err(|_| ConnectError::BadName(name.into()))?;
        Connection::client(socket, config, server, core.sleep_until(deadline)).await.map_err(|error| match error {
            HandshakeError::Timeout => ConnectError::TlsTimeout { address: address.to_string(), limit },
            error => error.into(),
        })
    }
}
