//! An edge of cloudflared: tokio, rustls and the client of the `h2` crate. Messages of the control stream are bytes that were
//! captured, and what comes is read at the places where it stands.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use adit::tls::Authority;
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// Longest wait for anything that does happen.
const PATIENCE: Duration = Duration::from_secs(20);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The length of the first two messages of a connector, up to which its registration has come.
const BOOTSTRAP_LEN: usize = 8 + 5 * 8;

/// The answer to the question for a capability, and the one to a registration with the location `tst01`.
pub(crate) const BOOTSTRAPPED: &str = concat!(
    "000000000b000000000000000100010003000000000000000000000002000100000000000100000000000000000000000000000000000200",
    "03000000000000000100000017000000040000000100010001000000000000000000000000000000",
);
pub(crate) const REGISTERED: &str = concat!(
    "0000000012000000000000000100010003000000000000000000000002000100010000000100000000000000000000000000000000000200",
    "0400000000000100250000000700000000000000010001000100000000000000000000000100020000000000000000000500000082000000",
    "09000000320000003d539f97cd3a4d8ec33b65e9099c7a8d74737430310000000000000001000100",
);
/// The answer to a call without content.
pub(crate) const DONE: &str = concat!(
    "0000000009000000000000000100010003000000000000000000000002000100010000000100000000000000000000000000000000000200",
    "fcffffff0000000001000000070000000000000001000100",
);
/// The interface of the calls, and the numbers of two methods behind it in a call.
pub(crate) const INTERFACE: [u8; 8] = [0x97, 0x54, 0xe8, 0x7f, 0xec, 0x95, 0x16, 0xf7];
const UNREGISTER: u8 = 1;

/// An edge that listens.
pub(crate) struct Edge {
    pub(crate) address: SocketAddr,
    listener: TcpListener,
    tls: TlsAcceptor,
}

/// A connection of a connector.
pub(crate) struct Link {
    pub(crate) send: SendRequest<Bytes>,
    control: SendStream<Bytes>,
    received: RecvStream,
    /// What has come on the control stream and was not used yet.
    ahead: Vec<u8>,
    connection: tokio::task::JoinHandle<()>,
}

/// What a connector has said of itself.
pub(crate) struct Said(pub(crate) Vec<u8>);

impl Said {
    /// Whether these bytes stand in it.
    pub(crate) fn has(&self, bytes: &[u8]) -> bool {
        self.0.windows(bytes.len()).any(|window| window == bytes)
    }

    /// The number of its connection: the first byte of the parameters, which stand behind the target of the call.
    pub(crate) fn index(&self) -> u8 {
        self.0[8 + 16 * 8]
    }
}

pub(crate) fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// The refusal of a registration.
pub(crate) fn refusal(cause: &str, retry_after: Duration, should_retry: bool) -> Vec<u8> {
    let text_words = (cause.len() + 1).div_ceil(8);
    let mut words: Vec<u64> = vec![
        0x0001_0001_0000_0000,
        3,
        0x0001_0002_0000_0000,
        0x0000_0001_0000_0001,
        0,
        0x0002_0000_0000_0000,
        0x0001_0000_0000_0004,
        // The empty table of capabilities, behind the text.
        (6 + text_words as u64) << 2 | 1 | 7 << 32,
        0x0001_0001_0000_0000,
        0,
        0x0001_0002_0000_0000,
        retry_after.as_nanos() as u64,
        u64::from(should_retry),
        1 | (2 | (cause.len() as u64 + 1) << 3) << 32,
    ];
    let mut text = cause.as_bytes().to_vec();
    text.resize(text_words * 8, 0);
    words.extend(text.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())));
    words.push(0x0001_0001_0000_0000);
    let header = [0, words.len() as u32].map(u32::to_le_bytes).concat();
    header.into_iter().chain(words.into_iter().flat_map(u64::to_le_bytes)).collect()
}

impl Edge {
    /// An edge whose authority is written to this file.
    pub(crate) async fn start(ca_file: &Path) -> Edge {
        let authority = Authority::new("a test", UnixTime::now(), 1).unwrap();
        std::fs::write(ca_file, authority.cert_pem()).unwrap();
        let issued = authority.issue_chain(&["h2.cftunnel.com".to_owned()], UnixTime::now(), DAY).unwrap();
        let chain = CertificateDer::pem_slice_iter(issued.cert_pem.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(issued.key_pem.expose()).unwrap();
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Edge { address, listener, tls: TlsAcceptor::from(Arc::new(config)) }
    }

    /// The next connection, up to the registration, which is not answered yet.
    pub(crate) async fn accept(&self) -> (Link, Said) {
        within(self.accept_one()).await
    }

    /// The next connection, registered.
    pub(crate) async fn register(&self) -> Link {
        let (mut link, _) = self.accept().await;
        link.accept_registration();
        link
    }

    async fn accept_one(&self) -> (Link, Said) {
        let (socket, _) = self.listener.accept().await.unwrap();
        socket.set_nodelay(true).unwrap();
        let stream = self.tls.accept(socket).await.unwrap();
        assert_eq!(stream.get_ref().1.server_name(), Some("h2.cftunnel.com"));
        assert_eq!(stream.get_ref().1.alpn_protocol(), None);
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(1 << 20)
            .initial_connection_window_size(1 << 20)
            .handshake::<_, Bytes>(stream)
            .await
            .unwrap();
        let connection = tokio::spawn(async move { drop(connection.await) });
        let mut send = send.ready().await.unwrap();
        let request =
            Request::get("https://edge.test/").header("cf-cloudflared-proxy-connection-upgrade", "control-stream");
        let (response, control) = send.send_request(request.body(()).unwrap(), false).unwrap();
        let response = response.await.unwrap();
        assert_eq!(
            (response.status().as_u16(), response.headers()["content-type"].to_str().unwrap()),
            (200, "application/octet-stream")
        );
        let mut link = Link { send, control, received: response.into_body(), ahead: Vec::new(), connection };
        let boot = link.message().await;
        assert_eq!(boot.len(), BOOTSTRAP_LEN);
        let said = Said(link.message().await);
        assert!(said.has(&INTERFACE));
        link.answer(&bytes_of(BOOTSTRAPPED));
        (link, said)
    }
}

/// Fails a test whose step does not come.
pub(crate) async fn within<T>(step: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, step).await.expect("it happens in time")
}

