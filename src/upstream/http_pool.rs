//! HTTP connections to one server, pooled per core.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use crate::base::{Budget, Clock, Time};
use crate::dial::Resolver;
use crate::engine::driver::Address;
use crate::engine::{ByteStream, Core, Signal};
use crate::tls::{ALPN_HTTP2, Connection};
use crate::upstream::dialler::{Dialler, Line, PROBED_AFTER};
use crate::upstream::fault_log::FaultLog;
use crate::upstream::http1_demand::Http1Demand;
use crate::upstream::http2::{self, Attempt, Http2Connection, Http2Connections, Http2Figures, Http2Terms, Notes};
use crate::upstream::{UpstreamConnection, UpstreamError, UpstreamSettings};

/// A connection is no longer used this long before the server closes it. A request that is sent just then would cross
/// the close on the wire.
const CLOSE_EARLY: Duration = Duration::from_secs(1);

/// The queue of idle connections keeps memory for this many, even when fewer are idle.
const IDLE_ENTRIES_KEPT: usize = 64;

/// The connections of one core to one HTTP server. Cheap to clone; all clones are the same pool.
#[derive(Clone)]
pub struct HttpPool(Rc<Shared>);

struct Shared {
    core: Core,
    dialler: Dialler,
    /// Idle HTTP/1.1 connections. The most recently used one is taken first, so that the others can time out.
    idle: RefCell<VecDeque<Idle>>,
    /// The number of connections that are in use or being made. An HTTP/2 connection is in use while it is open.
    busy: Cell<usize>,
    /// The number of HTTP/2 connections that take no more calls and have returned their places. There are at most as
    /// many as may be open otherwise.
    draining: Cell<usize>,
    /// Raised when a connection is returned or closed, and when a call over HTTP/2 ends. All waiting calls are woken,
    /// because the first of them may have been cancelled.
    freed: Rc<Signal>,
    sweeping: Cell<bool>,
    http2: Http2Connections,
    http2_figures: Rc<Http2Figures>,
    faults: Rc<FaultLog>,
    http1_demand: Rc<Http1Demand>,
}

struct Idle {
    line: Line,
    /// When it became idle.
    since: Time,
    /// When it becomes too old to be used.
    until: Time,
}

/// What a waiting call can use.
enum Found {
    /// A connection that is already open.
    Ready(UpstreamConnection),
    /// Permission to make a new connection.
    Place(Place),
    /// A connection attempt in progress, which may serve this call too.
    Attempt(Rc<Attempt>),
}

impl HttpPool {
    /// A pool without connections. `windows` limits what servers may send ahead over HTTP/2 to all pools of the core.
    #[must_use]
    pub fn new(core: &Core, settings: UpstreamSettings, resolver: Resolver, windows: &Budget) -> HttpPool {
        let http1_demand = Rc::new(Http1Demand::new(core, &settings.url));
        HttpPool(Rc::new(Shared {
            core: core.clone(),
            idle: RefCell::default(),
            busy: Cell::new(0),
            draining: Cell::new(0),
            freed: Rc::default(),
            sweeping: Cell::new(false),
            http2: Http2Connections::new(settings.url.is_http2(), windows),
            http2_figures: Rc::default(),
            faults: Rc::new(FaultLog::new(core, &settings.url)),
            dialler: Dialler::new(core, settings, resolver, &http1_demand),
            http1_demand,
        }))
    }

    /// How many connections are open, in use or idle.
    #[must_use]
    pub fn open(&self) -> usize {
        self.places() + self.0.draining.get()
    }

    /// How many of the connections use HTTP/2, and how many calls they carry.
    #[must_use]
    pub fn open_http2(&self) -> (usize, usize) {
        let Http2Figures { connections, streams } = &*self.0.http2_figures;
        (connections.get(), streams.get())
    }

    /// How many connections hold a place.
    fn places(&self) -> usize {
        self.0.busy.get() + self.0.idle.borrow().len()
    }

    /// Closes the idle connections.
    pub fn close_idle(&self) {
        self.0.idle.borrow_mut().clear();
        self.0.http2.close_idle();
    }

