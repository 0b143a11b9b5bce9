//! Connections to an edge, for links and for enrolments.

use std::future::pending;
use std::sync::Arc;

use crate::connector::connect_error::ConnectError;
use crate::connector::connector_core::ConnectorCore;
use crate::connector::settings::EdgeAddress;
use crate::engine::driver::SocketOptions;
use crate::engine::{Core, Socket};
use crate::tls::{ClientConfig, Connection, ServerName};
use crate::upstream::Resolver;

/// What is needed to reach one edge.
pub(super) struct Dialer<'a> {
    pub(super) core: &'a Core,
    pub(super) resolver: &'a Resolver,
    pub(super) edge: &'a EdgeAddress,
    /// The name that the edge's certificate must bear; the host of its address when there is none.
    pub(super) edge_name: Option<&'a str>,
}

/// Connects the core to one of its edges, with TLS if there is a `config`. The caller limits the time.
pub(super) async fn dial(
    core: &ConnectorCore,
    edge: usize,
    config: Option<&Arc<ClientConfig>>,
) -> Result<Connection, ConnectError> {
    let settings = &core.connector.settings;
    let (edge, edge_name) = (&settings.edges[edge], settings.edge_name.as_deref());
    Dialer { core: &core.core, resolver: &core.resolver, edge, edge_name }.dial(config).await
}

impl Dialer<'_> {
    /// A connection to the edge, encrypted if there is a `config` for it. The caller bounds the time for it.
    pub(super) async fn dial(&self, config: Option<&Arc<ClientConfig>>) -> Result<Connection, ConnectError> {
        let socket = self.connect().await?;
        let Some(config) = config else { return Ok(Connection::plain(socket)) };
        let name = self.edge_name.unwrap_or(&self.edge.host);
        let server = ServerName::try_from(name.to_owned()).map_err(|_| ConnectError::BadName(name.into()))?;
        Ok(Connection::client(socket, config, server, pending()).await?)
    }

    async fn connect(&self) -> Result<Socket, ConnectError> {
        let addresses = self.resolver.resolve(&self.edge.host, self.edge.port).await?;
        let mut last = None;
        for address in addresses {
            match self.core.connect(&address.into(), SocketOptions::default()).await {
                Ok(socket) => return Ok(socket),
                Err(error) => last = Some((address, error)),
            }
        }
        let (address, reason) = last.map_or_else(
            || (self.edge.to_string(), String::from("no address")),
            |(address, error)| (address.to_string(), error.to_string()),
        );
        Err(ConnectError::Connect { address, reason })
    }
}