impl Link {
    /// Sends bytes on the control stream.
    pub(crate) fn answer(&mut self, bytes: &[u8]) {
        self.control.send_data(Bytes::copy_from_slice(bytes), false).unwrap();
    }

    /// Accepts the registration of the connector.
    pub(crate) fn accept_registration(&mut self) {
        self.answer(&bytes_of(REGISTERED));
    }

    /// The next message of the control stream.
    async fn message(&mut self) -> Vec<u8> {
        loop {
            if let Some(words) = self.ahead.get(4..8) {
                let len = 8 + 8 * u32::from_le_bytes(words.try_into().unwrap()) as usize;
                if self.ahead.len() >= len {
                    return self.ahead.drain(..len).collect();
                }
            }
            let data = within(self.received.data()).await.expect("the control stream goes on").unwrap();
            self.received.flow_control().release_capacity(data.len()).unwrap();
            self.ahead.extend_from_slice(&data);
        }
    }

    /// Waits until the connector leaves, and answers it.
    pub(crate) async fn left(&mut self) {
        loop {
            let message = self.message().await;
            // The method of a call stands behind its question.
            if message.windows(8).any(|window| window == INTERFACE) && message[8 + 3 * 8 + 4] == UNREGISTER {
                return self.answer(&bytes_of(DONE));
            }
            if message.windows(8).any(|window| window == INTERFACE) {
                self.answer(&bytes_of(DONE));
            }
        }
    }

    /// Begins a request whose body follows unless `is_end`.
    pub(crate) async fn begin(&self, request: Request<()>, is_end: bool) -> (ResponseFuture, SendStream<Bytes>) {
        let mut send = self.send.clone().ready().await.unwrap();
        send.send_request(request, is_end).unwrap()
    }

    /// A request with this body, and its whole answer.
    pub(crate) async fn call(&self, request: http::request::Builder, body: &[u8]) -> Answer {
        let (response, mut send) = self.begin(request.body(()).unwrap(), body.is_empty()).await;
        if !body.is_empty() {
            send.send_data(Bytes::copy_from_slice(body), true).unwrap();
        }
        within(whole(response)).await
    }

    /// A request with this body whose answer is one of the connector for the edge, and that answer's body.
    pub(crate) async fn json(&self, request: http::request::Builder, body: &[u8]) -> String {
        let (response, mut send) = self.begin(request.body(()).unwrap(), false).await;
        send.send_data(Bytes::copy_from_slice(body), true).unwrap();
        let mut body = within(response).await.unwrap().into_body();
        let mut json = Vec::new();
        while let Some(data) = within(body.data()).await {
            json.extend_from_slice(&data.unwrap());
        }
        String::from_utf8(json).unwrap()
    }

    /// Ends the connection.
    pub(crate) fn close(self) {
        self.connection.abort();
    }

    /// Waits until the connector has closed the connection.
    pub(crate) async fn closed(mut self) {
        drop(within(&mut self.connection).await);
    }
}

/// An answer as an edge reads it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The source: the server, or the connector.
    pub(crate) source: String,
    /// The fields of the server as `name=value;`, and the length of the body if it is known.
    pub(crate) fields: String,
    pub(crate) length: Option<String>,
    pub(crate) body: Vec<u8>,
}

/// Reads an answer to its end.
pub(crate) async fn whole(response: ResponseFuture) -> Answer {
    let (mut answer, mut body) = head(response).await;
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        answer.body.extend_from_slice(&data);
    }
    answer
}

/// Reads the head of an answer.
pub(crate) async fn head(response: ResponseFuture) -> (Answer, RecvStream) {
    let response: Response<RecvStream> = within(response).await.unwrap();
    let text = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let source = text("cf-cloudflared-response-meta").unwrap();
    let fields = text("cf-cloudflared-response-headers").unwrap_or_default();
    let fields = fields.split(';').filter(|field| !field.is_empty()).map(|field| {
        let (name, value) = field.split_once(':').unwrap();
        format!("{}={};", decoded(name), decoded(value))
    });
    let answer = Answer {
        status: response.status().as_u16(),
        source,
        fields: fields.collect(),
        length: text("content-length"),
        body: Vec::new(),
    };
    (answer, response.into_body())
}

/// Reads base64 without padding.
fn decoded(text: &str) -> String {
    let value = |digit: u8| match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        other => panic!("not a digit: {other}"),
    };
    let bits: Vec<u8> = text.bytes().flat_map(|digit| (0..6).rev().map(move |bit| value(digit) >> bit & 1)).collect();
    let byte = |bits: &[u8]| bits.iter().fold(0, |byte, bit| byte << 1 | bit);
    String::from_utf8(bits.chunks_exact(8).map(byte).collect()).unwrap()
}
