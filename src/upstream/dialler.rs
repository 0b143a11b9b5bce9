//! Makes connections to one server.

use std::cell::{Cell, OnceCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Clock, Time};
use crate::dial::{DialError, ResolveError, Resolver, connect_first, connect_one};
use crate::engine::driver::{Address, SocketOptions};
use crate::engine::{Core, LocalEntry};
use crate::route::UpstreamAddr;
use crate::stdio::StdioUnavailable;
use crate::tls::{ClientConfig, Connection, HandshakeError, ServerName, without_http2};
use crate::upstream::http1_demand::Http1Demand;
use crate::upstream::{UpstreamError, UpstreamSettings};

/// The first pause before retrying a server that refused. Each further pause is twice as long.
const REFUSED_PAUSE_MIN: Duration = Duration::from_millis(25);
/// The longest pause before retrying a server that refused.
const REFUSED_PAUSE_MAX: Duration = Duration::from_millis(200);

/// After this idle time the system is asked whether a connection has ended, because a busy core may not have been told
/// yet. A connection that is reused sooner does not cost that system call.
pub(super) const PROBED_AFTER: Duration = Duration::from_millis(1);

/// How a child process is called where others have an address.
const STDIO_ADDRESS: &str = "stdio";
/// How a server within this process is called in the same place.
const LOCAL_ADDRESS: &str = "bridge";

/// A connection and the address it goes to.
pub(super) struct Line {
    pub(super) connection: Connection,
    pub(super) address: Rc<Address>,
}

/// Connects a pool to its server.
pub(super) struct Dialler {
    core: Core,
    pub(super) settings: UpstreamSettings,
    resolver: Resolver,
    /// The address of the server's name that answered last.
    last_good: Cell<Option<SocketAddr>>,
    http1_demand: Rc<Http1Demand>,
    /// The TLS configuration without HTTP/2, made when the server has demanded HTTP/1.1.
    http1_tls: OnceCell<Arc<ClientConfig>>,
}

impl Dialler {
    pub(super) fn new(
        core: &Core,
        settings: UpstreamSettings,
        resolver: Resolver,
        http1_demand: &Rc<Http1Demand>,
    ) -> Dialler {
        Dialler {
            core: core.clone(),
            settings,
            resolver,
            last_good: Cell::new(None),
            http1_demand: Rc::clone(http1_demand),
            http1_tls: OnceCell::new(),
        }
    }

    /// Connects. A server that refuses may be restarting, so it is retried for `refused_wait`.
    pub(super) async fn dial_until_taken(&self) -> Result<Line, UpstreamError> {
        let core = &self.core;
        let give_up_at = core.now() + self.settings.refused_wait;
        let mut pause = REFUSED_PAUSE_MIN;
        loop {
            let dialled = self.dial(core.now() + self.settings.connect_timeout).await;
            let now = core.now();
            let may_come_back =
                matches!(dialled, Err(UpstreamError::Refused { .. } | UpstreamError::NotRunning { .. }));
            if !may_come_back || now >= give_up_at {
                return dialled;
            }
            core.sleep_until((now + pause).min(give_up_at)).await;
            pause = (pause * 2).min(REFUSED_PAUSE_MAX);
        }
    }

