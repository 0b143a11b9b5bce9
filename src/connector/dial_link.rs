//! Connections for links, over QUIC or TCP.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::base::Clock;
use crate::connector::connect_error::ConnectError;
use crate::connector::connector_core::ConnectorCore;
use crate::connector::dial::dial;
use crate::connector::settings::LinkTransport;
use crate::engine::Signal;
use crate::quic::{QuicConnection, QuicError, quic_client};
use crate::tls::{ClientConfig, Connection, TlsError};

/// How long QUIC is tried alone before TCP is tried as well.
const QUIC_HEAD_START: Duration = Duration::from_millis(100);

/// A connection to an edge, for a link.
pub(super) enum LinkConnection {
    Quic(QuicConnection),
    Tcp(Connection),
}

impl LinkConnection {
    /// The TLS error, if TLS has failed.
    pub(super) fn tls_failure(&self) -> Option<TlsError> {
        match self {
            LinkConnection::Quic(connection) => connection.tls_failure(),
            LinkConnection::Tcp(connection) => connection.tls_failure(),
        }
    }
}

/// Connects to one of the edges by the configured transport, within the configured time.
pub(super) async fn dial_link(
    core: &ConnectorCore,
    edge: usize,
    config: Option<&Arc<ClientConfig>>,
) -> Result<LinkConnection, ConnectError> {
    let settings = &core.connector.settings;
    let has_proxy = settings.proxies.get(edge).is_some_and(Option::is_some);
    let tcp = async { dial(core, edge, config).await.map(LinkConnection::Tcp) };
    match (settings.transport, config) {
        (LinkTransport::Auto, Some(tls)) if !has_proxy => race(core, dial_quic(core, edge, tls), tcp).await,
        (LinkTransport::Quic, Some(tls)) if !has_proxy => dial_quic(core, edge, tls).await,
        _ => tcp.await,
    }
}

/// The connection that is there first. TCP begins later, or as soon as QUIC has failed.
async fn race(
    core: &ConnectorCore,
    quic: impl Future<Output = Result<LinkConnection, ConnectError>>,
    tcp: impl Future<Output = Result<LinkConnection, ConnectError>>,
) -> Result<LinkConnection, ConnectError> {
    let quic_failed = Signal::default();
    let tcp = async {
        let _ = core.core.timeout(QUIC_HEAD_START, quic_failed.after(0)).await;
        tcp.await
    };
    let (mut quic, mut tcp) = (pin!(quic), pin!(tcp));
    let mut tcp_error = None;
    poll_fn(|cx| {
        if quic_failed.count() == 0 {
            match quic.as_mut().poll(cx) {
                Poll::Ready(Ok(connection)) => return Poll::Ready(Ok(connection)),
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "no link over QUIC; TCP is used");
                    quic_failed.raise();
                }
                Poll::Pending => {}
            }
        }
        if tcp_error.is_none() {
            match tcp.as_mut().poll(cx) {
                Poll::Ready(Ok(connection)) => return Poll::Ready(Ok(connection)),
                Poll::Ready(Err(error)) => tcp_error = Some(error),
                Poll::Pending => {}
            }
        }
        match tcp_error.take_if(|_| quic_failed.count() > 0) {
            Some(error) => Poll::Ready(Err(error)),
            None => Poll::Pending,
        }
    })
    .await
}

/// Connects over QUIC, trying the addresses of the edge one after another.
async fn dial_quic(core: &ConnectorCore, edge: usize, tls: &Arc<ClientConfig>) -> Result<LinkConnection, ConnectError> {
    let settings = &core.connector.settings;
    let at = &settings.edges[edge];
    let deadline = core.core.now() + settings.connect_timeout;
    let name = settings.edge_name.as_deref().unwrap_or(&at.host);
    let failed = |cause: QuicError| ConnectError::Quic { address: at.to_string(), cause };
    let crypto = quic_client(tls).map_err(|error| failed(error.into()))?;
    let addresses = core.resolver.resolve_until(&at.host, at.port, deadline, &core.core).await?;
    let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    let mut last = QuicError::Unanswered;
    for address in addresses {
        let share = deadline.since(core.core.now()) / left.max(1);
        left = left.saturating_sub(1);
        let connected = async {
            let endpoint = core.quic.for_peer(&core.core, address, &settings.quic)?;
            endpoint.connect(Arc::clone(&crypto), address, name, core.core.now() + share).await
        };
        match connected.await {
            Ok(connection) => return Ok(LinkConnection::Quic(connection)),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}
