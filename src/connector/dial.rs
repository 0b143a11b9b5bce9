//! Connections to an edge, for links and for enrolments.

use std::future::pending;
use std::sync::Arc;

use crate::connector::connect_error::ConnectError;
use crate::connector::connector_core::ConnectorCore;
use crate::connector::settings::EdgeAddress;
use crate::engine::Socket;
use crate::engine::driver::SocketOptions;
use crate::tls::{ClientConfig, Connection, ServerName};

/// Connects to an edge, with TLS if there is a `config`. The caller limits the time.
pub(super) async fn dial(
    core: &ConnectorCore,
    edge: usize,
    config: Option<&Arc<ClientConfig>>,
) -> Result<Connection, ConnectError> {
    let address = &core.connector.settings.edges[edge];
    let socket = connect(core, address).await?;
    let Some(config) = config else { return Ok(Connection::plain(socket)) };
    let name = core.connector.settings.edge_name.as_ref().unwrap_or(&address.host);
    let server = ServerName::try_from(name.to_string()).map_err(|_| ConnectError::BadName(name.clone()))?;
    Ok(Connection::client(socket, config, server, pending()).await?)
}

async fn connect(core: &ConnectorCore, edge: &EdgeAddress) -> Result<Socket, ConnectError> {
    let addresses = core.resolver.resolve(&edge.host, edge.port).await?;
    let mut last = None;
    for address in addresses {
        match core.core.connect(&address.into(), SocketOptions::default()).await {
            Ok(socket) => return Ok(socket),
            Err(error) => last = Some((address, error)),
        }
    }
    let (address, reason) = last.map_or_else(
        || (edge.to_string(), String::from("no address")),
        |(address, error)| (address.to_string(), error.to_string()),
    );
    Err(ConnectError::Connect { address, reason })
}
