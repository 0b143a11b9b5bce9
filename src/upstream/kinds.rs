//! The kinds of upstreams, by the way in which they are reached.

use std::time::Duration;

use crate::base::Budget;
use crate::dial::Resolver;
use crate::engine::Core;
use crate::upstream::{Http2Exchange, HttpConnection, HttpPool, UpstreamError, UpstreamSettings};

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
    /// A stream of HTTP/2, beside those of other calls.
    Http2(Box<Http2Exchange>),
}

impl Upstream {
    /// An upstream without connections. `windows` is what all upstreams of the core may send ahead over HTTP/2, in bytes.
    #[must_use]
    pub fn new(core: &Core, settings: UpstreamSettings, resolver: Resolver, windows: &Budget) -> Upstream {
        Upstream::Http(HttpPool::new(core, settings, resolver, windows))
    }

    /// Connections that are open, in use or idle.
    #[must_use]
    pub fn open(&self) -> usize {
        match self {
            Upstream::Http(pool) => pool.open(),
        }
    }

    /// Connections of HTTP/2 among them, and the calls that they carry.
    #[must_use]
    pub fn open_http2(&self) -> (usize, usize) {
        match self {
            Upstream::Http(pool) => pool.open_http2(),
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
        Ok(Checkout { connection, connect })
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
        Ok(Checkout { connection, connect })
    }
}
