//! A connector by hand: tokio, rustls and the server of the `h2` crate. It sends what no program sends by itself.

use std::path::Path;
use std::sync::Arc;

use adit::tls::provider;
use adit::wire::cloudflared::{ControlClient, ControlEvent, Registration, TunnelUuid};
use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::{ClientConfig, NamedGroup, RootCertStore};

use super::site::{Site, credentials, within};
use crate::tunnel_processes::SECRET;

/// A call that the edge has opened.
pub(crate) type Call = (Request<RecvStream>, SendResponse<Bytes>);

/// A connection to the edge.
pub(crate) struct Peer {
    control: SendStream<Bytes>,
    received: RecvStream,
    client: ControlClient,
    /// The calls of the edge.
    pub(crate) calls: UnboundedReceiver<Call>,
    /// Ends with the connection.
    pub(crate) connection: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

/// A connection to the edge with TLS, as the stock program makes it: without ALPN.
pub(crate) async fn dial(site: &Site, group: NamedGroup) -> TlsStream<TcpStream> {
    let mut provider = (*provider()).clone();
    provider.kx_groups.retain(|offered| offered.name() == group);
    let mut roots = RootCertStore::empty();
    roots.add(authority(&site.tunnel.file("ca.pem"))).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(provider));
    let config =
        config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots).with_no_client_auth();
    let socket = TcpStream::connect(site.address).await.unwrap();
    let name = "h2.cftunnel.com".try_into().unwrap();
    within(TlsConnector::from(Arc::new(config)).connect(name, socket)).await.unwrap()
}

fn authority(file: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(file).unwrap()
}

/// What a connector with this number says of itself.
pub(crate) fn registration(connector: u8, index: u8) -> Registration {
    let credentials = credentials(SECRET);
    Registration {
        account: credentials.account,
        secret: credentials.secret,
        tunnel: credentials.tunnel,
        index,
        connector: TunnelUuid([connector; 16]),
        features: vec!["serialized_headers".to_owned()],
        version: "2026.8.2\n<script>".to_owned(),
        arch: "linux_amd64".to_owned(),
        local_ip: [0; 16],
        attempts: 0,
    }
}

impl Peer {
    /// A connection whose control stream the edge has opened, and on which nothing was sent yet.
    pub(crate) async fn connect(site: &Site, registration: &Registration) -> Peer {
        let stream = dial(site, NamedGroup::X25519MLKEM768).await;
        let mut connection: Connection<_, Bytes> = within(h2::server::handshake(stream)).await.unwrap();
        let (request, mut respond) = within(connection.accept()).await.unwrap().unwrap();
        assert_eq!(request.headers()["cf-cloudflared-proxy-connection-upgrade"], "control-stream");
        let response = Response::builder().header("content-type", "application/octet-stream").body(()).unwrap();
        let control = respond.send_response(response, false).unwrap();
        let (sender, calls) = unbounded_channel();
        let connection = tokio::spawn(async move {
            while let Some(call) = connection.accept().await {
                drop(sender.send(call?));
            }
            Ok(())
        });
        let client = ControlClient::new(registration, None);
        Peer { control, received: request.into_body(), client, calls, connection }
    }

    /// A connection that is registered.
    pub(crate) async fn register(site: &Site, registration: &Registration) -> Peer {
        let mut peer = Peer::connect(site, registration).await;
        assert!(matches!(peer.event().await, ControlEvent::Registered(_)));
        peer
    }

    /// Sends these bytes on the control stream.
    pub(crate) fn send(&mut self, bytes: impl Into<Bytes>) {
        self.control.send_data(bytes.into(), false).unwrap();
    }

    /// Sends what there is to send, and waits for the next answer of the edge.
    pub(crate) async fn event(&mut self) -> ControlEvent {
        loop {
            let output = self.client.take_output();
            if !output.is_empty() {
                self.send(output);
            }
            let data = within(self.received.data()).await.expect("the control stream goes on").unwrap();
            let mut found = None;
            self.client.receive(&data, |event| found = Some(event)).unwrap();
            if let Some(event) = found {
                return event;
            }
        }
    }

    /// The next call.
    pub(crate) async fn call(&mut self) -> Call {
        within(self.calls.recv()).await.expect("the connection goes on")
    }

    /// Waits until the edge has closed the connection.
    pub(crate) async fn closed(self) {
        drop((self.control, self.received));
        let _ = within(self.connection).await;
    }
}
