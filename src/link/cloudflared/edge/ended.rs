//! How a connection at the edge ends, and why a connector did not register.

use std::fmt;

use crate::link::close_reason::CloseReason;
use crate::wire::cloudflared::ControlFault;

/// Why a connector did not register.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationFault {
    /// The connector violated the protocol of the control stream.
    #[error("{0}")]
    Control(#[from] ControlFault),
    /// The connector did not accept the control stream.
    #[error("the connector answered the control stream with the status {0}")]
    Refused(u16),
    /// The connector did not register in time.
    #[error("the connector did not register in time")]
    Timeout,
    /// The connection ended before.
    #[error("the connector closed the connection before it had registered")]
    Closed,
    /// The connection has failed, or the connector violated HTTP/2.
    #[error("the connection failed: {0}")]
    Http2(String),
}

/// How a connection ended, at the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloudflaredEdgeEnded {
    /// This side closed it.
    Closed(CloseReason),
    /// This side closed it after the connector had left and the last call had ended.
    Left,
    /// The connector closed it.
    ByConnector,
    /// The connector violated the protocol.
    Fault,
    /// The connection has failed.
    Lost,
    /// Nothing arrived any more.
    Silent,
}

impl CloudflaredEdgeEnded {
    /// How an error of HTTP/2 ends a connection.
    pub(super) fn of(error: &h2::Error) -> CloudflaredEdgeEnded {
        match error.is_io() {
            true => CloudflaredEdgeEnded::Lost,
            // The connector said so.
            false if error.is_remote() => CloudflaredEdgeEnded::ByConnector,
            false => CloudflaredEdgeEnded::Fault,
        }
    }

    /// Whether this side ended the connection.
    #[must_use]
    pub fn is_by_this_side(self) -> bool {
        !matches!(self, CloudflaredEdgeEnded::ByConnector | CloudflaredEdgeEnded::Lost)
    }
}

impl fmt::Display for CloudflaredEdgeEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CloudflaredEdgeEnded::Closed(CloseReason::Ended) => "the edge closed the connection",
            CloudflaredEdgeEnded::Closed(CloseReason::DrainTimeout) => "the time for calls in flight is over",
            CloudflaredEdgeEnded::Closed(CloseReason::Revoked) => "the credential is no longer valid",
            CloudflaredEdgeEnded::Left => "the connector has left",
            CloudflaredEdgeEnded::ByConnector => "the connector closed the connection",
            CloudflaredEdgeEnded::Fault => "the connector violated the protocol",
            CloudflaredEdgeEnded::Lost => "the connection was lost",
            CloudflaredEdgeEnded::Silent => "the connector did not answer",
        })
    }
}
