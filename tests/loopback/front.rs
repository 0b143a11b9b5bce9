//! What stands in front of an edge for tests whose agents speak in the clear: it carries their connections over TLS, or their
//! requests of HTTP/1.1 over HTTP/2, or both.

mod http2;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;

/// A connection to the edge.
trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// What is believed over TLS, and the name that is asked for.
pub(crate) type Tls = (Arc<ClientConfig>, &'static str);

/// A thread that carries what agents send. It ends when this is dropped.
pub(crate) struct Front {
    /// Where agents connect.
    pub(crate) address: SocketAddr,
    _end: oneshot::Sender<()>,
}

impl Front {
    /// Carries connections as they are.
    pub(crate) fn of_connections(edge: SocketAddr, tls: Option<Tls>) -> Self {
        Self::start(edge, false, tls)
    }

    /// Carries requests of HTTP/1.1 over HTTP/2.
    pub(crate) fn of_requests(edge: SocketAddr, tls: Option<Tls>) -> Self {
        Self::start(edge, true, tls)
    }

    fn start(edge: SocketAddr, is_http2: bool, tls: Option<Tls>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
        listener.set_nonblocking(true).expect("a listener can be non-blocking");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (_end, ended) = oneshot::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener on this runtime");
                tokio::select! {
                    () = carry_all(listener, edge, is_http2, tls) => {}
                    _ = ended => {}
                }
            });
        });
        Self { address, _end }
    }
}

/// Carries each connection of agents, over HTTP/2 all on one connection to the edge.
async fn carry_all(listener: TcpListener, edge: SocketAddr, is_http2: bool, tls: Option<Tls>) {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let shared = if is_http2 {
        let socket = dial(edge, tls.clone()).await;
        let (send, connection) = h2::client::handshake(socket).await.expect("the edge speaks HTTP/2");
        // It ends with an error when the edge does, at the end of a test.
        tokio::spawn(connection);
        Some(send)
    } else {
        None
    };
    while let Ok((agent, _)) = listener.accept().await {
        agent.set_nodelay(true).expect("TCP_NODELAY");
        match &shared {
            Some(send) => drop(tokio::spawn(http2::serve(agent, send.clone(), scheme))),
            None => drop(tokio::spawn(carry(agent, edge, tls.clone()))),
        }
    }
}

/// A connection to the edge, with TLS or without.
async fn dial(edge: SocketAddr, tls: Option<Tls>) -> Box<dyn Socket> {
    let socket = TcpStream::connect(edge).await.expect("the edge listens");
    socket.set_nodelay(true).expect("TCP_NODELAY");
    let Some((config, name)) = tls else { return Box::new(socket) };
    let name = ServerName::try_from(name).expect("a name");
    Box::new(TlsConnector::from(config).connect(name, socket).await.expect("a TLS handshake"))
}

/// Carries one connection as it is, until either side has ended it.
async fn carry(mut agent: TcpStream, edge: SocketAddr, tls: Option<Tls>) {
    let edge = dial(edge, tls).await;
    let (mut from_edge, mut to_edge) = tokio::io::split(edge);
    let (mut from_agent, mut to_agent) = agent.split();
    let is_agent_gone = tokio::select! {
        _ = copy(&mut from_edge, &mut to_agent) => false,
        _ = copy(&mut from_agent, &mut to_edge) => true,
    };
    if is_agent_gone {
        // An edge that is gone as well need not be told.
        let _ = to_edge.shutdown().await;
    }
}