    /// Connects before `deadline`, TLS included.
    async fn dial(&self, deadline: Time) -> Result<Line, UpstreamError> {
        let (core, url) = (&self.core, &self.settings.url);
        let limit = self.settings.connect_timeout;
        let options = SocketOptions { quick_ack: true, silence_max: Some(self.settings.silence_max) };
        if let Some(entry) = &self.settings.entry {
            // Boxed, for the same reason as below.
            return Box::pin(self.connect_local(entry)).await;
        }
        let (socket, address) = match url.addr() {
            // Boxed, so that dialling other servers does not pay for its size.
            UpstreamAddr::Stdio => return Box::pin(self.connect_stdio()).await,
            UpstreamAddr::Unix { path } => {
                let address = Address::Unix(path.as_ref().into());
                let socket = connect_one(core, &address, options, deadline).await;
                (socket.map_err(|error| self.failed(&error))?, address)
            }
            UpstreamAddr::Tcp { host, port } => {
                let addresses = self.addresses(host, *port, deadline).await?;
                let connected = connect_first(core, &addresses, options, deadline).await;
                let (socket, address) = connected.map_err(|error| self.failed(&error))?;
                self.last_good.set(Some(address));
                (socket, address.into())
            }
        };
        let (Some(config), Some(name)) = (&self.settings.tls, url.tls_name()) else {
            return Ok(Line { connection: Connection::plain(socket), address: Rc::new(address) });
        };
        let name = ServerName::try_from(name.to_owned()).map_err(|_| UpstreamError::Unreachable {
            address: name.into(),
            reason: "the name is not valid in a certificate".into(),
        })?;
        let config = match self.http1_demand.is_on() {
            true => self.http1_tls.get_or_init(|| without_http2(config)),
            false => config,
        };
        match Connection::client(socket, config, name, core.sleep_until(deadline)).await {
            Ok(connection) => Ok(Line { connection, address: Rc::new(address) }),
            Err(HandshakeError::Timeout) => {
                Err(UpstreamError::TlsTimeout { address: address.to_string().into(), limit })
            }
            Err(cause) => Err(UpstreamError::Tls { address: address.to_string().into(), cause }),
        }
    }

    /// Connects to a server within this process.
    async fn connect_local(&self, entry: &LocalEntry) -> Result<Line, UpstreamError> {
        let failed = |error: io::Error| UpstreamError::Unreachable {
            address: LOCAL_ADDRESS.into(),
            reason: error.to_string().into(),
        };
        let socket = entry.connect(&self.core).await.map_err(failed)?;
        Ok(Line { connection: Connection::plain(socket), address: Rc::new(Address::Unix(LOCAL_ADDRESS.into())) })
    }

    /// Connects to a child process.
    async fn connect_stdio(&self) -> Result<Line, UpstreamError> {
        let missing = || UpstreamError::NotRunning { reason: "the route has no command".into() };
        let stdio_upstream = self.settings.stdio.as_ref().ok_or_else(missing)?;
        stdio_upstream.open(&self.core);
        let socket = stdio_upstream.connect(&self.core).await.map_err(|error| match error {
            StdioUnavailable::Down(reason) => UpstreamError::NotRunning { reason },
            other => UpstreamError::Unreachable { address: STDIO_ADDRESS.into(), reason: other.to_string().into() },
        })?;
        Ok(Line { connection: Connection::plain(socket), address: Rc::new(Address::Unix(STDIO_ADDRESS.into())) })
    }

    /// The allowed addresses of a host, with the one that answered last in front.
    async fn addresses(&self, host: &str, port: u16, deadline: Time) -> Result<Vec<SocketAddr>, UpstreamError> {
        let resolving = self.resolver.resolve_until(host, port, deadline, &self.core);
        let (mut allowed, mut refused) = (Vec::new(), None);
        for address in resolving.await? {
            match self.settings.allowed.judge(address.ip()) {
                Ok(()) => allowed.push(address),
                Err(why) => refused = refused.or(Some(UpstreamError::NotAllowed { address: address.ip(), why })),
            }
        }
        if let Some(good) = allowed.iter().position(|address| Some(*address) == self.last_good.get()) {
            allowed[..=good].rotate_right(1);
        }
        if allowed.is_empty() { Err(refused.unwrap_or(UpstreamError::Name(ResolveError::Busy))) } else { Ok(allowed) }
    }

    fn failed(&self, error: &DialError) -> UpstreamError {
        let (address, reason) = (error.addresses().into(), error.reasons().into());
        if error.is_refused() {
            UpstreamError::Refused { address, reason }
        } else if error.is_timeout() {
            UpstreamError::Timeout { address, limit: self.settings.connect_timeout }
        } else {
            UpstreamError::Unreachable { address, reason }
        }
    }
}
