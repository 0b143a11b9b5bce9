//! The TLS configurations of this project, as QUIC takes them.

use std::sync::Arc;

use quinn_proto::crypto;

use crate::tls::{ClientConfig, ServerConfig, TlsError};
use crate::wire::quic::{QuicClientConfig, QuicServerConfig};

/// The same TLS for a server of QUIC.
///
/// # Errors
///
/// If the configuration has no cipher suite for the first packets, which QUIC prescribes.
pub(super) fn quic_server(config: &Arc<ServerConfig>) -> Result<Arc<dyn crypto::ServerConfig>, TlsError> {
    let made = QuicServerConfig::try_from(Arc::clone(config)).map_err(|error| TlsError::Config(error.to_string()))?;
    Ok(Arc::new(made))
}

/// The same TLS for a client of QUIC.
///
/// # Errors
///
/// If the configuration has no cipher suite for the first packets, which QUIC prescribes.
pub fn quic_client(config: &Arc<ClientConfig>) -> Result<Arc<dyn crypto::ClientConfig>, TlsError> {
    let made = QuicClientConfig::try_from(Arc::clone(config)).map_err(|error| TlsError::Config(error.to_string()))?;
    Ok(Arc::new(made))
}
