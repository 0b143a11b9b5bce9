//! An edge of cloudflared over QUIC: quinn on tokio. The messages of calls are written and read by a few lines of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use adit::tls::Authority;
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn::{Connection, Endpoint, RecvStream, SendStream, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls;

use super::edge::{BOOTSTRAPPED, DONE, INTERFACE, REGISTERED, Said, bytes_of, within};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Signature and version of a call, and the signature of a remote procedure call.
const CALL: [u8; 8] = *b"\x0a\x36\xcd\x12\xa1\x3e01";
const RPC: [u8; 6] = *b"\x52\xbb\x82\x5c\xdb\x65";

/// An edge that listens.
pub(crate) struct QuicEdge {
    pub(crate) address: SocketAddr,
    endpoint: Endpoint,
}

/// A connection of a connector.
pub(crate) struct QuicLink {
    pub(crate) connection: Connection,
    send: SendStream,
    received: RecvStream,
}

/// A call under way.
pub(crate) struct QuicCall {
    pub(crate) send: SendStream,
    pub(crate) received: RecvStream,
}

/// The start of an answer: the connector's error, and the metadata.
#[derive(Debug)]
pub(crate) struct QuicAnswer {
    pub(crate) error: String,
    pub(crate) metadata: Vec<(String, String)>,
}

impl QuicAnswer {
    /// The first value with this key.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.metadata.iter().find(|(of, _)| of.eq_ignore_ascii_case(key)).map(|(_, value)| &**value)
    }
}

impl QuicEdge {
    /// An edge whose authority is written to this file.
    pub(crate) fn start(ca_file: &Path) -> QuicEdge {
        let authority = Authority::new("a test", UnixTime::now(), 1).unwrap();
        std::fs::write(ca_file, authority.cert_pem()).unwrap();
        let issued = authority.issue_chain(&["quic.cftunnel.com".to_owned()], UnixTime::now(), DAY).unwrap();
        let chain = CertificateDer::pem_slice_iter(issued.cert_pem.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(issued.key_pem.expose()).unwrap();
        let mut tls = rustls::ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        tls.alpn_protocols = vec![b"argotunnel".to_vec()];
        let config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
        let endpoint = Endpoint::server(config, ([127, 0, 0, 1], 0).into()).unwrap();
        QuicEdge { address: endpoint.local_addr().unwrap(), endpoint }
    }

    /// The next connection, registered, and what its connector says.
    pub(crate) async fn register(&self) -> (QuicLink, Said) {
        within(async {
            let connection = self.endpoint.accept().await.unwrap().await.unwrap();
            let data: Box<HandshakeData> = connection.handshake_data().unwrap().downcast().unwrap();
            assert_eq!(data.server_name.as_deref(), Some("quic.cftunnel.com"));
            let (mut send, mut received) = connection.accept_bi().await.unwrap();
            message(&mut received).await;
            let said = Said(message(&mut received).await);
            assert!(said.has(&INTERFACE));
            send.write_all(&[bytes_of(BOOTSTRAPPED), bytes_of(REGISTERED)].concat()).await.unwrap();
            (QuicLink { connection, send, received }, said)
        })
        .await
    }
}

impl QuicLink {
    /// Begins a call, with metadata.
    pub(crate) async fn begin(&self, dest: &str, metadata: &[(&str, &str)]) -> QuicCall {
        self.begin_kind(0, dest, metadata).await
    }

    /// The same for another kind of connection than HTTP.
    pub(crate) async fn begin_kind(&self, kind: u64, dest: &str, metadata: &[(&str, &str)]) -> QuicCall {
        let (mut send, received) = within(self.connection.open_bi()).await.unwrap();
        within(send.write_all(&[&CALL[..], &request(kind, dest, metadata)].concat())).await.unwrap();
        QuicCall { send, received }
    }

    /// Sends rules, and reads the answer: the version in force, and the rest of the message.
    pub(crate) async fn push(&self, version: u32, config: &str) -> (u32, Vec<u8>) {
        within(async {
            let (mut send, mut received) = self.connection.open_bi().await.unwrap();
            send.write_all(&[&RPC[..], &update(version, config)].concat()).await.unwrap();
            let answer = message(&mut received).await;
            // The first word of the response, which stands behind message, return, payload and results.
            let version = u32::from_le_bytes(answer[8 + 9 * 8..8 + 9 * 8 + 4].try_into().unwrap());
            (version, answer)
        })
        .await
    }

