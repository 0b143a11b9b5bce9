use std::io;

use rustls::AlertDescription;

use crate::tls::TlsError;
use crate::wire::quic::{ConnectionError, QuicConnectError};

/// The codes of alerts in QUIC begin here (RFC 9001 section 4.8).
const ALERTS_FROM: u64 = 0x100;

/// Why a QUIC connection could not be made, or has ended.
#[derive(Debug, thiserror::Error)]
pub enum QuicError {
    /// Nothing was answered in time.
    #[error("nothing was answered over UDP")]
    Unanswered,
    /// The peer has ended the handshake with an alert of TLS.
    #[error("the peer ended the TLS handshake: {0}")]
    Alert(TlsError),
    /// This side does not trust the peer, or the peer offers something else.
    #[error("the TLS handshake failed: {0}")]
    Handshake(String),
    /// The peer has ended the connection, or it broke.
    #[error("the QUIC connection ended: {0}")]
    Ended(ConnectionError),
    /// The connection could not be begun.
    #[error(transparent)]
    Begin(#[from] QuicConnectError),
    /// The configuration of TLS cannot be used.
    #[error(transparent)]
    Config(#[from] TlsError),
    /// The socket could not be opened.
    #[error("cannot open a UDP socket: {0}")]
    Socket(#[from] io::Error),
}

impl From<ConnectionError> for QuicError {
    fn from(error: ConnectionError) -> QuicError {
        match &error {
            ConnectionError::TimedOut => QuicError::Unanswered,
            ConnectionError::ConnectionClosed(close) => match alert(close.error_code.into()) {
                Some(alert) => QuicError::Alert(TlsError::AlertReceived(alert)),
                None => QuicError::Ended(error),
            },
            ConnectionError::TransportError(failed) if alert(failed.code.into()).is_some() => {
                QuicError::Handshake(failed.reason.clone())
            }
            _ => QuicError::Ended(error),
        }
    }
}

/// The alert that a code stands for.
fn alert(code: u64) -> Option<AlertDescription> {
    code.checked_sub(ALERTS_FROM).and_then(|alert| u8::try_from(alert).ok()).map(AlertDescription::from)
}
