//! HTTP connections to one server, pooled per core.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use crate::base::{Clock, Time};
use crate::engine::driver::{Address, SocketOptions};
use crate::engine::{ByteStream, Core, Signal, Socket};
use crate::route::UpstreamAddr;
use crate::tls::{Connection, ServerName};
use crate::upstream::{ResolveError, Resolver, UpstreamError, UpstreamSettings};

/// How long the host of an upstream may be silent, sending neither data nor answers to keep-alive probes, before a
/// connection to it fails.
const SILENCE_MAX: Duration = Duration::from_secs(75);

/// The connections of one core to one HTTP server. Cheap to clone; the clones are one pool.
#[derive(Clone)]
pub struct HttpPool(Rc<Shared>);

struct Shared {
    core: Core,
    settings: UpstreamSettings,
    resolver: Resolver,
    /// The last one used is used first, so that the others can time out.
    idle: RefCell<VecDeque<Idle>>,
    /// The number of connections that are in use or being made.
    busy: Cell<usize>,
    /// Raised when a connection is given back or closed. All waiting calls look again, as one of them may have given up.
    freed: Signal,
    sweeping: Cell<bool>,
}

struct Idle {
    connection: Connection,
    since: Time,
}

impl HttpPool {
    /// A pool without connections.
    #[must_use]
    pub fn new(core: &Core, settings: UpstreamSettings, resolver: Resolver) -> HttpPool {
        HttpPool(Rc::new(Shared {
            core: core.clone(),
            settings,
            resolver,
            idle: RefCell::default(),
            busy: Cell::new(0),
            freed: Signal::default(),
            sweeping: Cell::new(false),
        }))
    }

    /// How many connections are open, in use or idle.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.busy.get() + self.0.idle.borrow().len()
    }

    /// Closes the idle connections.
    pub fn close_idle(&self) {
        self.0.idle.borrow_mut().clear();
    }

    /// Takes an idle connection that is still open, or makes a new one; returns how long connecting took if it is new.
    ///
    /// # Errors
    ///
    /// Why connecting failed. Nothing has been sent.
    pub async fn checkout(&self) -> Result<(HttpConnection, Option<Duration>), UpstreamError> {
        if let Some(connection) = self.take_idle() {
            return Ok((connection, None));
        }
        self.connect().await
    }

    /// Makes a new connection, for a call whose idle one proved dead before anything was sent on it.
    ///
    /// # Errors
    ///
    /// As for [`HttpPool::checkout`].
    pub async fn connect(&self) -> Result<(HttpConnection, Option<Duration>), UpstreamError> {
        let settings = &self.0.settings;
        let place = match self.0.core.timeout(settings.queue_timeout, self.place()).await {
            Ok(Ok(connection)) => return Ok((connection, None)),
            Ok(Err(place)) => place,
            Err(_) => return Err(UpstreamError::Busy(settings.connections_max)),
        };
        let began = self.0.core.now();
        let dialled = self.0.core.timeout(settings.connect_timeout, self.dial()).await;
        let connection = dialled.map_err(|_| UpstreamError::Timeout(settings.connect_timeout))??;
        let connect = Some(self.0.core.now() - began);
        let connection = HttpConnection { connection: Some(connection), place };
        Ok((connection, connect))
    }

    /// An idle connection, or a place for a new one, as soon as there is one.
    async fn place(&self) -> Result<HttpConnection, Place> {
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

    fn take_idle(&self) -> Option<HttpConnection> {
        loop {
            let Idle { connection, .. } = self.0.idle.borrow_mut().pop_back()?;
            if is_quiet(&connection) {
                let place = Place::take(self);
                return Some(HttpConnection { connection: Some(connection), place });
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
            reason: "the name is not valid in a certificate".into(),
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

/// Whether nothing was received on an idle connection, not even its end.
fn is_quiet(connection: &Connection) -> bool {
    connection.poll_recv(&mut Context::from_waker(Waker::noop())).is_pending()
}

/// A place for one connection among those allowed. Dropping it frees the place.
struct Place(HttpPool);

impl Place {
    fn take(pool: &HttpPool) -> Place {
        pool.0.busy.set(pool.0.busy.get() + 1);
        Place(pool.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let shared = &self.0.0;
        shared.busy.set(shared.busy.get() - 1);
        shared.freed.raise();
    }
}

/// A connection to an HTTP server, for one exchange. Dropping it closes it.
pub struct HttpConnection {
    connection: Option<Connection>,
    place: Place,
}

impl HttpConnection {
    /// The connection to the server.
    ///
    /// # Panics
    ///
    /// Never: only `give_back` removes it, and that consumes `self`.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        self.connection.as_ref().expect("only giving it back takes it away")
    }

    /// The value of the `Host` field in requests on this connection.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.place.0.0.settings.url.authority()
    }

    /// Gives the connection back for another exchange. To be done only when both messages of this one were whole, nothing
    /// came behind the response, and both sides keep the connection.
    pub fn give_back(mut self) {
        if let Some(connection) = self.connection.take() {
            self.place.0.give_back(connection);
        }
    }
}
