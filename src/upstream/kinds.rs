//! The kinds of upstreams, by the way in which they are reached.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::dial::{ResolveError, Resolver};
use crate::engine::Core;
use crate::policy::{AllowedUpstreams, NotAllowed};
use crate::route::UpstreamUrl;
use crate::tls::{ClientConfig, HandshakeError};
use crate::upstream::{HttpConnection, HttpPool};

/// The settings of one upstream.
#[derive(Clone)]
pub struct UpstreamSettings {
    /// The URL of the server.
    pub url: UpstreamUrl,
    /// TLS for an `https://` server.
    pub tls: Option<Arc<ClientConfig>>,
    /// How many connections one core may have to it.
    pub connections_max: usize,
    /// How long connecting may take, TLS included, all addresses together.
    pub connect_timeout: Duration,
    /// How long a server that refuses connections is given to come back, before the call fails.
    pub refused_wait: Duration,
    /// How long a connection may be idle.
    pub idle_timeout: Duration,
    /// How long a call may wait for a connection when all are in use.
    pub queue_timeout: Duration,
    /// The addresses at which it may be. Checked for every address before it is dialled, as a name may resolve to another
    /// address each time.
    pub allowed: Arc<AllowedUpstreams>,
}

#[cfg(feature = "internals")]
impl UpstreamSettings {
    /// An upstream for tests and benches, without TLS, in a private network.
    #[must_use]
    pub fn for_tests(url: UpstreamUrl) -> UpstreamSettings {
        UpstreamSettings {
            url,
            tls: None,
            connections_max: 64,
            connect_timeout: Duration::from_secs(5),
            refused_wait: Duration::ZERO,
            idle_timeout: Duration::from_secs(30),
            queue_timeout: Duration::from_secs(5),
            allowed: Arc::new(AllowedUpstreams::private()),
        }
    }
}

/// Why connecting to an upstream failed. In every case nothing has been sent to it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum UpstreamError {
    /// It refused the connection.
    #[error("the upstream {address} refused the connection ({reason}): check that the MCP server is running there")]
    Refused {
        /// The addresses that were dialled.
        address: Box<str>,
        /// The error of the operating system.
        reason: Box<str>,
    },
    /// It cannot be reached.
    #[error("the upstream {address} cannot be reached ({reason}): check the address and the route to it")]
    Unreachable {
        /// The addresses that were dialled.
        address: Box<str>,
        /// The error of the operating system.
        reason: Box<str>,
    },
    /// Its address is not allowed.
    #[error("the upstream's address {address} is {why}")]
    NotAllowed {
        /// The address that was dialled.
        address: IpAddr,
        /// The reason and the remedy.
        why: NotAllowed,
    },
    /// Its name has no address.
    #[error(transparent)]
    Name(#[from] ResolveError),
    /// It did not answer in time.
    #[error(
        "the upstream {address} did not answer within {} ms: check the address, and that no firewall drops the connection",
        .limit.as_millis()
    )]
    Timeout {
        /// The addresses that were dialled.
        address: Box<str>,
        /// The time that there was.
        limit: Duration,
    },
    /// It took the connection, and the TLS handshake failed.
    #[error("the TLS handshake with the upstream {address} failed: {cause}")]
    Tls {
        /// The address that was dialled.
        address: Box<str>,
        /// The error of the handshake.
        cause: HandshakeError,
    },
    /// It took the connection, and the TLS handshake was not complete in time.
    #[error(
        "the upstream {address} took the connection, but did not complete the TLS handshake within {} ms: check that it \
         speaks TLS on this port",
        .limit.as_millis()
    )]
    TlsTimeout {
        /// The address that was dialled.
        address: Box<str>,
        /// The time that there was for connecting as a whole.
        limit: Duration,
    },
    /// All connections are in use.
    #[error(
        "all {0} connections to the upstream are in use: raise `upstream_connections_max`, or make the server faster"
    )]
    Busy(usize),
}

/// The upstream of one route on one core, by the way in which it is reached.
pub enum Upstream {
    /// An HTTP server, over pooled connections.
    Http(HttpPool),
}

/// A connection to an upstream for one exchange, and how it was made.
pub struct Checkout {
    /// The connection, for this exchange only.
    pub connection: UpstreamConnection,
    /// How long connecting took; none when an idle connection was used.
    pub connect: Option<Duration>,
}

/// A connection to an upstream for one exchange, by the way in which a call is put on it.
pub enum UpstreamConnection {
    /// HTTP/1.1 to a server.
    Http(HttpConnection),
}

impl Upstream {
    /// An upstream without connections.
    #[must_use]
    pub fn new(core: &Core, settings: UpstreamSettings, resolver: Resolver) -> Upstream {
        Upstream::Http(HttpPool::new(core, settings, resolver))
    }

    /// Connections that are open, in use or idle.
    #[must_use]
    pub fn open(&self) -> usize {
        match self {
            Upstream::Http(pool) => pool.open(),
        }
    }

    /// Closes the idle connections.
    pub fn close_idle(&self) {
        match self {
            Upstream::Http(pool) => pool.close_idle(),
        }
    }

    /// Takes an idle connection that is still open, or makes a new one.
    ///
    /// # Errors
    ///
    /// Why connecting failed. Nothing has been sent.
    pub async fn checkout(&self) -> Result<Checkout, UpstreamError> {
        let (connection, connect) = match self {
            Upstream::Http(pool) => pool.checkout().await?,
        };
        Ok(Checkout { connection: UpstreamConnection::Http(connection), connect })
    }

    /// Makes a new connection, for a call whose idle one proved dead before anything was sent on it.
    ///
    /// # Errors
    ///
    /// As for [`Upstream::checkout`].
    pub async fn connect(&self) -> Result<Checkout, UpstreamError> {
        let (connection, connect) = match self {
            Upstream::Http(pool) => pool.connect().await?,
        };
        Ok(Checkout { connection: UpstreamConnection::Http(connection), connect })
    }
}
