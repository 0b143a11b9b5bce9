//! The handshake, by rustls, one record at a time, up to the point where its keys are ours.

use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{ClientConfig, CommonState, ExtractedSecrets, ProtocolVersion, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName};

use super::error::TlsError;
use super::hello::{CLIENT_HELLO_LEN_MAX, HelloScan, Scanned};
use super::session::extend_by_steps;

/// The most that a peer may send before the handshake is done, in bytes: several certificate chains.
pub const HANDSHAKE_LEN_MAX: usize = 128 * 1024;

/// A handshake under way.
pub(super) struct Handshake {
    connection: Connection,
    /// Records that rustls has not yet done with: a message may stretch over several.
    incoming: Vec<u8>,
    received: usize,
    /// On the server's side, until the client's first message is whole.
    hello: Option<HelloScan>,
}

/// What a finished handshake leaves.
pub(super) struct Established {
    pub(super) secrets: ExtractedSecrets,
    pub(super) kernel: Kernel,
    pub(super) agreed: Agreed,
}

/// What the two sides agreed on.
#[derive(Clone, Debug, Default)]
pub(super) struct Agreed {
    pub(super) version: Option<ProtocolVersion>,
    pub(super) alpn: Option<Vec<u8>>,
    pub(super) peer_certificates: Vec<CertificateDer<'static>>,
    #[cfg(test)]
    pub(super) resumed: bool,
}

/// What rustls keeps doing afterwards: new keys, and a client's tickets.
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

    /// Nothing was received yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.received == 0
    }

    /// Takes in one whole record, appends what is to be sent to `outgoing`, and tells when the handshake is done. An empty
    /// record starts a client off.
    pub(super) fn advance(
        mut self: Box<Handshake>,
        record: &[u8],
        outgoing: &mut Vec<u8>,
    ) -> Result<Progress, TlsError> {
        self.received += record.len();
        if self.received > HANDSHAKE_LEN_MAX {
            return Err(TlsError::HandshakeTooLarge { limit: HANDSHAKE_LEN_MAX });
        }
        extend_by_steps(&mut self.incoming, record);
        if !self.watch_hello()? {
            return Ok(Progress::More(self));
        }
        loop {
            match self.step(outgoing) {
                Ok(Step::Again) => {}
                Ok(Step::Blocked) => return Ok(Progress::More(self)),
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

    /// How many bytes it keeps of what the peer sent.
    pub(super) fn kept_len(&self) -> usize {
        self.incoming.capacity()
    }

    /// Whether rustls can go on. A client's first message is gathered first, so that it is kept once.
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
            Connection::Client(connection) => settle(connection.process_tls_records(&mut self.incoming), outgoing),
            Connection::Server(connection) => settle(connection.process_tls_records(&mut self.incoming), outgoing),
        };
        self.incoming.drain(..discard);
        if self.incoming.is_empty() {
            self.incoming = Vec::new();
        }
        match step? {
            // A TLS 1.3 server may write before the client has finished; the keys are not ours before that.
            Step::Done if self.common().is_handshaking() => Ok(Step::Blocked),
            step => Ok(step),
        }
    }

    /// After a fault, what rustls wants to tell the peer is still to be fetched, and nothing more: asked beyond that it would
    /// look at the faulty bytes again, which it does not expect.
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

    fn establish(self) -> Result<Progress, TlsError> {
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
        Ok(Progress::Done(Box::new(Established { secrets, kernel, agreed })))
    }
}

/// How far a handshake got.
pub(super) enum Progress {
    More(Box<Handshake>),
    Done(Box<Established>),
}

/// Does what one state of rustls asks for; gives the bytes to be discarded and what is next.
fn settle<Data>(status: UnbufferedStatus<'_, '_, Data>, outgoing: &mut Vec<u8>) -> (usize, Result<Step, TlsError>) {
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
