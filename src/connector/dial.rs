//! Connections to an edge, for links and for enrolments.

use std::future::pending;
use std::sync::Arc;

use crate::connector::connector_core::ConnectorCore;
use crate::connector::no_link::NoLink;
use crate::connector::settings::EdgeAddress;
use crate::engine::Socket;
use crate::engine::driver::SocketOptions;
use crate::tls::{ClientConfig, Connection, ServerName};

impl ConnectorCore {
    /// A connection to an edge, sealed if there is a `config` for it. The caller bounds the time for it.
    pub(super) async fn dial(&self, edge: usize, config: Option<&Arc<ClientConfig>>) -> Result<Connection, NoLink> {
        let address = &self.connector.settings.edges[edge];
        let socket = self.connect(address).await?;
        let Some(config) = config else { return Ok(Connection::plain(socket)) };
        let name = self.connector.settings.edge_name.as_ref().unwrap_or(&address.host);
        let server = ServerName::try_from(name.to_string()).map_err(|_| NoLink::BadName(name.clone()))?;
        Ok(Connection::client(socket, config, server, pending()).await?)
    }

    async fn connect(&self, edge: &EdgeAddress) -> Result<Socket, NoLink> {
        let addresses = self.resolver.resolve(&edge.host, edge.port).await?;
        let mut last = None;
        for address in addresses {
            match self.core.connect(&address.into(), SocketOptions::default()).await {
                Ok(socket) => return Ok(socket),
                Err(error) => last = Some((address, error)),
            }
        }
        let (address, reason) = last.map_or_else(
            || (edge.to_string(), String::from("no address")),
            |(address, error)| (address.to_string(), error.to_string()),
        );
        Err(NoLink::Connect { address, reason })
    }
}
