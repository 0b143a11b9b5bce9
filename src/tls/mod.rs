//! Floor 2: TLS over leases. rustls makes the handshake; after that, records are sealed and opened in place.
//!
//! [`Session`] is one side of a connection without a socket, [`TlsStream`] the same over any
//! [`ByteStream`](crate::engine::ByteStream). [`certs`](ServerCert) reload while connections are open. [`server_config`] and
//! [`client_config`] make all configurations.

mod alert;
mod authority;
mod ca_certificate;
mod caller;
mod cert_info;
mod certs;
mod clock;
mod config;
mod connection;
mod error;
mod handshake;
mod hello;
mod identity;
mod kept;
mod pin;
mod provider;
mod record;
mod session;
mod shown_key;
mod signing;
mod state;
mod steps;
mod stream;
#[cfg(test)]
mod tests;
mod untrusted;

pub use alert::Alert;
pub use authority::{Authority, Issued, VALID_DAYS_MAX};
pub use ca_certificate::{CA_PEM_LEN_MAX, CaCertificate, CaFault};
pub use caller::{CALLER_LIFE, CallerAuthorities, CallerIdentity, EDGE_URI};
pub use cert_info::CertInfo;
pub use certs::{CertError, CertSet, ReloadingCerts, ServerCert, read_chain};
pub use clock::WallClock;
pub use config::{
    ALPN_CLOUDFLARED, ALPN_ENROL, ALPN_HTTP1, ALPN_HTTP2, ALPN_LINK, ClientSettings, Clients, Roots,
    SESSION_SERVERS_MAX, ServerSettings, SessionMemory, Versions, client_config, client_verifier, server_config,
    without_http2,
};
pub use connection::{Connection, DetachedConnection};
pub use error::{TlsError, version_name};
pub use handshake::HANDSHAKE_LEN_MAX;
pub use hello::{CLIENT_HELLO_LEN_MAX, Peeked, ServerNamePeek};
pub use identity::{CurrentIdentity, Identity, KeyRequest, TUNNEL_URI, tunnel_of};
pub use pin::{Fingerprint, FingerprintError};
pub use provider::provider;
pub use record::{CHACHA_RECORDS_PER_KEY_MAX, GCM_RECORDS_PER_KEY_MAX, PLAIN_LEN_MAX, RECORD_LEN_MAX};
pub use session::{DetachedSession, Sealed, Session, Unsealed};
pub use signing::ClientCert;
pub use state::{IDLE_RECORDS_MAX, MESSAGE_LEN_MAX};
pub use stream::{HandshakeError, TlsStream};

pub use rustls::pki_types::ServerName;
pub use rustls::server::danger::ClientCertVerifier;
pub use rustls::{ClientConfig, ServerConfig};
