//! The TLS handshake. rustls makes it, one record at a time, until its keys can be extracted.

use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{ClientConfig, CommonState, ExtractedSecrets, ProtocolVersion, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName};

use super::error::TlsError;
use super::hello::{CLIENT_HELLO_LEN_MAX, HelloScan, Scanned};
use super::steps::extend_by_steps;

/// The most bytes that a peer may send during the handshake: several certificate chains.
pub const HANDSHAKE_LEN_MAX: usize = 128 * 1024;

/// A handshake in progress.
pub(super) struct Handshake {
    connection: Connection,
    /// Records that rustls has not finished with: a message may extend over several records.
    incoming: Vec<u8>,
    received: usize,
    /// For a server, until the client's first message is complete.
    hello: Option<HelloScan>,
}

/// The result of a finished handshake.
pub(super) struct Established {
    pub(super) secrets: ExtractedSecrets,
    pub(super) kernel: Kernel,
    pub(super) agreed: Agreed,
}

/// What the two sides negotiated.
#[derive(Clone, Debug, Default)]
pub(super) struct Agreed {
    pub(super) version: Option<ProtocolVersion>,
    pub(super) alpn: Option<Vec<u8>>,
    pub(super) peer_certificates: Vec<CertificateDer<'static>>,
    #[cfg(test)]
    pub(super) resumed: bool,
}

/// What rustls still does after the handshake: key updates and a client's tickets.
pub(super) enum Kernel {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

enum Connection {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

enum Step {
    Again,
    Blocked,
    Done,
}

impl Handshake {
    pub(super) fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Box<Handshake>, TlsError> {
        Ok(Handshake::new(Connection::Client(UnbufferedClientConnection::new(config, name)?)))
    }

    pub(super) fn server(config: Arc<ServerConfig>) -> Result<Box<Handshake>, TlsError> {
        Ok(Handshake::new(Connection::Server(UnbufferedServerConnection::new(config)?)))
    }

    /// Whether nothing was received yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.received == 0
    }

    /// Handles one complete record, appends the bytes to send to `outgoing`, and reports when the handshake is done. An
    /// empty record starts the handshake of a client.
    pub(super) fn advance(
        mut self: Box<Handshake>,
        record: &[u8],
        outgoing: &mut Vec<u8>,
    ) -> Result<HandshakeProgress, TlsError> {
        self.received += record.len();
        if self.received > HANDSHAKE_LEN_MAX {
            return Err(TlsError::HandshakeTooLarge { limit: HANDSHAKE_LEN_MAX });
        }
        extend_by_steps(&mut self.incoming, record);
        if !self.watch_hello()? {
            return Ok(HandshakeProgress::More(self));
        }
        loop {
            match self.step(outgoing) {
                Ok(Step::Again) => {}
                Ok(Step::Blocked) => return Ok(HandshakeProgress::More(self)),
                Ok(Step::Done) => return self.establish(),
                Err(error) => {
                    self.drain_alert(outgoing);
                    return Err(error);
                }
            }
        }
    }

    fn new(connection: Connection) -> Box<Handshake> {
        let hello = matches!(connection, Connection::Server(_)).then(HelloScan::default);
        Box::new(Handshake { connection, incoming: Vec::new(), received: 0, hello })
    }

    /// How many bytes of the peer's messages are kept.
    pub(super) fn kept_len(&self) -> usize {
        self.incoming.capacity()
    }

    /// Whether rustls can continue. A client's first message is collected first, so that only one copy of it is kept.
    fn watch_hello(&mut self) -> Result<bool, TlsError> {
        let Some(scan) = &mut self.hello else { return Ok(true) };
        match scan.advance(&self.incoming) {
            Scanned::More if self.received <= CLIENT_HELLO_LEN_MAX => return Ok(false),
            Scanned::More | Scanned::TooLong => {
                return Err(TlsError::HandshakeTooLarge { limit: CLIENT_HELLO_LEN_MAX });
            }
            Scanned::Whole | Scanned::Other => {}
        }
        self.hello = None;
        Ok(true)
    }

    fn step(&mut self, outgoing: &mut Vec<u8>) -> Result<Step, TlsError> {
        let (discard, step) = match &mut self.connection {
            Connection::Client(connection) => {
                let (discard, step) = handle_status(connection.process_tls_records(&mut self.incoming), outgoing);
                (discard, step.map_err(TlsError::naming_issuer))
            }
            Connection::Server(connection) => {
                handle_status(connection.process_tls_records(&mut self.incoming), outgoing)
            }
        };
        self.incoming.drain(..discard);
        if self.incoming.is_empty() {
            self.incoming = Vec::new();
        }
        match step? {
            // A TLS 1.3 server may send data before the client has finished, but its keys cannot be taken over before
            // that.
            Step::Done if self.common().is_handshaking() => Ok(Step::Blocked),
            step => Ok(step),
        }
    }

    /// After an error, fetches the alert for the peer and nothing more: rustls does not expect to be called again on
    /// the same bytes.
    fn drain_alert(&mut self, outgoing: &mut Vec<u8>) {
        while self.common().wants_write() {
            if self.step(outgoing).is_err() {
                break;
            }
        }
    }

    fn common(&self) -> &CommonState {
        match &self.connection {
            Connection::Client(connection) => connection,
            Connection::Server(connection) => connection,
        }
    }

    fn establish(self) -> Result<HandshakeProgress, TlsError> {
        if !self.incoming.is_empty() {
            return Err(TlsError::Malformed("a handshake that ends in the middle of a record"));
        }
        let common = self.common();
        let agreed = Agreed {
            version: common.protocol_version(),
            alpn: common.alpn_protocol().map(<[u8]>::to_vec),
            peer_certificates: common.peer_certificates().unwrap_or_default().to_vec(),
            #[cfg(test)]
            resumed: common.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        };
        let (secrets, kernel) = match self.connection {
            Connection::Client(connection) => {
                let (secrets, kernel) = connection.dangerous_into_kernel_connection()?;
                (secrets, Kernel::Client(kernel))
            }
            Connection::Server(connection) => {
                let (secrets, kernel) = connection.dangerous_into_kernel_connection()?;
                (secrets, Kernel::Server(kernel))
            }
        };
        Ok(HandshakeProgress::Done(Box::new(Established { secrets, kernel, agreed })))
    }
}

/// The progress of a handshake.
pub(super) enum HandshakeProgress {
    More(Box<Handshake>),
    Done(Box<Established>),
}

/// Does what the state of rustls requires. Returns how many bytes to discard, and the next step.
fn handle_status<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    outgoing: &mut Vec<u8>,
) -> (usize, Result<Step, TlsError>) {
    let step = match status.state {
        Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, outgoing).map(|()| Step::Again),
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Step::Again)
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(Step::Blocked),
        Ok(ConnectionState::WriteTraffic(_)) => Ok(Step::Done),
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Err(TlsError::Truncated),
        Ok(_) => Err(TlsError::Misbehaved("data before the handshake was done".to_owned())),
        Err(error) => Err(error.into()),
    };
    (status.discard, step)
}

fn encode<Data>(data: &mut EncodeTlsData<'_, Data>, outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
    let start = outgoing.len();
    let len = match data.encode(&mut []) {
        Err(EncodeError::InsufficientSize(needed)) => needed.required_size,
        Ok(_) | Err(EncodeError::AlreadyEncoded) => return Ok(()),
    };
    outgoing.resize(start + len, 0);
    match data.encode(&mut outgoing[start..]) {
        Ok(_) => Ok(()),
        Err(error) => Err(TlsError::Config(error.to_string())),
    }
}
