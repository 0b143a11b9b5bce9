//! How a connection ends, and why one could not be registered.

use std::fmt;
use std::time::Duration;

use crate::link::close_reason::CloseReason;
use crate::wire::cloudflared::{ControlFault, RegistrationError};

/// Why a connection could not be registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// The edge refuses this connector.
    #[error("the edge refused the registration: {0}")]
    Refused(RegistrationError),
    /// The control stream has failed.
    #[error(transparent)]
    Control(#[from] ControlFault),
    /// The edge did not answer in time.
    #[error("the edge did not answer the registration within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The connection ended before.
    #[error("the edge closed the connection before it had answered the registration")]
    Closed,
    /// The connection over QUIC has failed.
    #[error("the connection to the edge over QUIC failed: {0}")]
    Quic(String),
    /// The connection has failed, or the edge violated HTTP/2.
    #[error("the connection to the edge failed: {0}")]
    Http2(String),
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloudflaredEnded {
    /// This side closed it.
    Closed(CloseReason),
    /// The edge closed it.
    ByEdge,
    /// The edge violated the protocol.
    Fault,
    /// The connection has failed.
    Lost,
    /// Nothing arrived any more.
    Silent,
}

impl CloudflaredEnded {
    /// How an error of HTTP/2 ends a connection.
    pub(super) fn of(error: &h2::Error) -> CloudflaredEnded {
        match error.is_io() {
            true => CloudflaredEnded::Lost,
            // The edge said so.
            false if error.is_remote() => CloudflaredEnded::ByEdge,
            false => CloudflaredEnded::Fault,
        }
    }

    /// Whether this side ended the connection.
    #[must_use]
    pub fn is_by_this_side(self) -> bool {
        matches!(self, CloudflaredEnded::Closed(_) | CloudflaredEnded::Fault | CloudflaredEnded::Silent)
    }
}

impl fmt::Display for CloudflaredEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CloudflaredEnded::Closed(CloseReason::Ended) => "the connector has left the edge",
            CloudflaredEnded::Closed(CloseReason::DrainTimeout) => "the grace period is over",
            CloudflaredEnded::Closed(CloseReason::Revoked) => "the credential was revoked",
            CloudflaredEnded::ByEdge => "the edge closed the connection",
            CloudflaredEnded::Fault => "the edge violated the protocol",
            CloudflaredEnded::Lost => "the connection was lost",
            CloudflaredEnded::Silent => "the edge did not answer",
        })
    }
}
