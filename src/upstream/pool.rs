use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use crate::base::{Clock, Time};
use crate::engine::driver::{Address, SocketOptions};
use crate::engine::{ByteStream, Core, Signal, Socket};
use crate::policy::{AllowedUpstreams, NotAllowed};
use crate::route::{UpstreamAddr, UpstreamUrl};
use crate::tls::{ClientConfig, Connection, HandshakeError, ServerName};
use crate::upstream::{ResolveError, Resolver};

/// How long the host of an upstream may be silent, sending neither data nor answers to keep-alive probes, before a
/// connection to it fails.
const SILENCE_MAX: Duration = Duration::from_secs(75);

/// The settings of a pool.
#[derive(Clone)]
pub struct UpstreamSettings {
    /// The URL of the upstream server.
    pub url: UpstreamUrl,
    /// The TLS configuration for an `https://` server, which says whom to trust.
    pub tls: Option<Arc<ClientConfig>>,
    /// The most connections that one core may have to it.
    pub connections_max: usize,
    /// How long connecting may take, including TLS, for all addresses together.
    pub connect_timeout: Duration,
    /// How long a connection may be idle before it is closed.
    pub idle_timeout: Duration,
    /// How long a call may wait for a free connection.
    pub queue_timeout: Duration,
    /// The addresses that may be dialled. Checked each time before an address is dialled, because a name can resolve to
    /// another address each time.
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
            idle_timeout: Duration::from_secs(30),
            queue_timeout: Duration::from_secs(5),
            allowed: Arc::new(AllowedUpstreams::private()),
        }
    }
}

/// Why there is no connection to an upstream. In every case nothing has been sent to it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum UpstreamError {
    /// It refused the connection.
    #[error("the upstream {address} refused the connection ({reason}): check that the MCP server is running there")]
    Refused {
        /// The upstream's address, as configured or resolved.
        address: Box<str>,
        /// The error of the system.
        reason: Box<str>,
    },
    /// It cannot be reached.
    #[error("the upstream {address} cannot be reached ({reason}): check the address and the route to it")]
    Unreachable {
        /// The upstream's address, as configured or resolved.
        address: Box<str>,
        /// The error of the system.
        reason: Box<str>,
    },
    /// The policy does not allow its address.
    #[error("the upstream's address {address} is {why}")]
    NotAllowed {
        /// The address that the policy does not allow.
        address: IpAddr,
        /// The reason, and what to do about it.
        why: NotAllowed,
    },
    /// Its name cannot be resolved.
    #[error(transparent)]
    Name(#[from] ResolveError),
    /// It did not answer in time.
    #[error("the upstream did not take a connection within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The TLS handshake failed.
    #[error("no TLS with the upstream: {0}")]
    Tls(HandshakeError),
    /// The most connections are open, and none became free in time.
    #[error("all {0} connections to the upstream are in use: raise `upstream_connections_max`, or the server is slow")]
    Busy(usize),
}

/// The connections of one core to one upstream. Clones refer to the same pool.
#[derive(Clone)]
pub struct Upstream(Rc<Shared>);

struct Shared {
    core: Core,
    settings: UpstreamSettings,
    resolver: Resolver,
    /// The most recently used connection is used first, so that the others can time out.
    idle: RefCell<VecDeque<Idle>>,
    /// The number of connections that are in use or being made.
    busy: Cell<usize>,
    /// Raised when a connection is given back or closed. All tasks that wait check again, because a single woken task
    /// may have stopped waiting.
    freed: Signal,
    sweeping: Cell<bool>,
}

struct Idle {
    connection: Connection,
    since: Time,
}

/// A connection for one exchange.
pub struct Checkout {
    /// The connection, checked out for one exchange.
    pub connection: UpstreamConnection,
    /// How long connecting took; `None` if a pooled connection was used.
    pub connect: Option<Duration>,
}

impl Upstream {
    /// Creates a pool with no connections. It dials when the first exchange needs a connection.
    #[must_use]
    pub fn new(core: &Core, settings: UpstreamSettings, resolver: Resolver) -> Upstream {
        Upstream(Rc::new(Shared {
            core: core.clone(),
            settings,
            resolver,
            idle: RefCell::default(),
            busy: Cell::new(0),
            freed: Signal::default(),
            sweeping: Cell::new(false),
        }))
    }

