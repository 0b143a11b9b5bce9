//! HTTP connections to one server, pooled per core.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use crate::base::{Clock, Time};
use crate::dial::{DialError, ResolveError, Resolver, connect_first, connect_one};
use crate::engine::driver::{Address, SocketOptions};
use crate::engine::{ByteStream, Core, Signal};
use crate::route::UpstreamAddr;
use crate::tls::{Connection, HandshakeError, ServerName};
use crate::upstream::{UpstreamError, UpstreamSettings};

/// How long the host of an upstream may be silent, sending neither data nor answers to keep-alive probes, before a
/// connection to it fails.
const SILENCE_MAX: Duration = Duration::from_secs(75);
const OPTIONS: SocketOptions = SocketOptions { quick_ack: true, silence_max: Some(SILENCE_MAX) };
/// The first pause before a server that refused is tried again; each further one is twice as long.
const REFUSED_PAUSE_MIN: Duration = Duration::from_millis(25);
/// The longest pause of that kind.
const REFUSED_PAUSE_MAX: Duration = Duration::from_millis(200);

/// How much sooner than the server closes a connection it is no longer used: a request that is sent at that moment would cross
/// the end of the connection.
const CLOSE_EARLY: Duration = Duration::from_secs(1);

/// The table of idle connections keeps memory for so many while fewer are idle.
const IDLE_ENTRIES_KEPT: usize = 64;

/// How long a connection is idle before the system is asked for its end, which the driver may not have reported: a busy core
/// is told late. A pool that uses a connection again sooner does without the system call.
const PROBED_AFTER: Duration = Duration::from_millis(1);

/// The shortest time between two log lines about the answers of one upstream on one core.
const FAULTS_EVERY: Duration = Duration::from_secs(60);

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
    /// Raised when a connection is returned or closed. All waiting calls check again, because one of them may have ended.
    freed: Signal,
    sweeping: Cell<bool>,
    /// The address that answered last, of those that the server's name has.
    last_good: Cell<Option<SocketAddr>>,
    faults: Cell<Faults>,
}

/// The log of answers that cannot be passed on.
#[derive(Clone, Copy, Default)]
struct Faults {
    /// When one was last logged, and how many there were since.
    logged: Option<Time>,
    unlogged: u64,
}

/// A connection, and where it goes.
struct Line {
    connection: Connection,
    address: Rc<Address>,
}

