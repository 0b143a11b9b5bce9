//! Connections through a forward proxy.

use std::fmt;
use std::time::Duration;

use crate::base::{Clock, Time};
use crate::dial::{DialError, ResolveError, Resolver, connect_first};
use crate::engine::driver::SocketOptions;
use crate::engine::{ByteStream, Core, Socket, StreamError, send_bytes};
use crate::wire::forward_proxy::{ProxyFault, ProxyHandshake, ProxyLogin, ProxyProtocol, ProxyStep};

/// A forward proxy. Its `Debug` and `Display` output omits the login.
#[derive(Clone)]
pub struct Proxy {
    /// The protocol that it speaks.
    pub protocol: ProxyProtocol,
    /// A name or an address; IPv6 without brackets.
    pub host: Box<str>,
    /// The TCP port on which the proxy listens.
    pub port: u16,
    /// The login, if the proxy requires one.
    pub login: Option<ProxyLogin>,
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.protocol {
            ProxyProtocol::Http => "http",
            ProxyProtocol::Socks5 => "socks5",
        };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

/// Why a proxy did not provide a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The proxy's name has no address.
    #[error(transparent)]
    Name(#[from] ResolveError),
    /// The proxy cannot be reached.
    #[error("it cannot be connected to: {0}")]
    Connect(DialError),
    /// The connection to the proxy failed.
    #[error("the connection to it failed: {0}")]
    Stream(#[from] StreamError),
    /// The proxy closed the connection before it answered.
    #[error("it closed the connection before it answered")]
    Closed,
    /// The proxy refused the connection, or is not a proxy of this kind.
    #[error(transparent)]
    Fault(#[from] ProxyFault),
    /// The proxy did not answer in time.
    #[error("it did not answer within {} ms", .0.as_millis())]
    Timeout(Duration),
}

impl Proxy {
    /// Connects through the proxy to `host` before `deadline`. `host` is a name, which the proxy resolves, or an
    /// address without brackets.
    ///
    /// # Errors
    ///
    /// If the proxy cannot be reached, or does not provide the connection.
    pub async fn connect(
        &self,
        core: &Core,
        resolver: &Resolver,
        (host, port): (&str, u16),
        deadline: Time,
    ) -> Result<Socket, ProxyError> {
        let limit = deadline - core.now();
        let addresses = resolver.resolve_until(&self.host, self.port, deadline, core).await?;
        let connected = connect_first(core, &addresses, SocketOptions::default(), deadline).await;
        let (socket, _) = connected.map_err(ProxyError::Connect)?;
        let handshake = self.shake_hands(core, &socket, (host, port));
        let made = core.timeout_at(deadline, handshake).await;
        made.map_err(|_| ProxyError::Timeout(limit))??;
        Ok(socket)
    }

    async fn shake_hands(&self, core: &Core, socket: &Socket, to: (&str, u16)) -> Result<(), ProxyError> {
        let (mut handshake, first) = ProxyHandshake::new(self.protocol, to, self.login.as_ref())?;
        send_bytes(socket, core.pool(), first.expose()).await?;
        loop {
            let Some(lease) = socket.recv().await? else { return Err(ProxyError::Closed) };
            match handshake.receive(&lease)? {
                ProxyStep::More => {}
                ProxyStep::Send(bytes) => send_bytes(socket, core.pool(), bytes.expose()).await?,
                ProxyStep::Done => return Ok(()),
            }
        }
    }
}