    /// Takes an idle connection or a stream of an HTTP/2 connection, or makes a new connection. For a new connection,
    /// also returns how long connecting took.
    ///
    /// # Errors
    ///
    /// Why connecting failed. Nothing has been sent.
    pub async fn checkout(&self) -> Result<(UpstreamConnection, Option<Duration>), UpstreamError> {
        if let Some(connection) = self.take() {
            return Ok((connection, None));
        }
        self.wait_for_one(Reuse::Allowed).await
    }

    /// Makes a new connection, for a call whose idle connection turned out to be dead.
    ///
    /// # Errors
    ///
    /// As for [`HttpPool::checkout`].
    pub async fn connect(&self) -> Result<(UpstreamConnection, Option<Duration>), UpstreamError> {
        self.wait_for_one(Reuse::Forbidden).await
    }

    async fn wait_for_one(&self, reuse: Reuse) -> Result<(UpstreamConnection, Option<Duration>), UpstreamError> {
        let UpstreamSettings { queue_timeout, connections_max, .. } = self.0.dialler.settings;
        loop {
            let place = match self.0.core.timeout(queue_timeout, self.place(reuse)).await {
                Ok(Found::Ready(connection)) => return Ok((connection, None)),
                Ok(Found::Place(place)) => place,
                Ok(Found::Attempt(attempt)) => {
                    let was_demanded = self.0.http1_demand.is_on();
                    match attempt.over(&self.0.freed).await {
                        // The server demands HTTP/1.1, which the next attempt uses.
                        Err(_) if !was_demanded && self.0.http1_demand.is_on() => {}
                        over => over?,
                    }
                    continue;
                }
                Err(_) => return Err(UpstreamError::Busy(connections_max)),
            };
            let (began, was_demanded) = (self.0.core.now(), self.0.http1_demand.is_on());
            // Boxed, because connecting is rare and would otherwise make the future of every call larger.
            match Box::pin(self.fill(place)).await {
                // The server accepted the connection only to demand HTTP/1.1.
                Err(_) if !was_demanded && self.0.http1_demand.is_on() => {}
                made => return made.map(|connection| (connection, Some(self.0.core.now() - began))),
            }
        }
    }

    /// Waits for an idle connection, or a place for a new one.
    async fn place(&self, reuse: Reuse) -> Found {
        loop {
            let seen = self.0.freed.count();
            match reuse {
                Reuse::Allowed => {
                    if let Some(connection) = self.take() {
                        return Found::Ready(connection);
                    }
                    if let Some(attempt) = self.0.http2.attempt() {
                        return Found::Attempt(attempt);
                    }
                }
                // The limit is reached, so an idle connection is closed to make room. It may be as dead as the one
                // before.
                Reuse::Forbidden if self.places() >= self.0.dialler.settings.connections_max => {
                    if self.0.idle.borrow_mut().pop_front().is_none() {
                        self.0.http2.close_idle();
                    }
                }
                Reuse::Forbidden => {}
            }
            if self.places() < self.0.dialler.settings.connections_max {
                return Found::Place(Place::take(self));
            }
            self.0.freed.after(seen).await;
        }
    }

    /// Makes a connection that uses the place, with the HTTP version that the server chooses.
    async fn fill(&self, place: Place) -> Result<UpstreamConnection, UpstreamError> {
        let Shared { core, dialler, http2, http2_figures, freed, faults, http1_demand, .. } = &*self.0;
        let attempt = http2.begin(freed);
        let chose_http2 = |line: &Line| line.connection.with_alpn(|protocol| protocol == Some(ALPN_HTTP2));
        let mut line = dialler.dial_until_taken().await.map_err(|error| attempt.fail(error))?;
        if chose_http2(&line) && http1_demand.is_on() {
            // The server has demanded HTTP/1.1 in the meantime, and this connection negotiated HTTP/2.
            line = dialler.dial_until_taken().await.map_err(|error| attempt.fail(error))?;
        }
        let is_http2 = chose_http2(&line) || (dialler.settings.url.is_http2() && !http1_demand.is_on());
        http2.set_spoken(is_http2);
        if !is_http2 {
            return Ok(UpstreamConnection::Http(HttpConnection { line: Some(line), place }));
        }
        let settings = &dialler.settings;
        let terms = Http2Terms {
            idle_timeout: settings.idle_timeout,
            acknowledged_within: settings.acknowledged_within,
            begin_timeout: settings.connect_timeout,
        };
        let place = Http2Place { pool: self.clone(), place: Some(place) };
        let connection = {
            let notes = Notes {
                freed: Rc::clone(freed),
                faults: Rc::clone(faults),
                http1_demand: Rc::clone(http1_demand),
                figures: Rc::clone(http2_figures),
            };
            Http2Connection::begin(core, line, terms, http2.windows(), notes, place).await
        };
        let connection = connection.map_err(|error| attempt.fail(error))?;
        let exchange = http2.add(connection).map_err(|error| attempt.fail(error))?;
        Ok(UpstreamConnection::Http2(Box::new(exchange)))
    }

