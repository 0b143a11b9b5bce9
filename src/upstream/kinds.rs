//! The kinds of upstreams, by the way in which they are reached.

use std::time::Duration;

use crate::base::Budget;
use crate::dial::Resolver;
use crate::engine::Core;
use crate::upstream::{Http2Exchange, HttpConnection, HttpPool, UpstreamError, UpstreamSettings};

/// The upstream of one route on one core. Each variant is a way to reach it.
pub enum Upstream {
    /// An HTTP server, over pooled connections.
    Http(HttpPool),
}

/// A connection to an upstream for one exchange, and how it was made.
pub struct Checkout {
    /// The connection, for this exchange only.
    pub connection: UpstreamConnection,
    /// How long connecting took; `None` if an idle connection was used.
    pub connect: Option<Duration>,
}

/// A connection to an upstream for one exchange. Each variant is a way to carry a call.
pub enum UpstreamConnection {
    /// An HTTP/1.1 connection to a server.
    Http(HttpConnection),
    /// A stream of an HTTP/2 connection that also carries other calls.
    Http2(Box<Http2Exchange>),
}

impl Upstream {
    /// An upstream without connections. `windows` limits what all upstreams of the core may send ahead over HTTP/2, in
    /// bytes.
    #[must_use]
    pub fn new(core: &Core, settings: UpstreamSettings, resolver: Resolver, windows: &Budget) -> Upstream {
        Upstream::Http(HttpPool::new(core, settings, resolver, windows))
    }

    /// The number of open connections, in use or idle.
    #[must_use]
    pub fn open(&self) -> usize {
        match self {
            Upstream::Http(pool) => pool.open(),
        }
    }

    /// The number of HTTP/2 connections among them, and of the calls that they carry.
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

    /// Makes a new connection, for a call whose idle connection was dead before anything was sent on it.
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