struct Idle {
    line: Line,
    /// Since when it is idle.
    since: Time,
    /// When it is too old to be used.
    until: Time,
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
            last_good: Cell::new(None),
            faults: Cell::default(),
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
        self.wait_for_one(Reuse::Allowed).await
    }

    /// Makes a new connection, for a call whose idle one proved dead.
    ///
    /// # Errors
    ///
    /// As for [`HttpPool::checkout`].
    pub async fn connect(&self) -> Result<(HttpConnection, Option<Duration>), UpstreamError> {
        self.wait_for_one(Reuse::Forbidden).await
    }

    async fn wait_for_one(&self, reuse: Reuse) -> Result<(HttpConnection, Option<Duration>), UpstreamError> {
        let settings = &self.0.settings;
        let place = match self.0.core.timeout(settings.queue_timeout, self.place(reuse)).await {
            Ok(Ok(connection)) => return Ok((connection, None)),
            Ok(Err(place)) => place,
            Err(_) => return Err(UpstreamError::Busy(settings.connections_max)),
        };
        let began = self.0.core.now();
        // Boxed: connecting is rare, and a call has the room for it all its life otherwise.
        let line = Box::pin(self.dial_until_taken()).await?;
        let connect = Some(self.0.core.now() - began);
        Ok((HttpConnection { line: Some(line), place }, connect))
    }

    /// An idle connection, or a place for a new one, as soon as there is one.
    async fn place(&self, reuse: Reuse) -> Result<HttpConnection, Place> {
        loop {
            let seen = self.0.freed.count();
            match reuse {
                Reuse::Allowed => {
                    if let Some(connection) = self.take_idle() {
                        return Ok(connection);
                    }
                }
                // An idle one is closed to make room: it may be as dead as the one before it.
                Reuse::Forbidden if self.open() >= self.0.settings.connections_max => {
                    self.0.idle.borrow_mut().pop_front();
                }
                Reuse::Forbidden => {}
            }
            if self.open() < self.0.settings.connections_max {
                return Err(Place::take(self));
            }
            self.0.freed.after(seen).await;
        }
    }

    fn take_idle(&self) -> Option<HttpConnection> {
        let now = self.0.core.turn_time();
        loop {
            let idle = self.0.idle.borrow_mut().pop_back()?;
            if idle.is_usable(now) && !idle.has_unseen_end(now) {
                let line = idle.line;
                let place = Place::take(self);
                return Some(HttpConnection { line: Some(line), place });
            }
        }
    }

    /// Connects; a server that refuses may be restarting, and is tried again for a while.
    async fn dial_until_taken(&self) -> Result<Line, UpstreamError> {
        let core = &self.0.core;
        let give_up_at = core.now() + self.0.settings.refused_wait;
        let mut pause = REFUSED_PAUSE_MIN;
        loop {
            let dialled = self.dial(core.now() + self.0.settings.connect_timeout).await;
            let now = core.now();
            if !matches!(dialled, Err(UpstreamError::Refused { .. })) || now >= give_up_at {
                return dialled;
            }
            core.sleep_until((now + pause).min(give_up_at)).await;
            pause = (pause * 2).min(REFUSED_PAUSE_MAX);
        }
    }

    /// Connects before `deadline`, TLS included.
    async fn dial(&self, deadline: Time) -> Result<Line, UpstreamError> {
        let (core, url) = (&self.0.core, &self.0.settings.url);
        let limit = self.0.settings.connect_timeout;
        let (socket, address) = match url.addr() {
            UpstreamAddr::Unix { path } => {
                let address = Address::Unix(path.as_ref().into());
                let socket = connect_one(core, &address, OPTIONS, deadline).await;
                (socket.map_err(|error| self.failed(&error))?, address)
            }
            UpstreamAddr::Tcp { host, port } => {
                let addresses = self.addresses(host, *port, deadline).await?;
                let connected = connect_first(core, &addresses, OPTIONS, deadline).await;
                let (socket, address) = connected.map_err(|error| self.failed(&error))?;
                self.0.last_good.set(Some(address));
                (socket, address.into())
            }
        };
        let (Some(config), Some(name)) = (&self.0.settings.tls, url.tls_name()) else {
            return Ok(Line { connection: Connection::plain(socket), address: Rc::new(address) });
        };
        let name = ServerName::try_from(name.to_owned()).map_err(|_| UpstreamError::Unreachable {
            address: name.into(),
            reason: "the name is not valid in a certificate".into(),
        })?;
        match Connection::client(socket, config, name, core.sleep_until(deadline)).await {
            Ok(connection) => Ok(Line { connection, address: Rc::new(address) }),
            Err(HandshakeError::Timeout) => {
                Err(UpstreamError::TlsTimeout { address: address.to_string().into(), limit })
            }
            Err(cause) => Err(UpstreamError::Tls { address: address.to_string().into(), cause }),
        }
    }

    /// The allowed addresses of a host, the one that answered last in front.
    async fn addresses(&self, host: &str, port: u16, deadline: Time) -> Result<Vec<SocketAddr>, UpstreamError> {
        let resolving = self.0.resolver.resolve_until(host, port, deadline, &self.0.core);
        let (mut allowed, mut refused) = (Vec::new(), None);
        for address in resolving.await? {
            match self.0.settings.allowed.judge(address.ip()) {
                Ok(()) => allowed.push(address),
                Err(why) => refused = refused.or(Some(UpstreamError::NotAllowed { address: address.ip(), why })),
            }
        }
        if let Some(good) = allowed.iter().position(|address| Some(*address) == self.0.last_good.get()) {
            allowed[..=good].rotate_right(1);
        }
        if allowed.is_empty() { Err(refused.unwrap_or(UpstreamError::Name(ResolveError::Busy))) } else { Ok(allowed) }
    }

    fn failed(&self, error: &DialError) -> UpstreamError {
        let (address, reason) = (error.addresses().into(), error.reasons().into());
        if error.is_refused() {
            UpstreamError::Refused { address, reason }
        } else if error.is_timeout() {
            UpstreamError::Timeout { address, limit: self.0.settings.connect_timeout }
        } else {
            UpstreamError::Unreachable { address, reason }
        }
    }

    fn give_back(&self, line: Line, idle_timeout: Option<Duration>) {
        let allowed = self.0.settings.idle_timeout;
        let idle_max = idle_timeout.map_or(allowed, |announced| allowed.min(announced.saturating_sub(CLOSE_EARLY)));
        if !idle_max.is_zero() {
            let since = self.0.core.turn_time();
            self.0.idle.borrow_mut().push_back(Idle { line, since, until: since + idle_max });
            self.sweep_later();
        }
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
        let now = self.0.core.now();
        let mut idle = self.0.idle.borrow_mut();
        idle.retain(|idle| idle.is_usable(now));
        idle.shrink_to(IDLE_ENTRIES_KEPT);
    }
}

impl Idle {
    /// Whether it is young enough, and nothing was received on it, not even its end.
    fn is_usable(&self, now: Time) -> bool {
        now < self.until && self.line.connection.poll_recv(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Whether its end, or bytes that nobody asked for, have come and were not received yet. Only asked of a connection that
    /// was idle for a while.
    fn has_unseen_end(&self, now: Time) -> bool {
        now - self.since >= PROBED_AFTER && self.line.connection.has_pending_input()
    }
}

/// Whether a call may use a connection that others have used.
#[derive(Clone, Copy)]
enum Reuse {
    Allowed,
    Forbidden,
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
    line: Option<Line>,
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
        &self.line.as_ref().expect("only giving it back takes it away").connection
    }

    /// Whether the server is reached over TCP, so that its host acknowledges what it is sent. On a Unix socket nobody but the
    /// server itself takes it.
    #[must_use]
    pub fn is_tcp(&self) -> bool {
        self.line.as_ref().is_some_and(|line| matches!(*line.address, Address::Tcp(_)))
    }

    /// Logs what was wrong with an answer, at most every `FAULTS_EVERY` for one upstream.
    pub fn log_fault(&self, why: &str) {
        let shared = &self.place.0.0;
        let now = shared.core.now();
        let Faults { logged, unlogged } = shared.faults.get();
        if logged.is_some_and(|logged| now - logged < FAULTS_EVERY) {
            return shared.faults.set(Faults { logged, unlogged: unlogged + 1 });
        }
        shared.faults.set(Faults { logged: Some(now), unlogged: 0 });
        let address = self.line.as_ref().map(|line| line.address.to_string()).unwrap_or_default();
        let upstream = &shared.settings.url;
        tracing::warn!(%upstream, address, error = why, unlogged, "the upstream's answer cannot be passed on");
    }

    /// Gives the connection back for another exchange. To be done only when both messages of this one were whole, nothing
    /// came behind the response, and both sides keep the connection. `idle_timeout` is how long the server says that it does.
    pub fn give_back(mut self, idle_timeout: Option<Duration>) {
        if let Some(line) = self.line.take() {
            self.place.0.give_back(line, idle_timeout);
        }
    }
}