    /// Takes a connection that can be used at once.
    fn take(&self) -> Option<UpstreamConnection> {
        if let Some(exchange) = self.0.http2.open(&self.0.http1_demand) {
            return Some(UpstreamConnection::Http2(Box::new(exchange)));
        }
        self.take_idle().map(UpstreamConnection::Http)
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

    fn give_back(&self, line: Line, idle_timeout: Option<Duration>) {
        let allowed = self.0.dialler.settings.idle_timeout;
        let idle_max = idle_timeout.map_or(allowed, |announced| allowed.min(announced.saturating_sub(CLOSE_EARLY)));
        if !idle_max.is_zero() {
            let since = self.0.core.turn_time();
            self.0.idle.borrow_mut().push_back(Idle { line, since, until: since + idle_max });
            self.sweep_later();
        }
    }

    /// Starts the task that closes idle connections after their timeout, unless it is already running.
    fn sweep_later(&self) {
        if self.0.sweeping.replace(true) {
            return;
        }
        let pool = self.clone();
        self.0.core.spawn(async move {
            while !pool.0.idle.borrow().is_empty() {
                pool.0.core.sleep(pool.0.dialler.settings.idle_timeout / 2).await;
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
    /// Whether it is young enough, and neither data nor its end was received.
    fn is_usable(&self, now: Time) -> bool {
        now < self.until && self.line.connection.poll_recv(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Whether its end, or unexpected bytes, have arrived at the system but were not received yet. This is checked only
    /// if the connection was idle for a while.
    fn has_unseen_end(&self, now: Time) -> bool {
        now - self.since >= PROBED_AFTER && self.line.connection.has_pending_input()
    }
}

/// Whether a call may use a connection that served others before.
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

/// The place of an HTTP/2 connection. Dropping it removes the connection from the pool.
struct Http2Place {
    pool: HttpPool,
    /// `None` once it was returned, so that a draining connection does not block a new one.
    place: Option<Place>,
}

impl http2::Place for Http2Place {
    fn drain(&mut self) {
        let shared = &self.pool.0;
        if shared.draining.get() < shared.dialler.settings.connections_max && self.place.take().is_some() {
            shared.draining.set(shared.draining.get() + 1);
        }
    }
}

impl Drop for Http2Place {
    fn drop(&mut self) {
        let shared = &self.pool.0;
        if self.place.is_none() {
            shared.draining.set(shared.draining.get() - 1);
        }
        shared.http2.forget_retired();
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

    /// The time within which the server's host must acknowledge sent bytes, if it is reached over TCP. On a Unix socket
    /// only the server itself takes them.
    #[must_use]
    pub fn acknowledged_within(&self) -> Option<Duration> {
        let is_tcp = self.line.as_ref().is_some_and(|line| matches!(*line.address, Address::Tcp(_)));
        is_tcp.then_some(self.place.0.0.dialler.settings.acknowledged_within)
    }

    /// Logs what is wrong with a response.
    pub fn log_fault(&self, why: &str) {
        if let Some(line) = &self.line {
            self.place.0.0.faults.log(&line.address, why);
        }
    }

    /// Returns the connection for another exchange. The caller checks that both messages of this one were complete,
    /// nothing followed the response, and both sides keep the connection open. `idle_timeout` is how long the server
    /// says that it does.
    pub fn give_back(mut self, idle_timeout: Option<Duration>) {
        if let Some(line) = self.line.take() {
            self.place.0.give_back(line, idle_timeout);
        }
    }
}
