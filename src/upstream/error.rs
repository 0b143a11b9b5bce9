use std::net::IpAddr;
use std::time::Duration;

use crate::dial::ResolveError;
use crate::policy::NotAllowed;
use crate::tls::HandshakeError;

/// Why connecting to an upstream failed. Nothing has been sent to it in any of these cases.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum UpstreamError {
    /// The server refused the connection.
    #[error("the upstream {address} refused the connection ({reason}): check that the MCP server is running there")]
    Refused {
        /// The addresses that were dialled.
        address: Box<str>,
        /// The error of the operating system.
        reason: Box<str>,
    },
    /// The server cannot be reached.
    #[error("the upstream {address} cannot be reached ({reason}): check the address and the route to it")]
    Unreachable {
        /// The addresses that were dialled.
        address: Box<str>,
        /// The error of the operating system.
        reason: Box<str>,
    },
    /// The address is not allowed.
    #[error("the upstream's address {address} is {why}")]
    NotAllowed {
        /// The address that was dialled.
        address: IpAddr,
        /// The reason and the remedy.
        why: NotAllowed,
    },
    /// The name has no address.
    #[error(transparent)]
    Name(#[from] ResolveError),
    /// The server did not answer in time.
    #[error(
        "the upstream {address} did not answer within {} ms: check the address, and that no firewall drops the connection",
        .limit.as_millis()
    )]
    Timeout {
        /// The addresses that were dialled.
        address: Box<str>,
        /// The time that was allowed.
        limit: Duration,
    },
    /// The TLS handshake with the server failed.
    #[error("the TLS handshake with the upstream {address} failed: {cause}")]
    Tls {
        /// The address that was dialled.
        address: Box<str>,
        /// The error of the handshake.
        cause: HandshakeError,
    },
    /// The TLS handshake was not complete in time.
    #[error(
        "the upstream {address} took the connection, but did not complete the TLS handshake within {} ms: check that it \
         speaks TLS on this port",
        .limit.as_millis()
    )]
    TlsTimeout {
        /// The address that was dialled.
        address: Box<str>,
        /// The time that was allowed for connecting as a whole.
        limit: Duration,
    },
    /// The connection was made, but the server does not speak HTTP/2.
    #[error(
        "the upstream {address} took the connection, but there is no HTTP/2 with it ({reason}): check the server; \
         `upstream` and `upstream_http2` of the route say how it is spoken to"
    )]
    Http2 {
        /// The address that was dialled.
        address: Box<str>,
        /// What happened instead.
        reason: Box<str>,
    },
    /// The child process is not running.
    #[error("the upstream's command is not running: {reason}")]
    NotRunning {
        /// Why not, and what to do.
        reason: Box<str>,
    },
    /// All connections are in use.
    #[error(
        "all {0} connections to the upstream are in use: raise `upstream_connections_max`, or make the server faster"
    )]
    Busy(usize),
}