    /// Waits until the connector leaves, and answers it.
    pub(crate) async fn left(&mut self) {
        loop {
            let message = within(message(&mut self.received)).await;
            if message.windows(8).any(|window| window == INTERFACE) {
                self.send.write_all(&bytes_of(DONE)).await.unwrap();
                // The method of a call stands behind its question; 1 leaves.
                if message[8 + 3 * 8 + 4] == 1 {
                    return;
                }
            }
        }
    }
}

impl QuicCall {
    /// The start of the answer.
    pub(crate) async fn answer(&mut self) -> QuicAnswer {
        let mut preamble = [0; 8];
        within(self.received.read_exact(&mut preamble)).await.unwrap();
        assert_eq!(preamble, CALL);
        read_answer(&within(message(&mut self.received)).await)
    }

    /// The answer, and its whole body.
    pub(crate) async fn whole(mut self) -> (QuicAnswer, Vec<u8>) {
        let answer = self.answer().await;
        (answer, within(self.received.read_to_end(64 << 20)).await.unwrap())
    }
}

/// The next message of a stream, with its header.
async fn message(from: &mut RecvStream) -> Vec<u8> {
    let mut message = vec![0; 8];
    from.read_exact(&mut message).await.unwrap();
    let words = u32::from_le_bytes(message[4..].try_into().unwrap()) as usize;
    message.resize(8 + words * 8, 0);
    from.read_exact(&mut message[8..]).await.unwrap();
    message
}

/// A pointer to a list, `offset` words behind the pointer.
fn list(offset: usize, kind: u64, len: usize) -> u64 {
    (offset as u64) << 2 | 1 | kind << 32 | (len as u64) << 35
}

fn text_words(text: &str) -> usize {
    (text.len() + 1).div_ceil(8)
}

fn add_text(words: &mut Vec<u64>, text: &str) {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(text_words(text) * 8, 0);
    words.extend(bytes.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())));
}

fn framed(words: &[u64]) -> Vec<u8> {
    let header = [0, words.len() as u32].map(u32::to_le_bytes).concat();
    header.into_iter().chain(words.iter().flat_map(|word| word.to_le_bytes())).collect()
}

/// The request of a call: a struct of one word and two pointers, its text, and the list of pairs of texts.
fn request(kind: u64, dest: &str, metadata: &[(&str, &str)]) -> Vec<u8> {
    let mut words = vec![0x0002_0001_0000_0000, kind, list(1, 2, dest.len() + 1), 0];
    add_text(&mut words, dest);
    words[3] = list(words.len() - 4, 7, metadata.len() * 2);
    words.push((metadata.len() as u64) << 2 | 2 << 48);
    let first = words.len();
    words.resize(first + metadata.len() * 2, 0);
    for (at, text) in metadata.iter().flat_map(|(key, value)| [key, value]).enumerate() {
        words[first + at] = list(words.len() - (first + at) - 1, 2, text.len() + 1);
        add_text(&mut words, text);
    }
    framed(&words)
}

/// A call that updates the configuration, on the capability that a question before it would have asked for.
fn update(version: u32, config: &str) -> Vec<u8> {
    let mut words = vec![
        0x0001_0001_0000_0000,
        2,
        0x0003_0003_0000_0000,
        // The question 1, the method 0, and the interface.
        1,
        0xb48e_dfbd_aa25_db04,
        0,
        // The target, the payload, and nothing else.
        0x0001_0001_0000_0008,
        0x0002_0000_0000_000c,
        0,
        // The target is the capability 0.
        0,
        0,
        // The payload: its content, and no capabilities.
        0x0001_0001_0000_0004,
        0,
        u64::from(version),
        list(0, 2, config.len()),
    ];
    add_text(&mut words, config);
    framed(&words)
}

fn read_answer(message: &[u8]) -> QuicAnswer {
    let word = |at: usize| u64::from_le_bytes(message[8 + at * 8..16 + at * 8].try_into().unwrap());
    let text = |at: usize| {
        let pointer = word(at);
        if pointer == 0 {
            return String::new();
        }
        let start = 8 + (at + 1 + (pointer as u32 >> 2) as usize) * 8;
        let len = (pointer >> 35) as usize - 1;
        String::from_utf8(message[start..start + len].to_vec()).unwrap()
    };
    assert_eq!(word(0), 0x0002_0000_0000_0000);
    let tag = 3 + (word(2) as u32 >> 2) as usize;
    let count = (word(tag) as u32 >> 2) as usize;
    let pairs = (0..count).map(|nth| (text(tag + 1 + nth * 2), text(tag + 2 + nth * 2)));
    QuicAnswer { error: text(1), metadata: pairs.collect() }
}