    /// The value of the `Host` header for this upstream.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.0.settings.url.authority()
    }

    /// The number of open connections, in use or idle.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.busy.get() + self.0.idle.borrow().len()
    }

    /// Closes all idle connections.
    pub fn close_idle(&self) {
        self.0.idle.borrow_mut().clear();
    }

    /// Returns a connection: a pooled one that is still good, or a new one.
    ///
    /// # Errors
    ///
    /// If there is none. Nothing has been sent to the upstream then.
    pub async fn checkout(&self) -> Result<Checkout, UpstreamError> {
        if let Some(connection) = self.take_idle() {
            return Ok(Checkout { connection, connect: None });
        }
        self.connect().await
    }

    /// Makes a new connection, for a call whose pooled connection failed before anything was sent on it.
    ///
    /// # Errors
    ///
    /// As for [`Upstream::checkout`].
    pub async fn connect(&self) -> Result<Checkout, UpstreamError> {
        let settings = &self.0.settings;
        let place = match self.0.core.timeout(settings.queue_timeout, self.place()).await {
            Ok(Ok(connection)) => return Ok(Checkout { connection, connect: None }),
            Ok(Err(place)) => place,
            Err(_) => return Err(UpstreamError::Busy(settings.connections_max)),
        };
        let began = self.0.core.now();
        let dialled = self.0.core.timeout(settings.connect_timeout, self.dial()).await;
        let connection = dialled.map_err(|_| UpstreamError::Timeout(settings.connect_timeout))??;
        let connect = Some(self.0.core.now() - began);
        let connection = UpstreamConnection { connection: Some(connection), place };
        Ok(Checkout { connection, connect })
    }

    /// Waits for an idle connection, or for the right to open one.
    async fn place(&self) -> Result<UpstreamConnection, Place> {
        loop {
            let seen = self.0.freed.count();
            if let Some(connection) = self.take_idle() {
                return Ok(connection);
            }
            if self.open() < self.0.settings.connections_max {
                return Err(Place::take(self));
            }
            self.0.freed.after(seen).await;
        }
    }

    fn take_idle(&self) -> Option<UpstreamConnection> {
        loop {
            let Idle { connection, .. } = self.0.idle.borrow_mut().pop_back()?;
            if is_quiet(&connection) {
                let place = Place::take(self);
                return Some(UpstreamConnection { connection: Some(connection), place });
            }
        }
    }

    async fn dial(&self) -> Result<Connection, UpstreamError> {
        let url = &self.0.settings.url;
        let socket = match url.addr() {
            UpstreamAddr::Unix { path } => self.dial_one(&Address::Unix(path.as_ref().into())).await?,
            UpstreamAddr::Tcp { host, port } => self.dial_any(host, *port).await?,
        };
        let (Some(config), Some(name)) = (&self.0.settings.tls, url.tls_name()) else {
            return Ok(Connection::plain(socket));
        };
        let name = ServerName::try_from(name.to_owned()).map_err(|_| UpstreamError::Unreachable {
            address: name.into(),
            reason: "the name cannot stand in a certificate".into(),
        })?;
        // The TLS handshake shares the time limit for connecting.
        Connection::client(socket, config, name, pending()).await.map_err(UpstreamError::Tls)
    }

    async fn dial_any(&self, host: &str, port: u16) -> Result<Socket, UpstreamError> {
        let mut last = None;
        for address in self.0.resolver.resolve(host, port).await? {
            if let Err(why) = self.0.settings.allowed.judge(address.ip()) {
                last.get_or_insert(UpstreamError::NotAllowed { address: address.ip(), why });
                continue;
            }
            match self.dial_one(&address.into()).await {
                Ok(socket) => return Ok(socket),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or(UpstreamError::Name(ResolveError::Busy)))
    }

    async fn dial_one(&self, address: &Address) -> Result<Socket, UpstreamError> {
        let options = SocketOptions { quick_ack: true, silence_max: Some(SILENCE_MAX) };
        self.0.core.connect(address, options).await.map_err(|error| {
            let (address, reason) = (address.to_string().into(), error.to_string().into());
            match error.kind() {
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
                    UpstreamError::Refused { address, reason }
                }
                _ => UpstreamError::Unreachable { address, reason },
            }
        })
    }

    fn give_back(&self, connection: Connection) {
        let since = self.0.core.turn_time();
        self.0.idle.borrow_mut().push_back(Idle { connection, since });
        self.sweep_later();
    }

    /// Starts the task that closes idle connections after their timeout, unless it is running.
    fn sweep_later(&self) {
        if self.0.sweeping.replace(true) {
            return;
        }
        let pool = self.clone();
        self.0.core.spawn(async move {
            while !pool.0.idle.borrow().is_empty() {
                pool.0.core.sleep(pool.0.settings.idle_timeout / 2).await;
                pool.sweep();
            }
            pool.0.sweeping.set(false);
        });
    }

    fn sweep(&self) {
        let (now, idle_timeout) = (self.0.core.now(), self.0.settings.idle_timeout);
        let idle = std::mem::take(&mut *self.0.idle.borrow_mut());
        let kept =
            idle.into_iter().filter(|idle| now - idle.since < idle_timeout && is_quiet(&idle.connection)).collect();
        self.0.idle.replace(kept);
    }
}

/// Whether an idle connection is still good: nothing was received on it, not even its end.
fn is_quiet(connection: &Connection) -> bool {
    connection.poll_recv(&mut Context::from_waker(Waker::noop())).is_pending()
}

/// The right to have one connection. Dropping it lets another task have one.
struct Place(Upstream);

impl Place {
    fn take(upstream: &Upstream) -> Place {
        upstream.0.busy.set(upstream.0.busy.get() + 1);
        Place(upstream.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let shared = &self.0.0;
        shared.busy.set(shared.busy.get() - 1);
        shared.freed.raise();
    }
}

/// A connection to an upstream, for one exchange. Dropping it closes it.
pub struct UpstreamConnection {
    connection: Option<Connection>,
    place: Place,
}

impl UpstreamConnection {
    /// The connection.
    ///
    /// # Panics
    ///
    /// Never: only `give_back` removes it, and that consumes `self`.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        self.connection.as_ref().expect("only giving it back takes it away")
    }

    /// Returns the connection to the pool. Allowed only if both messages of the exchange were complete, nothing
    /// followed the response, and both sides keep the connection open.
    pub fn give_back(mut self) {
        if let Some(connection) = self.connection.take() {
            self.place.0.give_back(connection);
        }
    }
}
