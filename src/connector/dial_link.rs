//! Connections for links, over QUIC or TCP.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_lite::future;

use crate::base::Clock;
use crate::connector::connect_error::ConnectError;
use crate::connector::connector_core::ConnectorCore;
use crate::connector::dial::dial;
use crate::connector::quic_watch;
use crate::connector::settings::LinkTransport;
use crate::engine::Signal;
use crate::quic::{QuicConnection, QuicError, quic_client};
use crate::tls::{ClientConfig, Connection, TlsError};

/// How long QUIC is tried alone before TCP is tried as well.
const QUIC_HEAD_START: Duration = Duration::from_millis(100);
/// For how long QUIC has to carry something before a link that uses TCP is moved to it.
const PROVEN_AFTER: Duration = Duration::from_secs(3);

/// A connection to an edge, for a link.
pub(super) enum LinkConnection {
    Quic(Rc<QuicConnection>),
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
    let name = settings.edge_name.as_deref().unwrap_or(&settings.edges[edge].host);
    dial_any(core, edge, config, config.map(|tls| (tls, name))).await
}

/// The same with a TLS configuration, and a name that the edge's certificate must have, for each of TCP and QUIC.
pub(super) async fn dial_any(
    core: &ConnectorCore,
    edge: usize,
    for_tcp: Option<&Arc<ClientConfig>>,
    for_quic: Option<(&Arc<ClientConfig>, &str)>,
) -> Result<LinkConnection, ConnectError> {
    let transport = core.connector.settings.transport;
    let tcp = async { dial(core, edge, for_tcp).await.map(LinkConnection::Tcp) };
    let quic = |tls| async move { dial_quic(core, edge, tls).await.map(LinkConnection::Quic) };
    match for_quic.filter(|_| may_use_quic(core, edge)) {
        Some(tls) if transport == LinkTransport::Quic => quic(tls).await,
        Some(tls) if core.transports.tcp_until(edge) <= core.core.now() => {
            let dialled = race(core, quic(tls), tcp).await;
            if let Ok(LinkConnection::Tcp(_)) = dialled {
                core.transports.on_quic_failed(edge, core.core.now(), core.retry.random_fraction());
            }
            dialled
        }
        _ => tcp.await,
    }
}

/// Whether links to this edge may use QUIC. A proxy carries TCP alone.
pub(super) fn may_use_quic(core: &ConnectorCore, edge: usize) -> bool {
    let settings = &core.connector.settings;
    settings.transport != LinkTransport::Tcp && settings.proxies.get(edge).is_none_or(Option::is_none)
}

/// A connection over QUIC that has carried something for a while, for a link that uses TCP.
///
/// # Errors
///
/// If there is none, or the path carries nothing after the handshake.
pub(super) async fn prove_quic(
    core: &ConnectorCore,
    edge: usize,
    tls: &Arc<ClientConfig>,
) -> Result<Rc<QuicConnection>, ConnectError> {
    let settings = &core.connector.settings;
    let name = settings.edge_name.as_deref().unwrap_or(&settings.edges[edge].host);
    let connection = dial_quic(core, edge, (tls, name)).await?;
    let carries = async {
        core.core.sleep(PROVEN_AFTER).await;
        true
    };
    let fails = async {
        quic_watch::silent(&core.core, || connection.path()).await;
        false
    };
    if future::or(fails, carries).await {
        return Ok(connection);
    }
    let address = core.connector.settings.edges[edge].to_string();
    Err(ConnectError::Quic { address, cause: QuicError::Unanswered })
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
async fn dial_quic(
    core: &ConnectorCore,
    edge: usize,
    (tls, name): (&Arc<ClientConfig>, &str),
) -> Result<Rc<QuicConnection>, ConnectError> {
    let settings = &core.connector.settings;
    let at = &settings.edges[edge];
    let deadline = core.core.now() + settings.connect_timeout;
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
            Ok(connection) => return Ok(Rc::new(connection)),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}
